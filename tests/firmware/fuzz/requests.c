/* A node that is sent frames with right checksums: their requests are made of the input, and most of them
 * fit the model that the node has then, so that the code behind the checks is reached. One number in sixteen
 * is the input's own. After each frame but hellos the node has to have answered. */
#include <stdlib.h>
#include <string.h>

#include "fuzzing.h"
#include "tmf_link.h"
#include "tmf_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- the input, zeros behind its end ---------------------------------------------------------------- */

struct input {
    const uint8_t *next, *end;
};

static uint8_t byte(struct input *in)
{
    return in->next < in->end ? *in->next++ : 0;
}

static uint32_t word(struct input *in)
{
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) {
        value = value << 8 | byte(in);
    }
    return value;
}

/* `right`, or what the input has instead: a neighbour of it, or any number. */
static uint32_t number(struct input *in, uint32_t right)
{
    const uint8_t choice = byte(in);
    return choice < 240 ? right : choice < 244 ? right - 1 : choice < 248 ? right + 1 : word(in);
}

static float real(struct input *in)
{
    const uint8_t choice = byte(in);
    uint32_t bits = choice < 240 ? 0 : word(in);
    float value = (float)(choice - 120) / 128;
    if (choice >= 240) {
        memcpy(&value, &bits, sizeof value);
    }
    return value;
}

/* ---- CBOR ------------------------------------------------------------------------------------------- */

struct body {
    uint8_t data[TMF_RECEIVE_SIZE];
    size_t size;
};

static void put(struct body *body, const void *data, size_t size)
{
    if (size <= TMF_BODY_SIZE - body->size) {
        memcpy(body->data + body->size, data, size);
        body->size += size;
    }
}

static void put_byte(struct body *body, uint8_t value)
{
    put(body, &value, 1);
}

static void put_head(struct body *body, unsigned major, uint32_t value)
{
    if (value < 24) {
        put_byte(body, (uint8_t)(major << 5 | value));
        return;
    }
    const int bytes = value < 1u << 8 ? 1 : value < 1u << 16 ? 2 : 4;
    put_byte(body, (uint8_t)(major << 5 | (bytes == 1 ? 24 : bytes == 2 ? 25 : 26)));
    for (int i = bytes - 1; i >= 0; i--) {
        put_byte(body, (uint8_t)(value >> (8 * i)));
    }
}

enum { UNSIGNED, NEGATIVE, BYTES, TEXT, LIST };

static void put_number(struct body *body, uint32_t value)
{
    put_head(body, UNSIGNED, value);
}

static void put_bool(struct body *body, bool value)
{
    put_byte(body, value ? 0xf5 : 0xf4);
}

static void put_real(struct body *body, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_byte(body, 0xfa);
    for (int i = 3; i >= 0; i--) {
        put_byte(body, (uint8_t)(bits >> (8 * i)));
    }
}

static void put_request(struct body *body, uint32_t code, uint32_t items)
{
    put_head(body, LIST, 1 + items);
    put_number(body, code);
}

static size_t room(const struct body *body)
{
    return TMF_BODY_SIZE - body->size > 64 ? TMF_BODY_SIZE - body->size - 64 : 0;
}

/* ---- requests --------------------------------------------------------------------------------------- */

enum code { HELLO, LOAD, WEIGHTS, TRAIN, STORE, EVALUATE, PREDICT, SELECT, UPDATE, RESIDUAL, RESTORE, MARK,
            VARIATE, RENEW, PART, BACKBONE, CODES };

/* Models that exist: inputs, loss, and their layers (operation, arguments). */
struct layer {
    uint8_t operation, count;
    uint32_t arguments[6];
};

/* Sides of a window: height and width; padding at the top, the bottom, left and right. */
#define SIDES(a, b) ((uint32_t)((a) | (b) << 8))
#define PADDING(top, bottom, left, right) (SIDES(top, bottom) | SIDES(left, right) << 16)

enum { ONE = SIDES(1, 1), TWO = SIDES(2, 2), THREE = SIDES(3, 3), SLOPE = 0x3c23d70a /* 0.01f */ };

