/* The largest value or the mean of each channel under a window; see tmf_kernel.h. Arguments: height, width,
 * size, stride. */
#include <string.h>

#include "tmf_operation.h"
#include "tmf_kernel.h"

static enum tmf_error plan(struct tmf_layer *layer)
{
    struct tmf_kernel kernel;
    if (layer->argument_count != 4 || !tmf_kernel(layer, &kernel)) {
        return TMF_ERROR_MODEL;
    }
    layer->outputs = tmf_kernel_places(&kernel) * kernel.channels;
    return TMF_OK;
}

/* Where in x the first largest lies, row by row; the first NaN where there is one. */
static const float *largest(const struct tmf_kernel *kernel, const struct tmf_place *place, const float *x,
                            uint32_t channel)
{
    const float *best = x + tmf_kernel_pixel(kernel, place, 0, 0) + channel;
    float most = *best;
    for (uint32_t row = 0; row < kernel->size; row++) {
        const float *pixel = x + tmf_kernel_pixel(kernel, place, row, 0) + channel;
        for (uint32_t left = kernel->size; left > 0; left--) {
            const float value = *pixel;
            if (!(value <= most) && most == most) { /* NaN passes what is none, and nothing passes it */
                best = pixel;
                most = value;
            }
            pixel += kernel->channels;
        }
    }
    return best;
}

static void max_forward(const struct tmf_layer *layer, const float *w)
{
    (void)w;
    const struct tmf_kernel kernel = tmf_kernel_of(layer);
    float *y = layer->y;
    for (uint32_t i = 0; i < tmf_kernel_places(&kernel); i++) {
        const struct tmf_place place = tmf_kernel_place(&kernel, i);
        for (uint32_t c = 0; c < kernel.channels; c++) {
            *y++ = *largest(&kernel, &place, layer->x, c);
        }
    }
}

/* Order: places from first to last. */
static void max_backward(const struct tmf_layer *layer, const float *w, const float *dy, float *dx,
                         float *sink, float scale)
{
    (void)w, (void)sink, (void)scale;
    const struct tmf_kernel kernel = tmf_kernel_of(layer);
    memset(dx, 0, layer->inputs * sizeof(float));
    for (uint32_t i = 0; i < tmf_kernel_places(&kernel); i++) {
        const struct tmf_place place = tmf_kernel_place(&kernel, i);
        for (uint32_t c = 0; c < kernel.channels; c++) {
            dx[largest(&kernel, &place, layer->x, c) - layer->x] += *dy++;
        }
    }
}

static float share(const struct tmf_kernel *kernel)
{
    return 1.0f / (float)(kernel->size * kernel->size);
}

/* Order: from zero on, row by row; then the product with the rounded 1 / size². */
static void average_forward(const struct tmf_layer *layer, const float *w)
{
    (void)w;
    const struct tmf_kernel kernel = tmf_kernel_of(layer);
    float *y = layer->y;
    for (uint32_t i = 0; i < tmf_kernel_places(&kernel); i++) {
        const struct tmf_place place = tmf_kernel_place(&kernel, i);
        for (uint32_t c = 0; c < kernel.channels; c++) {
            float sum = 0.0f;
            for (uint32_t row = 0; row < kernel.size; row++) {
                const float *x = layer->x + tmf_kernel_pixel(&kernel, &place, row, 0) + c;
                for (uint32_t column = 0; column < kernel.size; column++) {
                    sum += *x;
                    x += kernel.channels;
                }
            }
            *y++ = sum * share(&kernel);
        }
    }
}

/* Order: places from first to last. */
static void average_backward(const struct tmf_layer *layer, const float *w, const float *dy, float *dx,
                             float *sink, float scale)
{
    (void)w, (void)sink, (void)scale;
    const struct tmf_kernel kernel = tmf_kernel_of(layer);
    memset(dx, 0, layer->inputs * sizeof(float));
    for (uint32_t i = 0; i < tmf_kernel_places(&kernel); i++) {
        const struct tmf_place place = tmf_kernel_place(&kernel, i);
        for (uint32_t c = 0; c < kernel.channels; c++) {
            const float d = *dy++ * share(&kernel);
            for (uint32_t row = 0; row < kernel.size; row++) {
                float *to = dx + tmf_kernel_pixel(&kernel, &place, row, 0) + c;
                for (uint32_t column = 0; column < kernel.size; column++) {
                    *to += d;
                    to += kernel.channels;
                }
            }
        }
    }
}

const struct tmf_operation tmf_max_pool2d = {
    .plan = plan, .forward = max_forward, .backward = max_backward};
const struct tmf_operation tmf_average_pool2d = {
    .plan = plan, .forward = average_forward, .backward = average_backward};
