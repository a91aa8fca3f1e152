#include "tmf_select.h"

/* A radix select: the threshold's bytes from the highest to the lowest, each found by counting the
 * bytes of the magnitudes that agree with what is known. Zeros are left out of the counts. */
bool tmf_select(const float *values, size_t n, size_t keep, struct tmf_selection *selection)
{
    uint32_t known = 0;  /* the threshold's upper bytes */
    size_t wanted = keep; /* of the magnitudes that begin with `known` */
    size_t nonzero = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        uint32_t counts[256] = {0};
        for (size_t i = 0; i < n; i++) {
            uint32_t magnitude = tmf_magnitude(values[i]);
            if (magnitude >= TMF_NOT_FINITE) {
                return false;
            }
            if (magnitude != 0 && (uint64_t)magnitude >> (shift + 8) == known) {
                counts[magnitude >> shift & 255]++;
            }
        }
        if (shift == 24) {
            for (int i = 0; i < 256; i++) {
                nonzero += counts[i];
            }
            if (nonzero <= keep || keep == 0) {
                break;
            }
        }
        uint32_t byte = 255;
        while (counts[byte] < wanted) {
            wanted -= counts[byte--];
        }
        known = known << 8 | byte;
    }
    if (keep == 0) {
        *selection = (struct tmf_selection){.threshold = UINT32_MAX};
        return true;
    }
    if (nonzero <= keep) {
        *selection = (struct tmf_selection){.marked = nonzero};
        return true;
    }
    *selection = (struct tmf_selection){.threshold = known, .marked = keep};
    for (size_t i = 0; wanted > 0; i++) {
        wanted -= tmf_magnitude(values[i]) == known;
        selection->ties_end = i + 1;
    }
    return true;
}

void tmf_select_format(const float *values, size_t n, enum tmf_values format,
                       struct tmf_selection *selection)
{
    uint32_t largest = 0;
    for (size_t i = 0; i < n; i++) {
        const uint32_t magnitude = tmf_magnitude(values[i]);
        largest = magnitude > largest ? magnitude : largest;
    }
    selection->format = tmf_format_for(format, largest);
    const uint32_t zero = tmf_format_zero(&selection->format);
    if (selection->threshold > zero) {
        return;
    }
    selection->threshold = zero;
    selection->ties_end = 0;
    selection->marked = 0;
    for (size_t i = 0; i < n; i++) {
        selection->marked += tmf_is_marked(selection, values, i);
    }
}
