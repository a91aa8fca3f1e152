/*
 * The method, common to the three functions: what range reduction leaves is looked up as a row of a
 * table, a cubic, which is evaluated in 32-bit fixed point.
 *
 * Why fixed point: a step of Horner's rule is SMULL and ADD, a cycle each on a Cortex-M4F. In
 * floating point it would be VMUL and VADD, each waiting for the one before, and a rounding to 24
 * bits each; here everything up to the result's one rounding has 30 bits or so. Nothing divides
 * (VDIV: 14 cycles).
 *
 * A row interpolates the function at the Chebyshev nodes of the row's interval, which is within 6 %
 * of the best cubic there. tests/firmware/test_math.py derives the rows anew and compares.
 */
#include "tmf_math.h"

#include <float.h>
#include <stdint.h>
#include <string.h>

#include "tmf_bits.h"

#if FLT_EVAL_METHOD != 0
#error "tmf_math needs float expressions evaluated as float (on 32-bit x86: -msse2 -mfpmath=sse)"
#endif
_Static_assert(-1 >> 1 == -1, "right shifts of negative numbers are expected to round down");

#define SIGN_BIT 0x80000000u
#define ONE_BITS 0x3f800000u
#define INFINITY_BITS 0x7f800000u
#define NAN_BITS 0x7fc00000u

static inline float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* The product's upper half, rounded down. */
static inline int32_t multiply_high(int32_t a, int32_t b)
{
    return (int32_t)(((int64_t)a * b) >> 32);
}

/*
 * Rows come in pairs. The variable of both, in units of the pair's width, is the distance from the
 * nearer end of the pair: 0 to 1/2 in the even row, -1/2 to 0 in the odd one. That is what the bits
 * of the argument below the pair's number are when read as a signed number, t * 2^32: their top bit
 * tells odd from even and is the sign. So no centre has to be loaded and subtracted.
 */
static inline int32_t cubic(const int32_t row[4], uint32_t t_bits)
{
    int32_t t = (int32_t)t_bits;
    int32_t p = row[2] + multiply_high(row[3], t);

    p = row[1] + multiply_high(p, t);
    return row[0] + multiply_high(p, t);
}

/*
 * 2^f, 16 rows for f in [0, 1), scaled by 2^29. The approximation error is < 2.3e-9, 0.02 ulp. A
 * constant term has 32 added, half of the last bit that is kept when 6 are dropped to leave the
 * result's 24: dropping them rounds to nearest.
 */
static const int32_t exp_rows[16][4] = {
    {536870943, 46516360, 2014766, 59476},  {585461912, 50726364, 2197131, 62109},
    {585461912, 50726450, 2197118, 64859},  {638450740, 55317492, 2395988, 67731},
    {638450740, 55317586, 2395974, 70729},  {696235466, 60324153, 2612844, 73861},
    {696235466, 60324256, 2612828, 77131},  {759250156, 65783956, 2849327, 80546},
    {759250156, 65784067, 2849309, 84112},  {827968163, 71737912, 3107213, 87836},
    {827968163, 71738034, 3107194, 91725},  {902905682, 78230748, 3388439, 95786},
    {902905682, 78230881, 3388419, 100026}, {984625625, 85311236, 3695119, 104455},
    {984625625, 85311380, 3695097, 109080}, {1073741855, 93032562, 4029556, 113909},
};

/* In Q30. The error, 2^-31.6, costs up to 0.11 ulp at |x| = 32 and 0.3 at 88. */
#define LOG2_E 1549082005

/* 2^(fraction / 2^32) as a 24-bit integer, 2^23 to 2^24. */
static inline uint32_t exp2_fraction(uint32_t fraction)
{
    return (uint32_t)cubic(exp_rows[fraction >> 28], fraction << 3) >> 6;
}

/* |x| >= 32 and NaN: too large for Q26, and the result may be subnormal or overflow. */
static float exp_far(float x)
{
    if (tmf_magnitude(x) > INFINITY_BITS) {
        return float_of(NAN_BITS);
    }
    if (x >= 89.0f) {
        return float_of(INFINITY_BITS);
    }
    if (x <= -104.0f) {
        return 0.0f;
    }
    int64_t exponent = (int64_t)(int32_t)(x * 0x1p24f) * LOG2_E; /* Q54 */
    int32_t n = (int32_t)(exponent >> 54);
    int32_t half = n >> 1;
    float y = float_of(exp2_fraction((uint32_t)(exponent >> 22)) + (126u << 23));

    /* In two factors, as 2^n need not be a normal float. Only the second product can round. */
    return y * float_of((uint32_t)(half + 127) << 23) * float_of((uint32_t)(n - half + 127) << 23);
}

/*
 * e^x = 2^n * 2^f with n + f = x * log2(e), in 64-bit fixed point. x is exact in Q26 from |x| = 1/8
 * up (and in exp_far's Q24); below that, what the conversion cuts off costs up to 1/4 ulp.
 */
