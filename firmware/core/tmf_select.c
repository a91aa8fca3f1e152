#include "tmf_select.h"

#include <string.h>

#ifdef TMF_SELECT_WIDE

/* Wide registers count faster than counters are kept. */
#if defined(__x86_64__) && defined(__gnu_linux__)
__attribute__((target_clones("avx2", "default")))
#endif
static size_t count_from(const float *values, size_t n, uint32_t magnitude)
{
    int32_t count = 0; /* as wide as a value, and compared with a sign: SSE2 has nothing else */
    for (size_t i = 0; i < n; i++) {
        count += (int32_t)tmf_magnitude(values[i]) >= (int32_t)magnitude;
    }
    return (size_t)count;
}

/* Bisection: a magnitude from which on there are as many as are to be kept, or that of all ties. */
bool tmf_select(const float *values, size_t n, size_t keep, struct tmf_selection *selection)
{
    uint32_t low = 1, high = TMF_NOT_FINITE; /* from the one on there are more, from the other `above` */
    const size_t nonzero = count_from(values, n, low);
    size_t above = count_from(values, n, high);
    if (above > 0) {
        return false;
    }
    if (nonzero <= keep) {
        *selection = (struct tmf_selection){.marked = nonzero};
        return true;
    }
    while (above < keep && high - low > 1) {
        const uint32_t middle = low + (high - low) / 2;
        const size_t count = count_from(values, n, middle);
        if (count > keep) {
            low = middle;
        } else {
            high = middle;
            above = count;
        }
    }
    *selection = (struct tmf_selection){.threshold = high - 1, .marked = keep};
    for (size_t i = 0; above < keep; i++) {
        above += tmf_magnitude(values[i]) == selection->threshold;
        selection->ties_end = i + 1;
    }
    return true;
}

#else

#define BITS 8u /* of a digit, of which a counter each lies on the stack */
#define DIGITS (1u << BITS)

/* A radix select: the threshold's digits from the highest to the lowest, each found by counting the digits of
 * the magnitudes that agree with what is known. Zeros are left out of the counts. */
bool tmf_select(const float *values, size_t n, size_t keep, struct tmf_selection *selection)
{
    uint32_t counts[DIGITS] = {0};
    uint32_t shift = 32 - BITS;
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
    for (uint32_t bits = BITS; nonzero > keep && keep > 0;) {
        counts[0] -= known == 0 ? (uint32_t)zeros : 0; /* they are never marked */
        uint32_t digit = known == 0 && shift + bits == 32 ? DIGITS / 2 - 1 : (1u << bits) - 1; /* no sign */
        while (counts[digit] < wanted) {
            wanted -= counts[digit--];
        }
        known = known << bits | digit;
        if (shift == 0) {
            break;
        }
        bits = shift < BITS ? shift : BITS;
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

#endif

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
