#include "tmf_training.h"

#include <string.h>

#include "tmf_learn.h"
#include "tmf_matrix.h"
#include "tmf_phase.h"

struct zcbor_string tmf_samples_given(struct tmf_node *node, const struct zcbor_string *own, size_t whole)
{
    if (own->len > 0 || node->arrived != whole) {
        return *own;
    }
    node->arrived = 0;
    return (struct zcbor_string){.value = node->model.arriving, .len = whole};
}

enum tmf_error tmf_do_part(struct tmf_node *node, const struct part *part)
{
    const struct tmf_model *model = &node->model;
    const struct zcbor_string *bytes = &part->part_samples;
    const uint32_t first = part->part_first;
    if (model->arriving == NULL || bytes->len == 0) {
        return TMF_ERROR_SAMPLES;
    }
    if ((first != 0 && first != node->arrived) || bytes->len > model->sample_size - first) {
        return TMF_ERROR_RANGE;
    }
    memcpy(model->arriving + first, bytes->value, bytes->len);
    node->arrived = first + (uint32_t)bytes->len;
    return TMF_OK;
}

enum tmf_error tmf_do_store(struct tmf_node *node, const struct store *store)
{
    struct tmf_model *model = &node->model;
    const struct zcbor_string samples =
        tmf_samples_given(node, &store->store_samples, model->sample_size);
    uint32_t count;
    enum tmf_error error = tmf_samples_check(model, samples.value, samples.len, &count);
    if (error != TMF_OK) {
        return error;
    }
    uint32_t held = store->store_append ? model->stored : 0;
    if (count > model->capacity - held) {
        return TMF_ERROR_RANGE;
    }
    memcpy(model->store + (size_t)held * model->sample_size, samples.value, samples.len);
    model->stored = held + count;
    return TMF_OK;
}

/* Training that moves local layers only is the algorithm's reconstruction. */
static bool reconstructs(const struct tmf_model *model, uint32_t frozen)
{
    for (uint32_t i = 0; i < model->layer_count; i++) {
        if (model->layers[i].parameters > 0 && model->layers[i].part == TMF_GLOBAL && !(frozen >> i & 1)) {
            return false;
        }
    }
    return true;
}

/* Options of `train`. */
enum { TRAIN_FROM_MARK = 1, TRAIN_CORRECTED = 2 };

static bool is_rate(float value)
{
    return tmf_is_finite(value) && value >= 0.0f;
}

enum tmf_error tmf_do_train(struct tmf_node *node, const struct train *train,
                            struct response_body_r *answer)
{
    struct tmf_model *model = &node->model;
    const uint32_t options = train->train_options_present ? train->train_options : 0;
    const struct tmf_training training = {
        .rate = train->train_rate,
        .frozen = train->train_frozen,
        .batch = train->train_batch,
        .epochs = train->train_epochs,
        .proximal = train->train_proximal_present ? train->train_proximal : 0.0f,
        .from_mark = options & TRAIN_FROM_MARK,
        .corrected = options & TRAIN_CORRECTED,
    };
    const bool accumulates = training.batch > 1 || training.proximal > 0.0f || training.from_mark;
    if (!is_rate(training.rate) || !is_rate(training.proximal) || training.batch == 0 ||
        training.epochs == 0 || options > (TRAIN_FROM_MARK | TRAIN_CORRECTED) ||
        (accumulates && model->gradient == NULL) || (training.from_mark && model->mark == NULL) ||
        (training.corrected && model->variate == NULL)) {
        return TMF_ERROR_ARGUMENT;
    }
    if (training.from_mark && !node->marked) {
        return TMF_ERROR_ORDER;
    }
    const uint8_t *samples = model->store;
    uint32_t count = model->stored;
    if (train->train_samples_choice == train_samples_bstr_c) {
        const struct zcbor_string given =
            tmf_samples_given(node, &train->train_samples_bstr, model->sample_size);
        samples = given.value;
        enum tmf_error error = tmf_samples_check(model, samples, given.len, &count);
        if (error != TMF_OK) {
            return error;
        }
    } else if (count == 0) {
        return TMF_ERROR_SAMPLES;
    }
    if (reconstructs(model, training.frozen)) {
        tmf_phase_reconstruct();
    } else {
        tmf_phase_learn();
    }
    answer->response_body_choice = response_body_trained_m_c;
    struct trained *const trained = &answer->response_body_trained_m;
    const enum tmf_error error = tmf_train(model, &training, samples, count, &trained->trained_steps,
                                           &trained->trained_loss);
    node->steps += trained->trained_steps;
    return error;
}

enum tmf_error tmf_do_mark(struct tmf_node *node)
{
    const struct tmf_model *model = &node->model;
    if (model->mark == NULL) {
        return TMF_ERROR_ARGUMENT;
    }
    tmf_phase_learn();
    memcpy(model->mark, model->working, model->parameters * sizeof(float));
    node->marked = true;
    return TMF_OK;
}

enum tmf_error tmf_do_renew(const struct tmf_node *node, const struct renew *renew)
{
    const struct tmf_model *model = &node->model;
    const float rate = renew->renew_rate;
    if (model->variate == NULL || !is_rate(rate) || rate == 0.0f || node->steps == 0) {
        return TMF_ERROR_ARGUMENT;
    }
    tmf_phase_learn();
    const float factor = 1.0f / ((float)node->steps * rate);
    bool finite = true;
    for (uint32_t i = 0; i < model->parameters; i++) {
        const float value = (model->held[i] - model->working[i]) * factor - model->variate[i];
        model->variate[i] = value;
        finite &= tmf_is_finite(value);
    }
    return finite ? TMF_OK : TMF_ERROR_DIVERGED;
}

/* What is not sent of the update is the residual. */
static void keep_rest(struct tmf_model *model, const struct tmf_selection *selection)
{
    for (uint32_t i = 0; i < model->parameters; i++) {
        float rest = model->working[i];
        if (tmf_is_marked(selection, model->working, i)) {
            rest -= tmf_format_value(&selection->format, tmf_format_code(&selection->format, rest));
        }
        model->residual[i] = rest;
    }
}

enum tmf_error tmf_do_select(struct tmf_node *node, const struct select *select,
                             struct response_body_r *answer)
{
    struct tmf_model *model = &node->model;
    const uint32_t values = select->select_values_present ? select->select_values : TMF_FLOAT32;
    if (values > TMF_INT8) {
        return TMF_ERROR_ARGUMENT;
    }
    tmf_phase_select();
    for (uint32_t i = 0; i < model->parameters; i++) {
        model->working[i] -= model->held[i];
    }
    if (model->residual != NULL) {
        tmf_vector_add(model->working, model->residual, model->parameters);
    }
    /* The local part ends here: what is zero is never marked, and nothing else is ever sent. */
    for (uint32_t i = 0; i < model->layer_count; i++) {
        const struct tmf_layer *layer = &model->layers[i];
        if (layer->part == TMF_LOCAL) {
            memset(model->working + layer->first, 0, layer->parameters * sizeof(float));
        }
    }
    node->working = TMF_EMPTY;
    if (!tmf_select(model->working, model->parameters, select->select_keep, &node->selection)) {
        return TMF_ERROR_DIVERGED;
    }
    if (values != TMF_FLOAT32) {
        tmf_select_format(model->working, model->parameters, (enum tmf_values)values, &node->selection);
    }
    if (model->residual != NULL) {
        keep_rest(model, &node->selection);
    }
    node->working = TMF_SELECTED;
    answer->response_body_choice = response_body_selected_m_c;
    answer->response_body_selected_m.selected_entries = (uint32_t)node->selection.marked;
    return TMF_OK;
}
