/* Convolutions of an image; see tmf_kernel.h for how it lies in memory, and for the arguments; conv2d has the
 * number of filters after them. */
#include <string.h>

#include "tmf_matrix.h"
#include "tmf_operation.h"
#include "tmf_kernel.h"

enum { FILTERS = TMF_WINDOW_ARGUMENTS };

/* ---- conv2d: every filter sees all channels ----------------------------------------------------------
 *
 * The patch of the image under the window, row by row and zero in the padding, is copied to the layer's
 * scratch, and is x to the matrix of the filters (filters × height · width · channels of the window), with a
 * bias each. A window of one pixel needs no copy: the patch is the pixel. Order: places from first to last; at
 * each that of tmf_matrix.h. */

static uint64_t patch_values(const struct tmf_kernel *kernel)
{
    return (uint64_t)tmf_kernel_taps(kernel) * kernel->channels;
}

static enum tmf_error conv2d_plan(struct tmf_layer *layer)
{
    struct tmf_kernel kernel;
    if (layer->argument_count != FILTERS + 1 || !tmf_kernel(layer, &kernel)) {
        return TMF_ERROR_MODEL;
    }
    const uint64_t outputs = (uint64_t)tmf_kernel_places(&kernel) * layer->arguments[FILTERS];
    if (outputs > TMF_MAX_VALUES || patch_values(&kernel) > TMF_MAX_VALUES) {
        return TMF_ERROR_MODEL;
    }
    layer->outputs = (uint32_t)outputs;
    return TMF_OK;
}

static uint64_t conv2d_scratch(const struct tmf_layer *layer)
{
    const struct tmf_kernel kernel = tmf_kernel_of(layer);
    return tmf_kernel_taps(&kernel) > 1 ? patch_values(&kernel) : 0;
}

static uint64_t conv2d_parameters(const struct tmf_layer *layer)
{
    const struct tmf_kernel kernel = tmf_kernel_of(layer);
    return layer->arguments[FILTERS] * (patch_values(&kernel) + 1);
}

/* What of the window at a place lies in the image: rows of as many values, the first at these indices of
 * the image and of the patch. */
struct overlap {
    uint32_t rows, values;
    size_t image, patch;
};

static inline struct overlap overlap_at(const struct tmf_kernel *kernel, uint32_t number)
{
    const struct tmf_place place = tmf_kernel_place(kernel, number);
    return (struct overlap){
        .rows = place.bottom - place.top,
        .values = (place.right - place.left) * kernel->channels,
        .image = tmf_kernel_pixel(kernel, &place, place.top, place.left),
        .patch = ((size_t)place.top * kernel->x.size + place.left) * kernel->channels,
    };
}

/* Where the patch at a place is then. */
static const float *take_patch(const struct tmf_kernel *kernel, uint32_t number, const float *x, float *patch)
{
    const struct overlap overlap = overlap_at(kernel, number);
    const uint32_t whole = kernel->x.size * kernel->channels;
    if (tmf_kernel_taps(kernel) == 1) {
        return x + overlap.image;
    }
    if (overlap.rows < kernel->y.size || overlap.values < whole) {
        memset(patch, 0, patch_values(kernel) * sizeof(float));
    }
    size_t from = overlap.image, to = overlap.patch;
    for (uint32_t left = overlap.rows; left > 0; left--) {
        tmf_vector_copy(patch + to, x + from, overlap.values);
        from += kernel->width * kernel->channels;
        to += whole;
    }
    return patch;
}

static void add_patch(const struct tmf_kernel *kernel, uint32_t number, const float *patch, float *dx)
{
    const struct overlap overlap = overlap_at(kernel, number);
    size_t from = overlap.patch, to = overlap.image;
    for (uint32_t left = overlap.rows; left > 0; left--) {
        tmf_vector_add(dx + to, patch + from, overlap.values);
        from += kernel->x.size * kernel->channels;
        to += kernel->width * kernel->channels;
    }
}

static void conv2d_forward(const struct tmf_layer *layer, const float *w)
{
    const struct tmf_kernel kernel = tmf_kernel_of(layer);
    const uint32_t values = (uint32_t)patch_values(&kernel), filters = layer->arguments[FILTERS];
    for (uint32_t i = 0; i < tmf_kernel_places(&kernel); i++) {
        const float *patch = take_patch(&kernel, i, layer->x, layer->scratch);
        tmf_matrix_forward(w, values, filters, patch, layer->y + (size_t)i * filters);
    }
}

