#ifndef TMF_LEARN_H
#define TMF_LEARN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tmf_error.h"
#include "tmf_model.h"

struct tmf_training {
    float rate;      /* of SGD */
    uint32_t frozen; /* bit i: the parameters of layer i do not move */
    uint32_t batch;  /* samples per step; more than one, proximal and from_mark only with model->gradient */
    uint32_t epochs;
    float proximal;  /* μ: a step also goes by rate · μ towards the weights held (FedProx) */
    bool from_mark;  /* a step starts from the mark, with the gradient where the working weights are */
    bool corrected;  /* the control variate is added to each gradient (SCAFFOLD) */
};

/* The whole number of valid samples in `size` bytes, at least one, or an error: sizes and classes are
 * checked before the first step is done. */
enum tmf_error tmf_samples_check(const struct tmf_model *model, const uint8_t *samples, size_t size,
                                 uint32_t *count);

/* SGD on `count` samples in their order, epoch after epoch; the last mini-batch of an epoch may be
 * smaller and counts by its own size. With a batch of one this is online learning: a sample is used
 * and dropped. `loss` is the mean over all samples seen, each before the step that it takes part in.
 * TMF_ERROR_DIVERGED at the first loss that is not finite, or where their sum is not. */
enum tmf_error tmf_train(struct tmf_model *model, const struct tmf_training *training,
                         const uint8_t *samples, uint32_t count, uint32_t *steps, float *loss);

/* Sum of the losses, and how many classes were right: the first largest output is the model's; of a
 * single output, class 1 where it is above zero. */
enum tmf_error tmf_evaluate(struct tmf_model *model, const uint8_t *samples, uint32_t count,
                            float *loss, uint32_t *correct);

/* The outputs for one sample's inputs (model->inputs float32, any alignment): model->outputs values,
 * valid until the next call. */
const float *tmf_predict(struct tmf_model *model, const uint8_t *inputs);

#endif
