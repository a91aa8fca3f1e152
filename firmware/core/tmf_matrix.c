#include "tmf_matrix.h"

#include <stdbool.h>
#include <stddef.h>

#define ROWS 4u    /* that go through the columns together: they share the loads of x and dx */
#define COLUMNS 4u /* that are loaded and stored at once */

/* Four values v0 … v3 that lie one behind the other in memory: TAKE loads them from p, TAKE_NEXT and
 * PUT_NEXT move p past them as well.
 *
 * A Cortex-M4F has VLDM and VSTM for that, at a cycle a value where VLDR and VSTR take two; GCC does not
 * make the former out of the latter. They want successive registers, so those are named here. All else
 * is left to the compiler, also to copy values where it would rather have them elsewhere. */
#define FOUR(v) float v##0, v##1, v##2, v##3
#if defined(__ARM_ARCH_7EM__) && defined(__ARM_FP)
#define S0_3 "s0", "s1", "s2", "s3"
#define S4_7 "s4", "s5", "s6", "s7"
#define S8_11 "s8", "s9", "s10", "s11"
#define S12_15 "s12", "s13", "s14", "s15"
#define S16_19 "s16", "s17", "s18", "s19"
#define SUCCESSIVE(r0, r1, r2, r3)                                                             \
    register float h0 __asm__(r0), h1 __asm__(r1), h2 __asm__(r2), h3 __asm__(r3)
#define LOAD(v, p, write_back, ...)                                                                \
    do {                                                                                           \
        SUCCESSIVE(__VA_ARGS__);                                                               \
        __asm__("vldmia %[from]" write_back ", {%[first]-%[last]}"                                 \
                : [from] "+r"(p), [first] "=t"(h0), "=t"(h1), "=t"(h2), [last] "=t"(h3)            \
                : "m"(*(const float(*)[4])(p)));                                                   \
        v##0 = h0, v##1 = h1, v##2 = h2, v##3 = h3;                                                \
    } while (0)
#define TAKE(v, p, registers) LOAD(v, p, "", registers)
#define TAKE_NEXT(v, p, registers) LOAD(v, p, "!", registers)
#define PUT_NEXT(v, p, registers) STORE(v, p, registers)
#define STORE(v, p, ...)                                                                           \
    do {                                                                                           \
        SUCCESSIVE(__VA_ARGS__);                                                               \
        h0 = v##0, h1 = v##1, h2 = v##2, h3 = v##3;                                                \
        __asm__("vstmia %[to]!, {%[first]-%[last]}"                                                \
                : [to] "+r"(p), "=m"(*(float(*)[4])(p))                                            \
                : [first] "t"(h0), "t"(h1), "t"(h2), [last] "t"(h3));                              \
    } while (0)
