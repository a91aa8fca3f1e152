#ifndef TMF_OPERATION_H
#define TMF_OPERATION_H

#include <stdbool.h>
#include <stdint.h>

#include "tmf_model.h"

/* What a layer computes. A new kind of layer is a file with one of these, and an entry in the table of
 * tmf_operation.c.
 *
 * Summation order is part of the contract: whatever computes these has to add in the same order, so
 * that a node and its host build agree bit for bit. */
struct tmf_operation {
    /* Checks layer->inputs and layer->arguments and sets layer->outputs. */
    enum tmf_error (*plan)(struct tmf_layer *layer);

    /* NULL where there are none. */
    uint64_t (*parameters)(const struct tmf_layer *layer);

    /* Values that it needs in layer->scratch while it works; NULL where there are none. */
    uint64_t (*scratch)(const struct tmf_layer *layer);

    /* layer->y from layer->x and the layer's parameters w. */
    void (*forward)(const struct tmf_layer *layer, const float *w);

    /* dy: ∂loss/∂y. Where dx is not NULL, sets it to ∂loss/∂x. Where sink is not NULL, adds
     * scale · ∂loss/∂w to it; sink may be w, and dx is that of the parameters before. */
    void (*backward)(const struct tmf_layer *layer, const float *w, const float *dy, float *dx,
                     float *sink, float scale);

    /* Value by value. y may be x, so that the outputs take no memory of their own, and dx takes the
     * place of y: backward reads y, if any, and not x. Of any other, backward reads x and not y, whose place
     * dy takes. */
    bool in_place;

    /* The first argument is the number of a source (struct tmf_layer). */
    enum { TMF_NO_SOURCE, TMF_BESIDES_X, TMF_INSTEAD_OF_X } source;
};

extern const struct tmf_operation tmf_dense, tmf_relu, tmf_tanh, tmf_conv2d, tmf_depthwise_conv2d,
    tmf_max_pool2d, tmf_average_pool2d, tmf_leaky_relu, tmf_relu6, tmf_sigmoid, tmf_add, tmf_route;

/* The operation with that number in the protocol, or NULL. */
const struct tmf_operation *tmf_operation(uint32_t number);

static inline uint64_t tmf_operation_parameters(const struct tmf_layer *layer)
{
    return layer->operation->parameters != NULL ? layer->operation->parameters(layer) : 0;
}

#endif
