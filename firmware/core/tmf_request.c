#include "tmf_request.h"

#include <string.h>

#include "tmf_bits.h"
#include "tmf_chunk.h"
#include "tmf_learn.h"
#include "tmf_phase.h"
#include "tmf_training.h"

/* The CBOR of an answer around the bytes of a chunk or of outputs, and of a response's head. */
#define OVERHEAD 40u

/* An answer without such bytes, at most: an error about memory. A hello's version is no longer than this. */
#define PLAIN 64u
_Static_assert(sizeof TMF_VERSION - 1 <= PLAIN - 55, "a hello is no longer than any other answer");

/* Where an answer puts its bytes, and how many may be there: the frame's buffer is free until the response
 * is framed, but for the bytes of the answers before. All other answers fit beside it, also those to come. */
static uint8_t *place(const struct tmf_node *node, const struct tmf_response *response, size_t *room)
{
    const size_t taken = response->bytes + OVERHEAD + PLAIN * (response->requests - 1);
    *room = taken < TMF_BODY_SIZE ? TMF_BODY_SIZE - taken : 0;
    return node->frame + response->bytes;
}

static struct zcbor_string string(const void *value, size_t size)
{
    return (struct zcbor_string){.value = value, .len = size};
}

/* Inlined it would be there twice. */
static __attribute__((noinline)) void say_hello(const struct tmf_node *node, struct response_body_r *answer)
{
    answer->response_body_choice = response_body_hello_response_m_c;
    answer->response_body_hello_response_m = (struct hello_response){
        .hello_response_protocol = TMF_PROTOCOL,
        .hello_response_version = string(TMF_VERSION, sizeof TMF_VERSION - 1),
        .hello_response_build = string(node->port.build, TMF_BUILD_SIZE),
        .hello_response_receive_buffer = TMF_RECEIVE_SIZE,
        .hello_response_memory = (uint32_t)node->port.memory_size,
        .hello_response_bad_frames = node->link.bad_frames,
        .hello_response_overruns = node->link.overruns,
    };
    const struct tmf_backbone *const backbone = node->port.backbone;
    if (backbone != NULL) {
        struct hello_response *const hello = &answer->response_body_hello_response_m;
        hello->hello_response_held_present = true;
        hello->hello_response_held.hello_response_held_parameters = backbone->parameters;
        hello->hello_response_held.hello_response_held_checksum = backbone->checksum;
    }
}

/* What is measured before the answer is; nothing where nothing is. */
static enum tmf_error tell_cycles(const struct tmf_node *node, const struct tmf_response *response,
                                  struct response_body_r *answer)
{
    uint64_t cycles[TMF_PHASES];
    size_t room, size = 0;
    uint8_t *const out = place(node, response, &room);
    if (node->port.cycles != NULL && node->port.cycles(cycles)) {
        if (room < sizeof cycles) {
            return TMF_ERROR_RANGE;
        }
        size = sizeof cycles;
        memcpy(out, cycles, size);
    }
    answer->response_body_choice = response_body_outputs_m_c;
    answer->response_body_outputs_m.outputs_values = string(out, size);
    return TMF_OK;
}

static void refuse(struct response_body_r *answer, enum tmf_error error, uint64_t needed,
                   uint64_t available)
{
    const struct tmf_text *const text = tmf_error_text(error);
    answer->response_body_choice = response_body_error_m_c;
    answer->response_body_error_m = (struct error){
        .error_code = error,
        .error_message = string(text->text, text->size),
        .error_needed = needed,
        .error_available = available,
    };
}

/* ---- requests: each returns TMF_OK with its answer made, or left at `done`, or what is wrong ---- */

