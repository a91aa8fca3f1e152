#include "tmf_learn.h"

#include <stdbool.h>
#include <string.h>

#include "tmf_bits.h"
#include "tmf_loss.h"
#include "tmf_matrix.h"
#include "tmf_operation.h"

static size_t inputs_size(const struct tmf_model *model)
{
    return model->inputs * sizeof(float);
}

enum tmf_error tmf_samples_check(const struct tmf_model *model, const uint8_t *samples, size_t size,
                                 uint32_t *count)
{
    if (size == 0 || size % model->sample_size != 0) {
        return TMF_ERROR_SAMPLES;
    }
    *count = (uint32_t)(size / model->sample_size);
    for (uint32_t i = 0; model->loss->target_is_class && i < *count; i++) {
        size_t target = (size_t)i * model->sample_size + inputs_size(model);
        if (tmf_get_u32(samples + target) >= tmf_loss_classes(model->outputs)) {
            return TMF_ERROR_SAMPLES;
        }
    }
    return TMF_OK;
}

static const float *weights(const struct tmf_model *model, const struct tmf_layer *layer)
{
    return (layer->part == TMF_FROZEN ? model->backbone : model->working) + layer->first;
}

const float *tmf_predict(struct tmf_model *model, const uint8_t *inputs)
{
    memcpy(model->sample, inputs, inputs_size(model));
    const struct tmf_layer *layer = NULL;
    for (uint32_t i = 0; i < model->layer_count; i++) {
        layer = &model->layers[i];
        layer->operation->forward(layer, weights(model, layer));
    }
    return layer->y;
}

/* Forward and loss; model->dy is ∂loss/∂outputs then. */
static float judge(struct tmf_model *model, const uint8_t *sample, bool *correct)
{
    const float *y = tmf_predict(model, sample);
    const uint8_t *target = sample + inputs_size(model);
    uint32_t class = 0;
    *correct = false;
    if (model->loss->target_is_class) {
        uint32_t best = model->outputs == 1 && y[0] > 0.0f;
        for (uint32_t i = 1; i < model->outputs; i++) {
            best = y[i] > y[best] ? i : best;
        }
        class = tmf_get_u32(target);
        *correct = best == class;
    } else {
        memcpy(model->dy, target, model->outputs * sizeof(float));
    }
    return model->loss->value(y, model->outputs, class, model->dy);
}

static bool moves(const struct tmf_model *model, uint32_t layer, uint32_t frozen)
{
    return model->layers[layer].parameters > 0 && model->layers[layer].part != TMF_FROZEN &&
           (frozen >> layer & 1) == 0;
}

/* Adds scale · gradient to `sink`, down to the first layer that moves and no further. */
static void backward(struct tmf_model *model, uint32_t frozen, float *sink, float scale)
{
    uint32_t lowest = 0;
    while (lowest < model->layer_count && !moves(model, lowest, frozen)) {
        lowest++;
    }
    for (uint32_t i = lowest; i < model->layer_count; i++) {
        if (model->layers[i].gathered != NULL) {
            memset(model->layers[i].gathered, 0, model->layers[i].outputs * sizeof(float));
        }
    }
    const float *dy = model->dy; /* NULL where the layer behind does not read this one */
    for (uint32_t i = model->layer_count; i-- > lowest;) {
        const struct tmf_layer *layer = &model->layers[i];
        const bool routes = layer->operation->source == TMF_INSTEAD_OF_X;
        if (layer->gathered != NULL) {
            if (dy != NULL) {
                tmf_vector_add(layer->gathered, dy, layer->outputs);
            }
            dy = layer->gathered;
        }
        /* In the place of the outputs, which are not read any more, it leaves what is behind free. */
        if (!layer->operation->in_place && !routes && dy != layer->y) {
            tmf_vector_copy(layer->y, dy, layer->outputs);
            dy = layer->y;
        }
        float *dx = i > lowest ? layer->dx : NULL;
        layer->operation->backward(layer, weights(model, layer), dy, dx,
                                   moves(model, i, frozen) ? sink + layer->first : NULL, scale);
        dy = routes ? NULL : dx;
    }
}

