#ifndef TMF_MATRIX_H
#define TMF_MATRIX_H

#include <stddef.h>
#include <stdint.h>

/* y = W x + b and its backward pass: where a node spends its time. W is row-major (outputs × inputs),
 * b (outputs) lies behind it; a pointer w is to both.
 *
 * The order of sums is part of the contract (tmf_operation.h). On a Cortex-M4F, weights in blocks of
 * eight rows by four columns take 3.3 cycles each to go forward, 3.3 to give dx and 4.3 to be moved; both at
 * once takes 7, of four rows. Of fewer rows a weight takes 5 or 6, of fewer columns half as much again. */

/* Order: b, then the products of the row from first to last. */
void tmf_matrix_forward(const float *w, uint32_t inputs, uint32_t outputs, const float *x, float *y);

/* The same of two inputs: y of x, u of z. Weights in blocks of four rows by four columns take 2.8 cycles for each. */
void tmf_matrix_forward_two(const float *w, uint32_t inputs, uint32_t outputs, const float *x, const float *z,
                            float *y, float *u);

/* dy: ∂loss/∂y. Where dx is not NULL, adds ∂loss/∂x to it. Where sink is not NULL, adds
 * scale · ∂loss/∂w to it; sink may be w, and dx is that of the parameters before.
 *
 * Order: dx gathers the rows from first to last. A row whose dy is zero adds nothing anywhere and is
 * passed over. */
void tmf_matrix_backward(const float *w, uint32_t inputs, uint32_t outputs, const float *x,
                         const float *dy, float *dx, float *sink, float scale);

/* In order; for short runs, where the overhead of memcpy and memset counts, on a node. */
void tmf_vector_copy(float *to, const float *from, size_t n);
void tmf_vector_clear(float *to, size_t n);
void tmf_vector_add(float *to, const float *from, size_t n);

#endif
