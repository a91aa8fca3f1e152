#include "tmf_model.h"

#include <string.h>

#include "tmf_loss.h"
#include "tmf_operation.h"

void tmf_model_begin(struct tmf_model *model, uint32_t inputs, uint32_t capacity)
{
    *model = (struct tmf_model){.inputs = inputs, .outputs = inputs, .capacity = capacity};
}

enum tmf_error tmf_model_add(struct tmf_model *model, uint32_t operation, bool local,
                             const uint32_t *arguments, size_t count)
{
    if (model->layer_count == TMF_MAX_LAYERS || count > TMF_MAX_ARGUMENTS || model->outputs == 0 ||
        model->outputs > TMF_MAX_VALUES) {
        return TMF_ERROR_MODEL;
    }
    struct tmf_layer *layer = &model->layers[model->layer_count++];
    layer->operation = tmf_operation(operation);
    layer->local = local;
    layer->inputs = model->outputs;
    layer->argument_count = (uint32_t)count;
    for (size_t i = 0; i < count; i++) {
        layer->arguments[i] = arguments[i];
    }
    if (layer->operation == NULL) {
        return TMF_ERROR_MODEL;
    }
    enum tmf_error error = layer->operation->plan(layer);
    if (error != TMF_OK) {
        return error;
    }
    if (layer->outputs == 0 || layer->outputs > TMF_MAX_VALUES) {
        return TMF_ERROR_MODEL;
    }
    model->outputs = layer->outputs;
    return TMF_OK;
}

/* A pen that writes down sizes. With no memory it only counts. */
struct pen {
    uint8_t *memory;
    uint64_t used;
};

static void *take(struct pen *pen, uint64_t values)
{
    void *place = pen->memory != NULL ? pen->memory + pen->used : NULL;
    pen->used += values * sizeof(float);
    return place;
}

/* Returns the number of parameters, which may be more than the model can number. */
static uint64_t lay_out(struct tmf_model *model, struct pen *pen, bool accumulate, bool residual)
{
    uint64_t parameters = 0;
    uint64_t scratch = 0;
    uint32_t widest = model->outputs; /* of the outputs that a derivative is needed for */
    bool needs_y = false; /* the operation before */
    float *values = take(pen, model->inputs);
    for (uint32_t i = 0; i < model->layer_count; i++) {
        struct tmf_layer *layer = &model->layers[i];
        layer->first = (uint32_t)parameters;
        layer->parameters = (uint32_t)tmf_operation_parameters(layer);
        parameters += tmf_operation_parameters(layer);
        layer->x = values;
        /* An operation that can work in place reads its y in the backward pass: the next may not
         * overwrite that. */
        if (!layer->operation->in_place || needs_y) {
            values = take(pen, layer->outputs);
        }
        layer->y = values;
        needs_y = layer->operation->in_place;
        if (parameters > 0 && layer->outputs > widest) {
            widest = layer->outputs;
        }
        const uint64_t own = layer->operation->scratch != NULL ? layer->operation->scratch(layer) : 0;
        scratch = own > scratch ? own : scratch;
    }
    float *shared = take(pen, scratch);
    for (uint32_t i = 0; i < model->layer_count; i++) {
        model->layers[i].scratch = shared;
    }
    model->delta[0] = take(pen, widest);
    model->delta[1] = take(pen, widest);
    model->held = take(pen, parameters);
    model->working = take(pen, parameters);
    model->residual = residual ? take(pen, parameters) : NULL;
    model->gradient = accumulate ? take(pen, parameters) : NULL;
    model->store = take(pen, (uint64_t)model->capacity * (model->sample_size / sizeof(float)));
    return parameters;
}

enum tmf_error tmf_model_place(struct tmf_model *model, uint32_t loss, bool accumulate, bool residual,
                               void *memory, size_t available, uint64_t *needed)
{
    model->loss = tmf_loss(loss);
    if (model->loss == NULL || model->layer_count == 0 || model->outputs < model->loss->least) {
        return TMF_ERROR_MODEL;
    }
    uint32_t target = model->loss->target_is_class ? 1 : model->outputs;
    model->sample_size = (model->inputs + target) * (uint32_t)sizeof(float);
    struct pen pen = {.memory = NULL};
    lay_out(model, &pen, accumulate, residual);
    *needed = pen.used;
    if (pen.used > available) {
        return TMF_ERROR_MEMORY;
    }
    pen = (struct pen){.memory = memory};
    model->parameters = (uint32_t)lay_out(model, &pen, accumulate, residual);
    if (residual) {
        memset(model->residual, 0, model->parameters * sizeof(float));
    }
    return TMF_OK;
}
