#ifndef TMF_WINDOW_H
#define TMF_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tmf_model.h"

/* A square window that moves over an image.
 *
 * An image is height × width × channels, the values of a pixel side by side. So a row of a kernel is one
 * run of memory however many channels there are, and a layer's outputs, a pixel's filters side by side,
 * are the next one's image, or a dense layer's inputs, as they lie. */
struct tmf_window {
    uint32_t height, width, channels;
    uint32_t size;          /* pixels, both ways */
    uint32_t stride;        /* pixels, both ways, from place to place */
    uint32_t padding;       /* pixels of zeros around the image, fewer than size */
    uint32_t rows, columns; /* of places */
};

/* Of a layer whose arguments begin with height, width, size, stride and, where there is a fifth, padding;
 * false where these and its inputs make no sense. */
bool tmf_window(const struct tmf_layer *layer, struct tmf_window *window);

/* The same of a layer that has been planned. */
struct tmf_window tmf_window_of(const struct tmf_layer *layer);

static inline uint32_t tmf_window_places(const struct tmf_window *window)
{
    return window->rows * window->columns;
}

/* The window at a place: its rows [top, bottom) and columns [left, right) lie in the image. */
struct tmf_place {
    uint32_t top, bottom, left, right;
    ptrdiff_t corner; /* the pixel under row 0, column 0; not in the image where these are not */
};

/* The part [*first, *end) of a window at `place` pixels from the padding's edge that lies in `length`. */
static inline void tmf_window_clip(const struct tmf_window *window, uint32_t place, uint32_t length,
                                   uint32_t *first, uint32_t *end)
{
    const uint32_t rest = length + window->padding - place;
    *first = place < window->padding ? window->padding - place : 0;
    *end = rest < window->size ? rest : window->size;
}

/* Places are numbered row by row. */
static inline struct tmf_place tmf_window_place(const struct tmf_window *window, uint32_t number)
{
    const uint32_t y = number / window->columns * window->stride;
    const uint32_t x = number % window->columns * window->stride;
    struct tmf_place place = {
        .corner = ((ptrdiff_t)y - (ptrdiff_t)window->padding) * (ptrdiff_t)window->width +
                  (ptrdiff_t)x - (ptrdiff_t)window->padding,
    };
    tmf_window_clip(window, y, window->height, &place.top, &place.bottom);
    tmf_window_clip(window, x, window->width, &place.left, &place.right);
    return place;
}

/* Index in the image of the first channel of the pixel under that row and column of the window. */
static inline size_t tmf_window_pixel(const struct tmf_window *window, const struct tmf_place *place,
                                      uint32_t row, uint32_t column)
{
    const ptrdiff_t below = (ptrdiff_t)((size_t)row * window->width + column);
    return (size_t)(place->corner + below) * window->channels;
}

#endif
