#ifndef TMF_MODEL_H
#define TMF_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tmf_error.h"
#include "tmf_sizes.h"

#define TMF_MAX_LAYERS 32     /* one bit each in a mask */
#define TMF_MAX_ARGUMENTS 6
#define TMF_WHOLE_SAMPLE 8100u /* bytes of a sample that fits into a frame, with its request around it */
#define TMF_MAX_VALUES (1u << 24) /* of a layer's inputs or outputs; keeps sizes within 64 bits */

struct tmf_operation;
struct tmf_loss;

/* What becomes of a layer's parameters. */
enum tmf_part {
    TMF_GLOBAL, /* shared with the server */
    TMF_LOCAL,  /* never leave the node */
    TMF_FROZEN, /* never move: held once, and in a vector of their own */
};

struct tmf_layer {
    const struct tmf_operation *operation;
    uint32_t arguments[TMF_MAX_ARGUMENTS]; /* as described; their meaning is the operation's */
    uint32_t argument_count;
    enum tmf_part part;
    uint32_t inputs;     /* values */
    uint32_t outputs;    /* values */
    uint32_t parameters; /* values */
    uint32_t first;      /* index of the first parameter in the model's vector, or in its backbone */
    uint32_t source;     /* number of the layer that it reads besides the one before, or instead of it: 1 for
                          * the first, 0 for the sample */
    uint32_t until;      /* index of the last layer that reads the outputs */
    bool is_source;      /* of a later layer */
    bool spare;          /* in the forward pass there is room at dx for as much as in scratch */
    float *x;            /* inputs, in the model's memory */
    float *y;            /* outputs; the same as x where the operation works in place */
    float *dx;           /* ∂loss/∂x; the same as y where the operation works in place */
    float *from;         /* the outputs of the source */
    float *gathered;     /* ∂loss/∂y of later layers that read y, or NULL where none is wanted */
    float *gather;       /* `gathered` of the source */
    float *scratch;
};

/* A model and all that training it needs, laid out in one block of memory. */
struct tmf_model {
    struct tmf_layer layers[TMF_MAX_LAYERS];
    uint32_t layer_count;
    const struct tmf_loss *loss;
    uint32_t inputs;
    uint32_t outputs;
    uint32_t parameters;          /* that are global or local */
    uint32_t backbone_parameters; /* that are frozen */
    uint32_t sample_size; /* bytes: inputs and target */
    uint32_t capacity;    /* samples in `store` */
    uint32_t stored;      /* samples */
    float *sample;        /* inputs values: the sample at work */
    uint32_t sample_until; /* index of the last layer that reads it */
    float *backbone;      /* frozen parameters, in the order of their layers */
    const float *in_flash; /* where they are there already, and take no memory; else NULL */
    float *held;          /* θ as broadcast: parameters values */
    float *working;       /* θ' that training moves: parameters values */
    float *residual;      /* of updates what was not sent: parameters values, or NULL where it is not kept */
    float *variate;       /* control variate of SCAFFOLD: parameters values, or NULL where there is none */
    float *mark;          /* working weights to come back to: parameters values, or NULL where there are none */
    float *gradient;      /* parameters values, or NULL where only batches of one are trained */
    float *dy;            /* ∂loss/∂outputs; before the loss is known, the target where it has values */
    uint8_t *store;       /* capacity samples */
    uint8_t *arriving;    /* one that comes in parts; NULL where each fits into a frame */
    struct tmf_sizes sizes;
};

/* Starts a model of `inputs` values a sample. */
void tmf_model_begin(struct tmf_model *model, uint32_t inputs, uint32_t capacity);

/* Adds a layer: TMF_ERROR_MODEL where it cannot follow the ones before. */
enum tmf_error tmf_model_add(struct tmf_model *model, uint32_t operation, enum tmf_part part,
                             const uint32_t *arguments, size_t count);

/* What a strategy needs room for besides, a vector of parameters each; bits of `room`. The residual and the
 * control variate exclude each other: either is what a node keeps from round to round. */
enum { TMF_ROOM_RESIDUAL = 1, TMF_ROOM_MARK = 2, TMF_ROOM_VARIATE = 4 };

/* Lays the model out in `memory` (aligned for float), but for model->in_flash: TMF_ERROR_MEMORY where it does not fit,
 * TMF_ERROR_MODEL where the loss is unknown or cannot judge the outputs, or there is no such room. `needed`, in bytes, and its
 * parts, model->sizes, are set in any case but TMF_ERROR_MODEL. What is kept starts with zeros. */
enum tmf_error tmf_model_place(struct tmf_model *model, uint32_t loss, bool accumulate, uint32_t room,
                               void *memory, size_t available, uint64_t *needed);

/* Lays out a model of frozen layers alone, for tmf_predict and nothing else. `weights`, those of all layers in
 * their order, stay where they are, in flash as well; `memory` (aligned for float) is what the layers compute in.
 * TMF_ERROR_MEMORY where that does not fit, TMF_ERROR_MODEL where a layer moves. `needed`, in bytes, is set in any
 * case but TMF_ERROR_MODEL. */
enum tmf_error tmf_model_place_to_predict(struct tmf_model *model, const float *weights, void *memory,
                                          size_t available, uint64_t *needed);

#endif
