#include "tmf_clients.h"

#include <stdatomic.h>
#include <string.h>

#include "tmf_chunk.h"
#include "tmf_crc32.h"
#include "tmf_floats.h"
#include "tmf_host_node.h"
#include "tmf_number.h"
#include "tmf_request.h"

#define LAST_SEQUENCE 23u
#define BROKEN (-1)
#define DONE_SIZE 3u        /* bytes of the answer `done` */
#define DONE_FRAME_SIZE 11u /* of a frame with nothing else: head, number, answer, checksum, COBS */

/* ---- frames that nobody sends -------------------------------------------------------------------------- */

/* Bytes on the wire of a body: what tmf_link_frame would return. A byte more for each block of 254 bytes without a
 * zero; where the checksum cannot end one, it need not be known. */
static uint32_t frame_size(const uint8_t *body, size_t size)
{
    uint32_t blocks = 1;
    size_t begin = 0;
    while (size - begin >= 254) {
        const uint8_t *const zero = memchr(body + begin, 0, 254);
        if (zero == NULL) {
            blocks++;
            begin += 254;
        } else {
            begin = (size_t)(zero - body) + 1;
        }
    }
    const uint8_t *zero;
    while ((zero = memchr(body + begin, 0, size - begin)) != NULL) {
        begin = (size_t)(zero - body) + 1;
    }
    if (size - begin + 4 >= 254) {
        uint32_t crc = tmf_crc32(0, body, size);
        size_t left = size - begin;
        int i = 0;
        for (; i < 4 && left < 254; i++, crc >>= 8) {
            left = (crc & 0xff) == 0 ? 0 : left + 1;
        }
        blocks += left == 254 && i < 4; /* one that ends with the last byte has none behind it */
    }
    return (uint32_t)size + 4 + blocks + 1;
}

/* ---- one client ----------------------------------------------------------------------------------------- */

struct play {
    struct tmf_node *node;
    const struct tmf_job *job;
    struct tmf_client *client;
    uint32_t next[TMF_MAX_LAYERS]; /* of each run the first entry that is yet to come */
    uint32_t left;                 /* marked entries that are yet to come */
    bool sends;                    /* the program has asked for the update */
    bool moved;                    /* some of it has come with the last frame */
};

static void count_frame(struct play *play, const uint8_t *body, size_t size, uint32_t own, uint32_t *bytes,
                        uint32_t *frames, uint32_t sensor)
{
    const uint32_t whole = frame_size(body, size) - sensor;
    bytes[play->job->framing] += whole - own;
    frames[play->client->frames] = whole;
}

/* A value's code at p, which moves on. */
static float get_value(const uint8_t **p, const struct tmf_format *format)
{
    uint32_t code = *(*p)++;
    if (format->values == TMF_FLOAT16) {
        code |= (uint32_t)*(*p)++ << 8;
    }
    return tmf_format_value(format, code);
}

/* Takes the entries that a chunk of the update has, as who receives it does; returns how many they are. Chunks are
 * the node's own, so that they are not checked. */
static uint32_t collect(struct play *play, const struct chunk *chunk)
{
    const struct tmf_format *const format = &play->node->selection.format;
    struct tmf_client *const client = play->client;
    int32_t *const indices = client->indices + client->entries;
    float *const values = client->values + client->entries;
    const uint32_t encoding = chunk->chunk_encoding & ((1u << TMF_VALUES_SHIFT) - 1), first = chunk->chunk_first;
    const uint8_t *p = chunk->chunk_data.value + (format->values == TMF_INT8);
    uint32_t entries = 0;
    if (chunk->chunk_count == 0) {
        return 0;
    }
    if (encoding == TMF_DENSE) { /* zeros stand for what is not marked */
        for (uint32_t i = 0; i < chunk->chunk_count; i++) {
            float value;
            if (format->values == TMF_FLOAT32) {
                memcpy(&value, p + i * sizeof value, sizeof value);
            } else {
                value = get_value(&p, format);
            }
            indices[entries] = (int32_t)(first + i);
            values[entries] = value;
            entries += value != 0.0f;
        }
        client->entries += entries;
        return entries;
    }
    if (encoding == TMF_BITMAP) {
        for (uint32_t i = 0; i < chunk->chunk_count; i++) { /* each is written, the next over it if it is none */
            indices[entries] = (int32_t)(first + i);
            entries += p[i / 8] >> i % 8 & 1;
        }
        p += (chunk->chunk_count + 7) / 8;
    } else {
        uint32_t marked = 0, next = first;
        tmf_leb_get(&p, p + chunk->chunk_data.len, &marked);
        for (; entries < marked; entries++, next++) {
            uint32_t gap = 0;
            tmf_leb_get(&p, p + chunk->chunk_data.len, &gap);
            next += gap;
            indices[entries] = (int32_t)next;
        }
    }
    if (format->values == TMF_FLOAT32) {
        memcpy(values, p, entries * sizeof *values);
    }
    for (uint32_t i = 0; format->values != TMF_FLOAT32 && i < entries; i++) {
        values[i] = get_value(&p, format);
    }
    client->entries += entries;
    return entries;
}

