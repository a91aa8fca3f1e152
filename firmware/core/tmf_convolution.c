/* A convolution of an image; see tmf_kernel.h for how it lies in memory, and for the arguments; the number of filters
 * comes after them. Every filter sees all channels.
 *
 * The patch of the image under the window, row by row and zero in the padding, is copied to the layer's
 * scratch, and is x to the matrix of the filters (filters × height · width · channels of the window), with a
 * bias each. A window of one pixel needs no copy: the patch is the pixel. Order: places from first to last; at
 * each that of tmf_matrix.h. */
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

/* What is under the window at the next place: copied to `room`; or where it lies if that is one pixel, which needs
 * none. */
static __attribute__((noinline)) const float *next_patch(const struct tmf_kernel *kernel, struct tmf_walk *walk,
                                                         const float *x, float *room)
{
    const uint32_t channels = kernel->channels, whole = kernel->x.size * channels;
    const uint32_t top = walk->y - kernel->y.before, left = walk->x - kernel->x.before; /* in padding: very large */
    uint32_t rows = kernel->y.size, values = whole;
    size_t line = (size_t)kernel->width * channels;
    float *to = room;
    if (top < kernel->height && kernel->height - top >= rows && left < kernel->width &&
        kernel->width - left >= kernel->x.size) {
        x += top * line + (size_t)left * channels;
        tmf_walk_on(kernel, walk);
        if (room == NULL) {
            return x;
        }
    } else {
        const struct tmf_place place = tmf_kernel_next(kernel, walk);
        tmf_vector_clear(room, (size_t)tmf_kernel_values(kernel));
        rows = place.rows;
        values = place.columns * channels;
        x += place.first;
        to += place.tap * channels;
    }
    for (; rows > 0; rows--) {
        tmf_vector_copy(to, x, values);
        x += line;
        to += whole;
    }
    return room;
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

/* Two places at once, where there is room for what is under both windows. */
static void forward(const struct tmf_layer *layer, const float *w)
{
    const struct tmf_kernel kernel = tmf_kernel_of(layer);
    const uint32_t values = (uint32_t)tmf_kernel_values(&kernel), filters = layer->arguments[FILTERS];
    const bool copies = tmf_kernel_taps(&kernel) > 1;
    float *const room = copies ? layer->scratch : NULL, *const other_room = copies && layer->spare ? layer->dx : NULL;
    float *y = layer->y;
    struct tmf_walk walk = {0};
    uint32_t left = tmf_kernel_places(&kernel);
    for (; left >= 2 && (!copies || other_room != NULL); left -= 2) {
        const float *const one = next_patch(&kernel, &walk, layer->x, room);
        const float *const other = next_patch(&kernel, &walk, layer->x, other_room);
        tmf_matrix_forward_two(w, values, filters, one, other, y, y + filters);
        y += 2 * filters;
    }
    for (; left > 0; left--) {
        tmf_matrix_forward(w, values, filters, next_patch(&kernel, &walk, layer->x, room), y);
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
    float *const room = copies ? layer->scratch : NULL;
    const float *d = dy;
    if (dx != NULL) {
        tmf_vector_clear(dx, layer->inputs);
    }
    struct tmf_walk walk = {0};
    for (uint32_t i = dx != NULL ? places : 0; i > 0; i--) {
        float *const under = copies ? room : dx + next_pixel(&kernel, &walk);
        if (copies) {
            tmf_vector_clear(under, values);
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
        const float *const patch = next_patch(&kernel, &walk, layer->x, room);
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
