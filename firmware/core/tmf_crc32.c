#include "tmf_crc32.h"

#include "tmf_bits.h"

/* Four bytes at a time: table[k][i] is what the reflected polynomial 0xEDB88320 makes of byte i with k
 * bytes behind it. It is the exclusive or of what it makes of i's bits. */
#define BIT(i, bit, value) ((i) >> (bit) & 1 ? value : 0)
#define ENTRY(i, b0, b1, b2, b3, b4, b5, b6, b7)                                            \
    BIT(i, 0, b0) ^ BIT(i, 1, b1) ^ BIT(i, 2, b2) ^ BIT(i, 3, b3) ^ BIT(i, 4, b4) ^         \
        BIT(i, 5, b5) ^ BIT(i, 6, b6) ^ BIT(i, 7, b7)
#define ENTRIES_4(i, ...)                                                                  \
    ENTRY(i, __VA_ARGS__), ENTRY(i + 1, __VA_ARGS__), ENTRY(i + 2, __VA_ARGS__),            \
        ENTRY(i + 3, __VA_ARGS__)
#define ENTRIES_16(i, ...)                                                                 \
    ENTRIES_4(i, __VA_ARGS__), ENTRIES_4(i + 4, __VA_ARGS__), ENTRIES_4(i + 8, __VA_ARGS__), \
        ENTRIES_4(i + 12, __VA_ARGS__)
#define ENTRIES_64(i, ...)                                                                 \
    ENTRIES_16(i, __VA_ARGS__), ENTRIES_16(i + 16, __VA_ARGS__),                            \
        ENTRIES_16(i + 32, __VA_ARGS__), ENTRIES_16(i + 48, __VA_ARGS__)
#define ENTRIES(...)                                                                       \
    ENTRIES_64(0, __VA_ARGS__), ENTRIES_64(64, __VA_ARGS__), ENTRIES_64(128, __VA_ARGS__),  \
        ENTRIES_64(192, __VA_ARGS__)

static const uint32_t table[4][256] = {
    {ENTRIES(0x77073096u, 0xee0e612cu, 0x076dc419u, 0x0edb8832u, 0x1db71064u, 0x3b6e20c8u,
             0x76dc4190u, 0xedb88320u)},
    {ENTRIES(0x191b3141u, 0x32366282u, 0x646cc504u, 0xc8d98a08u, 0x4ac21251u, 0x958424a2u,
             0xf0794f05u, 0x3b83984bu)},
    {ENTRIES(0x01c26a37u, 0x0384d46eu, 0x0709a8dcu, 0x0e1351b8u, 0x1c26a370u, 0x384d46e0u,
             0x709a8dc0u, 0xe1351b80u)},
    {ENTRIES(0xb8bc6765u, 0xaa09c88bu, 0x8f629757u, 0xc5b428efu, 0x5019579fu, 0xa032af3eu,
             0x9b14583du, 0xed59b63bu)},
};

uint32_t tmf_crc32(uint32_t crc, const uint8_t *data, size_t size)
{
    crc = ~crc;
    for (; size >= 4; size -= 4, data += 4) {
        crc ^= tmf_get_u32(data);
        crc = table[3][crc & 0xff] ^ table[2][crc >> 8 & 0xff] ^ table[1][crc >> 16 & 0xff] ^
              table[0][crc >> 24];
    }
    for (; size > 0; size--) {
        crc = table[0][(crc ^ *data++) & 0xff] ^ crc >> 8;
    }
    return ~crc;
}
