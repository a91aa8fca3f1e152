/* The largest value or the mean of each channel under a window; see tmf_window.h. Arguments: height, width,
 * size, stride. */
#include <string.h>

#include "tmf_operation.h"
#include "tmf_window.h"

static enum tmf_error plan(struct tmf_layer *layer)
{
    struct tmf_window window;
    if (layer->argument_count != 4 || !tmf_window(layer, &window)) {
        return TMF_ERROR_MODEL;
    }
    layer->outputs = tmf_window_places(&window) * window.channels;
    return TMF_OK;
}

/* Index in x of the first largest, row by row. */
static size_t largest(const struct tmf_window *window, const struct tmf_place *place, const float *x,
                      uint32_t channel)
{
    size_t best = tmf_window_pixel(window, place, 0, 0) + channel;
    for (uint32_t row = 0; row < window->size; row++) {
        size_t pixel = tmf_window_pixel(window, place, row, 0) + channel;
        for (uint32_t column = 0; column < window->size; column++) {
            best = x[pixel] > x[best] ? pixel : best;
            pixel += window->channels;
        }
    }
    return best;
}

static void max_forward(const struct tmf_layer *layer, const float *w)
{
    (void)w;
    const struct tmf_window window = tmf_window_of(layer);
    float *y = layer->y;
    for (uint32_t i = 0; i < tmf_window_places(&window); i++) {
        const struct tmf_place place = tmf_window_place(&window, i);
        for (uint32_t c = 0; c < window.channels; c++) {
            *y++ = layer->x[largest(&window, &place, layer->x, c)];
        }
    }
}

/* Order: places from first to last. */
static void max_backward(const struct tmf_layer *layer, const float *w, const float *dy, float *dx,
                         float *sink, float scale)
{
    (void)w, (void)sink, (void)scale;
    const struct tmf_window window = tmf_window_of(layer);
    memset(dx, 0, layer->inputs * sizeof(float));
    for (uint32_t i = 0; i < tmf_window_places(&window); i++) {
        const struct tmf_place place = tmf_window_place(&window, i);
        for (uint32_t c = 0; c < window.channels; c++) {
            dx[largest(&window, &place, layer->x, c)] += *dy++;
        }
    }
}

static float share(const struct tmf_window *window)
{
    return 1.0f / (float)(window->size * window->size);
}

/* Order: from zero on, row by row; then the product with the rounded 1 / size². */
static void average_forward(const struct tmf_layer *layer, const float *w)
{
    (void)w;
    const struct tmf_window window = tmf_window_of(layer);
    float *y = layer->y;
    for (uint32_t i = 0; i < tmf_window_places(&window); i++) {
        const struct tmf_place place = tmf_window_place(&window, i);
        for (uint32_t c = 0; c < window.channels; c++) {
            float sum = 0.0f;
            for (uint32_t row = 0; row < window.size; row++) {
                const float *x = layer->x + tmf_window_pixel(&window, &place, row, 0) + c;
                for (uint32_t column = 0; column < window.size; column++) {
                    sum += *x;
                    x += window.channels;
                }
            }
            *y++ = sum * share(&window);
        }
    }
}

/* Order: places from first to last. */
static void average_backward(const struct tmf_layer *layer, const float *w, const float *dy, float *dx,
                             float *sink, float scale)
{
    (void)w, (void)sink, (void)scale;
    const struct tmf_window window = tmf_window_of(layer);
    memset(dx, 0, layer->inputs * sizeof(float));
    for (uint32_t i = 0; i < tmf_window_places(&window); i++) {
        const struct tmf_place place = tmf_window_place(&window, i);
        for (uint32_t c = 0; c < window.channels; c++) {
            const float d = *dy++ * share(&window);
            for (uint32_t row = 0; row < window.size; row++) {
                float *to = dx + tmf_window_pixel(&window, &place, row, 0) + c;
                for (uint32_t column = 0; column < window.size; column++) {
                    *to += d;
                    to += window.channels;
                }
            }
        }
    }
}

const struct tmf_operation tmf_max_pool2d = {
    .plan = plan, .forward = max_forward, .backward = max_backward};
const struct tmf_operation tmf_average_pool2d = {
    .plan = plan, .forward = average_forward, .backward = average_backward};