#else
#define TAKE(v, p, registers) (v##0 = (p)[0], v##1 = (p)[1], v##2 = (p)[2], v##3 = (p)[3])
#define TAKE_NEXT(v, p, registers) (TAKE(v, p, registers), (p) += 4)
#define PUT_NEXT(v, p, registers)                                                                  \
    ((p)[0] = v##0, (p)[1] = v##1, (p)[2] = v##2, (p)[3] = v##3, (p) += 4)
#endif

/* sum + v0 · w0 + v1 · w1 + …, in this order. */
#define ADD_PRODUCTS(sum, v, w)                                                                    \
    ((sum) += v##0 * w##0, (sum) += v##1 * w##1, (sum) += v##2 * w##2, (sum) += v##3 * w##3)
#define ADD_SCALED(to, v, factor)                                                                  \
    (to##0 += v##0 * (factor), to##1 += v##1 * (factor), to##2 += v##2 * (factor),                 \
     to##3 += v##3 * (factor))

/* The outputs y of ROWS rows. */
static void forward_rows(const float *w, const float *b, uint32_t inputs, const float *x, float *y)
{
    const float *row0 = w, *row1 = row0 + inputs, *row2 = row1 + inputs, *row3 = row2 + inputs;
    float sum0 = b[0], sum1 = b[1], sum2 = b[2], sum3 = b[3];
    for (uint32_t blocks = inputs / COLUMNS; blocks > 0; blocks--) {
        FOUR(v);
        FOUR(w0_);
        FOUR(w1_);
        FOUR(w2_);
        FOUR(w3_);
        TAKE_NEXT(v, x, S0_3);
        TAKE_NEXT(w0_, row0, S4_7);
        TAKE_NEXT(w1_, row1, S8_11);
        TAKE_NEXT(w2_, row2, S12_15);
        TAKE_NEXT(w3_, row3, S16_19);
        ADD_PRODUCTS(sum0, w0_, v);
        ADD_PRODUCTS(sum1, w1_, v);
        ADD_PRODUCTS(sum2, w2_, v);
        ADD_PRODUCTS(sum3, w3_, v);
    }
    for (uint32_t left = inputs % COLUMNS; left > 0; left--) {
        const float v = *x++;
        sum0 += *row0++ * v;
        sum1 += *row1++ * v;
        sum2 += *row2++ * v;
        sum3 += *row3++ * v;
    }
    y[0] = sum0;
    y[1] = sum1;
    y[2] = sum2;
    y[3] = sum3;
}

static float forward_row(const float *w, float b, uint32_t inputs, const float *x)
{
    float sum = b;
    for (uint32_t i = 0; i < inputs; i++) {
        sum += w[i] * x[i];
    }
    return sum;
}

void tmf_matrix_forward(const float *w, uint32_t inputs, uint32_t outputs, const float *x, float *y)
{
    const float *b = w + (size_t)outputs * inputs;
    for (; outputs >= ROWS; outputs -= ROWS, b += ROWS, y += ROWS) {
        forward_rows(w, b, inputs, x, y);
        w += ROWS * (size_t)inputs;
    }
    for (; outputs > 0; outputs--) {
        *y++ = forward_row(w, *b++, inputs, x);
        w += inputs;
    }
}

/* A row of w or of a sink, and what it is multiplied by. */
struct row {
    float *w;
    float d;    /* ∂loss/∂y: `gives` adds w · d to dx, */
    float step; /* scale · d: `moves` adds x · step to w after that */
};

#define INLINE static inline __attribute__((always_inline)) /* for what `gives` and `moves` leave */

/* ROWS rows. */
INLINE void backward_rows(const struct row *rows, uint32_t inputs, const float *x, float *dx, bool gives,
                          bool moves)
{
    float *row0 = rows[0].w, *row1 = rows[1].w, *row2 = rows[2].w, *row3 = rows[3].w;
    const float d0 = rows[0].d, d1 = rows[1].d, d2 = rows[2].d, d3 = rows[3].d;
    const float step0 = rows[0].step, step1 = rows[1].step, step2 = rows[2].step,
                step3 = rows[3].step;
    for (uint32_t blocks = inputs / COLUMNS; blocks > 0; blocks--) {
        FOUR(v);
        FOUR(slope);
        FOUR(w);
        if (moves) {
            TAKE_NEXT(v, x, S0_3);
        }
        if (gives) {
            TAKE(slope, dx, S4_7);
        }
        /* Loaded and stored in different registers: the compiler need not copy what it has twice. */
#define BLOCK(row, d, step)                 \
    if (moves) {                            \
        TAKE(w, row, S8_11);                \
    } else {                                \
        TAKE_NEXT(w, row, S8_11);           \
    }                                       \
    if (gives) {                            \
        ADD_SCALED(slope, w, d);            \
    }                                       \
    if (moves) {                            \
        ADD_SCALED(w, v, step);             \
        PUT_NEXT(w, row, S12_15);           \
    }
        BLOCK(row0, d0, step0)
        BLOCK(row1, d1, step1)
        BLOCK(row2, d2, step2)
        BLOCK(row3, d3, step3)
#undef BLOCK
        if (gives) {
            PUT_NEXT(slope, dx, S4_7);
        }
    }
    for (uint32_t left = inputs % COLUMNS; left > 0; left--) {
        if (gives) {
            *dx = *dx + *row0 * d0 + *row1 * d1 + *row2 * d2 + *row3 * d3;
            dx++;
        }
        if (moves) {
            const float v = *x++;
            *row0 += v * step0;
            *row1 += v * step1;
            *row2 += v * step2;
            *row3 += v * step3;
        }
        row0++, row1++, row2++, row3++;
    }
}

INLINE void backward_row(const struct row *row, uint32_t inputs, const float *x, float *dx, bool gives,
                         bool moves)
{
    for (uint32_t i = 0; i < inputs; i++) {
        const float w = row->w[i];
        if (gives) {
            dx[i] += w * row->d;
        }
        if (moves) {
            row->w[i] = w + x[i] * row->step;
        }
    }
}

INLINE void backward(float *w, uint32_t inputs, uint32_t outputs, const float *x, const float *dy,
                     float *dx, float scale, bool gives, bool moves)
{
    float *b = w + (size_t)outputs * inputs;
    struct row rows[ROWS];
    uint32_t gathered = 0;
    for (uint32_t o = 0; o < outputs; o++, w += inputs) {
        const float d = dy[o];
        if (d == 0.0f) {
            continue;
        }
        rows[gathered] = (struct row){.w = w, .d = d, .step = scale * d};
        if (moves) {
            b[o] += rows[gathered].step;
        }
        if (++gathered == ROWS) {
            backward_rows(rows, inputs, x, dx, gives, moves);
            gathered = 0;
        }
    }
    for (uint32_t r = 0; r < gathered; r++) {
        backward_row(&rows[r], inputs, x, dx, gives, moves);
    }
}

void tmf_matrix_backward(const float *w, uint32_t inputs, uint32_t outputs, const float *x,
                         const float *dy, float *dx, float *sink, float scale)
{
    if (dx != NULL && sink == w) {
        backward(sink, inputs, outputs, x, dy, dx, scale, true, true);
        return;
    }
    if (dx != NULL) { /* w is read only */
        backward((float *)w, inputs, outputs, x, dy, dx, scale, true, false);
    }
    if (sink != NULL) {
        backward(sink, inputs, outputs, x, dy, NULL, scale, false, true);
    }
}
