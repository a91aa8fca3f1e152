#include "tmf_model.h"

#include <string.h>

#include "tmf_loss.h"
#include "tmf_operation.h"

void tmf_model_begin(struct tmf_model *model, uint32_t inputs, uint32_t capacity)
{
    *model = (struct tmf_model){.inputs = inputs, .outputs = inputs, .capacity = capacity};
}

/* Sets what layer->inputs are, and marks its source: a layer that is none itself, and that reads none. */
static enum tmf_error connect(struct tmf_model *model, struct tmf_layer *layer)
{
    layer->inputs = model->outputs;
    if (layer->operation->source == TMF_NO_SOURCE) {
        return TMF_OK;
    }
    const uint32_t own = (uint32_t)(layer - model->layers); /* the number of the layer before */
    const uint32_t number = layer->arguments[0];
    if (layer->argument_count == 0 || number > own ||
        (number > 0 && model->layers[number - 1].operation->source == TMF_INSTEAD_OF_X)) {
        return TMF_ERROR_MODEL;
    }
    const uint32_t outputs = number == 0 ? model->inputs : model->layers[number - 1].outputs;
    if (layer->operation->source == TMF_INSTEAD_OF_X) {
        layer->inputs = outputs;
    } else if (layer->inputs != outputs) {
        return TMF_ERROR_MODEL;
    }
    layer->source = number;
    if (number > 0) {
        model->layers[number - 1].is_source = true;
        model->layers[number - 1].until = own;
    } else {
        model->sample_until = own;
    }
    return TMF_OK;
}

enum tmf_error tmf_model_add(struct tmf_model *model, uint32_t operation, enum tmf_part part,
                             const uint32_t *arguments, size_t count)
{
    if (model->layer_count == TMF_MAX_LAYERS || count > TMF_MAX_ARGUMENTS || part > TMF_FROZEN ||
        model->outputs == 0 || model->outputs > TMF_MAX_VALUES) {
        return TMF_ERROR_MODEL;
    }
    struct tmf_layer *layer = &model->layers[model->layer_count++];
    *layer = (struct tmf_layer){
        .operation = tmf_operation(operation),
        .argument_count = (uint32_t)count,
        .part = part,
        .until = model->layer_count, /* the next */
    };
    for (size_t i = 0; i < count; i++) {
        layer->arguments[i] = arguments[i];
    }
    if (layer->operation == NULL) {
        return TMF_ERROR_MODEL;
    }
    enum tmf_error error = connect(model, layer);
    if (error == TMF_OK) {
        error = layer->operation->plan(layer);
    }
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

/* What the layers before give, where they have places. */
static void find_inputs(struct tmf_model *model, struct tmf_layer *layer)
{
    struct tmf_layer *const source = layer->source > 0 ? &model->layers[layer->source - 1] : NULL;
    layer->x = layer == model->layers ? model->sample : layer[-1].y;
    layer->from = source != NULL ? source->y : model->sample;
    layer->gather = source != NULL ? source->gathered : NULL;
}

static uint64_t scratch_of(const struct tmf_layer *layer)
{
    return layer->operation->scratch != NULL ? layer->operation->scratch(layer) : 0;
}

static bool moves(const struct tmf_layer *layer)
{
    return layer->part != TMF_FROZEN && tmf_operation_parameters(layer) > 0;
}

/* ---- below the first layer that moves: forward only ---------------------------------------------------
 *
 * A block is what a layer gives, or the sample. It is put where it first fits between those that live while it
 * does. What layers above read is put first: so it lies lowest, and what is behind it is free for them. */

struct block {
    uint32_t from, until; /* indices of the first and the last layer at work while it lives */
    uint32_t values;      /* 0: it has no place yet */
    uint32_t at;          /* all are below 2^31: TMF_MAX_LAYERS times TMF_MAX_VALUES */
};

#define FOR_EVER UINT32_MAX

static uint32_t first_fit(const struct block *blocks, uint32_t count, const struct block *one)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct block *other = &blocks[i];
        if (other->from <= one->until && one->from <= other->until && other->at < at + one->values &&
            at < other->at + other->values) {
            at = other->at + other->values;
            i = (uint32_t)-1; /* looks at all of them again */
        }
    }
    return at;
}

/* Block i + 1 is what layer i gives, block 0 the sample; `owner` has the block that it lies in. */
struct plan {
    struct block blocks[TMF_MAX_LAYERS + 1];
    uint8_t owner[TMF_MAX_LAYERS + 1];
};

