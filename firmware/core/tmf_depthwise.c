/* A convolution with a filter for each channel; see tmf_kernel.h for how an image lies in memory, and for the arguments.
 *
 * Weights are channels × (height · width of the window), then a bias for each channel. Order: places from first to
 * last, at each the channels; a channel's sum is its bias, then the products of what lies in the image, row by row.
 * An output whose dy is zero adds nothing anywhere and is passed over. */
#include "tmf_kernel.h"
#include "tmf_matrix.h"
#include "tmf_operation.h"

static enum tmf_error plan(struct tmf_layer *layer)
{
    struct tmf_kernel kernel;
    if (layer->argument_count != TMF_WINDOW_ARGUMENTS || !tmf_kernel(layer, &kernel)) {
        return TMF_ERROR_MODEL;
    }
    const uint64_t outputs = (uint64_t)tmf_kernel_places(&kernel) * kernel.channels;
    if (outputs > TMF_MAX_VALUES) {
        return TMF_ERROR_MODEL;
    }
    layer->outputs = (uint32_t)outputs;
    return TMF_OK;
}

static uint64_t parameters(const struct tmf_layer *layer)
{
    const struct tmf_kernel kernel = tmf_kernel_of(layer);
    return tmf_kernel_values(&kernel) + kernel.channels;
}

static void forward(const struct tmf_layer *layer, const float *w)
{
    const struct tmf_kernel kernel = tmf_kernel_of(layer);
    const float *b = w + tmf_kernel_values(&kernel);
    float *y = layer->y;
    struct tmf_walk walk = {0};
    for (uint32_t i = tmf_kernel_places(&kernel); i > 0; i--) {
        const struct tmf_place place = tmf_kernel_next(&kernel, &walk);
        for (uint32_t c = 0; c < kernel.channels; c++) {
            const float *filter = w + (size_t)c * tmf_kernel_taps(&kernel) + place.tap;
            const float *x = layer->x + place.first + c;
            float sum = b[c];
            for (uint32_t rows = place.rows; rows > 0; rows--) {
                for (uint32_t columns = place.columns; columns > 0; columns--) {
                    sum += *filter++ * *x;
                    x += kernel.channels;
                }
                filter += kernel.x.size - place.columns;
                x += place.skip;
            }
            *y++ = sum;
        }
    }
}

/* Gives dx or moves the sink; the other is NULL. */
static void pass(const struct tmf_layer *layer, const float *w, const float *dy, float *dx,
                           float *sink, float scale)
{
    const struct tmf_kernel kernel = tmf_kernel_of(layer);
    struct tmf_walk walk = {0};
    for (uint32_t i = tmf_kernel_places(&kernel); i > 0; i--) {
        const struct tmf_place place = tmf_kernel_next(&kernel, &walk);
        for (uint32_t c = 0; c < kernel.channels; c++) {
            const float d = *dy++, step = scale * d;
            size_t tap = (size_t)c * tmf_kernel_taps(&kernel) + place.tap, pixel = place.first + c;
            if (d == 0.0f) {
                continue;
            }
            if (sink != NULL) {
                sink[tmf_kernel_values(&kernel) + c] += step;
            }
            for (uint32_t rows = place.rows; rows > 0; rows--) {
                for (uint32_t columns = place.columns; columns > 0; columns--, tap++) {
                    if (sink != NULL) {
                        sink[tap] += layer->x[pixel] * step;
                    } else {
                        dx[pixel] += w[tap] * d;
                    }
                    pixel += kernel.channels;
                }
                tap += kernel.x.size - place.columns;
                pixel += place.skip;
            }
        }
    }
}

static void backward(const struct tmf_layer *layer, const float *w, const float *dy, float *dx,
                               float *sink, float scale)
{
    if (dx != NULL) {
        tmf_vector_clear(dx, layer->inputs);
        pass(layer, w, dy, dx, NULL, scale);
    }
    if (sink != NULL) {
        pass(layer, w, dy, NULL, sink, scale);
    }
}

const struct tmf_operation tmf_depthwise_conv2d = {
    .plan = plan,
    .parameters = parameters,
    .forward = forward,
    .backward = backward,
};
