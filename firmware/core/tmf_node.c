#include "tmf_node.h"

#include <string.h>

#include "protocol_decode.h"
#include "protocol_encode.h"
#include "tmf_bits.h"
#include "tmf_chunk.h"
#include "tmf_learn.h"
#include "tmf_matrix.h"
#include "tmf_phase.h"

/* A response's CBOR around the bytes of a chunk or of outputs: sequence, heads, numbers. */
#define OVERHEAD 40u

_Static_assert(TMF_FRAME_SIZE(TMF_BODY_SIZE) <= TMF_RECEIVE_SIZE, "a response fits its frame");
_Static_assert(TMF_BODY_SIZE + 4 <= TMF_RECEIVE_SIZE, "a body is built in the receive buffer");

/* ---- responses -------------------------------------------------------------------------------------- */

/* Strings in the response may point into node->frame, which is overwritten last. */
static void respond(struct tmf_node *node, const struct response *response)
{
    size_t size = 0;
    /* The request has been dealt with, so its buffer serves for the response's body. */
    if (cbor_encode_response(node->received, TMF_BODY_SIZE, response, &size) != ZCBOR_SUCCESS) {
        size = 0; /* sizes are chosen so that this cannot be; no answer is better than half of one */
    }
    node->frame_size = size == 0 ? 0 : tmf_link_frame(node->received, size, node->frame);
}

/* Through the window all of it is there for the peer but its zero, which is the doorbell. */
static void send_frame(const struct tmf_node *node, bool windowed)
{
    tmf_phase_send();
    size_t sent = 0;
    if (windowed && node->frame_size > 0) {
        sent = node->frame_size - 1;
        node->port.window->up.size = (uint32_t)sent;
    }
    node->port.write(node->port.context, node->frame + sent, node->frame_size - sent);
    if (tmf_link_is_idle(&node->link)) { /* else the interrupt has begun with the next request */
        tmf_phase_idle();
    }
}

static struct zcbor_string string(const void *value, size_t size)
{
    return (struct zcbor_string){.value = value, .len = size};
}

static void say_hello(struct tmf_node *node, struct response *response)
{
    response->response_body_choice = response_body_hello_response_m_c;
    response->response_body_hello_response_m = (struct hello_response){
        .hello_response_protocol = TMF_PROTOCOL,
        .hello_response_version = string(TMF_VERSION, sizeof TMF_VERSION - 1),
        .hello_response_build = string(node->port.build, TMF_BUILD_SIZE),
        .hello_response_receive_buffer = TMF_RECEIVE_SIZE,
        .hello_response_memory = (uint32_t)node->port.memory_size,
        .hello_response_bad_frames = node->link.bad_frames,
        .hello_response_overruns = node->link.overruns,
    };
}

static void refuse(struct response *response, enum tmf_error error, uint64_t needed,
                   uint64_t available)
{
    const char *text = tmf_error_text(error);
    response->response_body_choice = response_body_error_m_c;
    response->response_body_error_m = (struct error){
        .error_code = error,
        .error_message = string(text, strlen(text)),
        .error_needed = needed,
        .error_available = available,
    };
}

/* ---- requests: each returns TMF_OK with its response made, or what is wrong -------------------------- */

