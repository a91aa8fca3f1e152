/* A value each, in place. */
#include <stddef.h>

#include "tmf_math.h"
#include "tmf_operation.h"

static enum tmf_error plan(struct tmf_layer *layer)
{
    layer->outputs = layer->inputs;
    return layer->argument_count == 0 ? TMF_OK : TMF_ERROR_MODEL;
}

static void relu_forward(const struct tmf_layer *layer, const float *w)
{
    (void)w;
    for (uint32_t i = 0; i < layer->outputs; i++) {
        layer->y[i] = layer->x[i] <= 0.0f ? 0.0f : layer->x[i]; /* NaN stays, and −0 becomes +0 */
    }
}

static void relu_backward(const struct tmf_layer *layer, const float *w, const float *dy, float *dx,
                          float *sink, float scale)
{
    (void)w, (void)sink, (void)scale;
    const float *y = layer->y;
    for (uint32_t left = dx != NULL ? layer->outputs : 0; left > 0; left--) {
        const float slope = *dy++;
        *dx++ = *y++ <= 0.0f ? 0.0f : slope; /* loaded in any case: no branch */
    }
}

static void tanh_forward(const struct tmf_layer *layer, const float *w)
{
    (void)w;
    for (uint32_t i = 0; i < layer->outputs; i++) {
        layer->y[i] = tmf_tanhf(layer->x[i]);
    }
}

/* tanh' = 1 − tanh² */
static void tanh_backward(const struct tmf_layer *layer, const float *w, const float *dy, float *dx,
                          float *sink, float scale)
{
    (void)w, (void)sink, (void)scale;
    for (uint32_t i = 0; dx != NULL && i < layer->outputs; i++) {
        dx[i] = dy[i] * (1.0f - layer->y[i] * layer->y[i]);
    }
}

const struct tmf_operation tmf_relu = {
    .plan = plan, .forward = relu_forward, .backward = relu_backward, .in_place = true};
const struct tmf_operation tmf_tanh = {
    .plan = plan, .forward = tanh_forward, .backward = tanh_backward, .in_place = true};