/* Moves a layer's weights by what has gathered in the gradient. Order: the pull to the weights held, then the
 * gradient. */
static void move(struct tmf_model *model, const struct tmf_training *training,
                 const struct tmf_layer *layer)
{
    float *const w = model->working + layer->first;
    const float *const held = model->held + layer->first;
    if (training->from_mark) {
        tmf_vector_copy(w, model->mark + layer->first, layer->parameters);
    }
    if (training->proximal > 0.0f) {
        const float pull = training->rate * training->proximal;
        for (uint32_t i = 0; i < layer->parameters; i++) {
            w[i] -= pull * (w[i] - held[i]);
        }
    }
    tmf_vector_add(w, model->gradient + layer->first, layer->parameters);
}

/* What the control variate adds to a step. */
static void correct(struct tmf_model *model, float rate, const struct tmf_layer *layer)
{
    float *const w = model->working + layer->first;
    const float *const variate = model->variate + layer->first;
    for (uint32_t i = 0; i < layer->parameters; i++) {
        w[i] -= rate * variate[i];
    }
}

/* One SGD step on `count` samples; adds their losses to `sum`. */
static enum tmf_error step(struct tmf_model *model, const struct tmf_training *training,
                           const uint8_t *samples, uint32_t count, float *sum)
{
    /* One sample moves the weights directly, without a gradient in between. */
    const bool direct = count == 1 && !training->from_mark && !(training->proximal > 0.0f);
    float *sink = direct ? model->working : model->gradient;
    if (!direct) {
        memset(sink, 0, model->parameters * sizeof(float));
    }
    for (uint32_t i = 0; i < count; i++) {
        bool correct;
        float loss = judge(model, samples + (size_t)i * model->sample_size, &correct);
        if (!tmf_is_finite(loss)) {
            return TMF_ERROR_DIVERGED;
        }
        *sum += loss;
        backward(model, training->frozen, sink, -training->rate / (float)count);
    }
    for (uint32_t i = 0; (!direct || training->corrected) && i < model->layer_count; i++) {
        if (!moves(model, i, training->frozen)) { /* what is frozen keeps its bits: −0 + 0 is +0 */
            continue;
        }
        if (!direct) {
            move(model, training, &model->layers[i]);
        }
        if (training->corrected) {
            correct(model, training->rate, &model->layers[i]);
        }
    }
    return TMF_OK;
}

enum tmf_error tmf_train(struct tmf_model *model, const struct tmf_training *training,
                         const uint8_t *samples, uint32_t count, uint32_t *steps, float *loss)
{
    float sum = 0.0f;
    *steps = 0;
    for (uint32_t epoch = 0; epoch < training->epochs; epoch++) {
        for (uint32_t i = 0; i < count; i += training->batch) {
            uint32_t left = count - i, size = left < training->batch ? left : training->batch;
            enum tmf_error error =
                step(model, training, samples + (size_t)i * model->sample_size, size, &sum);
            if (error != TMF_OK) {
                return error;
            }
            ++*steps;
        }
    }
    *loss = sum / ((float)count * (float)training->epochs);
    return tmf_is_finite(*loss) ? TMF_OK : TMF_ERROR_DIVERGED;
}

enum tmf_error tmf_evaluate(struct tmf_model *model, const uint8_t *samples, uint32_t count,
                            float *loss, uint32_t *correct)
{
    *loss = 0.0f;
    *correct = 0;
    for (uint32_t i = 0; i < count; i++) {
        bool right;
        *loss += judge(model, samples + (size_t)i * model->sample_size, &right);
        *correct += right;
    }
    return tmf_is_finite(*loss) ? TMF_OK : TMF_ERROR_DIVERGED;
}
