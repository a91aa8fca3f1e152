#ifndef TMF_CRC32_H
#define TMF_CRC32_H

#include <stddef.h>
#include <stdint.h>

/* CRC-32 with zlib's polynomial; the same values as zlib.crc32(data, crc). Start with crc = 0. */
uint32_t tmf_crc32(uint32_t crc, const uint8_t *data, size_t size);

#endif