static void take(struct play *play, const struct tmf_piece *piece, const struct response_body_r *answer)
{
    struct tmf_client *const client = play->client;
    switch (answer->response_body_choice) {
    case response_body_error_m_c:
        client->code = (int32_t)answer->response_body_error_m.error_code;
        client->failed = piece->name;
        break;
    case response_body_selected_m_c:
        play->left = answer->response_body_selected_m.selected_entries;
        break;
    case response_body_evaluated_m_c: {
        const struct evaluated *const evaluated = &answer->response_body_evaluated_m;
        client->loss[piece->ordinal] += (double)evaluated->evaluated_loss;
        client->correct[piece->ordinal] += evaluated->evaluated_correct;
        client->samples[piece->ordinal] += evaluated->evaluated_samples;
        break;
    }
    case response_body_updated_m_c: {
        const struct chunk *const chunk = &answer->response_body_updated_m.updated_chunk_m;
        play->sends = true;
        play->moved = play->moved || chunk->chunk_count > 0;
        play->left -= collect(play, chunk);
        play->next[piece->ordinal] = chunk->chunk_first + chunk->chunk_count;
        break;
    }
    default: break;
    }
}

/* Has the node do the body of `size` bytes in its receive buffer, which has these pieces. own: bytes of them without
 * samples. False where one was refused. */
static bool exchange(struct play *play, const struct tmf_piece *pieces, uint32_t count, size_t size, uint32_t own,
                     uint32_t sensor)
{
    struct tmf_node *const node = play->node;
    struct tmf_client *const client = play->client;
    const bool counts = play->job->counts;
    if (counts && client->frames == client->frame_room) {
        client->code = BROKEN;
        return false;
    }
    client->sensor += sensor;
    if (counts) {
        count_frame(play, node->received, size, own, client->down, client->frame_sizes, sensor);
    }
    struct tmf_response response;
    size = tmf_node_answer(node, size, &response);
    uint32_t answered = 0;
    for (uint32_t i = 0; i < response.count; i++) {
        client->up[pieces[i].name] += response.sizes[i];
        answered += response.sizes[i];
        take(play, &pieces[i], &response.answers[i]);
    }
    if (counts) {
        count_frame(play, node->received, size, answered, client->up,
                    client->frame_sizes + client->frame_room, 0);
        client->frames++;
    }
    if (client->code == 0 && (size == 0 || response.count != count)) {
        client->code = BROKEN;
    }
    return client->code == 0;
}

static uint8_t *begin(struct play *play, uint32_t requests)
{
    struct tmf_client *const client = play->client;
    uint8_t *p = play->node->received;
    client->sequence = client->sequence % LAST_SEQUENCE + 1;
    *p++ = (uint8_t)(0x81u + requests);
    *p++ = (uint8_t)client->sequence;
    return p;
}

/* What the frames with weights alone come to: a node that has got all of them, whose weights held are those of the
 * broadcast. */
static void skip_weights(struct play *play, const struct tmf_packing *packing)
{
    struct tmf_client *const client = play->client;
    struct tmf_node *const node = play->node;
    const struct tmf_segment *segment = packing->segments;
    for (uint32_t frame = 0; frame < packing->alone; frame++, segment++) {
        uint8_t *const p = begin(play, 1);
        _Atomic uint32_t *const known =
            (_Atomic uint32_t *)&packing->sizes[frame * (LAST_SEQUENCE + 1) + client->sequence];
        uint32_t size = atomic_load_explicit(known, memory_order_relaxed);
        if (size == 0) {
            memcpy(p, segment->bytes, segment->size);
            size = frame_size(node->received, (size_t)(p - node->received) + segment->size);
            atomic_store_explicit(known, size, memory_order_relaxed);
        }
        client->down[packing->weights] += segment->size;
        client->down[play->job->framing] += size - segment->size;
        client->up[packing->weights] += DONE_SIZE;
        client->up[play->job->framing] += DONE_FRAME_SIZE - DONE_SIZE;
        client->frame_sizes[client->frames] = size;
        client->frame_sizes[client->frame_room + client->frames] = DONE_FRAME_SIZE;
        client->frames++;
    }
    if (packing->alone > 0) {
        node->version = 0;
        node->broadcast =
            (struct tmf_broadcast){.from = packing->base, .to = play->job->version, .next = packing->next};
    }
}