static enum tmf_error handle_load(struct tmf_node *node, const struct load *load, struct response_body_r *answer)
{
    struct tmf_model *model = &node->model;
    node->loaded = false;
    node->version = 0;
    node->backbone = 0;
    node->broadcast = (struct tmf_broadcast){.to = 0};
    node->working = TMF_EMPTY;
    node->arrived = 0;
    tmf_model_begin(model, load->load_inputs, load->load_capacity);
    for (size_t i = 0; i < load->load_layers_layer_m_count; i++) {
        const struct layer *layer = &load->load_layers_layer_m[i];
        enum tmf_error error = tmf_model_add(model, layer->layer_operation, (enum tmf_part)layer->layer_scope,
                                             layer->layer_parameters, layer->layer_parameters_count);
        if (error != TMF_OK) {
            return error;
        }
    }
    const struct tmf_backbone *const own = load->load_in_flash_present ? node->port.backbone : NULL;
    if (own != NULL) {
        model->in_flash = own->weights;
        node->backbone = own->parameters;
    }
    uint64_t needed = 0;
    enum tmf_error error = tmf_model_place(model, load->load_loss, load->load_accumulate,
                                           load->load_room_present ? load->load_room : 0,
                                           node->port.memory, node->port.memory_size, &needed);
    if (error == TMF_ERROR_MEMORY) {
        refuse(answer, error, needed, node->port.memory_size);
        return TMF_OK;
    }
    if (error != TMF_OK) {
        return error;
    }
    if (load->load_in_flash_present && (own == NULL || own->checksum != load->load_in_flash ||
                                        own->parameters != model->backbone_parameters)) {
        return TMF_ERROR_WEIGHTS;
    }
    node->loaded = true;
    answer->response_body_choice = response_body_loaded_m_c;
    answer->response_body_loaded_m = (struct loaded){
        .loaded_parameters = model->parameters,
        .loaded_needed = (uint32_t)needed,
        .loaded_available = (uint32_t)node->port.memory_size,
    };
    return TMF_OK;
}

static struct tmf_chunk received_chunk(const struct chunk *chunk)
{
    return (struct tmf_chunk){
        .first = chunk->chunk_first,
        .count = chunk->chunk_count,
        .encoding = chunk->chunk_encoding,
        .data = chunk->chunk_data.value,
        .size = chunk->chunk_data.len,
    };
}

void tmf_request_ready(struct tmf_node *node)
{
    memcpy(node->model.working, node->model.held, node->model.parameters * sizeof(float));
    node->working = TMF_TRAINING;
    node->steps = 0;
    node->marked = false;
}

static enum tmf_error handle_weights(struct tmf_node *node, const struct weights *weights)
{
    struct tmf_broadcast *broadcast = &node->broadcast;
    const struct tmf_model *model = &node->model;
    const uint32_t from = weights->weights_base, to = weights->weights_to;
    const struct tmf_chunk chunk = received_chunk(&weights->weights_chunk_m);
    if (broadcast->to != to || broadcast->from != from || (from == 0 && chunk.first == 0)) {
        if (to == 0 || (from != 0 && from != node->version)) {
            return TMF_ERROR_WEIGHTS;
        }
        *broadcast = (struct tmf_broadcast){.from = from, .to = to};
    }
    /* A node that holds nothing has to be sent every entry. */
    if (chunk.first < broadcast->next ||
        (from == 0 && (chunk.first != broadcast->next || chunk.encoding != TMF_DENSE))) {
        return TMF_ERROR_RANGE;
    }
    enum tmf_error error = tmf_chunk_apply(&chunk, model->held, model->parameters);
    if (error != TMF_OK) {
        return error;
    }
    /* Until the last piece the weights are of no version: a broadcast that breaks off is noticed. */
    node->version = 0;
    node->working = TMF_EMPTY;
    broadcast->next = chunk.first + chunk.count;
    if (weights->weights_last) {
        if (from == 0 && broadcast->next != model->parameters) {
            return TMF_ERROR_RANGE;
        }
        node->version = to;
        tmf_request_ready(node);
        *broadcast = (struct tmf_broadcast){.to = 0};
    }
    return TMF_OK;
}

static enum tmf_error handle_evaluate(struct tmf_node *node, const struct evaluate *evaluate,
                               struct response_body_r *answer)
{
    const struct zcbor_string samples =
        tmf_samples_given(node, &evaluate->evaluate_samples, node->model.sample_size);
    struct evaluated *evaluated = &answer->response_body_evaluated_m;
    enum tmf_error error = tmf_samples_check(&node->model, samples.value, samples.len,
                                             &evaluated->evaluated_samples);
    if (error != TMF_OK) {
        return error;
    }
    tmf_phase_evaluate();
    answer->response_body_choice = response_body_evaluated_m_c;
    return tmf_evaluate(&node->model, samples.value, evaluated->evaluated_samples,
                        &evaluated->evaluated_loss, &evaluated->evaluated_correct);
}

