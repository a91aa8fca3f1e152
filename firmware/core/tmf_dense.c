/* y = W x + b; W row-major (outputs × inputs), then b (outputs). */
#include <stddef.h>

#include "tmf_matrix.h"
#include "tmf_operation.h"

static enum tmf_error plan(struct tmf_layer *layer)
{
    if (layer->argument_count != 1) {
        return TMF_ERROR_MODEL;
    }
    layer->outputs = layer->arguments[0];
    return TMF_OK;
}

static uint64_t parameters(const struct tmf_layer *layer)
{
    return (uint64_t)layer->outputs * (layer->inputs + 1);
}

static void forward(const struct tmf_layer *layer, const float *w)
{
    tmf_matrix_forward(w, layer->inputs, layer->outputs, layer->x, layer->y);
}

static void backward(const struct tmf_layer *layer, const float *w, const float *dy, float *dx,
                     float *sink, float scale)
{
    if (dx != NULL) {
        tmf_vector_clear(dx, layer->inputs);
    }
    tmf_matrix_backward(w, layer->inputs, layer->outputs, layer->x, dy, dx, sink, scale);
}

const struct tmf_operation tmf_dense = {
    .plan = plan, .parameters = parameters, .forward = forward, .backward = backward};