static const struct {
    uint8_t inputs, loss, count;
    struct layer layers[7];
} models[] = {
    {1, 0, 3, {{1, 1, {6}}, {3, 0, {0}}, {1, 1, {1}}}},
    {3, 1, 5, {{1, 1, {7}}, {2, 0, {0}}, {1, 1, {5}}, {3, 0, {0}}, {1, 1, {4}}}},
    {36, 1, 5, {{4, 6, {6, 6, THREE, ONE, PADDING(1, 1, 1, 1), 3}}, {2, 0, {0}}, {6, 5, {6, 6, TWO, TWO, 0}},
                {1, 1, {3}}, {2, 0, {0}}}},
    {50, 0, 4, {{5, 5, {5, 5, THREE, TWO, 0}}, {7, 6, {2, 2, TWO, ONE, 0, 1}}, {3, 0, {0}}, {1, 1, {2}}}},
    {16, 1, 4, {{4, 6, {4, 4, ONE, ONE, 0, 9}}, {5, 5, {4, 4, THREE, ONE, PADDING(1, 1, 1, 1)}},
                {6, 5, {4, 4, THREE, ONE, 0}}, {1, 1, {2}}}},
    {24, 2, 7, {{4, 6, {4, 6, SIDES(2, 3), ONE, PADDING(0, 1, 1, 1), 2}}, {9, 0, {0}},
                {5, 5, {4, 6, SIDES(3, 2), ONE, PADDING(1, 1, 1, 0)}}, {11, 1, {2}}, {8, 1, {SLOPE}},
                {7, 6, {4, 6, SIDES(4, 3), SIDES(1, 3), 0, 0}}, {1, 1, {1}}}},
    {3, 0, 6, {{1, 1, {4}}, {12, 1, {0}}, {1, 1, {4}}, {11, 1, {1}}, {10, 0, {0}}, {1, 1, {2}}}},
    {20, 1, 4, {{4, 6, {4, 5, TWO, ONE, 0, 2}}, {4, 6, {3, 4, THREE, ONE, PADDING(1, 1, 1, 1), 3}},
                {4, 6, {3, 4, ONE, TWO, 0, 2}}, {1, 1, {2}}}},
};

static void put_load(struct body *body, struct input *in)
{
    const size_t which = byte(in) % (sizeof models / sizeof models[0]);
    const uint32_t count = number(in, models[which].count), room_for = byte(in);
    put_request(body, LOAD, 6);
    put_number(body, number(in, models[which].inputs));
    put_number(body, number(in, models[which].loss));
    put_bool(body, (room_for & 8) == 0);
    put_number(body, number(in, 9));
    put_head(body, LIST, count);
    for (uint32_t i = 0; i < count && i < TMF_MAX_LAYERS + 1; i++) {
        const struct layer *layer = &models[which].layers[i < 7 ? i : 0];
        const uint32_t arguments = number(in, layer->count);
        put_head(body, LIST, 2 + arguments);
        put_number(body, number(in, layer->operation));
        put_number(body, number(in, byte(in) % 8 < 7 ? byte(in) & 1 : 2));
        for (uint32_t j = 0; j < arguments && j < 7; j++) {
            put_number(body, number(in, layer->arguments[j < 6 ? j : 0]));
        }
    }
    put_number(body, number(in, room_for % 8 == 5 ? 3 : room_for % 7));
}

static void put_leb(struct body *body, uint32_t value)
{
    for (; value >= 128; value >>= 7) {
        put_byte(body, (uint8_t)(value | 128));
    }
    put_byte(body, (uint8_t)value);
}

/* Entries [0, all) in one of the encodings; of a chunk that the node takes all are there. */
static void put_chunk(struct body *body, struct input *in, uint32_t all)
{
    static struct body piece;
    piece.size = 0;
    const uint32_t most = (uint32_t)(room(body) / 6);
    const uint32_t first = number(in, 0), count = number(in, all < most ? all : most);
    const uint32_t encoding = byte(in) % 3, there = count < most ? count : most;
    if (encoding == 1) {
        for (uint32_t i = 0; i < (there + 7) / 8; i++) {
            const bool last = i == there / 8;
            put_byte(&piece, (uint8_t)(number(in, 255) & (last ? (1u << there % 8) - 1 : 255)));
        }
    } else if (encoding == 2) {
        put_leb(&piece, number(in, there));
        for (uint32_t i = 0; i < there; i++) {
            put_leb(&piece, number(in, 0));
        }
    }
    for (uint32_t i = 0; i < there; i++) {
        const float value = real(in);
        put(&piece, &value, sizeof value);
    }
    put_number(body, first);
    put_number(body, count);
    put_number(body, number(in, encoding));
    put_head(body, BYTES, (uint32_t)piece.size);
    put(body, piece.data, piece.size);
}

static void put_samples(struct body *body, struct input *in, const struct tmf_model *model, bool inputs_only)
{
    const uint32_t size = inputs_only ? 4 * model->inputs : model->sample_size;
    const uint32_t most = size == 0 ? 0 : (uint32_t)room(body) / size;
    const uint32_t wanted = byte(in) % 8, count = wanted < most ? wanted : most;
    const uint32_t bytes = number(in, count * size);
    const bool classes = model->sample_size == 4 * (model->inputs + 1);
    put_head(body, BYTES, bytes);
    for (uint32_t i = 0; i < bytes / 4 && room(body) > 0; i++) {
        const uint32_t at = size == 0 ? 0 : i % (size / 4);
        if (!inputs_only && classes && at == model->inputs) {
            const uint32_t target = number(in, byte(in) % (model->outputs == 0 ? 1 : model->outputs));
            put(body, &target, sizeof target);
        } else {
            const float value = real(in);
            put(body, &value, sizeof value);
        }
    }
    put(body, "\0\0\0", bytes % 4);
}

