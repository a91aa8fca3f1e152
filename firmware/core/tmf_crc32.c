#include "tmf_crc32.h"

#include "tmf_bits.h"

/* Four bits. The table has what the reflected polynomial 0xEDB88320 makes of each value of these. */
static uint32_t next(uint32_t crc)
{
    static const uint32_t table[16] = {
        0x00000000u, 0x1db71064u, 0x3b6e20c8u, 0x26d930acu, 0x76dc4190u, 0x6b6b51f4u,
        0x4db26158u, 0x5005713cu, 0xedb88320u, 0xf00f9344u, 0xd6d6a3e8u, 0xcb61b38cu,
        0x9b64c2b0u, 0x86d3d2d4u, 0xa00ae278u, 0xbdbdf21cu,
    };
    return table[crc & 15] ^ crc >> 4;
}

/* Words at a time, without a table. The polynomial divides x^300 + x^155 + x^117 + x^89 + 1. So a bit of the message
 * may be taken away if it is added to those 145, 183, 211 and 300 bits behind it: the remainder stays the same. Of a
 * word these are 4 words and 17 bits, 5 and 23, 6 and 19, 9 and 12. Once all words but the last ten are taken away,
 * four bits at a time are left for these. The method is Russell's (arXiv:2412.16398).
 *
 * What words before give to one: back10 is the word ten before, as it was when it was taken away. */
#define GIVEN(back10, back9, back7, back6, back5, back4)                                    \
    ((back10) >> 20 ^ (back9) << 12 ^ (back7) >> 13 ^ (back6) >> 9 ^ (back6) << 19 ^        \
     (back5) >> 15 ^ (back5) << 23 ^ (back4) << 17)
#define BACK 10u
#define GROUP (BACK * 4) /* bytes */

/* Takes away `size` bytes, a multiple of GROUP, to the first word of which crc is added. taken: the last words. */
static void take_away(uint32_t crc, const uint8_t *data, size_t size, uint32_t taken[BACK])
{
    uint32_t t0 = 0, t1 = 0, t2 = 0, t3 = 0, t4 = 0, t5 = 0, t6 = 0, t7 = 0, t8 = 0, t9 = 0;
    const uint8_t *const end = data + size;
    do {
        t0 = tmf_get_u32(data) ^ crc ^ GIVEN(t0, t1, t3, t4, t5, t6);
        t1 = tmf_get_u32(data + 4) ^ GIVEN(t1, t2, t4, t5, t6, t7);
        t2 = tmf_get_u32(data + 8) ^ GIVEN(t2, t3, t5, t6, t7, t8);
        t3 = tmf_get_u32(data + 12) ^ GIVEN(t3, t4, t6, t7, t8, t9);
        t4 = tmf_get_u32(data + 16) ^ GIVEN(t4, t5, t7, t8, t9, t0);
        t5 = tmf_get_u32(data + 20) ^ GIVEN(t5, t6, t8, t9, t0, t1);
        t6 = tmf_get_u32(data + 24) ^ GIVEN(t6, t7, t9, t0, t1, t2);
        t7 = tmf_get_u32(data + 28) ^ GIVEN(t7, t8, t0, t1, t2, t3);
        t8 = tmf_get_u32(data + 32) ^ GIVEN(t8, t9, t1, t2, t3, t4);
        t9 = tmf_get_u32(data + 36) ^ GIVEN(t9, t0, t2, t3, t4, t5);
        crc = 0;
        data += GROUP;
    } while (data < end);
    taken[0] = t0, taken[1] = t1, taken[2] = t2, taken[3] = t3, taken[4] = t4;
    taken[5] = t5, taken[6] = t6, taken[7] = t7, taken[8] = t8, taken[9] = t9;
}

uint32_t tmf_crc32(uint32_t crc, const uint8_t *data, size_t size)
{
    crc = ~crc;
    if (size >= 2 * GROUP) {
        uint32_t taken[2 * BACK] = {0}; /* none behind the first BACK */
        const size_t first = (size / GROUP - 1) * GROUP;
        take_away(crc, data, first, taken);
        data += first;
        size -= first + GROUP;
        crc = 0;
        for (const uint32_t *t = taken; t < taken + BACK; t++, data += 4) {
            crc ^= tmf_get_u32(data) ^ GIVEN(t[0], t[1], t[3], t[4], t[5], t[6]);
            for (int i = 0; i < 8; i++) {
                crc = next(crc);
            }
        }
    }
    for (; size > 0; size--) {
        crc = next(next(crc ^ *data++));
    }
    return ~crc;
}
