#include "tmf_loss.h"

#include <stddef.h>

#include "tmf_math.h"

/* Mean over the outputs of (y − target)². */
static float mean_squared_error(const float *y, uint32_t n, uint32_t class, float *dy)
{
    (void)class;
    float sum = 0.0f;
    for (uint32_t i = 0; i < n; i++) {
        float difference = y[i] - dy[i];
        sum += difference * difference;
        dy[i] = 2.0f * difference / (float)n;
    }
    return sum / (float)n;
}

/* −log softmax(y)[class]; the largest output is taken off first, so that no exponential overflows. */
static float softmax_cross_entropy(const float *y, uint32_t n, uint32_t class, float *dy)
{
    float largest = y[0];
    for (uint32_t i = 1; i < n; i++) {
        largest = y[i] > largest ? y[i] : largest;
    }
    float sum = 0.0f;
    for (uint32_t i = 0; i < n; i++) {
        dy[i] = tmf_expf(y[i] - largest);
        sum += dy[i];
    }
    for (uint32_t i = 0; i < n; i++) {
        dy[i] /= sum;
    }
    dy[class] -= 1.0f;
    return tmf_logf(sum) - (y[class] - largest);
}

/* −log sigmoid(y) of class 1, −log (1 − sigmoid(y)) of class 0; of |y|, so that no exponential overflows. */
static float binary_cross_entropy(const float *y, uint32_t n, uint32_t class, float *dy)
{
    (void)n;
    const float one = class == 1 ? 1.0f : 0.0f;
    const float above = y[0] < 0.0f ? 0.0f : y[0], magnitude = y[0] < 0.0f ? -y[0] : y[0];
    dy[0] = tmf_sigmoidf(y[0]) - one;
    return (above - y[0] * one) + tmf_logf(1.0f + tmf_expf(-magnitude));
}

static const struct tmf_loss losses[] = {
    [0] = {false, 1, UINT32_MAX, mean_squared_error},
    [1] = {true, 2, UINT32_MAX, softmax_cross_entropy},
    [2] = {true, 1, 1, binary_cross_entropy},
};

const struct tmf_loss *tmf_loss(uint32_t number)
{
    return number < sizeof losses / sizeof *losses ? &losses[number] : NULL;
}
