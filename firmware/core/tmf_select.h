#ifndef TMF_SELECT_H
#define TMF_SELECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tmf_bits.h"
#include "tmf_format.h"

/* Which entries of a vector are the largest by magnitude, without a copy and without a list: an entry
 * is marked when its magnitude is over the threshold, or at it and its index below `ties_end`. */
struct tmf_selection {
    uint32_t threshold; /* a magnitude as tmf_magnitude gives it */
    size_t ties_end;
    size_t marked; /* entries */
    struct tmf_format format; /* of what is sent of them: float32 where nothing else was asked for */
};

/* Marks the `keep` entries of the n values with the largest magnitude; of equal ones those with the
 * lower index. Zeros are never marked, so fewer than `keep` may be. Four passes over the values,
 * whatever they are; with wide registers (TMF_SELECT_WIDE) some 20, by bisection. False if a value is not finite. */
bool tmf_select(const float *values, size_t n, size_t keep, struct tmf_selection *selection);

/* Has the marked ones of the n values sent in another format, and takes the mark off those that would
 * become zero in it. */
void tmf_select_format(const float *values, size_t n, enum tmf_values format,
                       struct tmf_selection *selection);

static inline bool tmf_is_marked(const struct tmf_selection *selection, const float *values, size_t i)
{
    return tmf_magnitude(values[i]) + (i < selection->ties_end) > selection->threshold;
}

#endif
