#include "tmf_operation.h"

#include <stddef.h>

#include "tmf_math.h"

/* ---- dense: y = W x + b; W row-major (outputs × inputs), then b (outputs) --------------------------- */

static enum tmf_error dense_plan(struct tmf_layer *layer)
{
    if (layer->argument_count != 1) {
        return TMF_ERROR_MODEL;
    }
    layer->outputs = layer->arguments[0];
    return TMF_OK;
}

static uint64_t dense_parameters(const struct tmf_layer *layer)
{
    return (uint64_t)layer->outputs * (layer->inputs + 1);
}

/* Order: b, then the products of the row from first to last. */
static void dense_forward(const struct tmf_layer *layer, const float *w)
{
    const uint32_t inputs = layer->inputs, outputs = layer->outputs;
    const float *b = w + (size_t)outputs * inputs;
    for (uint32_t o = 0; o < outputs; o++) {
        float sum = b[o];
        for (uint32_t i = 0; i < inputs; i++) {
            sum += w[i] * layer->x[i];
        }
        layer->y[o] = sum;
        w += inputs;
    }
}

/* Order: dx gathers the rows from first to last, starting from zero. A row whose dy is zero adds
 * nothing anywhere and is passed over. */
static void dense_backward(const struct tmf_layer *layer, const float *w, const float *dy, float *dx,
                           float *sink, float scale)
{
    const uint32_t inputs = layer->inputs, outputs = layer->outputs;
    float *sink_b = sink != NULL ? sink + (size_t)outputs * inputs : NULL;
    if (dx != NULL) {
        for (uint32_t i = 0; i < inputs; i++) {
            dx[i] = 0.0f;
        }
    }
    for (uint32_t o = 0; o < outputs; o++) {
        const float d = dy[o], step = scale * d;
        const size_t row = (size_t)o * inputs;
        if (d == 0.0f) {
            continue;
        }
        if (dx != NULL) {
            for (uint32_t i = 0; i < inputs; i++) {
                dx[i] += w[row + i] * d;
            }
        }
        if (sink != NULL) {
            for (uint32_t i = 0; i < inputs; i++) {
                sink[row + i] += step * layer->x[i];
            }
            sink_b[o] += step;
        }
    }
}

/* ---- activations: a value each, in place ------------------------------------------------------------ */

static enum tmf_error activation_plan(struct tmf_layer *layer)
{
    layer->outputs = layer->inputs;
    return layer->argument_count == 0 ? TMF_OK : TMF_ERROR_MODEL;
}

static void relu_forward(const struct tmf_layer *layer, const float *w)
{
    (void)w;
    for (uint32_t i = 0; i < layer->outputs; i++) {
        layer->y[i] = layer->x[i] > 0.0f ? layer->x[i] : 0.0f;
    }
}

static void relu_backward(const struct tmf_layer *layer, const float *w, const float *dy, float *dx,
                          float *sink, float scale)
{
    (void)w, (void)sink, (void)scale;
    for (uint32_t i = 0; dx != NULL && i < layer->outputs; i++) {
        dx[i] = layer->y[i] > 0.0f ? dy[i] : 0.0f;
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

/* ---- the table; the index is the number in the protocol --------------------------------------------- */

static const struct tmf_operation operations[] = {
    [1] = {dense_plan, dense_parameters, dense_forward, dense_backward, false},
    [2] = {activation_plan, NULL, relu_forward, relu_backward, true},
    [3] = {activation_plan, NULL, tanh_forward, tanh_backward, true},
};

const struct tmf_operation *tmf_operation(uint32_t number)
{
    if (number == 0 || number >= sizeof operations / sizeof *operations) {
        return NULL;
    }
    return &operations[number];
}
