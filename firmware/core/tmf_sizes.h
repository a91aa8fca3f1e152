#ifndef TMF_SIZES_H
#define TMF_SIZES_H

#include <stdint.h>

/* What a model and its training take, in bytes, by what it is for. Python reads this file (cffi):
 * declarations only, lines that begin with # are passed over. */
struct tmf_sizes {
    uint64_t activations; /* what enters and leaves the layers, and the derivatives in its place */
    uint64_t backward;    /* more than that while a layer works: scratch, and one derivative more */
    uint64_t backbone;    /* weights that never move */
    uint64_t held;        /* weights as broadcast */
    uint64_t working;     /* weights that training moves */
    uint64_t residual;    /* what was not sent of updates */
    uint64_t variate;     /* control variate */
    uint64_t mark;        /* weights to come back to */
    uint64_t gradient;    /* of a mini-batch */
    uint64_t store;       /* samples, also one that comes in parts */
};

#endif