float tmf_expf(float x)
{
    if (tmf_magnitude(x) >= 0x42000000u) { /* 32 */
        return exp_far(x);
    }
    int64_t exponent = (int64_t)(int32_t)(x * 0x1p26f) * LOG2_E; /* Q56 */
    uint32_t n = (uint32_t)(exponent >> 56);

    /* 126 and not 127: the mantissa's leading bit, 2^23, adds the 1. */
    return float_of(exp2_fraction((uint32_t)(exponent >> 24)) + ((n + 126u) << 23));
}

/*
 * w(f) = (log(1 + f) - f) / f^2, 12 rows for f in [-1/4, 1/2), scaled by 2^31. The approximation
 * error is < 6e-8, and as it is multiplied by f^2, < 0.13 ulp of log(1 + f).
 */
static const int32_t log_rows[12][4] = {
    {-1294746024, 136901482, -16540137, 1903152}, {-1172545588, 109181144, -11487173, 1475974},
    {-1172545607, 109171379, -11497838, 1164744}, {-1073741776, 89481527, -8358467, 933122},
    {-1073741786, 89476022, -8363757, 757524},    {-991891998, 74911512, -6297995, 622214},
    {-991892003, 74908198, -6300840, 516434},     {-922780533, 63788231, -4879330, 432666},
    {-922780535, 63786130, -4880960, 365557},     {-863517768, 55077172, -3867042, 311229},
    {-863517770, 55075782, -3868027, 266828},     {-812048530, 48110838, -3123225, 230225},
};

/*
 * ln 2 in two parts. The first has few enough bits, 15, for its product with an exponent, 8 bits,
 * to be exact; the second is small enough for its product's rounding not to matter.
 */
#define LN2_HIGH 0x1.62e4p-1f
#define LN2_LOW 0x1.7f7d1cp-20f

/*
 * log x = e * ln 2 + log(1 + f) with x = 2^e * (1 + f), 1 + f going from 3/4 to 3/2 and not from 1
 * to 2: so on both sides of x = 1 e is 0, f is exact, and the result, f + f^2 * w(f), keeps its
 * relative accuracy however close to 0 it is.
 */
float tmf_logf(float x)
{
    uint32_t bits = tmf_float_bits(x);

    if (bits - 0x00800000u >= INFINITY_BITS - 0x00800000u) { /* not positive, normal and finite */
        if ((bits & ~SIGN_BIT) == 0) {
            return float_of(INFINITY_BITS | SIGN_BIT);
        }
        if (bits == INFINITY_BITS) {
            return x;
        }
        if (bits > INFINITY_BITS) {
            return float_of(NAN_BITS);
        }
        bits = tmf_float_bits(x * 0x1p23f) - (23u << 23);
    }
    int32_t e = (int32_t)(bits - 0x3f400000u) >> 23; /* less the bits of 3/4 */
    float f = float_of(bits - ((uint32_t)e << 23)) - 1.0f;
    int32_t f_fixed = (int32_t)(f * 0x1p31f);
    int32_t w = cubic(log_rows[(f_fixed >> 27) + 4], (uint32_t)f_fixed << 4);
    float curve = f * f * ((float)w * 0x1p-31f);

    return (float)e * LN2_HIGH + (f + (curve + (float)e * LN2_LOW));
}

/*
 * tanh, 16 rows to a power of two for |x| in [1/4, 9), scaled by 2^31. The approximation error is
 * < 0.06 ulp below 2, 0.54 from 2 to 2.125 (3.2e-8) and falling from there, 0.19 from 4 to 4.25.
 */
