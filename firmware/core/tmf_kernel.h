#ifndef TMF_KERNEL_H
#define TMF_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tmf_model.h"

/* A window that moves over an image.
 *
 * An image is height × width × channels, the values of a pixel side by side. So a row of a kernel is one
 * run of memory however many channels there are, and a layer's outputs, a pixel's filters side by side,
 * are the next one's image, or a dense layer's inputs, as they lie. */
struct tmf_kernel {
    uint32_t height, width, channels;
    struct tmf_axis {
        uint32_t size;   /* pixels of the window */
        uint32_t stride; /* pixels from place to place */
        uint32_t before; /* pixels of padding before the image, fewer than size; what is behind the image
                          * decides the number of places only */
    } y, x;
    uint32_t rows, columns; /* of places */
};

/* Arguments of a layer with a window: height and width of the image; the window's height and, times 2^8, its
 * width; the strides in the same way; padding at the top, and times 2^8 at the bottom, 2^16 at the left and
 * 2^24 at the right. */
enum { TMF_WINDOW_ARGUMENTS = 5 };

/* Of a layer whose arguments begin with those of a window; false where these and its inputs make no sense. */
bool tmf_kernel(const struct tmf_layer *layer, struct tmf_kernel *kernel);

/* The same of a layer that has been planned. */
struct tmf_kernel tmf_kernel_of(const struct tmf_layer *layer);

static inline uint32_t tmf_kernel_places(const struct tmf_kernel *kernel)
{
    return kernel->rows * kernel->columns;
}

static inline uint32_t tmf_kernel_taps(const struct tmf_kernel *kernel)
{
    return kernel->y.size * kernel->x.size;
}

/* Values of the image under a whole window. */
static inline uint64_t tmf_kernel_values(const struct tmf_kernel *kernel)
{
    return (uint64_t)tmf_kernel_taps(kernel) * kernel->channels;
}

/* What of the window lies in the image at a place. */
struct tmf_place {
    uint32_t rows, columns;
    size_t first; /* index in the image of the first value there */
    size_t skip;  /* values in the image from the end of a row to the next one */
    size_t tap;   /* index of the first pixel among those of the window */
};

/* A walk over the places, row by row, from {0} on: pixels from the padding's edge. */
struct tmf_walk {
    uint32_t y, x;
    uint32_t column; /* of places */
};

static inline void tmf_walk_on(const struct tmf_kernel *kernel, struct tmf_walk *walk)
{
    walk->x += kernel->x.stride;
    if (++walk->column == kernel->columns) {
        *walk = (struct tmf_walk){.y = walk->y + kernel->y.stride};
    }
}

/* How much of a window at `place` pixels from the padding's edge lies in `length`; *outside is what lies before. */
static inline uint32_t tmf_kernel_clip(const struct tmf_axis *axis, uint32_t place, uint32_t length, uint32_t *outside)
{
    const uint32_t first = place < axis->before ? axis->before - place : 0;
    const uint32_t end = length + axis->before - place;
    *outside = first;
    return (end < axis->size ? end : axis->size) - first;
}

/* The place that the walk is at; it goes on to the next. */
static inline struct tmf_place tmf_kernel_next(const struct tmf_kernel *kernel, struct tmf_walk *walk)
{
    uint32_t top, left;
    struct tmf_place place;
    place.rows = tmf_kernel_clip(&kernel->y, walk->y, kernel->height, &top);
    place.columns = tmf_kernel_clip(&kernel->x, walk->x, kernel->width, &left);
    const size_t row = walk->y + top - kernel->y.before, column = walk->x + left - kernel->x.before;
    place.first = (row * kernel->width + column) * kernel->channels;
    place.skip = (size_t)(kernel->width - place.columns) * kernel->channels;
    place.tap = (size_t)top * kernel->x.size + left;
    tmf_walk_on(kernel, walk);
    return place;
}

#endif
