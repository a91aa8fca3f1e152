/*
 * Test images only: tmf_math over ranges of bit patterns, as values (to judge the accuracy on the
 * host) or as a checksum (to compare a device, which has no room for the values, with the host).
 */
#include "math_probe.h"

#include <string.h>

#include "tmf_crc32.h"
#include "tmf_math.h"

static float evaluate(int function, uint32_t bits)
{
    float x;

    memcpy(&x, &bits, sizeof x);
    switch (function) {
    case 0: return tmf_expf(x);
    case 1: return tmf_logf(x);
    case 2: return tmf_tanhf(x);
    default: return tmf_sigmoidf(x);
    }
}

void tmf_math_map(int function, uint32_t start_bits, uint32_t stride, uint32_t count, float *out)
{
    for (uint32_t i = 0; i < count; i++) {
        out[i] = evaluate(function, start_bits + i * stride);
    }
}

uint32_t tmf_math_crc(int function, uint32_t start_bits, uint32_t stride, uint32_t count)
{
    uint32_t crc = 0;

    for (uint32_t i = 0; i < count; i++) {
        float y = evaluate(function, start_bits + i * stride);
        uint32_t bits;

        memcpy(&bits, &y, sizeof bits);
        const uint8_t bytes[4] = {(uint8_t)bits, (uint8_t)(bits >> 8), (uint8_t)(bits >> 16),
                                  (uint8_t)(bits >> 24)};
        crc = tmf_crc32(crc, bytes, sizeof bytes);
    }
    return crc;
}
