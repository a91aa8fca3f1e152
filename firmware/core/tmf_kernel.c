#include "tmf_kernel.h"

/* The places of a window along an axis of `length` pixels, of which there are no more than TMF_MAX_VALUES; 0 where
 * there are none. Each of the other arguments is below 256. */
static uint32_t places(struct tmf_axis *axis, uint32_t length, uint32_t size, uint32_t stride, uint32_t before,
                       uint32_t behind)
{
    *axis = (struct tmf_axis){.size = size, .stride = stride, .before = before};
    const uint32_t padded = length + before + behind;
    if (size == 0 || stride == 0 || before >= size || behind >= size || size > padded) {
        return 0;
    }
    return (padded - size) / stride + 1;
}

bool tmf_kernel(const struct tmf_layer *layer, struct tmf_kernel *kernel)
{
    const uint32_t *const a = layer->arguments;
    const uint32_t height = a[0], width = a[1], size = a[2], stride = a[3], padding = a[4];
    const uint64_t pixels = (uint64_t)height * width;
    if (layer->argument_count < TMF_WINDOW_ARGUMENTS || pixels == 0 || pixels > layer->inputs ||
        layer->inputs % (uint32_t)pixels != 0 || size > 0xffffu || stride > 0xffffu) {
        return false;
    }
    *kernel = (struct tmf_kernel){
        .height = height,
        .width = width,
        .channels = layer->inputs / (uint32_t)pixels,
    };
    kernel->rows = places(&kernel->y, height, size & 0xff, stride & 0xff, padding & 0xff,
                          padding >> 8 & 0xff);
    kernel->columns = places(&kernel->x, width, size >> 8, stride >> 8, padding >> 16 & 0xff,
                             padding >> 24);
    const uint64_t all = (uint64_t)kernel->rows * kernel->columns;
    return all > 0 && all <= TMF_MAX_VALUES;
}

struct tmf_kernel tmf_kernel_of(const struct tmf_layer *layer)
{
    struct tmf_kernel kernel = {.rows = 0};
    tmf_kernel(layer, &kernel);
    return kernel;
}
