#ifndef TMF_CHUNK_H
#define TMF_CHUNK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tmf_error.h"
#include "tmf_select.h"

/* A piece of a sparse vector as bytes: of the three encodings of protocol.cddl the smallest, the
 * lower number of equals. */
enum tmf_encoding { TMF_DENSE = 0, TMF_BITMAP = 1, TMF_INDICES = 2 };

#define TMF_CHUNK_LEAST 16u /* bytes in which a chunk of at least one entry fits, whatever its encoding */
#define TMF_VALUES_SHIFT 2 /* what is above it in an encoding's number is the values' format */

struct tmf_chunk {
    uint32_t first; /* the entries first … first + count − 1 */
    uint32_t count;
    uint32_t encoding; /* enum tmf_encoding; with a format, enum tmf_values above it */
    const uint8_t *data;
    size_t size; /* bytes of data */
};

/* Encodes the marked entries of values[first … end) into `out`, in the selection's format: as many as
 * `capacity` bytes hold in the smallest encoding. A dense chunk has zero for an entry that is not marked. */
struct tmf_chunk tmf_chunk_encode(const float *values, const struct tmf_selection *selection,
                                  uint32_t first, uint32_t end, uint8_t *out, size_t capacity);

/* Writes a chunk's entries, which are float32, over those of values[0 … n). Nothing is written unless all
 * is well. */
enum tmf_error tmf_chunk_apply(const struct tmf_chunk *chunk, float *values, uint32_t n);

/* Reads a number in LEB128 off *p, which moves on; false where there is none that fits 32 bits. */
bool tmf_leb_get(const uint8_t **p, const uint8_t *end, uint32_t *value);

#endif
