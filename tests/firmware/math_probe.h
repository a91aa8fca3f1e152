#ifndef MATH_PROBE_H
#define MATH_PROBE_H

#include <stdint.h>

/* The walk of math_mps2.c: every bit pattern that is a multiple of a prime, in steps. */
#define MATH_PROBE_STRIDE 6133u
#define MATH_PROBE_COUNT 8192u
#define MATH_PROBE_STEPS 85u
#define MATH_PROBE_START(step) ((step) * MATH_PROBE_COUNT * MATH_PROBE_STRIDE)

/* out[i] = f(the float whose bits are start_bits + i * stride modulo 2^32), f being tmf_expf for
 * function 0, tmf_logf for 1, tmf_tanhf for 2, tmf_sigmoidf for 3. */
void tmf_math_map(int function, uint32_t start_bits, uint32_t stride, uint32_t count, float *out);

/* zlib.crc32 of what tmf_math_map would give, as little-endian bytes. */
uint32_t tmf_math_crc(int function, uint32_t start_bits, uint32_t stride, uint32_t count);

#endif
