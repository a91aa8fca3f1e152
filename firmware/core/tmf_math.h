/*
 * exp, log, tanh and the logistic function in IEEE single precision, with the same bits on every target.
 *
 * C libraries differ in their last bits, and an experiment here must give the same weights on an
 * emulated node, on a real one and on the host. These use integer operations and single-precision
 * +, -, * and / only, so nothing is left to a target to choose, provided that the compiler does not
 * fuse a * b + c (-ffp-contract=off), that rounding is to nearest, and that subnormals are not
 * flushed.
 *
 * An ulp is the spacing of floats at the true result. The largest errors were measured over all
 * 2^32 arguments. A NaN that is returned always is 0x7fc00000.
 */
#ifndef TMF_MATH_H
#define TMF_MATH_H

/*
 * e^x, within 0.91 ulp, subnormal results included. Never decreasing.
 * 1 at +-0, 0 at -inf, inf at inf. Overflows to inf from 0x1.62e43p+6 (88.7228) up.
 */
float tmf_expf(float x);

/*
 * Natural logarithm, within 0.92 ulp, subnormal arguments included. Never decreasing.
 * +0 at 1, -inf at +-0, inf at inf, NaN for x < 0.
 */
float tmf_logf(float x);

/*
 * Hyperbolic tangent, within 1.04 ulp. Odd, bit for bit; |tanh x| <= |x| and <= 1. It may step back
 * by one float where it is nearly flat. +-0 at +-0, +-1 from |x| = 9 up, infinity included.
 */
float tmf_tanhf(float x);

/*
 * Logistic function 1 / (1 + e^-x), within 2.5 ulp. 0 at -inf, 1 at inf.
 */
float tmf_sigmoidf(float x);

#endif
