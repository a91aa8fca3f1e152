#ifndef TMF_FORMAT_H
#define TMF_FORMAT_H

#include <stddef.h>
#include <stdint.h>

/* How the values of an update are sent: for each a code of four, two or one bytes. The numbers are part of
 * the protocol.
 *
 * A value becomes the nearest that has a code, of two as near the one whose code is even, and beyond the
 * last the last. All of it is exact arithmetic or one rounded sum: the same bits on every processor. */
enum tmf_values {
    TMF_FLOAT32 = 0,
    TMF_FLOAT16 = 1, /* IEEE 754 binary16, up to ±65504 */
    TMF_INT8 = 2,    /* −127 … 127 times a power of two, of which an update has one */
};

struct tmf_format {
    enum tmf_values values;
    int32_t exponent; /* int8: the power of two */
};

#define TMF_LOWEST_EXPONENT (-125) /* half of its power is no subnormal number */

/* The format for values of which `largest` is the largest magnitude, as tmf_magnitude gives it: int8's
 * power of two is such that it lies from 64 to below 128 of them. */
struct tmf_format tmf_format_for(enum tmf_values values, uint32_t largest);

/* Bytes of a code. */
size_t tmf_format_size(const struct tmf_format *format);

/* The largest magnitude that becomes zero. */
uint32_t tmf_format_zero(const struct tmf_format *format);

/* A finite value's code, in the lowest bytes. */
uint32_t tmf_format_code(const struct tmf_format *format, float value);

/* What a code stands for. Unless the value lies beyond the last, or becomes zero, its difference from
 * this has a code in float32. */
float tmf_format_value(const struct tmf_format *format, uint32_t code);

#endif