/* Blocks of the layers below `first`; those that work in place have their inputs'. */
static void find_blocks(const struct tmf_model *model, uint32_t first, struct plan *plan)
{
    for (uint32_t i = 0; i <= first; i++) {
        const struct tmf_layer *layer = i > 0 ? &model->layers[i - 1] : NULL;
        const uint32_t read = layer != NULL ? layer->until : model->sample_until;
        const uint32_t until = i == first || read >= first ? FOR_EVER : read;
        plan->blocks[i] = (struct block){.until = until};
        plan->owner[i] = (uint8_t)i;
        if (i == 0) {
            continue;
        }
        struct block *const before = &plan->blocks[plan->owner[i - 1]];
        plan->blocks[i].from = i - 1;
        if (layer->operation->in_place && before->until <= i - 1) {
            plan->owner[i] = plan->owner[i - 1];
            before->until = until;
        }
    }
}

static void place_below(struct tmf_model *model, uint32_t first, struct pen *pen)
{
    struct plan plan;
    const uint64_t start = pen->used;
    uint32_t kept = 0, most = 0;
    find_blocks(model, first, &plan);
    for (uint32_t pass = 0; pass < 2; pass++) {
        for (uint32_t i = first + 1; i-- > 0;) {
            struct block *block = &plan.blocks[i];
            if (plan.owner[i] != i || (block->until == FOR_EVER) != (pass == 0)) {
                continue;
            }
            const uint32_t values = i > 0 ? model->layers[i - 1].outputs : model->inputs;
            const struct block wanted = {block->from, block->until, values, 0};
            block->at = first_fit(plan.blocks, first + 1, &wanted);
            block->values = values;
            most = block->at + values > most ? block->at + values : most;
        }
        kept = pass == 0 ? most : kept;
    }
    for (uint32_t i = 0; i <= first; i++) {
        pen->used = start + (uint64_t)plan.blocks[plan.owner[i]].at * sizeof(float);
        float *const place = take(pen, 0);
        if (i == 0) {
            model->sample = place;
            continue;
        }
        struct tmf_layer *layer = &model->layers[i - 1];
        const struct block scratch = {i - 1, i - 1, (uint32_t)scratch_of(layer), 0};
        find_inputs(model, layer);
        layer->y = place;
        pen->used = start + (uint64_t)first_fit(plan.blocks, first + 1, &scratch) * sizeof(float);
        layer->scratch = take(pen, scratch.values);
        layer->spare = false;
    }
    pen->used = start + (uint64_t)most * sizeof(float);
    take(pen, 0); /* was used at once */
    pen->used = start + (uint64_t)kept * sizeof(float);
}

/* ---- from there on: the outputs of all layers are there for the backward pass ------------------------- */

/* What only this layer needs lies behind its outputs, where the outputs of later layers do: these are not
 * there yet in the forward pass, and done with in the backward pass. */
static void place_own(struct tmf_layer *layer, struct pen *pen, bool gives)
{
    const uint64_t used = pen->used, scratch = scratch_of(layer);
    const bool in_place = layer->operation->in_place;
    layer->dx = in_place ? layer->y : take(pen, gives ? layer->inputs : scratch);
    layer->scratch = take(pen, scratch);
    layer->spare = !in_place && (!gives || layer->inputs >= scratch);
    pen->used = used;
}

static void place_above(struct tmf_model *model, uint32_t first, struct pen *pen)
{
    bool needs_y = false; /* the layer before, or one that reads it */
    for (uint32_t i = first; i < model->layer_count; i++) {
        struct tmf_layer *layer = &model->layers[i];
        find_inputs(model, layer);
        const bool routes = layer->operation->source == TMF_INSTEAD_OF_X;
        const bool next_in_place =
            i + 1 == model->layer_count || model->layers[i + 1].operation->in_place;
        if (routes && !next_in_place) {
            layer->y = layer->from;
        } else if (!layer->operation->in_place || needs_y) {
            layer->y = take(pen, layer->outputs);
        } else {
            layer->y = layer->x;
        }
        /* An operation that can work in place reads its y in the backward pass: the next may not
         * overwrite that. */
        needs_y = layer->operation->in_place || layer->is_source;
        layer->gathered = layer->is_source ? take(pen, layer->outputs) : NULL;
        place_own(layer, pen, i > first && !routes);
    }
}

