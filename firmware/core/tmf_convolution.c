/* A convolution of an image; see tmf_kernel.h for how it lies in memory, and for the arguments; the number of filters
 * comes after them. Every filter sees all channels.
 *
 * The patch of the image under the window, row by row and zero in the padding, is copied to the layer's
 * scratch, and is x to the matrix of the filters (filters × height · width · channels of the window), with a
 * bias each. A window of one pixel needs no copy: the patch is the pixel. Order: places from first to last; at
 * each that of tmf_matrix.h. */
#include <string.h>

#include "tmf_kernel.h"
#include "tmf_matrix.h"
#include "tmf_operation.h"

enum { FILTERS = TMF_WINDOW_ARGUMENTS };

static enum tmf_error plan(struct tmf_layer *layer)
{
    struct tmf_kernel kernel;
    if (layer->argument_count != FILTERS + 1 || !tmf_kernel(layer, &kernel)) {
        return TMF_ERROR_MODEL;
    }
    const uint64_t outputs = (uint64_t)tmf_kernel_places(&kernel) * layer->arguments[FILTERS];
    if (outputs > TMF_MAX_VALUES || tmf_kernel_values(&kernel) > TMF_MAX_VALUES) {
        return TMF_ERROR_MODEL;
    }
    layer->outputs = (uint32_t)outputs;
    return TMF_OK;
}

static uint64_t scratch(const struct tmf_layer *layer)
{
    const struct tmf_kernel kernel = tmf_kernel_of(layer);
    return tmf_kernel_taps(&kernel) > 1 ? tmf_kernel_values(&kernel) : 0;
}

static uint64_t parameters(const struct tmf_layer *layer)
{
    const struct tmf_kernel kernel = tmf_kernel_of(layer);
    return layer->arguments[FILTERS] * (tmf_kernel_values(&kernel) + 1);
}

static inline __attribute__((always_inline)) void take_patch(const struct tmf_kernel *kernel, struct tmf_walk *walk, const float *x, float *patch)
{
    const struct tmf_place place = tmf_kernel_next(kernel, walk);
    const uint32_t values = place.columns * kernel->channels, whole = kernel->x.size * kernel->channels;
    if (place.rows < kernel->y.size || values < whole) {
        memset(patch, 0, tmf_kernel_values(kernel) * sizeof(float));
    }
    x += place.first;
    patch += place.tap * kernel->channels;
    for (uint32_t left = place.rows; left > 0; left--) {
        tmf_vector_copy(patch, x, values);
        x += values + place.skip;
        patch += whole;
    }
}

static void add_patch(const struct tmf_kernel *kernel, struct tmf_walk *walk, const float *patch, float *dx)
{
    const struct tmf_place place = tmf_kernel_next(kernel, walk);
    const uint32_t values = place.columns * kernel->channels, whole = kernel->x.size * kernel->channels;
    dx += place.first;
    patch += place.tap * kernel->channels;
    for (uint32_t left = place.rows; left > 0; left--) {
        tmf_vector_add(dx, patch, values);
        dx += values + place.skip;
        patch += whole;
    }
}

/* Where a window of one pixel, which has no padding, needs no copy: index in the image of its first channel. */
static inline size_t next_pixel(const struct tmf_kernel *kernel, struct tmf_walk *walk)
{
    const size_t pixel = (size_t)walk->y * kernel->width + walk->x;
    tmf_walk_on(kernel, walk);
    return pixel * kernel->channels;
}

static void forward(const struct tmf_layer *layer, const float *w)
{
    const struct tmf_kernel kernel = tmf_kernel_of(layer);
    const uint32_t values = (uint32_t)tmf_kernel_values(&kernel), filters = layer->arguments[FILTERS];
    const bool copies = tmf_kernel_taps(&kernel) > 1;
    const float *patch = layer->scratch;
    float *y = layer->y;
    struct tmf_walk walk = {0};
    for (uint32_t i = tmf_kernel_places(&kernel); i > 0; i--) {
        if (copies) {
            take_patch(&kernel, &walk, layer->x, layer->scratch);
        } else {
            patch = layer->x + next_pixel(&kernel, &walk);
        }
        tmf_matrix_forward(w, values, filters, patch, y);
        y += filters;
    }
}

/* dx first, of all places, since a place moves the weights of all. */
static void backward(const struct tmf_layer *layer, const float *w, const float *dy, float *dx,
                            float *sink, float scale)
{
    const struct tmf_kernel kernel = tmf_kernel_of(layer);
    const uint32_t values = (uint32_t)tmf_kernel_values(&kernel), filters = layer->arguments[FILTERS];
    const bool copies = tmf_kernel_taps(&kernel) > 1;
    const uint32_t places = tmf_kernel_places(&kernel);
    const float *patch = layer->scratch, *d = dy;
    if (dx != NULL) {
        memset(dx, 0, layer->inputs * sizeof(float));
    }
    struct tmf_walk walk = {0};
    for (uint32_t i = dx != NULL ? places : 0; i > 0; i--) {
        float *const under = copies ? layer->scratch : dx + next_pixel(&kernel, &walk);
        if (copies) {
            memset(under, 0, values * sizeof(float));
        }
        tmf_matrix_backward(w, values, filters, NULL, d, under, NULL, 0.0f);
        if (copies) {
            add_patch(&kernel, &walk, under, dx);
        }
        d += filters;
    }
    d = dy;
    walk = (struct tmf_walk){0};
    for (uint32_t i = sink != NULL ? places : 0; i > 0; i--) {
        if (copies) {
            take_patch(&kernel, &walk, layer->x, layer->scratch);
        } else {
            patch = layer->x + next_pixel(&kernel, &walk);
        }
        tmf_matrix_backward(w, values, filters, patch, d, NULL, sink, scale);
        d += filters;
    }
}

const struct tmf_operation tmf_conv2d = {
    .plan = plan,
    .parameters = parameters,
    .scratch = scratch,
    .forward = forward,
    .backward = backward,
};