static enum tmf_error handle_load(struct tmf_node *node, const struct load *load, struct response *response)
{
    struct tmf_model *model = &node->model;
    node->loaded = false;
    node->version = 0;
    node->broadcast = (struct tmf_broadcast){.to = 0};
    node->working = TMF_EMPTY;
    tmf_model_begin(model, load->load_inputs, load->load_capacity);
    for (size_t i = 0; i < load->load_layers_layer_m_count; i++) {
        const struct layer *layer = &load->load_layers_layer_m[i];
        enum tmf_error error = tmf_model_add(model, layer->layer_operation, layer->layer_local,
                                             layer->layer_parameters, layer->layer_parameters_count);
        if (error != TMF_OK) {
            return error;
        }
    }
    uint64_t needed = 0;
    enum tmf_error error = tmf_model_place(model, load->load_loss, load->load_accumulate,
                                           load->load_keeps_present && load->load_keeps,
                                           node->port.memory, node->port.memory_size, &needed);
    if (error == TMF_ERROR_MEMORY) {
        refuse(response, error, needed, node->port.memory_size);
        return TMF_OK;
    }
    if (error != TMF_OK) {
        return error;
    }
    node->loaded = true;
    response->response_body_choice = response_body_loaded_m_c;
    response->response_body_loaded_m = (struct loaded){
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

static enum tmf_error handle_weights(struct tmf_node *node, const struct weights *weights,
                              struct response *response)
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
        memcpy(model->working, model->held, model->parameters * sizeof(float));
        node->version = to;
        node->working = TMF_TRAINING;
        *broadcast = (struct tmf_broadcast){.to = 0};
    }
    response->response_body_choice = response_body_done_m_c;
    return TMF_OK;
}

static enum tmf_error handle_store(struct tmf_node *node, const struct store *store,
                            struct response *response)
{
    struct tmf_model *model = &node->model;
    const struct zcbor_string *samples = &store->store_samples;
    uint32_t count;
    enum tmf_error error = tmf_samples_check(model, samples->value, samples->len, &count);
    if (error != TMF_OK) {
        return error;
    }
    uint32_t held = store->store_append ? model->stored : 0;
    if (count > model->capacity - held) {
        return TMF_ERROR_RANGE;
    }
    memcpy(model->store + (size_t)held * model->sample_size, samples->value, samples->len);
    model->stored = held + count;
    response->response_body_choice = response_body_done_m_c;
    return TMF_OK;
}

/* Training that moves local layers only is the algorithm's reconstruction. */
static bool reconstructs(const struct tmf_model *model, uint32_t frozen)
{
    for (uint32_t i = 0; i < model->layer_count; i++) {
        if (model->layers[i].parameters > 0 && !model->layers[i].local && !(frozen >> i & 1)) {
            return false;
        }
    }
    return true;
}