/* The frames of the program. False where a request was refused. */
static bool play_packing(struct play *play, const struct tmf_packing *packing)
{
    struct tmf_client *const client = play->client;
    const struct tmf_piece *piece = packing->pieces + packing->alone;
    const struct tmf_segment *segment = packing->segments + packing->alone;
    skip_weights(play, packing);
    for (uint32_t frame = packing->alone; frame < packing->frames; frame++) {
        const uint32_t requests = packing->requests[frame];
        const struct tmf_piece *const pieces = piece;
        uint8_t *p = begin(play, requests);
        uint32_t own = 0, sensor = 0;
        for (; piece < pieces + requests; piece++) {
            for (uint32_t i = 0; i < piece->segments; i++, segment++) {
                const uint8_t *const bytes = segment->source == 0   ? segment->bytes
                                             : segment->source == 1 ? client->support + segment->first
                                                                    : client->query + segment->first;
                memcpy(p, bytes, segment->size);
                p += segment->size;
                if (segment->source == 0) {
                    client->down[piece->name] += segment->size;
                    own += segment->size;
                } else {
                    sensor += segment->size;
                }
            }
        }
        if (!exchange(play, pieces, requests, (size_t)(p - play->node->received), own, sensor)) {
            return false;
        }
    }
    return true;
}

/* Asks for what of the update has not come yet, as long as there is something. */
static bool play_rest(struct play *play)
{
    const struct tmf_job *const job = play->job;
    while (play->sends && play->left > 0) {
        struct tmf_piece pieces[TMF_MOST_REQUESTS];
        uint32_t requests = 0;
        for (uint32_t run = 0; run < job->run_count && requests < TMF_MOST_REQUESTS; run++) {
            if (play->next[run] < job->runs[run].end) {
                pieces[requests++] = (struct tmf_piece){.name = job->update, .ordinal = run};
            }
        }
        if (requests == 0 || !play->moved) {
            play->client->code = BROKEN;
            return false;
        }
        uint8_t *const start = begin(play, requests), *p = start;
        for (uint32_t i = 0; i < requests; i++) {
            *p++ = 0x83; /* update = [8, first, end] */
            *p++ = 8;
            p = tmf_put_number(p, play->next[pieces[i].ordinal]);
            p = tmf_put_number(p, job->runs[pieces[i].ordinal].end);
        }
        const uint32_t own = (uint32_t)(p - start);
        play->client->down[job->update] += own;
        play->moved = false;
        if (!exchange(play, pieces, requests, (size_t)(p - play->node->received), own, 0)) {
            return false;
        }
    }
    return true;
}

/* A node that was told of its model, and holds the weights of a version: of these, what is not in θ anyway the
 * broadcast replaces. */
static bool stand_in(struct tmf_host *host, const struct tmf_job *job, const struct tmf_client *client)
{
    struct tmf_node *const node = &host->node;
    struct tmf_model *const model = &node->model;
    if (job->load_size > sizeof host->load) {
        return false;
    }
    if (job->load_size != host->load_size || memcmp(job->load, host->load, job->load_size) != 0) {
        tmf_host_boot(host);
        struct tmf_response response;
        memcpy(node->received, job->load, job->load_size);
        tmf_node_answer(node, job->load_size, &response);
        memcpy(host->load, job->load, job->load_size);
        host->load_size = job->load_size;
        host->job = 0;
    }
    if (!node->loaded) {
        return false;
    }
    if (host->job != job->number) {
        memcpy(model->backbone, job->backbone, model->backbone_parameters * sizeof(float));
        node->backbone = model->backbone_parameters;
        memcpy(model->held, job->theta, model->parameters * sizeof(float));
        host->job = job->number;
    }
    node->broadcast = (struct tmf_broadcast){.to = 0};
    node->version = client->held;
    node->working = TMF_EMPTY;
    node->arrived = 0;
    model->stored = 0;
    if (client->held == job->version) {
        tmf_request_ready(node);
    }
    /* What it keeps lies with the client. */
    model->residual = model->sizes.residual > 0 ? client->kept : NULL;
    model->variate = model->sizes.variate > 0 ? client->kept : NULL;
    return true;
}

void tmf_clients_add(double *sum, const int32_t *indices, const float *values, size_t count, double weight)
{
    struct tmf_floats before;
    tmf_floats_begin(&before);
    for (size_t i = 0; i < count; i++) {
        sum[indices[i]] += weight * (double)values[i];
    }
    tmf_floats_end(&before);
}

void tmf_clients_run(struct tmf_host *host, const struct tmf_job *job, struct tmf_client *clients, size_t count)
{
    struct tmf_floats before;
    tmf_floats_begin(&before);
    for (size_t i = 0; i < count; i++) {
        struct play play = {.node = &host->node, .job = job, .client = &clients[i]};
        for (uint32_t run = 0; run < job->run_count; run++) {
            play.next[run] = job->runs[run].first;
        }
        if (!stand_in(host, job, play.client)) {
            play.client->code = BROKEN;
            continue;
        }
        if (!play_packing(&play, play.client->packing) || !play_rest(&play)) {
            play.client->entries = 0;
        }
    }
    tmf_floats_end(&before);
}
