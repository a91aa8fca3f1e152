#ifndef TMF_KERNEL_H
#define TMF_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tmf_model.h"

/* A square window that moves over an image.
 *
 * An image is height × width × channels, the values of a pixel side by side. So a row of a kernel is one
 * run of memory however many channels there are, and a layer's outputs, a pixel's filters side by side,
 * are the next one's image, or a dense layer's inputs, as they lie. */
struct tmf_kernel {
    uint32_t height, width, channels;
    uint32_t size;          /* pixels, both ways */
    uint32_t stride;        /* pixels, both ways, from place to place */
    uint32_t padding;       /* pixels of zeros around the image, fewer than size */
    uint32_t rows, columns; /* of places */
};

/* Of a layer whose arguments begin with height, width, size, stride and, where there is a fifth, padding;
 * false where these and its inputs make no sense. */
bool tmf_kernel(const struct tmf_layer *layer, struct tmf_kernel *kernel);

/* The same of a layer that has been planned. */
struct tmf_kernel tmf_kernel_of(const struct tmf_layer *layer);

static inline uint32_t tmf_kernel_places(const struct tmf_kernel *kernel)
{
    return kernel->rows * kernel->columns;
}

/* The window at a place: its rows [top, bottom) and columns [left, right) lie in the image. */
struct tmf_place {
    uint32_t top, bottom, left, right;
    ptrdiff_t corner; /* the pixel under row 0, column 0; not in the image where these are not */
};

/* The part [*first, *end) of a window at `place` pixels from the padding's edge that lies in `length`. */
static inline void tmf_kernel_clip(const struct tmf_kernel *kernel, uint32_t place, uint32_t length,
                                   uint32_t *first, uint32_t *end)
{
    const uint32_t rest = length + kernel->padding - place;
    *first = place < kernel->padding ? kernel->padding - place : 0;
    *end = rest < kernel->size ? rest : kernel->size;
}

/* Places are numbered row by row. */
static inline struct tmf_place tmf_kernel_place(const struct tmf_kernel *kernel, uint32_t number)
{
    const uint32_t y = number / kernel->columns * kernel->stride;
    const uint32_t x = number % kernel->columns * kernel->stride;
    struct tmf_place place = {
        .corner = ((ptrdiff_t)y - (ptrdiff_t)kernel->padding) * (ptrdiff_t)kernel->width +
                  (ptrdiff_t)x - (ptrdiff_t)kernel->padding,
    };
    tmf_kernel_clip(kernel, y, kernel->height, &place.top, &place.bottom);
    tmf_kernel_clip(kernel, x, kernel->width, &place.left, &place.right);
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
