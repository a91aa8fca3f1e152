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
#define SUCCESSIVE(r0, r1, r2, r3)                                                         \
    register float h0 __asm__(r0), h1 __asm__(r1), h2 __asm__(r2), h3 __asm__(r3)
#define LOAD(v, p, write_back, ...)                                                        \
    do {                                                                                   \
        SUCCESSIVE(__VA_ARGS__);                                                           \
        __asm__("vldmia %[from]" write_back ", {%[first]-%[last]}"                         \
                : [from] "+r"(p), [first] "=t"(h0), "=t"(h1), "=t"(h2), [last] "=t"(h3)    \
                : "m"(*(const float(*)[4])(p)));                                           \
        v##0 = h0, v##1 = h1, v##2 = h2, v##3 = h3;                                        \
    } while (0)
#define TAKE(v, p, ...) LOAD(v, p, "", __VA_ARGS__)
#define TAKE_NEXT(v, p, ...) LOAD(v, p, "!", __VA_ARGS__)
#define PUT_NEXT(v, p, ...)                                                                \
    do {                                                                                   \
        SUCCESSIVE(__VA_ARGS__);                                                           \
        h0 = v##0, h1 = v##1, h2 = v##2, h3 = v##3;                                        \
        __asm__("vstmia %[to]!, {%[first]-%[last]}"                                        \
                : [to] "+r"(p), "=m"(*(float(*)[4])(p))                                    \
                : [first] "t"(h0), "t"(h1), "t"(h2), [last] "t"(h3));                      \
    } while (0)
