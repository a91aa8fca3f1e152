#ifndef TMF_NUMBER_H
#define TMF_NUMBER_H

#include <stdint.h>

/* A number in CBOR (RFC 8949, section 3), as short as can be, at p; returns where it ends. */
static inline uint8_t *tmf_put_number(uint8_t *p, uint32_t number)
{
    if (number < 24) {
        *p++ = (uint8_t)number;
        return p;
    }
    const unsigned log_size = number <= UINT8_MAX ? 0 : number <= UINT16_MAX ? 1 : 2;
    *p++ = (uint8_t)(24 + log_size);
    for (unsigned shift = 8u << log_size; shift > 0;) {
        shift -= 8;
        *p++ = (uint8_t)(number >> shift);
    }
    return p;
}

#endif
