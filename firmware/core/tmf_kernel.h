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

/* The window at a place: its rows [top, bottom) and columns [left, right) lie in the image. */
struct tmf_place {
    uint32_t top, bottom, left, right;
    ptrdiff_t corner; /* the pixel under row 0, column 0; not in the image where these are not */
};

/* The part [*first, *end) of a window at `place` pixels from the padding's edge that lies in `length`. */
static inline void tmf_kernel_clip(const struct tmf_axis *axis, uint32_t place, uint32_t length,
                                   uint32_t *first, uint32_t *end)
{
    const uint32_t rest = length + axis->before - place;
    *first = place < axis->before ? axis->before - place : 0;
    *end = rest < axis->size ? rest : axis->size;
}

/* A walk over the places, row by row, from {0} on: pixels from the padding's edge. */
struct tmf_walk {
    uint32_t y, x;
    uint32_t column; /* of places */
};

static inline void tmf_kernel_next(const struct tmf_kernel *kernel, struct tmf_walk *walk)
{
    walk->x += kernel->x.stride;
    if (++walk->column == kernel->columns) {
        *walk = (struct tmf_walk){.y = walk->y + kernel->y.stride};
    }
}

static inline struct tmf_place tmf_kernel_place(const struct tmf_kernel *kernel, const struct tmf_walk *walk)
{
    const uint32_t y = walk->y, x = walk->x;
    struct tmf_place place = {
        .corner = ((ptrdiff_t)y - (ptrdiff_t)kernel->y.before) * (ptrdiff_t)kernel->width +
                  (ptrdiff_t)x - (ptrdiff_t)kernel->x.before,
    };
    tmf_kernel_clip(&kernel->y, y, kernel->height, &place.top, &place.bottom);
    tmf_kernel_clip(&kernel->x, x, kernel->width, &place.left, &place.right);
    return place;
}

/* Index in the image of the first channel of the pixel under that row and column of the window. */
static inline size_t tmf_kernel_pixel(const struct tmf_kernel *kernel, const struct tmf_place *place,
                                      uint32_t row, uint32_t column)
{
    const ptrdiff_t below = (ptrdiff_t)((size_t)row * kernel->width + column);
    return (size_t)(place->corner + below) * kernel->channels;
}

#endif
