#include "tmf_select.h"

#include <string.h>

/* Bits of a digit, of which a counter each lies on the stack. More of them are fewer passes, and fewer
 * increments of one counter in a row, which is what a processor with a long pipeline waits for. */
#ifndef TMF_SELECT_BITS
#define TMF_SELECT_BITS 8u
#endif
#define DIGITS (1u << TMF_SELECT_BITS)

/* A radix select: the threshold's digits from the highest to the lowest, each found by counting the digits of
 * the magnitudes that agree with what is known. Zeros are left out of the counts. */
bool tmf_select(const float *values, size_t n, size_t keep, struct tmf_selection *selection)
{
    uint32_t counts[DIGITS] = {0};
    uint32_t shift = 32 - TMF_SELECT_BITS;
    size_t zeros = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t magnitude = tmf_magnitude(values[i]);
        if (magnitude >= TMF_NOT_FINITE) {
            return false;
        }
        zeros += magnitude == 0;
        counts[magnitude >> shift]++;
    }
    const size_t nonzero = n - zeros;
    uint32_t known = 0;   /* the threshold's upper digits */
    size_t wanted = keep; /* of the magnitudes that begin with `known` */
    for (uint32_t bits = TMF_SELECT_BITS; nonzero > keep && keep > 0;) {
        counts[0] -= known == 0 ? (uint32_t)zeros : 0; /* they are never marked */
        uint32_t digit = (1u << bits) - 1;
        while (counts[digit] < wanted) {
            wanted -= counts[digit--];
        }
        known = known << bits | digit;
        if (shift == 0) {
            break;
        }
        bits = shift < TMF_SELECT_BITS ? shift : TMF_SELECT_BITS;
        memset(counts, 0, sizeof counts);
        for (size_t i = 0; i < n; i++) {
            uint32_t magnitude = tmf_magnitude(values[i]);
            if (magnitude >> shift == known) {
                counts[magnitude >> (shift - bits) & ((1u << bits) - 1)]++;
            }
        }
        shift -= bits;
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
