#include "tmf_operation.h"

#include <stddef.h>

/* The index is the number in the protocol. */
static const struct tmf_operation *const operations[] = {
    NULL,        &tmf_dense,            &tmf_relu,       &tmf_tanh,
    &tmf_conv2d, &tmf_depthwise_conv2d, &tmf_max_pool2d, &tmf_average_pool2d,
    &tmf_leaky_relu, &tmf_relu6, &tmf_sigmoid, &tmf_add, &tmf_route,
};

const struct tmf_operation *tmf_operation(uint32_t number)
{
    return number < sizeof operations / sizeof *operations ? operations[number] : NULL;
}
