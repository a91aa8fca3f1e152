#ifndef TMF_LOSS_H
#define TMF_LOSS_H

#include <stdbool.h>
#include <stdint.h>

/* How far the outputs are from a target. */
struct tmf_loss {
    bool target_is_class; /* one uint32 instead of as many float32 as there are outputs */
    uint32_t least, most; /* outputs that it makes sense for */

    /* Loss of the n outputs y. The target is in dy for values, in `class` for a class; dy becomes
     * ∂loss/∂y. */
    float (*value)(const float *y, uint32_t n, uint32_t class, float *dy);
};

/* Classes that n outputs tell apart; one output, below or above zero, two. */
static inline uint32_t tmf_loss_classes(uint32_t n)
{
    return n == 1 ? 2 : n;
}

/* The loss with that number in the protocol, or NULL. */
const struct tmf_loss *tmf_loss(uint32_t number);

#endif