static enum tmf_error handle_predict(struct tmf_node *node, const struct predict *predict,
                                     const struct tmf_response *response,
                                     struct response_body_r *answer)
{
    struct tmf_model *model = &node->model;
    size_t size = model->inputs * sizeof(float), outputs = model->outputs * sizeof(float);
    const struct zcbor_string samples = tmf_samples_given(node, &predict->predict_samples, size);
    size_t room;
    uint8_t *const values = place(node, response, &room), *out = values;
    if (samples.len == 0 || samples.len % size != 0 || samples.len / size > room / outputs) {
        return TMF_ERROR_SAMPLES;
    }
    tmf_phase_evaluate();
    for (size_t i = 0; i < samples.len; i += size, out += outputs) {
        const float *y = tmf_predict(model, samples.value + i);
        for (uint32_t o = 0; o < model->outputs; o++) {
            if (!tmf_is_finite(y[o])) {
                return TMF_ERROR_DIVERGED;
            }
        }
        memcpy(out, y, outputs);
    }
    answer->response_body_choice = response_body_outputs_m_c;
    answer->response_body_outputs_m.outputs_values = string(values, (size_t)(out - values));
    return TMF_OK;
}

static enum tmf_error send_chunk(const struct tmf_chunk *chunk, struct response_body_r *answer)
{
    answer->response_body_choice = response_body_updated_m_c;
    answer->response_body_updated_m.updated_chunk_m = (struct chunk){
        .chunk_first = chunk->first,
        .chunk_count = chunk->count,
        .chunk_encoding = chunk->encoding,
        .chunk_data = string(chunk->data, chunk->size),
    };
    return TMF_OK;
}

static enum tmf_error handle_update(const struct tmf_node *node, const struct update *update,
                                    const struct tmf_response *response,
                                    struct response_body_r *answer)
{
    if (update->update_first >= update->update_end ||
        update->update_end > node->model.parameters) {
        return TMF_ERROR_RANGE;
    }
    tmf_phase_send();
    size_t room;
    uint8_t *const data = place(node, response, &room);
    struct tmf_chunk chunk = {.first = update->update_first, .data = data};
    if (room >= TMF_CHUNK_LEAST) {
        chunk = tmf_chunk_encode(node->model.working, &node->selection, update->update_first,
                                 update->update_end, data, room);
    }
    return send_chunk(&chunk, answer);
}

/* The vector that a node keeps from round to round; NULL where it keeps none. */
static float *kept(const struct tmf_model *model)
{
    return model->residual != NULL ? model->residual : model->variate;
}

static enum tmf_error handle_residual(const struct tmf_node *node, const struct residual *residual,
                                      const struct tmf_response *response,
                                      struct response_body_r *answer)
{
    const struct tmf_model *model = &node->model;
    size_t room;
    uint8_t *const data = place(node, response, &room);
    const uint32_t first = residual->residual_first, most = (uint32_t)(room / sizeof(float));
    if (kept(model) == NULL || first >= residual->residual_end ||
        residual->residual_end > model->parameters) {
        return TMF_ERROR_RANGE;
    }
    const uint32_t left = residual->residual_end - first, count = left < most ? left : most;
    const struct tmf_chunk chunk = {
        .first = first,
        .count = count,
        .encoding = TMF_DENSE,
        .data = data,
        .size = count * sizeof(float),
    };
    memcpy(data, kept(model) + first, chunk.size); /* requests behind this one may change it */
    return send_chunk(&chunk, answer);
}

static enum tmf_error handle_restore(const struct tmf_node *node, const struct restore *restore)
{
    const struct tmf_model *model = &node->model;
    const struct tmf_chunk chunk = received_chunk(&restore->restore_chunk_m);
    return kept(model) == NULL ? TMF_ERROR_RANGE
                               : tmf_chunk_apply(&chunk, kept(model), model->parameters);
}

/* The server's variate arrives; what is held becomes the difference to the node's own. */
static enum tmf_error handle_variate(const struct tmf_node *node, const struct variate *variate)
{
    const struct tmf_model *model = &node->model;
    const struct tmf_chunk chunk = received_chunk(&variate->variate_chunk_m);
    if (model->variate == NULL) {
        return TMF_ERROR_ARGUMENT;
    }
    if (chunk.encoding != TMF_DENSE || chunk.first > model->parameters ||
        chunk.count > model->parameters - chunk.first || chunk.size != chunk.count * sizeof(float)) {
        return TMF_ERROR_RANGE;
    }
    tmf_phase_learn();
    for (uint32_t i = 0; i < chunk.count; i++) {
        float *const own = &model->variate[chunk.first + i];
        *own = tmf_bits_float(tmf_get_u32(chunk.data + i * sizeof(float))) - *own;
    }
    return TMF_OK;
}

