#include "tmf_kernel.h"

#define MAX_SIZE 255u /* keeps sizes within 64 bits */

bool tmf_kernel(const struct tmf_layer *layer, struct tmf_kernel *kernel)
{
    const uint32_t height = layer->arguments[0], width = layer->arguments[1];
    const uint32_t size = layer->arguments[2], stride = layer->arguments[3];
    const uint32_t padding = layer->argument_count > 4 ? layer->arguments[4] : 0;
    const uint64_t pixels = (uint64_t)height * width;
    if (pixels == 0 || pixels > layer->inputs || layer->inputs % (uint32_t)pixels != 0 ||
        size == 0 || size > MAX_SIZE || stride == 0 || padding >= size ||
        size > height + 2 * padding || size > width + 2 * padding) {
        return false;
    }
    *kernel = (struct tmf_kernel){
        .height = height,
        .width = width,
        .channels = layer->inputs / (uint32_t)pixels,
        .size = size,
        .stride = stride,
        .padding = padding,
        .rows = (height + 2 * padding - size) / stride + 1,
        .columns = (width + 2 * padding - size) / stride + 1,
    };
    return (uint64_t)kernel->rows * kernel->columns <= TMF_MAX_VALUES;
}

struct tmf_kernel tmf_kernel_of(const struct tmf_layer *layer)
{
    struct tmf_kernel kernel = {.size = 0};
    tmf_kernel(layer, &kernel);
    return kernel;
}