static void place_values(struct tmf_model *model, struct pen *pen)
{
    uint32_t first = 0;
    while (first < model->layer_count && !moves(&model->layers[first])) {
        first++;
    }
    place_below(model, first, pen);
    place_above(model, first, pen);
    const uint64_t activations = pen->used;
    model->dy = take(pen, model->outputs);
    pen->used = pen->most;
    model->sizes.activations = activations;
    model->sizes.backward = pen->used - activations;
}

/* Numbers the parameters of all layers: those that move, and those that are frozen. Returns how many move, which
 * may be more than the model can number. */
static uint64_t number(struct tmf_model *model, uint64_t *frozen)
{
    uint64_t parameters = 0;
    *frozen = 0;
    for (uint32_t i = 0; i < model->layer_count; i++) {
        struct tmf_layer *layer = &model->layers[i];
        uint64_t *const vector = layer->part == TMF_FROZEN ? frozen : &parameters;
        layer->first = (uint32_t)*vector;
        layer->parameters = (uint32_t)tmf_operation_parameters(layer);
        *vector += tmf_operation_parameters(layer);
    }
    return parameters;
}

/* A vector of that many values, where it is wanted; its size in bytes, else 0. */
static __attribute__((noinline)) void *take_vector(struct pen *pen, bool wanted, uint64_t values, uint64_t *size)
{
    *size = wanted ? values * sizeof(float) : 0;
    return wanted ? take(pen, values) : NULL;
}

/* Returns the number of parameters, which may be more than the model can number. */
static uint64_t lay_out(struct tmf_model *model, struct pen *pen, bool accumulate, uint32_t room)
{
    struct tmf_sizes *const sizes = &model->sizes;
    uint64_t frozen;
    const uint64_t parameters = number(model, &frozen);
    place_values(model, pen);
    model->backbone = take_vector(pen, model->in_flash == NULL, frozen, &sizes->backbone);
    if (model->in_flash != NULL) {
        model->backbone = (float *)model->in_flash; /* nobody writes there */
    }
    model->backbone_parameters = (uint32_t)frozen;
    model->held = take_vector(pen, true, parameters, &sizes->held);
    model->working = take_vector(pen, true, parameters, &sizes->working);
    model->residual = take_vector(pen, room & TMF_ROOM_RESIDUAL, parameters, &sizes->residual);
    model->variate = take_vector(pen, room & TMF_ROOM_VARIATE, parameters, &sizes->variate);
    model->mark = take_vector(pen, room & TMF_ROOM_MARK, parameters, &sizes->mark);
    model->gradient = take_vector(pen, accumulate, parameters, &sizes->gradient);
    const uint64_t start = pen->used;
    model->store = take(pen, (uint64_t)model->capacity * (model->sample_size / sizeof(float)));
    const bool in_parts = model->sample_size > TMF_WHOLE_SAMPLE;
    model->arriving = in_parts ? take(pen, model->sample_size / sizeof(float)) : NULL;
    sizes->store = pen->used - start;
    return parameters;
}

/* Every layer's outputs are read by another, but for the last one's. */
static bool is_whole(const struct tmf_model *model)
{
    for (uint32_t i = 1; i < model->layer_count; i++) {
        if (model->layers[i].operation->source == TMF_INSTEAD_OF_X && !model->layers[i - 1].is_source) {
            return false;
        }
    }
    return model->layer_count > 0;
}

enum tmf_error tmf_model_place(struct tmf_model *model, uint32_t loss, bool accumulate, uint32_t room,
                               void *memory, size_t available, uint64_t *needed)
{
    model->loss = tmf_loss(loss);
    const uint32_t both = TMF_ROOM_RESIDUAL | TMF_ROOM_VARIATE;
    if (model->loss == NULL || !is_whole(model) || model->outputs < model->loss->least ||
        model->outputs > model->loss->most ||
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

enum tmf_error tmf_model_place_to_predict(struct tmf_model *model, const float *weights, void *memory,
                                          size_t available, uint64_t *needed)
{
    uint64_t frozen;
    if (!is_whole(model) || number(model, &frozen) > 0) {
        return TMF_ERROR_MODEL;
    }
    struct pen pen = {.memory = NULL};
    place_values(model, &pen);
    *needed = pen.used;
    if (pen.used > available) {
        return TMF_ERROR_MEMORY;
    }
    pen = (struct pen){.memory = memory};
    place_values(model, &pen);
    model->backbone = (float *)weights; /* nobody writes there */
    model->backbone_parameters = (uint32_t)frozen;
    return TMF_OK;
}