#define TANH_ROW_SHIFT 19
#define TANH_FIRST_ROW (0x3e800000u >> TANH_ROW_SHIFT) /* the bits of 1/4 */
#define TANH_ROWS 82u
static const int32_t tanh_rows[TANH_ROWS][4] = {
    {525958822, 63083338, -482912, -16550},     {588542781, 62068324, -531674, -15956},
    {588542781, 62068343, -531677, -15342},     {650064194, 60959455, -576757, -14710},
    {650064194, 60959476, -576759, -14063},     {710432940, 59764284, -617957, -13402},
    {710432940, 59764305, -617958, -12730},     {769566653, 58490731, -655126, -12048},
    {769566653, 58490753, -655126, -11360},     {827391017, 57146963, -688165, -10666},
    {827391017, 57146984, -688166, -9970},      {883839964, 55741289, -717029, -9273},
    {883839964, 55741310, -717029, -8576},      {938855767, 54282065, -741718, -7883},
    {938855767, 54282087, -741717, -7194},      {992389039, 52777603, -762276, -6512},
    {992389036, 105555395, -3050350, -44034},   {1094851529, 99330810, -3166715, -33571},
    {1094851529, 99331124, -3166665, -23517},   {1190993833, 92934780, -3222798, -13944},
    {1190993833, 92935063, -3222735, -4909},    {1280702457, 86481534, -3224720, 3540},
    {1280702457, 86481779, -3224649, 11371},    {1363971988, 80072286, -3179677, 18561},
    {1363971988, 80072490, -3179603, 25099},    {1440890819, 73793249, -3095410, 30981},
    {1440890819, 73793412, -3095338, 36215},    {1511625773, 67715046, -2979722, 40815},
    {1511625773, 67715171, -2979654, 44800},    {1576406584, 61892982, -2840093, 48197},
    {1576406584, 61893070, -2840032, 51034},    {1635510996, 56367971, -2683407, 53344},
    {1635510991, 112736368, -10736101, 447055}, {1737960813, 92618641, -9370711, 462244},
    {1737960815, 92618755, -9369532, 465793},   {1821675248, 75273457, -7979953, 459971},
    {1821675249, 75273050, -7979244, 446873},   {1889413456, 60641235, -6665878, 428362},
    {1889413456, 60640539, -6665531, 406046},   {1943791080, 48508471, -5484344, 381272},
    {1943791080, 48507656, -5484245, 355142},   {1987165894, 38583815, -4458723, 328531},
    {1987165894, 38582990, -4458777, 302116},   {2021588582, 30551594, -3591101, 276403},
    {2021588581, 30550824, -3591237, 251754},   {2048796601, 24105222, -2871140, 228416},
    {2048796601, 24104538, -2871310, 206543},   {2070233469, 18965489, -2282351, 186214},
    {2070233533, 37925988, -9097377, 1269704},  {2100295143, 23338546, -5670848, 1018173},
    {2100295135, 23332069, -5675550, 811127},   {2118738108, 14278895, -3498520, 642915},
    {2118738102, 14274660, -3501893, 507590},   {2130002563, 8706445, -2143983, 399531},
    {2130002559, 8703759, -2146232, 313735},    {2136863827, 5297704, -1308568, 245912},
    {2136863824, 5296031, -1310008, 192476},    {2141036128, 3219490, -796711, 150484},
    {2141036127, 3218459, -797614, 117553},     {2143570718, 1955031, -484346, 91766},
    {2143570717, 1954400, -484904, 71599},      {2145109485, 1186638, -294182, 55841},
    {2145109485, 1186253, -294525, 43537},      {2146043332, 720046, -178582, 33936},
    {2146043354, 1438296, -703782, 187206},     {2146953686, 530751, -256618, 113640},
    {2146953681, 529343, -259115, 68961},       {2147288670, 195283, -94430, 41840},
    {2147288669, 194764, -95351, 25382},        {2147411918, 71845, -34742, 15397},
    {2147411917, 71654, -35082, 9339},          {2147457260, 26431, -12782, 5665},
    {2147457259, 26361, -12906, 3436},          {2147473940, 9723, -4702, 2084},
    {2147473940, 9698, -4748, 1264},            {2147480077, 3577, -1730, 767},
    {2147480077, 3568, -1747, 465},             {2147482334, 1316, -636, 282},
    {2147482334, 1312, -643, 171},              {2147483165, 484, -234, 104},
    {2147483165, 960, -895, 396},               {2147483583, 133, -111, 146},
};

static float tanh_outside_table(float x)
{
    uint32_t magnitude = tmf_magnitude(x);

    if (magnitude < 0x3e800000u) { /* 1/4 */
        if (magnitude < 0x39800000u) { /* 2^-12: x is within 0.34 ulp, and -0 must not become +0 */
            return x;
        }
        /*
         * x + x^3 * q(x^2) in floating point, as a small result needs relative accuracy. 1 + z *
         * q(z) interpolates tanh(sqrt(z)) / sqrt(z) at the roots of the Chebyshev polynomial T4,
         * stretched so that one of them is z = 0. Relative error: 3.5e-9, < 0.06 ulp.
         */
        float z = x * x;
        float q = -0x1.555516p-2f + z * (0x1.10e158p-3f + z * -0x1.a54f34p-5f);

        return x + x * (z * q);
    }
    if (magnitude > INFINITY_BITS) {
        return float_of(NAN_BITS);
    }
    return float_of(ONE_BITS | (tmf_float_bits(x) & SIGN_BIT)); /* at 9, 0.52 ulp off */
}

/* The row's number is the exponent and the mantissa's top 4 bits; the rest is the variable. */
float tmf_tanhf(float x)
{
    uint32_t bits = tmf_float_bits(x);
    uint32_t row = ((bits & ~SIGN_BIT) >> TANH_ROW_SHIFT) - TANH_FIRST_ROW;

    if (row >= TANH_ROWS) {
        return tanh_outside_table(x);
    }
    int32_t y = cubic(tanh_rows[row], bits << (31 - TANH_ROW_SHIFT));
    int32_t sign = -(int32_t)(bits >> 31); /* 0 or -1 */

    return (float)((y ^ sign) - sign) * 0x1p-31f;
}

/* By the exponential of what is not above zero, which cannot overflow. */
float tmf_sigmoidf(float x)
{
    const float e = tmf_expf(x < 0.0f ? x : -x);

    return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}