#else
#define TAKE(v, p, ...) (v##0 = (p)[0], v##1 = (p)[1], v##2 = (p)[2], v##3 = (p)[3])
#define TAKE_NEXT(v, p, ...) (TAKE(v, p, __VA_ARGS__), (p) += 4)
#define PUT_NEXT(v, p, ...)                                                                \
    ((p)[0] = v##0, (p)[1] = v##1, (p)[2] = v##2, (p)[3] = v##3, (p) += 4)
#endif

/* sum + v0 · w0 + v1 · w1 + …, in this order. */
#define ADD_PRODUCTS(sum, v, w)                                                            \
    ((sum) += v##0 * w##0, (sum) += v##1 * w##1, (sum) += v##2 * w##2, (sum) += v##3 * w##3)
#define ADD_SCALED(to, v, factor)                                                          \
    (to##0 += v##0 * (factor), to##1 += v##1 * (factor), to##2 += v##2 * (factor),         \
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

/* One output. */
static float forward_row(const float *w, float b, uint32_t inputs, const float *x)
{
    float sum = b;
    for (uint32_t blocks = inputs / COLUMNS; blocks > 0; blocks--) {
        FOUR(v);
        FOUR(w0_);
        TAKE_NEXT(v, x, S0_3);
        TAKE_NEXT(w0_, w, S4_7);
        ADD_PRODUCTS(sum, w0_, v);
    }
    for (uint32_t left = inputs % COLUMNS; left > 0; left--) {
        sum += *w++ * *x++;
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

/* Rows of w or of a sink, and what they meet. */
struct rows {
    struct row {
        float *w;
        float d; /* ∂loss/∂y */
    } row[ROWS];
    uint32_t inputs;
    const float *x;
    float *dx;
    float scale;
};

/* For constants to leave what is needed. */
#define INLINE static inline __attribute__((always_inline))

/* ROWS rows, or the first: `gives` adds w · d of each to dx, `moves` adds x · (scale · d) to w after that. */
INLINE void walk(const struct rows *rows, bool four, bool gives, bool moves)
{
    const struct row *row = rows->row;
    float *row0 = row[0].w, *row1 = row[four].w, *row2 = row[2 * four].w, *row3 = row[3 * four].w;
    const float d0 = row[0].d, d1 = row[four].d, d2 = row[2 * four].d, d3 = row[3 * four].d;
    const float step0 = rows->scale * d0, step1 = rows->scale * d1, step2 = rows->scale * d2,
                step3 = rows->scale * d3;
    const float *x = rows->x;
    float *dx = rows->dx;
    for (uint32_t blocks = rows->inputs / COLUMNS; blocks > 0; blocks--) {
        FOUR(v);
        FOUR(slope);
        FOUR(w);
        if (moves) {
            TAKE_NEXT(v, x, S0_3);
        }
        if (gives) {
            TAKE(slope, dx, S4_7);
        }
        /* Stored from other registers than loaded to, so that what is needed twice need not be copied. */
#define BLOCK(r, from, to)                                                                 \
    if (moves) {                                                                           \
        TAKE(w, row##r, from);                                                             \
    } else {                                                                               \
        TAKE_NEXT(w, row##r, from);                                                        \
    }                                                                                      \
    if (gives) {                                                                           \
        ADD_SCALED(slope, w, d##r);                                                        \
    }                                                                                      \
    if (moves) {                                                                           \
        ADD_SCALED(w, v, step##r);                                                         \
        PUT_NEXT(w, row##r, to);                                                           \
    }
        BLOCK(0, S8_11, S12_15)
        if (four) {
            BLOCK(1, S12_15, S8_11)
            BLOCK(2, S8_11, S12_15)
            BLOCK(3, S12_15, S8_11)
        }
#undef BLOCK
        if (gives) {
            PUT_NEXT(slope, dx, S4_7);
        }
    }
    for (uint32_t left = rows->inputs % COLUMNS; left > 0; left--) {
        const float v = moves ? *x++ : 0.0f;
        float slope = gives ? *dx : 0.0f;
#define VALUE(r)                                                                           \
    slope += *row##r * d##r;                                                               \
    if (moves) {                                                                           \
        *row##r += v * step##r;                                                            \
    }                                                                                      \
    row##r++;
        VALUE(0)
        if (four) {
            VALUE(1)
            VALUE(2)
            VALUE(3)
        }
#undef VALUE
        if (gives) {
            *dx++ = slope;
        }
    }
}

/* Functions of their own: together they need more registers than there are. */
#define WALK(name, four, gives, moves)                                                     \
    static __attribute__((noinline)) void name(const struct rows *rows)                    \
    {                                                                                      \
        walk(rows, four, gives, moves);                                                    \
    }
WALK(give_four, true, true, false)
WALK(give_one, false, true, false)
WALK(move_four, true, false, true)
WALK(move_one, false, false, true)
WALK(give_and_move_four, true, true, true)
WALK(give_and_move_one, false, true, true)

/* Gathers the rows that are not passed over. */
INLINE void backward(float *w, uint32_t inputs, uint32_t outputs, const float *x, const float *dy,
                     float *dx, float scale, void (*walk_four)(const struct rows *),
                     void (*walk_one)(const struct rows *), bool moves)
{
    float *b = w + (size_t)outputs * inputs;
    struct rows rows = {.inputs = inputs, .x = x, .dx = dx, .scale = scale};
    struct row *next = rows.row;
    for (; outputs > 0; outputs--, w += inputs, b++) {
        const float d = *dy++;
        if (d == 0.0f) {
            continue;
        }
        if (moves) {
            *b += scale * d;
        }
        *next++ = (struct row){.w = w, .d = d};
        if (next == rows.row + ROWS) {
            walk_four(&rows);
            next = rows.row;
        }
    }
    for (const struct row *row = rows.row; row < next; row++) {
        rows.row[0] = *row;
        walk_one(&rows);
    }
}

void tmf_matrix_backward(const float *w, uint32_t inputs, uint32_t outputs, const float *x,
                         const float *dy, float *dx, float *sink, float scale)
{
    if (dx != NULL && sink == w) {
        backward(sink, inputs, outputs, x, dy, dx, scale, give_and_move_four, give_and_move_one, true);
        return;
    }
    if (dx != NULL) { /* w is read only */
        backward((float *)w, inputs, outputs, x, dy, dx, scale, give_four, give_one, false);
    }
    if (sink != NULL) {
        backward(sink, inputs, outputs, x, dy, NULL, scale, move_four, move_one, true);
    }
}

void tmf_vector_copy(float *to, const float *from, size_t n)
{
    for (; n >= COLUMNS; n -= COLUMNS) {
        FOUR(v);
        TAKE_NEXT(v, from, S0_3);
        PUT_NEXT(v, to, S0_3);
    }
    while (n-- > 0) {
        *to++ = *from++;
    }
}

void tmf_vector_add(float *to, const float *from, size_t n)
{
    for (; n >= COLUMNS; n -= COLUMNS) {
        FOUR(sum);
        FOUR(v);
        TAKE(sum, to, S0_3);
        TAKE_NEXT(v, from, S4_7);
        ADD_SCALED(sum, v, 1.0f);
        PUT_NEXT(sum, to, S0_3);
    }
    while (n-- > 0) {
        *to++ += *from++;
    }
}