static enum tmf_error handle_train(struct tmf_node *node, const struct train *train,
                            struct response *response)
{
    struct tmf_model *model = &node->model;
    const struct tmf_training training = {
        .rate = train->train_rate,
        .frozen = train->train_frozen,
        .batch = train->train_batch,
        .epochs = train->train_epochs,
    };
    if (!tmf_is_finite(training.rate) || training.rate < 0.0f || training.batch == 0 ||
        training.epochs == 0 || (training.batch > 1 && model->gradient == NULL)) {
        return TMF_ERROR_ARGUMENT;
    }
    const uint8_t *samples = model->store;
    uint32_t count = model->stored;
    if (train->train_samples_choice == train_samples_bstr_c) {
        samples = train->train_samples_bstr.value;
        enum tmf_error error =
            tmf_samples_check(model, samples, train->train_samples_bstr.len, &count);
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
    response->response_body_choice = response_body_trained_m_c;
    return tmf_train(model, &training, samples, count,
                     &response->response_body_trained_m.trained_steps,
                     &response->response_body_trained_m.trained_loss);
}

static enum tmf_error handle_evaluate(struct tmf_node *node, const struct evaluate *evaluate,
                               struct response *response)
{
    const struct zcbor_string *samples = &evaluate->evaluate_samples;
    struct evaluated *evaluated = &response->response_body_evaluated_m;
    enum tmf_error error = tmf_samples_check(&node->model, samples->value, samples->len,
                                             &evaluated->evaluated_samples);
    if (error != TMF_OK) {
        return error;
    }
    tmf_phase_evaluate();
    response->response_body_choice = response_body_evaluated_m_c;
    return tmf_evaluate(&node->model, samples->value, evaluated->evaluated_samples,
                        &evaluated->evaluated_loss, &evaluated->evaluated_correct);
}

static enum tmf_error handle_predict(struct tmf_node *node, const struct predict *predict,
                              struct response *response)
{
    struct tmf_model *model = &node->model;
    const struct zcbor_string *samples = &predict->predict_samples;
    size_t size = model->inputs * sizeof(float), outputs = model->outputs * sizeof(float);
    if (samples->len == 0 || samples->len % size != 0 ||
        samples->len / size > (TMF_BODY_SIZE - OVERHEAD) / outputs) {
        return TMF_ERROR_SAMPLES;
    }
    tmf_phase_evaluate();
    uint8_t *out = node->frame; /* free until the response is framed */
    for (size_t i = 0; i < samples->len; i += size, out += outputs) {
        const float *y = tmf_predict(model, samples->value + i);
        for (uint32_t o = 0; o < model->outputs; o++) {
            if (!tmf_is_finite(y[o])) {
                return TMF_ERROR_DIVERGED;
            }
        }
        memcpy(out, y, outputs);
    }
    response->response_body_choice = response_body_outputs_m_c;
    response->response_body_outputs_m.outputs_values =
        string(node->frame, (size_t)(out - node->frame));
    return TMF_OK;
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

static enum tmf_error handle_select(struct tmf_node *node, const struct select *select,
                             struct response *response)
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
        if (layer->local) {
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
    response->response_body_choice = response_body_selected_m_c;
    response->response_body_selected_m.selected_entries = (uint32_t)node->selection.marked;
    return TMF_OK;
}

static enum tmf_error send_chunk(const struct tmf_chunk *chunk, struct response *response)
{
    response->response_body_choice = response_body_updated_m_c;
    response->response_body_updated_m.updated_chunk_m = (struct chunk){
        .chunk_first = chunk->first,
        .chunk_count = chunk->count,
        .chunk_encoding = chunk->encoding,
        .chunk_data = string(chunk->data, chunk->size),
    };
    return TMF_OK;
}

static enum tmf_error handle_update(struct tmf_node *node, const struct update *update,
                             struct response *response)
{
    if (update->update_first >= update->update_end ||
        update->update_end > node->model.parameters) {
        return TMF_ERROR_RANGE;
    }
    const struct tmf_chunk chunk =
        tmf_chunk_encode(node->model.working, &node->selection, update->update_first,
                         update->update_end, node->frame, TMF_BODY_SIZE - OVERHEAD);
    return send_chunk(&chunk, response);
}

static enum tmf_error handle_residual(const struct tmf_node *node, const struct residual *residual,
                                      struct response *response)
{
    const struct tmf_model *model = &node->model;
    const uint32_t first = residual->residual_first, most = (TMF_BODY_SIZE - OVERHEAD) / sizeof(float);
    if (model->residual == NULL || first >= residual->residual_end ||
        residual->residual_end > model->parameters) {
        return TMF_ERROR_RANGE;
    }
    const uint32_t left = residual->residual_end - first, count = left < most ? left : most;
    const struct tmf_chunk chunk = {
        .first = first,
        .count = count,
        .encoding = TMF_DENSE,
        .data = (const uint8_t *)(model->residual + first),
        .size = count * sizeof(float),
    };
    return send_chunk(&chunk, response);
}

static enum tmf_error handle_restore(const struct tmf_node *node, const struct restore *restore,
                                     struct response *response)
{
    const struct tmf_model *model = &node->model;
    const struct tmf_chunk chunk = received_chunk(&restore->restore_chunk_m);
    response->response_body_choice = response_body_done_m_c;
    return model->residual == NULL ? TMF_ERROR_RANGE
                                   : tmf_chunk_apply(&chunk, model->residual, model->parameters);
}

/* ---- the node --------------------------------------------------------------------------------------- */

static enum tmf_error handle(struct tmf_node *node, const struct request *request,
                             struct response *response)
{
    switch (request->request_body_choice) {
    case request_body_hello_m_c: say_hello(node, response); return TMF_OK;
    case request_body_load_m_c: return handle_load(node, &request->request_body_load_m, response);
    default: break;
    }
    if (!node->loaded) {
        return TMF_ERROR_NO_MODEL;
    }
    switch (request->request_body_choice) {
    case request_body_weights_m_c: return handle_weights(node, &request->request_body_weights_m, response);
    case request_body_store_m_c: return handle_store(node, &request->request_body_store_m, response);
    case request_body_residual_m_c:
        return handle_residual(node, &request->request_body_residual_m, response);
    case request_body_restore_m_c: return handle_restore(node, &request->request_body_restore_m, response);
    case request_body_update_m_c:
        return node->working == TMF_SELECTED
                   ? handle_update(node, &request->request_body_update_m, response)
                   : TMF_ERROR_ORDER;
    default: break;
    }
    if (node->working != TMF_TRAINING) {
        return node->version == 0 ? TMF_ERROR_WEIGHTS : TMF_ERROR_ORDER;
    }
    switch (request->request_body_choice) {
    case request_body_train_m_c: return handle_train(node, &request->request_body_train_m, response);
    case request_body_evaluate_m_c:
        return handle_evaluate(node, &request->request_body_evaluate_m, response);
    case request_body_predict_m_c: return handle_predict(node, &request->request_body_predict_m, response);
    case request_body_select_m_c: return handle_select(node, &request->request_body_select_m, response);
    default: return TMF_ERROR_MALFORMED;
    }
}

void tmf_node_init(struct tmf_node *node, const struct tmf_port *port)
{
    memset(node, 0, sizeof *node);
    node->port = *port;
    node->frame = port->window != NULL ? port->window->up.data : node->own_frame;
    tmf_link_init(&node->link, node->received, port->window);
    struct response response = {.response_sequence = 0};
    say_hello(node, &response);
    respond(node, &response);
}

void tmf_node_start(struct tmf_node *node)
{
    send_frame(node, false);
}

void tmf_node_receive(struct tmf_node *node, uint8_t byte)
{
    if (tmf_link_receive(&node->link, byte)) {
        tmf_phase_receive();
    }
}

bool tmf_node_ready(const struct tmf_node *node)
{
    return atomic_load_explicit(&node->link.ready, memory_order_acquire);
}

void tmf_node_poll(struct tmf_node *node)
{
    size_t size = 0;
    if (tmf_node_ready(node)) {
        tmf_phase_receive(); /* again: the interrupt may have come between two looks of send_frame */
        size = tmf_link_body(&node->link);
    }
    if (size == 0) {
        tmf_phase_idle();
        return;
    }
    struct request request = {.request_sequence = 0};
    struct response response = {.response_sequence = 0};
    size_t used = 0;
    enum tmf_error error = TMF_ERROR_MALFORMED;
    bool well_formed =
        cbor_decode_request(node->received, size, &request, &used) == ZCBOR_SUCCESS && used == size;
    bool repeated = node->answered && request.request_sequence == node->sequence &&
                    !(well_formed && request.request_body_choice == request_body_hello_m_c);
    if (!repeated) {
        response.response_sequence = request.request_sequence;
        if (well_formed) {
            error = handle(node, &request, &response);
        }
        if (error != TMF_OK) {
            refuse(&response, error, 0, 0);
        }
        respond(node, &response);
        node->sequence = request.request_sequence;
        node->answered = true;
    }
    const bool windowed = node->link.windowed; /* a request is answered the way that it came */
    /* Before the answer is out: the next request may follow it at once. */
    tmf_link_release(&node->link);
    send_frame(node, windowed);
}

size_t tmf_fault_frame(const struct tmf_fault *fault, uint8_t frame[TMF_FAULT_SIZE])
{
    uint8_t body[TMF_FAULT_SIZE];
    size_t size = 0;
    const struct response response = {
        .response_body_choice = response_body_fault_m_c,
        .response_body_fault_m = {
            .fault_pc = fault->pc,
            .fault_lr = fault->lr,
            .fault_cfsr = fault->cfsr,
            .fault_hfsr = fault->hfsr,
            .fault_address = fault->address,
        },
    };
    if (cbor_encode_response(body, sizeof body - 4, &response, &size) != ZCBOR_SUCCESS) {
        return 0;
    }
    return tmf_link_frame(body, size, frame);
}
