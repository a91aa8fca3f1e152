#include "tmf_matrix.h"

#include <stdbool.h>
#include <stddef.h>

#include "tmf_bits.h"

#define ROWS 8u    /* that go through the columns together, at most: they share the loads of x and dx */
#define COLUMNS 4u /* that are loaded and stored at once */

/* Four values v0 … v3 that lie one behind the other in memory: TAKE loads them from p, TAKE_NEXT and
 * PUT_NEXT move p past them as well.
 *
 * A Cortex-M4F has VLDM and VSTM for that, at a cycle a value where VLDR and VSTR take two; GCC does not
 * make the former out of the latter. They want successive registers, so those are named here. All else
 * is left to the compiler, also to copy values where it would rather have them elsewhere. */
#define FOUR(v) float v##0, v##1, v##2, v##3
#if defined(__ARM_ARCH_7EM__) && defined(__ARM_FP)
/* What follows is in the order in which it is to be done: no result is needed by the instruction behind it, and no
 * load follows a store. GCC's schedulers would change that, and have values wait on the stack. */
#pragma GCC push_options
#pragma GCC optimize("no-schedule-insns", "no-schedule-insns2", "no-tree-ter")
#define S0_3 "s0", "s1", "s2", "s3"
#define S4_7 "s4", "s5", "s6", "s7"
#define S8_11 "s8", "s9", "s10", "s11"
#define S12_15 "s12", "s13", "s14", "s15"
#define S16_19 "s16", "s17", "s18", "s19"
#define S20_23 "s20", "s21", "s22", "s23"
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
/* Has v there by now, where it is to be stored later. */
#define HOLD(v, ...)                                                                       \
    do {                                                                                   \
        SUCCESSIVE(__VA_ARGS__);                                                           \
        h0 = v##0, h1 = v##1, h2 = v##2, h3 = v##3;                                        \
        __asm__("" : "+t"(h0), "+t"(h1), "+t"(h2), "+t"(h3));                              \
        v##0 = h0, v##1 = h1, v##2 = h2, v##3 = h3;                                        \
    } while (0)
#define PUT_NEXT(v, p, ...)                                                                \
    do {                                                                                   \
        SUCCESSIVE(__VA_ARGS__);                                                           \
        h0 = v##0, h1 = v##1, h2 = v##2, h3 = v##3;                                        \
        __asm__("vstmia %[to]!, {%[first]-%[last]}"                                        \
                : [to] "+r"(p), "=m"(*(float(*)[4])(p))                                    \
                : [first] "t"(h0), "t"(h1), "t"(h2), [last] "t"(h3));                      \
    } while (0)
