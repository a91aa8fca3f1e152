#include "tmf_format.h"

#include "tmf_bits.h"

#define SIGN16 0x8000u
#define LARGEST16 0x7bffu     /* 65504 */
#define NORMAL16 0x38800000u  /* 2⁻¹⁴ as float32: the smallest that is not subnormal in float16 */
#define REBIAS16 0x38000000u  /* between the exponents of both */
#define INTEGERS 12582912.0f  /* 3 · 2²²: a sum with it has no room for a fraction */
#define LARGEST8 127

static float power_of_two(int32_t exponent)
{
    return tmf_bits_float((uint32_t)(exponent + 127) << 23);
}

struct tmf_format tmf_format_for(enum tmf_values values, uint32_t largest)
{
    const int32_t exponent = (int32_t)(largest >> 23) - 127 - 6;
    return (struct tmf_format){
        .values = values,
        .exponent = exponent < TMF_LOWEST_EXPONENT ? TMF_LOWEST_EXPONENT : exponent,
    };
}

size_t tmf_format_size(const struct tmf_format *format)
{
    return 4u >> format->values;
}

uint32_t tmf_format_zero(const struct tmf_format *format)
{
    switch (format->values) {
    case TMF_FLOAT16: return tmf_float_bits(0x1p-25f);
    case TMF_INT8: return tmf_float_bits(power_of_two(format->exponent - 1));
    default: return 0;
    }
}

static uint32_t float16(float value)
{
    const uint32_t magnitude = tmf_magnitude(value);
    uint32_t code;
    if (magnitude < NORMAL16) { /* multiples of 2⁻²⁴, as are the floats from 1/2 to 1 */
        code = tmf_float_bits(tmf_bits_float(magnitude) + 0.5f) - tmf_float_bits(0.5f);
    } else {
        code = (magnitude - REBIAS16 + 0xfffu + (magnitude >> 13 & 1)) >> 13;
    }
    return (tmf_float_bits(value) >> 16 & SIGN16) | (code > LARGEST16 ? LARGEST16 : code);
}

static uint32_t int8(float value, int32_t exponent)
{
    const float sum = value * power_of_two(-exponent) + INTEGERS;
    const int32_t code = (int32_t)(tmf_float_bits(sum) - tmf_float_bits(INTEGERS));
    return (uint32_t)(code > LARGEST8 ? LARGEST8 : code < -LARGEST8 ? -LARGEST8 : code) & 0xff;
}

uint32_t tmf_format_code(const struct tmf_format *format, float value)
{
    switch (format->values) {
    case TMF_FLOAT16: return float16(value);
    case TMF_INT8: return int8(value, format->exponent);
    default: return tmf_float_bits(value);
    }
}

float tmf_format_value(const struct tmf_format *format, uint32_t code)
{
    switch (format->values) {
    case TMF_FLOAT16: {
        /* As a float its exponent is too small by 112, also where it is subnormal. */
        const float magnitude = tmf_bits_float((code & ~SIGN16) << 13) * 0x1p112f;
        return code & SIGN16 ? -magnitude : magnitude;
    }
    case TMF_INT8: return (float)(int8_t)code * power_of_two(format->exponent);
    default: return tmf_bits_float(code);
    }
}