/* dx first, of all places, since a place moves the weights of all. */
static void conv2d_backward(const struct tmf_layer *layer, const float *w, const float *dy, float *dx,
                            float *sink, float scale)
{
    const struct tmf_kernel kernel = tmf_kernel_of(layer);
    const uint32_t values = (uint32_t)patch_values(&kernel), filters = layer->arguments[FILTERS];
    if (dx != NULL) {
        memset(dx, 0, layer->inputs * sizeof(float));
    }
    for (uint32_t i = 0; dx != NULL && i < tmf_kernel_places(&kernel); i++) {
        const bool apart = tmf_kernel_taps(&kernel) > 1;
        float *patch = apart ? layer->scratch : dx + overlap_at(&kernel, i).image;
        if (apart) {
            memset(patch, 0, values * sizeof(float));
        }
        tmf_matrix_backward(w, values, filters, NULL, dy + (size_t)i * filters, patch, NULL, 0.0f);
        if (apart) {
            add_patch(&kernel, i, patch, dx);
        }
    }
    for (uint32_t i = 0; sink != NULL && i < tmf_kernel_places(&kernel); i++) {
        const float *patch = take_patch(&kernel, i, layer->x, layer->scratch);
        tmf_matrix_backward(w, values, filters, patch, dy + (size_t)i * filters, NULL, sink, scale);
    }
}

const struct tmf_operation tmf_conv2d = {
    .plan = conv2d_plan,
    .parameters = conv2d_parameters,
    .scratch = conv2d_scratch,
    .forward = conv2d_forward,
    .backward = conv2d_backward,
};

/* ---- depthwise_conv2d: a filter for each channel ------------------------------------------------------
 *
 * Weights are channels × (height · width of the window), then a bias for each channel. Order: places from first to last, at each the
 * channels; a channel's sum is its bias, then the products of what lies in the image, row by row. An
 * output whose dy is zero adds nothing anywhere and is passed over. */

static enum tmf_error depthwise_plan(struct tmf_layer *layer)
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

static uint64_t depthwise_parameters(const struct tmf_layer *layer)
{
    const struct tmf_kernel kernel = tmf_kernel_of(layer);
    return patch_values(&kernel) + kernel.channels;
}

static void depthwise_forward(const struct tmf_layer *layer, const float *w)
{
    const struct tmf_kernel kernel = tmf_kernel_of(layer);
    const float *b = w + patch_values(&kernel);
    float *y = layer->y;
    for (uint32_t i = 0; i < tmf_kernel_places(&kernel); i++) {
        const struct tmf_place place = tmf_kernel_place(&kernel, i);
        for (uint32_t c = 0; c < kernel.channels; c++) {
            const float *filter = w + (size_t)c * tmf_kernel_taps(&kernel);
            float sum = b[c];
            for (uint32_t row = place.top; row < place.bottom; row++) {
                const float *x = layer->x + tmf_kernel_pixel(&kernel, &place, row, place.left) + c;
                for (uint32_t column = place.left; column < place.right; column++) {
                    sum += filter[row * kernel.x.size + column] * *x;
                    x += kernel.channels;
                }
            }
            *y++ = sum;
        }
    }
}

/* Gives dx or moves the sink; the other is NULL. */
static void depthwise_pass(const struct tmf_layer *layer, const float *w, const float *dy, float *dx,
                           float *sink, float scale)
{
    const struct tmf_kernel kernel = tmf_kernel_of(layer);
    for (uint32_t i = 0; i < tmf_kernel_places(&kernel); i++) {
        const struct tmf_place place = tmf_kernel_place(&kernel, i);
        for (uint32_t c = 0; c < kernel.channels; c++) {
            const float d = *dy++, step = scale * d;
            const size_t filter = (size_t)c * tmf_kernel_taps(&kernel);
            if (d == 0.0f) {
                continue;
            }
            if (sink != NULL) {
                sink[patch_values(&kernel) + c] += step;
            }
            for (uint32_t row = place.top; row < place.bottom; row++) {
                size_t pixel = tmf_kernel_pixel(&kernel, &place, row, place.left) + c;
                for (uint32_t column = place.left; column < place.right; column++) {
                    const size_t tap = filter + row * kernel.x.size + column;
                    if (sink != NULL) {
                        sink[tap] += layer->x[pixel] * step;
                    } else {
                        dx[pixel] += w[tap] * d;
                    }
                    pixel += kernel.channels;
                }
            }
        }
    }
}

static void depthwise_backward(const struct tmf_layer *layer, const float *w, const float *dy, float *dx,
                               float *sink, float scale)
{
    if (dx != NULL) {
        memset(dx, 0, layer->inputs * sizeof(float));
        depthwise_pass(layer, w, dy, dx, NULL, scale);
    }
    if (sink != NULL) {
        depthwise_pass(layer, w, dy, NULL, sink, scale);
    }
}

const struct tmf_operation tmf_depthwise_conv2d = {
    .plan = depthwise_plan,
    .parameters = depthwise_parameters,
    .forward = depthwise_forward,
    .backward = depthwise_backward,
};
