/* Trains a model twice: as tmf_model_place lays it out, and with every buffer in a place of its own. Both
 * have to come to the same bits. For the sanitizers, which see what leaves its place.
 *
 * Standard input: the struct `head`; for each layer its operation, its part, how many arguments it has, and these,
 * as uint32; the parameters that are not frozen; those that are; the samples. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tmf_learn.h"
#include "tmf_model.h"
#include "tmf_operation.h"

struct head {
    uint32_t inputs, layers, loss, samples, batch, epochs, frozen;
    float rate;
};

/* Not a number until something else is written there. */
static void *fresh(size_t size)
{
    void *place = malloc(size > 0 ? size : 1); /* malloc(0) may be NULL */
    if (place == NULL) {
        exit(2);
    }
    return memset(place, 0xff, size);
}

static void take(void *to, size_t size)
{
    if (size > 0 && fread(to, size, 1, stdin) != 1) {
        exit(3);
    }
}

static float *values(uint64_t n)
{
    return fresh(n * sizeof(float));
}

/* As tmf_model.h describes them, but that nothing shares a place. */
static void separate(struct tmf_model *model)
{
    float *x = values(model->inputs);
    model->sample = x;
    for (uint32_t i = 0; i < model->layer_count; i++) {
        struct tmf_layer *layer = &model->layers[i];
        const struct tmf_operation *operation = layer->operation;
        layer->x = x;
        layer->y = x = values(layer->outputs);
        const struct tmf_layer *source = layer->source > 0 ? &model->layers[layer->source - 1] : NULL;
        layer->from = source != NULL ? source->y : model->sample;
        layer->gather = source != NULL ? source->gathered : NULL;
        layer->gathered = layer->is_source ? values(layer->outputs) : NULL;
        const uint64_t scratch = operation->scratch != NULL ? operation->scratch(layer) : 0;
        layer->dx = values(layer->inputs > scratch ? layer->inputs : scratch);
        layer->scratch = values(scratch);
    }
    model->dy = values(model->outputs);
    model->backbone = values(model->backbone_parameters);
    model->held = values(model->parameters);
    model->working = values(model->parameters);
    model->gradient = model->gradient != NULL ? values(model->parameters) : NULL;
    model->store = fresh((size_t)model->capacity * model->sample_size);
}

struct result {
    enum tmf_error error, judged;
    uint32_t steps, correct;
    float trained, evaluated;
};

static struct result train(struct tmf_model *model, const struct head *head, const float *theta,
                           const float *backbone, const uint8_t *samples)
{
    const struct tmf_training training = {
        .rate = head->rate,
        .frozen = head->frozen,
        .batch = head->batch,
        .epochs = head->epochs,
    };
    struct result result = {.error = TMF_OK};
    memcpy(model->held, theta, model->parameters * sizeof(float));
    memcpy(model->working, theta, model->parameters * sizeof(float));
    memcpy(model->backbone, backbone, model->backbone_parameters * sizeof(float));
    memcpy(model->store, samples, (size_t)head->samples * model->sample_size);
    result.error = tmf_train(model, &training, model->store, head->samples, &result.steps,
                             &result.trained);
    if (result.error == TMF_OK) {
        result.judged = tmf_evaluate(model, model->store, head->samples, &result.evaluated,
                                     &result.correct);
    }
    return result;
}

int main(void)
{
    static struct tmf_model model, apart;
    struct head head;
    take(&head, sizeof head);
    tmf_model_begin(&model, head.inputs, head.samples);
    for (uint32_t i = 0; i < head.layers; i++) {
        uint32_t operation[3], arguments[TMF_MAX_ARGUMENTS];
        take(operation, sizeof operation);
        if (operation[2] > TMF_MAX_ARGUMENTS) {
            return 4;
        }
        take(arguments, operation[2] * sizeof *arguments);
        if (tmf_model_add(&model, operation[0], (enum tmf_part)operation[1], arguments, operation[2]) !=
            TMF_OK) {
            return 4;
        }
    }
    uint64_t needed = 0;
    if (tmf_model_place(&model, head.loss, head.batch > 1, 0, NULL, 0, &needed) != TMF_ERROR_MEMORY ||
        tmf_model_place(&model, head.loss, head.batch > 1, 0, fresh(needed), needed, &needed) !=
            TMF_OK) {
        return 5;
    }
    const struct tmf_sizes *sizes = &model.sizes;
    if (needed != sizes->activations + sizes->backward + sizes->backbone + sizes->held + sizes->working +
                      sizes->residual + sizes->gradient + sizes->store) {
        return 6;
    }
    float *theta = values(model.parameters);
    take(theta, model.parameters * sizeof(float));
    float *backbone = values(model.backbone_parameters);
    take(backbone, model.backbone_parameters * sizeof(float));
    uint8_t *samples = fresh((size_t)head.samples * model.sample_size);
    take(samples, (size_t)head.samples * model.sample_size);
    apart = model;
    separate(&apart);
    const struct result one = train(&model, &head, theta, backbone, samples);
    const struct result other = train(&apart, &head, theta, backbone, samples);
    if (memcmp(model.held, theta, model.parameters * sizeof(float)) != 0 ||
        memcmp(model.backbone, backbone, model.backbone_parameters * sizeof(float)) != 0 ||
        memcmp(model.store, samples, (size_t)head.samples * model.sample_size) != 0) {
        return 7;
    }
    if (one.error != other.error || one.judged != other.judged) {
        return 8;
    }
    /* Where it diverged, what is not a number may have other bits. */
    if (one.error == TMF_OK && one.judged == TMF_OK &&
        (memcmp(&one, &other, sizeof one) != 0 ||
         memcmp(model.working, apart.working, model.parameters * sizeof(float)) != 0)) {
        return 9;
    }
    printf("%d %llu\n", one.error, (unsigned long long)needed);
    return 0;
}
