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

static inline __attribute__((always_inline)) struct overlap overlap_at(const struct tmf_kernel *kernel, const struct tmf_walk *walk)
{
    const struct tmf_place place = tmf_kernel_place(kernel, walk);
    return (struct overlap){
        .rows = place.bottom - place.top,
        .values = (place.right - place.left) * kernel->channels,
        .image = tmf_kernel_pixel(kernel, &place, place.top, place.left),
        .patch = ((size_t)place.top * kernel->x.size + place.left) * kernel->channels,
    };
}

static inline __attribute__((always_inline)) void take_patch(const struct tmf_kernel *kernel, const struct tmf_walk *walk, const float *x, float *patch)
{
    const struct overlap overlap = overlap_at(kernel, walk);
    const uint32_t whole = kernel->x.size * kernel->channels;
    if (overlap.rows < kernel->y.size || overlap.values < whole) {
        memset(patch, 0, patch_values(kernel) * sizeof(float));
    }
    size_t from = overlap.image, to = overlap.patch;
    for (uint32_t left = overlap.rows; left > 0; left--) {
        tmf_vector_copy(patch + to, x + from, overlap.values);
        from += kernel->width * kernel->channels;
        to += whole;
    }
}

static void add_patch(const struct tmf_kernel *kernel, const struct tmf_walk *walk, const float *patch, float *dx)
{
    const struct overlap overlap = overlap_at(kernel, walk);
    size_t from = overlap.patch, to = overlap.image;
    for (uint32_t left = overlap.rows; left > 0; left--) {
        tmf_vector_add(dx + to, patch + from, overlap.values);
        from += kernel->x.size * kernel->channels;
        to += kernel->width * kernel->channels;
    }
}

/* Where a window of one pixel needs no copy, index in the image of its first channel. */
static inline size_t pixel_at(const struct tmf_kernel *kernel, const struct tmf_walk *walk)
{
    return overlap_at(kernel, walk).image;
}

static void conv2d_forward(const struct tmf_layer *layer, const float *w)
{
    const struct tmf_kernel kernel = tmf_kernel_of(layer);
    const uint32_t values = (uint32_t)patch_values(&kernel), filters = layer->arguments[FILTERS];
    const bool copies = tmf_kernel_taps(&kernel) > 1;
    const float *patch = layer->scratch;
    float *y = layer->y;
    struct tmf_walk walk = {0};
    for (uint32_t i = tmf_kernel_places(&kernel); i > 0; i--, tmf_kernel_next(&kernel, &walk)) {
        if (copies) {
            take_patch(&kernel, &walk, layer->x, layer->scratch);
        } else {
            patch = layer->x + pixel_at(&kernel, &walk);
        }
        tmf_matrix_forward(w, values, filters, patch, y);
        y += filters;
    }
}

/* dx first, of all places, since a place moves the weights of all. */
static void conv2d_backward(const struct tmf_layer *layer, const float *w, const float *dy, float *dx,
                            float *sink, float scale)
{
    const struct tmf_kernel kernel = tmf_kernel_of(layer);
    const uint32_t values = (uint32_t)patch_values(&kernel), filters = layer->arguments[FILTERS];
    const bool copies = tmf_kernel_taps(&kernel) > 1;
    const uint32_t places = tmf_kernel_places(&kernel);
    const float *patch = layer->scratch, *d = dy;
    if (dx != NULL) {
        memset(dx, 0, layer->inputs * sizeof(float));
    }
    struct tmf_walk walk = {0};
    for (uint32_t i = dx != NULL ? places : 0; i > 0; i--, tmf_kernel_next(&kernel, &walk)) {
        if (copies) {
            memset(layer->scratch, 0, values * sizeof(float));
            tmf_matrix_backward(w, values, filters, NULL, d, layer->scratch, NULL, 0.0f);
            add_patch(&kernel, &walk, layer->scratch, dx);
        } else {
            tmf_matrix_backward(w, values, filters, NULL, d, dx + pixel_at(&kernel, &walk), NULL, 0.0f);
        }
        d += filters;
    }
    d = dy;
    walk = (struct tmf_walk){0};
    for (uint32_t i = sink != NULL ? places : 0; i > 0; i--, tmf_kernel_next(&kernel, &walk)) {
        if (copies) {
            take_patch(&kernel, &walk, layer->x, layer->scratch);
        } else {
            patch = layer->x + pixel_at(&kernel, &walk);
        }
        tmf_matrix_backward(w, values, filters, patch, d, NULL, sink, scale);
        d += filters;
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
    struct tmf_walk walk = {0};
    for (uint32_t i = 0; i < tmf_kernel_places(&kernel); i++, tmf_kernel_next(&kernel, &walk)) {
        const struct tmf_place place = tmf_kernel_place(&kernel, &walk);
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
    struct tmf_walk walk = {0};
    for (uint32_t i = 0; i < tmf_kernel_places(&kernel); i++, tmf_kernel_next(&kernel, &walk)) {
        const struct tmf_place place = tmf_kernel_place(&kernel, &walk);
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
