/* A value each, in place. */
#include <stddef.h>

#include "tmf_bits.h"
#include "tmf_math.h"
#include "tmf_operation.h"

static enum tmf_error plan(struct tmf_layer *layer)
{
    layer->outputs = layer->inputs;
    return layer->argument_count == 0 ? TMF_OK : TMF_ERROR_MODEL;
}

/* Eight at a time, by their bits: loads that follow each other are faster, and so are comparisons of integers. */
#define AT_ONCE 8u
#define EACH(M) M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7)

/* 0 for what is below or is −0; NaN stays, whatever its sign. */
static inline float rectified(float x)
{
    const uint32_t bits = tmf_float_bits(x);
    return tmf_bits_float(bits - 0x80000000u <= TMF_NOT_FINITE ? 0 : bits);
}

static void relu_forward(const struct tmf_layer *layer, const float *w)
{
    (void)w;
    const float *x = layer->x;
    float *y = layer->y;
    uint32_t left = layer->outputs;
    for (; left >= AT_ONCE; left -= AT_ONCE, x += AT_ONCE, y += AT_ONCE) {
#define VALUE(i) const float x##i = x[i];
        EACH(VALUE)
#undef VALUE
#define VALUE(i) y[i] = rectified(x##i);
        EACH(VALUE)
#undef VALUE
    }
    for (; left > 0; left--) {
        *y++ = rectified(*x++);
    }
}

/* y is what relu_forward made: +0, more, or NaN. */
static inline float passed(float y, float slope)
{
    return tmf_bits_float(tmf_float_bits(y) == 0 ? 0 : tmf_float_bits(slope));
}

static void relu_backward(const struct tmf_layer *layer, const float *w, const float *dy, float *dx,
                          float *sink, float scale)
{
    (void)w, (void)sink, (void)scale;
    const float *y = layer->y;
    uint32_t left = dx != NULL ? layer->outputs : 0;
    for (; left >= AT_ONCE; left -= AT_ONCE, y += AT_ONCE, dy += AT_ONCE, dx += AT_ONCE) {
#define VALUE(i) const float y##i = y[i], d##i = dy[i];
        EACH(VALUE)
#undef VALUE
#define VALUE(i) dx[i] = passed(y##i, d##i);
        EACH(VALUE)
#undef VALUE
    }
    for (; left > 0; left--) {
        *dx++ = passed(*y++, *dy++);
    }
}

static void tanh_forward(const struct tmf_layer *layer, const float *w)
{
    (void)w;
    for (uint32_t i = 0; i < layer->outputs; i++) {
        layer->y[i] = tmf_tanhf(layer->x[i]);
    }
}

/* tanh' = 1 − tanh² */
static void tanh_backward(const struct tmf_layer *layer, const float *w, const float *dy, float *dx,
                          float *sink, float scale)
{
    (void)w, (void)sink, (void)scale;
    for (uint32_t i = 0; dx != NULL && i < layer->outputs; i++) {
        dx[i] = dy[i] * (1.0f - layer->y[i] * layer->y[i]);
    }
}

/* The argument is the slope below zero, the bits of a float32 in (0, 1): so the sign of y is that of x. */
static float leak(const struct tmf_layer *layer)
{
    return tmf_bits_float(layer->arguments[0]);
}

static enum tmf_error leaky_plan(struct tmf_layer *layer)
{
    layer->outputs = layer->inputs;
    return layer->argument_count == 1 && leak(layer) > 0.0f && leak(layer) < 1.0f ? TMF_OK : TMF_ERROR_MODEL;
}

static void leaky_relu_forward(const struct tmf_layer *layer, const float *w)
{
    (void)w;
    const float slope = leak(layer);
    for (uint32_t i = 0; i < layer->outputs; i++) {
        const float x = layer->x[i];
        layer->y[i] = x > 0.0f ? x : slope * x;
    }
}

static void leaky_relu_backward(const struct tmf_layer *layer, const float *w, const float *dy, float *dx,
                                float *sink, float scale)
{
    (void)w, (void)sink, (void)scale;
    const float slope = leak(layer);
    for (uint32_t i = 0; dx != NULL && i < layer->outputs; i++) {
        dx[i] = layer->y[i] > 0.0f ? dy[i] : slope * dy[i];
    }
}

static void relu6_forward(const struct tmf_layer *layer, const float *w)
{
    (void)w;
    for (uint32_t i = 0; i < layer->outputs; i++) {
        const float x = layer->x[i] < 0.0f ? 0.0f : layer->x[i];
        layer->y[i] = x > 6.0f ? 6.0f : x;
    }
}

static void relu6_backward(const struct tmf_layer *layer, const float *w, const float *dy, float *dx,
                           float *sink, float scale)
{
    (void)w, (void)sink, (void)scale;
    for (uint32_t i = 0; dx != NULL && i < layer->outputs; i++) {
        const float y = layer->y[i];
        dx[i] = y <= 0.0f || y >= 6.0f ? 0.0f : dy[i];
    }
}

static void sigmoid_forward(const struct tmf_layer *layer, const float *w)
{
    (void)w;
    for (uint32_t i = 0; i < layer->outputs; i++) {
        layer->y[i] = tmf_sigmoidf(layer->x[i]);
    }
}

/* sigmoid' = sigmoid · (1 − sigmoid) */
static void sigmoid_backward(const struct tmf_layer *layer, const float *w, const float *dy, float *dx,
                             float *sink, float scale)
{
    (void)w, (void)sink, (void)scale;
    for (uint32_t i = 0; dx != NULL && i < layer->outputs; i++) {
        const float y = layer->y[i];
        dx[i] = dy[i] * (y * (1.0f - y));
    }
}

const struct tmf_operation tmf_relu = {
    .plan = plan, .forward = relu_forward, .backward = relu_backward, .in_place = true};
const struct tmf_operation tmf_tanh = {
    .plan = plan, .forward = tanh_forward, .backward = tanh_backward, .in_place = true};
const struct tmf_operation tmf_leaky_relu = {
    .plan = leaky_plan, .forward = leaky_relu_forward, .backward = leaky_relu_backward, .in_place = true};
const struct tmf_operation tmf_relu6 = {
    .plan = plan, .forward = relu6_forward, .backward = relu6_backward, .in_place = true};
const struct tmf_operation tmf_sigmoid = {
    .plan = plan, .forward = sigmoid_forward, .backward = sigmoid_backward, .in_place = true};
