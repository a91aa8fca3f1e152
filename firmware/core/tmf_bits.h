#ifndef TMF_BITS_H
#define TMF_BITS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Bytes off the wire have any alignment; floats are compared by their bits where that is the point. */

static inline uint32_t tmf_get_u32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint32_t tmf_float_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float tmf_bits_float(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* |value| as an integer that orders as magnitudes do; infinities and NaN from TMF_NOT_FINITE on. */
static inline uint32_t tmf_magnitude(float value)
{
    return tmf_float_bits(value) & 0x7fffffffu;
}

#define TMF_NOT_FINITE 0x7f800000u

static inline bool tmf_is_finite(float value)
{
    return tmf_magnitude(value) < TMF_NOT_FINITE;
}

#endif
