/* The outputs of a model as they are: a node refuses to send what is not finite. For tests. */
#include <stdlib.h>
#include <string.h>

#include "tmf_learn.h"

uint32_t tmf_probe_forward(const uint32_t *layers, size_t count, uint32_t inputs, const float *theta,
                           const float *x, float *y);

/* layers: `count` times an operation, the number of its arguments, and six of these. Returns the number of
 * outputs, 0 where there is no such model. */
uint32_t tmf_probe_forward(const uint32_t *layers, size_t count, uint32_t inputs, const float *theta,
                           const float *x, float *y)
{
    struct tmf_model model;
    tmf_model_begin(&model, inputs, 0);
    for (; count > 0; count--, layers += 2 + TMF_MAX_ARGUMENTS) {
        if (tmf_model_add(&model, layers[0], false, layers + 2, layers[1]) != TMF_OK) {
            return 0;
        }
    }
    uint64_t needed = 0;
    tmf_model_place(&model, 0, false, 0, NULL, 0, &needed);
    void *memory = calloc(1, needed);
    uint32_t outputs = 0;
    if (memory != NULL &&
        tmf_model_place(&model, 0, false, 0, memory, needed, &needed) == TMF_OK) {
        memcpy(model.working, theta, model.parameters * sizeof(float));
        memcpy(y, tmf_predict(&model, (const uint8_t *)x), model.outputs * sizeof(float));
        outputs = model.outputs;
    }
    free(memory);
    return outputs;
}