#else
#define HOLD(v, ...) (void)0
#define TAKE(v, p, ...) (v##0 = (p)[0], v##1 = (p)[1], v##2 = (p)[2], v##3 = (p)[3])
#define TAKE_NEXT(v, p, ...) (TAKE(v, p, __VA_ARGS__), (p) += 4)
#define PUT_NEXT(v, p, ...)                                                                \
    ((p)[0] = v##0, (p)[1] = v##1, (p)[2] = v##2, (p)[3] = v##3, (p) += 4)
#endif

#define MULTIPLY(product, v, factor)                                                       \
    (product##0 = v##0 * (factor), product##1 = v##1 * (factor), product##2 = v##2 * (factor), \
     product##3 = v##3 * (factor))
#define MULTIPLY_INTO(product, w, v)                                                       \
    (product##0 = w##0 * v##0, product##1 = w##1 * v##1, product##2 = w##2 * v##2, product##3 = w##3 * v##3)
#define MULTIPLY_BY(w, v) (w##0 *= v##0, w##1 *= v##1, w##2 *= v##2, w##3 *= v##3)
#define ADD(sum, v) (sum##0 += v##0, sum##1 += v##1, sum##2 += v##2, sum##3 += v##3)

/* For constants to leave what is needed. */
#define INLINE static inline __attribute__((always_inline))

/* M for each row of four, or of eight. */
#define FOUR_ROWS(M) M(0) M(1) M(2) M(3)
#define EIGHT_ROWS(M) FOUR_ROWS(M) M(4) M(5) M(6) M(7)

/* The outputs y of eight rows, or of four. */
INLINE void forward_rows(const float *w, const float *b, uint32_t inputs, const float *x, float *y, bool eight)
{
#define ROW(r)                                                                             \
    const float *row##r = w + (r) * (size_t)inputs;                                        \
    float sum##r = b[r];
    FOUR_ROWS(ROW)
#undef ROW
#define ROW(r)                                                                             \
    const float *row##r = eight ? w + (r) * (size_t)inputs : NULL;                         \
    float sum##r = eight ? b[r] : 0.0f;
    ROW(4) ROW(5) ROW(6) ROW(7)
#undef ROW
    for (uint32_t blocks = inputs / COLUMNS; blocks > 0; blocks--) {
        FOUR(v);
        FOUR(w0_);
        FOUR(w1_);
        FOUR(w2_);
        FOUR(w3_);
        TAKE_NEXT(v, x, S0_3);
#define SUMS(i, r0, r1, r2, r3) (sum##r0 += w0_##i, sum##r1 += w1_##i, sum##r2 += w2_##i, sum##r3 += w3_##i);
#define FOUR_SUMS(...)                                                                     \
    FOUR_ROWS_OF(__VA_ARGS__)                                                              \
    MULTIPLY_BY(w0_, v), MULTIPLY_BY(w1_, v), MULTIPLY_BY(w2_, v), MULTIPLY_BY(w3_, v);    \
    SUMS(0, __VA_ARGS__) SUMS(1, __VA_ARGS__) SUMS(2, __VA_ARGS__) SUMS(3, __VA_ARGS__)
#define FOUR_ROWS_OF(r0, r1, r2, r3)                                                       \
    TAKE_NEXT(w0_, row##r0, S4_7);                                                         \
    TAKE_NEXT(w1_, row##r1, S8_11);                                                        \
    TAKE_NEXT(w2_, row##r2, S12_15);                                                       \
    TAKE_NEXT(w3_, row##r3, S16_19);
        FOUR_SUMS(0, 1, 2, 3)
        if (eight) {
            FOUR_SUMS(4, 5, 6, 7)
        }
#undef FOUR_ROWS_OF
#undef FOUR_SUMS
#undef SUMS
    }
    for (uint32_t left = inputs % COLUMNS; left > 0; left--) {
        const float v = *x++;
#define VALUE(r) const float w##r = *row##r++;
        FOUR_ROWS(VALUE)
#undef VALUE
#define VALUE(r) const float w##r = eight ? *row##r++ : 0.0f;
        VALUE(4) VALUE(5) VALUE(6) VALUE(7)
#undef VALUE
#define VALUE(r) const float product##r = w##r * v;
        EIGHT_ROWS(VALUE)
#undef VALUE
#define VALUE(r) sum##r += product##r;
        EIGHT_ROWS(VALUE)
#undef VALUE
    }
#define VALUE(r) y[r] = sum##r;
    FOUR_ROWS(VALUE)
    if (eight) {
        VALUE(4) VALUE(5) VALUE(6) VALUE(7)
    }
#undef VALUE
}

/* Functions of their own: together they need more registers than there are. */
#define FORWARD(name, eight)                                                               \
    static __attribute__((noinline)) void name(const float *w, const float *b, uint32_t inputs, \
                                               const float *x, float *y)                   \
    {                                                                                      \
        forward_rows(w, b, inputs, x, y, eight);                                           \
    }
FORWARD(forward_eight, true)
FORWARD(forward_four, false)

/* The outputs of four rows for two x: a row is loaded once for both. */
static __attribute__((noinline)) void forward_two(const float *w, const float *b, uint32_t inputs, const float *x,
                                                  const float *z, float *y, float *u)
{
#define ROW(r)                                                                             \
    const float *row##r = w + (r) * (size_t)inputs;                                        \
    float of_x##r = b[r], of_z##r = of_x##r;
    FOUR_ROWS(ROW)
#undef ROW
    for (uint32_t blocks = inputs / COLUMNS; blocks > 0; blocks--) {
        FOUR(v);
        FOUR(t);
        FOUR(w);
        FOUR(product);
        TAKE_NEXT(v, x, S0_3);
        TAKE_NEXT(t, z, S4_7);
#define ROW(r)                                                                             \
    TAKE_NEXT(w, row##r, S8_11);                                                           \
    MULTIPLY_INTO(product, w, v), MULTIPLY_BY(w, t);                                       \
    of_x##r += product0, of_z##r += w0, of_x##r += product1, of_z##r += w1;                \
    of_x##r += product2, of_z##r += w2, of_x##r += product3, of_z##r += w3;
        FOUR_ROWS(ROW)
#undef ROW
    }
    for (uint32_t left = inputs % COLUMNS; left > 0; left--) {
        const float v = *x++, t = *z++;
#define ROW(r)                                                                             \
    const float w##r = *row##r++, product##r = w##r * v;                                   \
    const float other##r = w##r * t;                                                       \
    of_x##r += product##r, of_z##r += other##r;
        FOUR_ROWS(ROW)
#undef ROW
    }
#define VALUE(r) y[r] = of_x##r, u[r] = of_z##r;
    FOUR_ROWS(VALUE)
#undef VALUE
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
        MULTIPLY_BY(w0_, v);
        sum += w0_0, sum += w0_1, sum += w0_2, sum += w0_3;
    }
    for (uint32_t left = inputs % COLUMNS; left > 0; left--) {
        sum += *w++ * *x++;
    }
    return sum;
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

/* The first `count` rows, 1, 4 or 8: `gives` adds w · d of each to dx, `moves` adds x · (scale · d) to w after that. */
INLINE void walk(const struct rows *rows, uint32_t count, bool gives, bool moves)
{
    const struct row *row = rows->row;
    const bool four = count >= 4, eight = count == 8;
#define ROW(r)                                                                             \
    float *row##r = row[(r) < count ? (r) : 0].w;                                          \
    const float d##r = row[(r) < count ? (r) : 0].d;
    EIGHT_ROWS(ROW)
#undef ROW
    const float scale = rows->scale;
#define ROW(r) const float step##r = scale * d##r;
    EIGHT_ROWS(ROW)
#undef ROW
    const float *x = rows->x;
    float *dx = rows->dx;
    for (uint32_t blocks = rows->inputs / COLUMNS; blocks > 0; blocks--) {
        FOUR(v);
        FOUR(slope);
        FOUR(even_w);
        FOUR(odd_w);
        FOUR(even);
        FOUR(odd);
        if (moves) {
            TAKE_NEXT(v, x, S0_3);
        }
        if (gives) {
            TAKE(slope, dx, S4_7);
        }
#define STORE_ROW(sum, r, registers)                                                       \
    if (moves) {                                                                           \
        PUT_NEXT(sum, row##r, registers);                                                  \
    }
        /* A row is stored when the next one has been loaded. */
#define BLOCK(r, w, from, sum, to, store_before)                                           \
    if (moves) {                                                                           \
        TAKE(w, row##r, from);                                                             \
        MULTIPLY(sum, v, step##r);                                                         \
        store_before                                                                       \
        ADD(sum, w);                                                                       \
        HOLD(sum, to);                                                                     \
    } else {                                                                               \
        TAKE_NEXT(w, row##r, from);                                                        \
    }                                                                                      \
    if (gives) {                                                                           \
        MULTIPLY(w, w, d##r);                                                              \
        ADD(slope, w);                                                                     \
    }
#define EVEN(r, before) BLOCK(r, even_w, S8_11, even, S16_19, STORE_ROW(odd, before, S20_23))
#define ODD(r, before) BLOCK(r, odd_w, S12_15, odd, S20_23, STORE_ROW(even, before, S16_19))
        BLOCK(0, even_w, S8_11, even, S16_19, )
        if (four) {
            ODD(1, 0) EVEN(2, 1) ODD(3, 2)
        }
        if (eight) {
            EVEN(4, 3) ODD(5, 4) EVEN(6, 5) ODD(7, 6)
        }
        if (eight) {
            STORE_ROW(odd, 7, S20_23)
        } else if (four) {
            STORE_ROW(odd, 3, S20_23)
        } else {
            STORE_ROW(even, 0, S16_19)
        }
        if (gives) {
            PUT_NEXT(slope, dx, S4_7);
        }
#undef ODD
#undef EVEN
#undef BLOCK
#undef STORE_ROW
    }
    for (uint32_t left = rows->inputs % COLUMNS; left > 0; left--) {
        const float v = moves ? *x++ : 0.0f;
        float slope = gives ? *dx : 0.0f;
#define VALUE(r)                                                                           \
    const float w##r = (r) < count ? *row##r : 0.0f;                                       \
    float sum##r = 0.0f;
        EIGHT_ROWS(VALUE)
#undef VALUE
#define VALUE(r)                                                                           \
    if (moves && (r) < count) {                                                            \
        sum##r = v * step##r;                                                              \
    }
        EIGHT_ROWS(VALUE)
#undef VALUE
#define VALUE(r)                                                                           \
    if ((r) < count) {                                                                     \
        const float product = w##r * d##r;                                                 \
        if (moves) {                                                                       \
            sum##r += w##r;                                                                \
        }                                                                                  \
        slope += product;                                                                  \
    }
        EIGHT_ROWS(VALUE)
#undef VALUE
#define VALUE(r)                                                                           \
    if ((r) < count) {                                                                     \
        if (moves) {                                                                       \
            *row##r = sum##r;                                                              \
        }                                                                                  \
        row##r++;                                                                          \
    }
        EIGHT_ROWS(VALUE)
#undef VALUE
        if (gives) {
            *dx++ = slope;
        }
    }
}

#define WALK(name, count, gives, moves)                                                    \
    static __attribute__((noinline)) void name(const struct rows *rows)                    \
    {                                                                                      \
        walk(rows, count, gives, moves);                                                   \
    }
WALK(give_eight, 8, true, false)
WALK(give_four, 4, true, false)
WALK(give_one, 1, true, false)
WALK(move_eight, 8, false, true)
WALK(move_four, 4, false, true)
WALK(move_one, 1, false, true)
WALK(give_and_move_four, 4, true, true)
WALK(give_and_move_one, 1, true, true)

#if defined(__ARM_ARCH_7EM__) && defined(__ARM_FP)
#pragma GCC pop_options
#endif

void tmf_matrix_forward(const float *w, uint32_t inputs, uint32_t outputs, const float *x, float *y)
{
    const float *b = w + (size_t)outputs * inputs;
    for (; outputs >= 8; outputs -= 8, b += 8, y += 8) {
        forward_eight(w, b, inputs, x, y);
        w += 8 * (size_t)inputs;
    }
    if (outputs >= 4) {
        forward_four(w, b, inputs, x, y);
        w += 4 * (size_t)inputs;
        outputs -= 4, b += 4, y += 4;
    }
    for (; outputs > 0; outputs--) {
        *y++ = forward_row(w, *b++, inputs, x);
        w += inputs;
    }
}

void tmf_matrix_forward_two(const float *w, uint32_t inputs, uint32_t outputs, const float *x, const float *z,
                            float *y, float *u)
{
    const float *b = w + (size_t)outputs * inputs;
    for (; outputs >= 4; outputs -= 4, b += 4, y += 4, u += 4) {
        forward_two(w, b, inputs, x, z, y, u);
        w += 4 * (size_t)inputs;
    }
    for (; outputs > 0; outputs--, b++) {
        *y++ = forward_row(w, *b, inputs, x);
        *u++ = forward_row(w, *b, inputs, z);
        w += inputs;
    }
}

typedef void walk_rows(const struct rows *rows);

/* Gathers the rows that are not passed over, `most` at a time. */
INLINE void backward(float *w, uint32_t inputs, uint32_t outputs, const float *x, const float *dy, float *dx,
                     float scale, bool moves, uint32_t most, walk_rows *walk_most, walk_rows *walk_four,
                     walk_rows *walk_one)
{
    float *b = w + (size_t)outputs * inputs;
    struct rows rows; /* initialised they would all be set to zero */
    rows.inputs = inputs;
    rows.x = x;
    rows.dx = dx;
    rows.scale = scale;
    struct row *next = rows.row;
    for (; outputs > 0; outputs--, w += inputs, b++) {
        const float d = *dy++;
        if (tmf_magnitude(d) == 0) {
            continue;
        }
        if (moves) {
            *b += scale * d;
        }
        next->w = w;
        next->d = d;
        if (++next == rows.row + most) {
            walk_most(&rows);
            next = rows.row;
        }
    }
    const struct row *row = rows.row;
    if (most > 4 && next - row >= 4) {
        walk_four(&rows);
        row += 4;
    }
    for (; row < next; row++) {
        rows.row[0] = *row;
        walk_one(&rows);
    }
}

void tmf_matrix_backward(const float *w, uint32_t inputs, uint32_t outputs, const float *x,
                         const float *dy, float *dx, float *sink, float scale)
{
    if (dx != NULL && sink == w) {
        backward(sink, inputs, outputs, x, dy, dx, scale, true, 4, give_and_move_four, give_and_move_four,
                 give_and_move_one);
        return;
    }
    if (dx != NULL) { /* w is read only */
        backward((float *)w, inputs, outputs, x, dy, dx, scale, false, 8, give_eight, give_four, give_one);
    }
    if (sink != NULL) {
        backward(sink, inputs, outputs, x, dy, NULL, scale, true, 8, move_eight, move_four, move_one);
    }
}

void tmf_vector_copy(float *to, const float *from, size_t n)
{
    FOUR(v);
    FOUR(next);
    for (size_t pairs = n / (2 * COLUMNS); pairs > 0; pairs--) {
        TAKE_NEXT(v, from, S0_3);
        TAKE_NEXT(next, from, S4_7);
        PUT_NEXT(v, to, S0_3);
        PUT_NEXT(next, to, S4_7);
    }
    for (n %= 2 * COLUMNS; n > 0; n--) {
        *to++ = *from++;
    }
}

void tmf_vector_clear(float *to, size_t n)
{
    float v0 = 0.0f, v1 = 0.0f, v2 = 0.0f, v3 = 0.0f;
    for (size_t pairs = n / (2 * COLUMNS); pairs > 0; pairs--) {
        PUT_NEXT(v, to, S0_3);
        PUT_NEXT(v, to, S0_3);
    }
    for (n %= 2 * COLUMNS; n > 0; n--) {
        *to++ = v0;
    }
}

void tmf_vector_add(float *to, const float *from, size_t n)
{
    FOUR(sum);
    FOUR(next);
    FOUR(v);
    FOUR(more);
    for (size_t pairs = n / (2 * COLUMNS); pairs > 0; pairs--) {
        float *behind = to + COLUMNS;
        TAKE(sum, to, S0_3);
        TAKE(next, behind, S4_7);
        TAKE_NEXT(v, from, S8_11);
        TAKE_NEXT(more, from, S12_15);
        ADD(sum, v);
        ADD(next, more);
        PUT_NEXT(sum, to, S0_3);
        PUT_NEXT(next, to, S4_7);
    }
    for (n %= 2 * COLUMNS; n >= COLUMNS; n -= COLUMNS) {
        TAKE(sum, to, S0_3);
        TAKE_NEXT(v, from, S4_7);
        ADD(sum, v);
        PUT_NEXT(sum, to, S0_3);
    }
    for (; n > 0; n--) {
        *to++ += *from++;
    }
}
