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
    uint64_t most; /* that was used at once */
};

/* Inlined everywhere it would be several times the code. */
static __attribute__((noinline)) void *take(struct pen *pen, uint64_t values)
{
    void *place = pen->memory != NULL ? pen->memory + pen->used : NULL;
    pen->used += values * sizeof(float);
    pen->most = pen->used > pen->most ? pen->used : pen->most;
    return place;
}

/* What only this layer needs lies behind its outputs, where the outputs of later layers do: these are not
 * there yet in the forward pass, and done with in the backward pass. */
static void place_own(struct tmf_layer *layer, struct pen *pen, bool gives)
{
    const struct tmf_operation *operation = layer->operation;
    const uint64_t used = pen->used;
    layer->dx = operation->in_place ? layer->y : take(pen, gives ? layer->inputs : 0);
    layer->scratch = take(pen, operation->scratch != NULL ? operation->scratch(layer) : 0);
    pen->used = used;
}

static void place_values(struct tmf_model *model, struct pen *pen)
{
    uint32_t first = 0; /* layer with parameters */
    while (first < model->layer_count && tmf_operation_parameters(&model->layers[first]) == 0) {
        first++;
    }
    float *const entering = take(pen, first > 0 ? model->layers[first - 1].outputs : model->inputs);
    const uint64_t used = pen->used;
    /* The backward pass does not come below: each layer's inputs lie behind its outputs. */
    float *values = entering;
    for (uint32_t i = first; i-- > 0;) {
        struct tmf_layer *layer = &model->layers[i];
        layer->y = values;
        values = layer->operation->in_place ? values : take(pen, layer->inputs);
        layer->x = values;
        place_own(layer, pen, false);
    }
    pen->used = used;
    values = entering;
    bool needs_y = false; /* the operation before */
    for (uint32_t i = first; i < model->layer_count; i++) {
        struct tmf_layer *layer = &model->layers[i];
        layer->x = values;
        /* An operation that can work in place reads its y in the backward pass: the next may not
         * overwrite that. */
        if (!layer->operation->in_place || needs_y) {
            values = take(pen, layer->outputs);
        }
        layer->y = values;
        needs_y = layer->operation->in_place;
        place_own(layer, pen, i > first);
    }
    const uint64_t activations = pen->used;
    model->dy = take(pen, model->outputs);
    pen->used = pen->most;
    model->sizes.activations = activations;
    model->sizes.backward = pen->used - activations;
}

/* Returns the number of parameters, which may be more than the model can number. */
static uint64_t lay_out(struct tmf_model *model, struct pen *pen, bool accumulate, uint32_t room)
{
    uint64_t parameters = 0;
    for (uint32_t i = 0; i < model->layer_count; i++) {
        struct tmf_layer *layer = &model->layers[i];
        layer->first = (uint32_t)parameters;
        layer->parameters = (uint32_t)tmf_operation_parameters(layer);
        parameters += tmf_operation_parameters(layer);
    }
    place_values(model, pen);
    model->held = take(pen, parameters);
    model->working = take(pen, parameters);
    model->residual = room & TMF_ROOM_RESIDUAL ? take(pen, parameters) : NULL;
    model->variate = room & TMF_ROOM_VARIATE ? take(pen, parameters) : NULL;
    model->mark = room & TMF_ROOM_MARK ? take(pen, parameters) : NULL;
    model->gradient = accumulate ? take(pen, parameters) : NULL;
    model->store = take(pen, (uint64_t)model->capacity * (model->sample_size / sizeof(float)));
    const bool in_parts = model->sample_size > TMF_WHOLE_SAMPLE;
    model->arriving = in_parts ? take(pen, model->sample_size / sizeof(float)) : NULL;
    model->sizes.held = parameters * sizeof(float);
    model->sizes.working = model->sizes.held;
    model->sizes.residual = room & TMF_ROOM_RESIDUAL ? model->sizes.held : 0;
    model->sizes.variate = room & TMF_ROOM_VARIATE ? model->sizes.held : 0;
    model->sizes.mark = room & TMF_ROOM_MARK ? model->sizes.held : 0;
    model->sizes.gradient = accumulate ? model->sizes.held : 0;
    model->sizes.store = ((uint64_t)model->capacity + in_parts) * model->sample_size;
    return parameters;
}

enum tmf_error tmf_model_place(struct tmf_model *model, uint32_t loss, bool accumulate, uint32_t room,
                               void *memory, size_t available, uint64_t *needed)
{
    model->loss = tmf_loss(loss);
    const uint32_t both = TMF_ROOM_RESIDUAL | TMF_ROOM_VARIATE;
    if (model->loss == NULL || model->layer_count == 0 || model->outputs < model->loss->least ||
        room > (both | TMF_ROOM_MARK) || (room & both) == both) {
        return TMF_ERROR_MODEL;
    }
    uint32_t target = model->loss->target_is_class ? 1 : model->outputs;
    model->sample_size = (model->inputs + target) * (uint32_t)sizeof(float);
    struct pen pen = {.memory = NULL};
    lay_out(model, &pen, accumulate, room);
    *needed = pen.used;
    if (pen.used > available) {
        return TMF_ERROR_MEMORY;
    }
    pen = (struct pen){.memory = memory};
    model->parameters = (uint32_t)lay_out(model, &pen, accumulate, room);
    float *const kept = model->residual != NULL ? model->residual : model->variate;
    if (kept != NULL) {
        memset(kept, 0, model->parameters * sizeof(float));
    }
    return TMF_OK;
}