static enum tmf_error handle_backbone(struct tmf_node *node, const struct backbone *backbone)
{
    const struct tmf_chunk chunk = received_chunk(&backbone->backbone_chunk_m);
    if (chunk.encoding != TMF_DENSE || chunk.first != node->backbone) {
        return TMF_ERROR_RANGE;
    }
    const enum tmf_error error =
        tmf_chunk_apply(&chunk, node->model.backbone, node->model.backbone_parameters);
    if (error == TMF_OK) {
        node->backbone += chunk.count;
    }
    return error;
}

/* ---- what is asked for ------------------------------------------------------------------------------- */

static enum tmf_error handle(struct tmf_node *node, const struct request_body_r *request,
                             const struct tmf_response *response, struct response_body_r *answer)
{
    answer->response_body_choice = response_body_done_m_c;
    switch (request->request_body_choice) {
    case request_body_hello_m_c: say_hello(node, answer); return TMF_OK;
    case request_body_cycles_m_c: return tell_cycles(node, response, answer);
    case request_body_load_m_c: return handle_load(node, &request->request_body_load_m, answer);
    default: break;
    }
    if (!node->loaded) {
        return TMF_ERROR_NO_MODEL;
    }
    if (request->request_body_choice == request_body_backbone_m_c) {
        return handle_backbone(node, &request->request_body_backbone_m);
    }
    if (node->backbone < node->model.backbone_parameters) {
        return TMF_ERROR_WEIGHTS;
    }
    switch (request->request_body_choice) {
    case request_body_weights_m_c: return handle_weights(node, &request->request_body_weights_m);
    case request_body_store_m_c: return tmf_do_store(node, &request->request_body_store_m);
    case request_body_part_m_c: return tmf_do_part(node, &request->request_body_part_m);
    case request_body_residual_m_c:
        return handle_residual(node, &request->request_body_residual_m, response, answer);
    case request_body_restore_m_c: return handle_restore(node, &request->request_body_restore_m);
    case request_body_update_m_c:
        return node->working == TMF_SELECTED
                   ? handle_update(node, &request->request_body_update_m, response, answer)
                   : TMF_ERROR_ORDER;
    default: break;
    }
    if (node->working != TMF_TRAINING) {
        return node->version == 0 ? TMF_ERROR_WEIGHTS : TMF_ERROR_ORDER;
    }
    switch (request->request_body_choice) {
    case request_body_train_m_c: return tmf_do_train(node, &request->request_body_train_m, answer);
    case request_body_evaluate_m_c:
        return handle_evaluate(node, &request->request_body_evaluate_m, answer);
    case request_body_predict_m_c:
        return handle_predict(node, &request->request_body_predict_m, response, answer);
    case request_body_select_m_c: return tmf_do_select(node, &request->request_body_select_m, answer);
    case request_body_mark_m_c: return tmf_do_mark(node);
    case request_body_variate_m_c: return handle_variate(node, &request->request_body_variate_m);
    case request_body_renew_m_c: return tmf_do_renew(node, &request->request_body_renew_m);
    default: return TMF_ERROR_MALFORMED;
    }
}

/* Bytes that the answer has where `place` said. */
static size_t bytes_of(const struct response_body_r *answer)
{
    switch (answer->response_body_choice) {
    case response_body_outputs_m_c: return answer->response_body_outputs_m.outputs_values.len;
    case response_body_updated_m_c: return answer->response_body_updated_m.updated_chunk_m.chunk_data.len;
    default: return 0;
    }
}

bool tmf_request_do(struct tmf_node *node, const struct request_body_r *request,
                    struct tmf_response *response)
{
    struct response_body_r *const answer = &response->answers[response->count];
    const enum tmf_error error =
        request != NULL ? handle(node, request, response, answer) : TMF_ERROR_MALFORMED;
    if (error != TMF_OK) {
        refuse(answer, error, 0, 0);
    }
    response->count++;
    response->bytes += bytes_of(answer);
    return answer->response_body_choice != response_body_error_m_c;
}

void tmf_request_hello(const struct tmf_node *node, struct tmf_response *response)
{
    say_hello(node, &response->answers[response->count++]);
}
