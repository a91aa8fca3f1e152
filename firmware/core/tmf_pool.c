/* The largest value or the mean of each channel under a window; see tmf_kernel.h for the arguments. The mean has
 * one more: 1 where the padding's zeros count, 0 where the mean is of the pixels in the image. The largest is
 * always of these. */
#include "tmf_matrix.h"
#include "tmf_operation.h"
#include "tmf_kernel.h"

enum { PADDING_COUNTS = TMF_WINDOW_ARGUMENTS };

static enum tmf_error plan(struct tmf_layer *layer, uint32_t arguments)
{
    struct tmf_kernel kernel;
    if (layer->argument_count != arguments || !tmf_kernel(layer, &kernel)) {
        return TMF_ERROR_MODEL;
    }
    layer->outputs = tmf_kernel_places(&kernel) * kernel.channels;
    return TMF_OK;
}

static enum tmf_error max_plan(struct tmf_layer *layer)
{
    return plan(layer, TMF_WINDOW_ARGUMENTS);
}

/* Where in x the first largest of a channel lies, row by row; the first NaN where there is one. */
static const float *largest(const struct tmf_kernel *kernel, const struct tmf_place *place, const float *x,
                            uint32_t channel)
{
    const float *pixel = x + place->first + channel, *best = pixel;
    float most = *best;
    for (uint32_t rows = place->rows; rows > 0; rows--) {
        for (uint32_t columns = place->columns; columns > 0; columns--) {
            const float value = *pixel;
            if (!(value <= most) && most == most) { /* NaN passes what is none, and nothing passes it */
                best = pixel;
                most = value;
            }
            pixel += kernel->channels;
        }
        pixel += place->skip;
    }
    return best;
}

static void max_forward(const struct tmf_layer *layer, const float *w)
{
    (void)w;
    const struct tmf_kernel kernel = tmf_kernel_of(layer);
    float *y = layer->y;
    struct tmf_walk walk = {0};
    for (uint32_t i = tmf_kernel_places(&kernel); i > 0; i--) {
        const struct tmf_place place = tmf_kernel_next(&kernel, &walk);
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
    tmf_vector_clear(dx, layer->inputs);
    struct tmf_walk walk = {0};
    for (uint32_t i = tmf_kernel_places(&kernel); i > 0; i--) {
        const struct tmf_place place = tmf_kernel_next(&kernel, &walk);
        for (uint32_t c = 0; c < kernel.channels; c++) {
            dx[largest(&kernel, &place, layer->x, c) - layer->x] += *dy++;
        }
    }
}

static enum tmf_error average_plan(struct tmf_layer *layer)
{
    return layer->arguments[PADDING_COUNTS] > 1 ? TMF_ERROR_MODEL : plan(layer, PADDING_COUNTS + 1);
}

static float share(const struct tmf_layer *layer, const struct tmf_kernel *kernel, const struct tmf_place *place)
{
    const uint32_t inside = place->rows * place->columns;
    return 1.0f / (float)(layer->arguments[PADDING_COUNTS] == 1 ? tmf_kernel_taps(kernel) : inside);
}

/* Order: from zero on, row by row; then the product with the rounded 1 / pixels. */
static void average_forward(const struct tmf_layer *layer, const float *w)
{
    (void)w;
    const struct tmf_kernel kernel = tmf_kernel_of(layer);
    float *y = layer->y;
    struct tmf_walk walk = {0};
    for (uint32_t i = tmf_kernel_places(&kernel); i > 0; i--) {
        const struct tmf_place place = tmf_kernel_next(&kernel, &walk);
        const float factor = share(layer, &kernel, &place);
        for (uint32_t c = 0; c < kernel.channels; c++) {
            const float *x = layer->x + place.first + c;
            float sum = 0.0f;
            for (uint32_t rows = place.rows; rows > 0; rows--) {
                for (uint32_t columns = place.columns; columns > 0; columns--) {
                    sum += *x;
                    x += kernel.channels;
                }
                x += place.skip;
            }
            *y++ = sum * factor;
        }
    }
}

/* Order: places from first to last. */
static void average_backward(const struct tmf_layer *layer, const float *w, const float *dy, float *dx,
                             float *sink, float scale)
{
    (void)w, (void)sink, (void)scale;
    const struct tmf_kernel kernel = tmf_kernel_of(layer);
    tmf_vector_clear(dx, layer->inputs);
    struct tmf_walk walk = {0};
    for (uint32_t i = tmf_kernel_places(&kernel); i > 0; i--) {
        const struct tmf_place place = tmf_kernel_next(&kernel, &walk);
        const float factor = share(layer, &kernel, &place);
        for (uint32_t c = 0; c < kernel.channels; c++) {
            const float d = *dy++ * factor;
            float *to = dx + place.first + c;
            for (uint32_t rows = place.rows; rows > 0; rows--) {
                for (uint32_t columns = place.columns; columns > 0; columns--) {
                    *to += d;
                    to += kernel.channels;
                }
                to += place.skip;
            }
        }
    }
}

const struct tmf_operation tmf_max_pool2d = {
    .plan = max_plan, .forward = max_forward, .backward = max_backward};
const struct tmf_operation tmf_average_pool2d = {
    .plan = average_plan, .forward = average_forward, .backward = average_backward};