static void put_train(struct body *body, struct input *in, const struct tmf_model *model)
{
    const uint8_t how = byte(in);
    put_request(body, TRAIN, how & 1 ? 7 : 5);
    put_real(body, real(in) / 8);
    put_number(body, number(in, byte(in) % 4));
    put_number(body, number(in, how & 2 ? 1 + byte(in) % 3 : 1) & 0xffff);
    put_number(body, number(in, how & 4 ? 1 : 1 + byte(in) % 2) & 3);
    if (how & 4) {
        put_samples(body, in, model, false);
    } else {
        put_byte(body, 0xf6);
    }
    if (how & 1) {
        put_real(body, how & 8 ? 0 : real(in));
        put_number(body, number(in, byte(in) % 4));
    }
}

static void put_any(struct body *body, struct input *in, const struct tmf_node *node, enum code code)
{
    const struct tmf_model *model = &node->model;
    const uint32_t all = model->parameters;
    switch (code) {
    case LOAD:
        put_load(body, in);
        break;
    case WEIGHTS: {
        const bool whole = byte(in) & 1;
        put_request(body, code, 7);
        put_number(body, number(in, whole ? 0 : node->version));
        put_number(body, number(in, node->version + 1));
        put_bool(body, number(in, 1));
        put_chunk(body, in, all);
        break;
    }
    case TRAIN:
        put_train(body, in, model);
        break;
    case STORE:
        put_request(body, code, 2);
        put_bool(body, byte(in) & 1);
        put_samples(body, in, model, false);
        break;
    case EVALUATE:
    case PREDICT:
        put_request(body, code, 1);
        put_samples(body, in, model, code == PREDICT);
        break;
    case SELECT:
        put_request(body, code, 2);
        put_number(body, number(in, all == 0 ? 0 : byte(in) % all));
        put_number(body, number(in, byte(in) % 3));
        break;
    case UPDATE:
    case RESIDUAL:
        put_request(body, code, 2);
        put_number(body, number(in, 0));
        put_number(body, number(in, all));
        break;
    case RESTORE:
    case VARIATE:
        put_request(body, code, 4);
        put_chunk(body, in, all);
        break;
    case PART:
        put_request(body, code, 2);
        put_number(body, number(in, 0));
        put_samples(body, in, model, false);
        break;
    case BACKBONE:
        put_request(body, code, 4);
        put_chunk(body, in, node->loaded ? model->backbone_parameters : 0);
        break;
    case RENEW:
        put_request(body, code, 1);
        put_real(body, real(in));
        break;
    default:
        put_request(body, (uint32_t)code, 0);
        break;
    }
}

/* What a round asks for, in its order; of it only what the model has room for. */
static enum code next_of_round(const struct tmf_model *model, uint32_t *step)
{
    static const enum code order[] = {WEIGHTS, STORE,  TRAIN, EVALUATE, MARK,    TRAIN,  PREDICT,
                                      VARIATE, TRAIN,  RENEW, SELECT,   UPDATE,  RESIDUAL, RESTORE};
    for (;;) {
        const enum code code = order[(*step)++ % (sizeof order / sizeof order[0])];
        const bool needs_mark = code == MARK, needs_variate = code == VARIATE || code == RENEW;
        const bool needs_kept = code == RESIDUAL || code == RESTORE;
        if (!(needs_mark && model->mark == NULL) && !(needs_variate && model->variate == NULL) &&
            !(needs_kept && model->variate == NULL && model->residual == NULL)) {
            return code;
        }
    }
}

/* A frame of one to eight requests, all made for the node as it is before the first of them. */
static void send(struct tmf_node *node, struct input *in, uint32_t sequence, uint32_t *step, bool windowed)
{
    static struct body body;
    static uint8_t frame[TMF_FRAME_SIZE(TMF_RECEIVE_SIZE)];
    const uint32_t count = node->loaded ? 1 + byte(in) % 8 : 1;
    body.size = 0;
    put_head(&body, LIST, 1 + number(in, count) % 24);
    put_number(&body, number(in, sequence));
    for (uint32_t i = 0; i < count && room(&body) > 0; i++) {
        const uint8_t choice = byte(in);
        const bool lacks = node->loaded && node->backbone < node->model.backbone_parameters;
        const enum code code = !node->loaded  ? LOAD
                               : lacks && choice < 200 ? BACKBONE
                               : choice < 200 ? next_of_round(&node->model, step)
                                              : (enum code)(choice % CODES);
        put_any(&body, in, node, code);
    }
    if (byte(in) >= 252) { /* and then a byte of it is another */
        body.data[word(in) % body.size] = byte(in);
    }
    const size_t size = tmf_link_frame(body.data, body.size, frame);
    const size_t before = fuzzed_frames();
    if (windowed) {
        fuzzed_window(node, frame, size - 1, (uint32_t)size - 1);
    } else {
        fuzzed_receive(node, frame, size);
    }
    if (fuzzed_frames() != before + 1 || node->link.bad_frames != 0) {
        abort(); /* each frame that is whole is answered, and once */
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    const bool windowed = byte(&in) & 1;
    struct tmf_node *node = fuzzed_node(windowed);
    uint32_t step = 0;
    for (uint32_t sequence = 1; in.next < in.end && sequence < 40; sequence++) {
        send(node, &in, sequence, &step, windowed);
    }
    return 0;
}
