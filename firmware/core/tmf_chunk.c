#include "tmf_chunk.h"

#include <string.h>

/* ---- LEB128 ----------------------------------------------------------------------------------------- */

static size_t leb_size(uint32_t value)
{
    size_t size = 1;
    while (value >>= 7) {
        size++;
    }
    return size;
}

static uint8_t *leb_put(uint8_t *p, uint32_t value)
{
    for (; value >= 0x80; value >>= 7) {
        *p++ = (uint8_t)(value | 0x80);
    }
    *p++ = (uint8_t)value;
    return p;
}

/* Reads one number off *p, which moves on; false where there is none that fits 32 bits. */
static bool leb_get(const uint8_t **p, const uint8_t *end, uint32_t *value)
{
    uint64_t sum = 0;
    for (unsigned shift = 0; shift < 35 && *p < end; shift += 7) {
        uint8_t byte = *(*p)++;
        sum |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0) {
            *value = (uint32_t)sum;
            return sum <= UINT32_MAX;
        }
    }
    return false;
}

/* ---- encode ----------------------------------------------------------------------------------------- */

static size_t smallest(uint32_t count, uint32_t marked, size_t gaps, size_t width,
                       uint32_t *encoding)
{
    const size_t sizes[] = {
        [TMF_DENSE] = (size_t)count * width,
        [TMF_BITMAP] = (size_t)(count + 7) / 8 + (size_t)marked * width,
        [TMF_INDICES] = leb_size(marked) + gaps + (size_t)marked * width,
    };
    *encoding = TMF_DENSE;
    for (uint32_t i = TMF_BITMAP; i <= TMF_INDICES; i++) {
        if (sizes[i] < sizes[*encoding]) {
            *encoding = i;
        }
    }
    return sizes[*encoding];
}

/* How far a chunk from `first` on can reach. */
static struct tmf_chunk measure(const float *values, const struct tmf_selection *selection,
                                uint32_t first, uint32_t end, size_t capacity, uint32_t *marked)
{
    struct tmf_chunk chunk = {.first = first};
    const size_t width = tmf_format_size(&selection->format), dense = capacity / width;
    size_t gaps = 0;
    uint32_t next = first;
    *marked = 0;
    while (chunk.count < end - first) {
        uint32_t i = first + chunk.count, count = chunk.count + 1;
        bool is_marked = tmf_is_marked(selection, values, i);
        size_t wider = gaps + (is_marked ? leb_size(i - next) : 0);
        /* What fits densely fits; only past that does the encoding matter. */
        if (count > dense &&
            smallest(count, *marked + is_marked, wider, width, &chunk.encoding) > capacity) {
            break;
        }
        chunk.count = count;
        *marked += is_marked;
        gaps = wider;
        next = is_marked ? i + 1 : next;
    }
    chunk.size = smallest(chunk.count, *marked, gaps, width, &chunk.encoding);
    return chunk;
}

/* Puts a value's code; a float32 is its own. */
static uint8_t *put_value(uint8_t *p, const struct tmf_format *format, float value)
{
    if (format->values == TMF_FLOAT32) {
        memcpy(p, &value, sizeof value);
        return p + sizeof value;
    }
    const uint32_t code = tmf_format_code(format, value);
    *p++ = (uint8_t)code;
    if (format->values == TMF_FLOAT16) {
        *p++ = (uint8_t)(code >> 8);
    }
    return p;
}

struct tmf_chunk tmf_chunk_encode(const float *values, const struct tmf_selection *selection,
                                  uint32_t first, uint32_t end, uint8_t *out, size_t capacity)
{
    const struct tmf_format *const format = &selection->format;
    uint8_t *const data = out;
    if (format->values == TMF_INT8) {
        *out++ = (uint8_t)format->exponent;
    }
    uint32_t marked;
    struct tmf_chunk chunk =
        measure(values, selection, first, end, capacity - (size_t)(out - data), &marked);
    /* Which are marked comes first, their values behind it, both in one walk. */
    uint8_t *where = out, *p = out + chunk.size - marked * tmf_format_size(format);
    if (chunk.encoding == TMF_BITMAP) {
        memset(out, 0, (chunk.count + 7) / 8);
    } else if (chunk.encoding == TMF_INDICES) {
        where = leb_put(where, marked);
    } else {
        p = out;
    }
    uint32_t next = first;
    for (uint32_t i = first; i < first + chunk.count; i++) {
        if (!tmf_is_marked(selection, values, i)) {
            if (chunk.encoding == TMF_DENSE) {
                p = put_value(p, format, 0.0f);
            }
            continue;
        }
        if (chunk.encoding == TMF_BITMAP) {
            out[(i - first) / 8] |= (uint8_t)(1u << (i - first) % 8);
        } else if (chunk.encoding == TMF_INDICES) {
            where = leb_put(where, i - next);
            next = i + 1;
        }
        p = put_value(p, format, values[i]);
    }
    chunk.encoding |= (unsigned)format->values << TMF_VALUES_SHIFT;
    chunk.data = data;
    chunk.size = (size_t)(p - data);
    return chunk;
}

/* ---- apply ------------------------------------------------------------------------------------------ */

static enum tmf_error apply_bitmap(const struct tmf_chunk *chunk, float *values)
{
    size_t map = ((size_t)chunk->count + 7) / 8, marked = 0;
    if (chunk->size < map) {
        return TMF_ERROR_ENCODING;
    }
    for (size_t i = 0; i < map * 8; i++) {
        bool set = chunk->data[i / 8] >> i % 8 & 1;
        if (set && i >= chunk->count) {
            return TMF_ERROR_ENCODING;
        }
        marked += set;
    }
    if (chunk->size != map + marked * 4) {
        return TMF_ERROR_ENCODING;
    }
    const uint8_t *p = chunk->data + map;
    for (size_t i = 0; i < chunk->count; i++) {
        if (chunk->data[i / 8] >> i % 8 & 1) {
            memcpy(&values[i], p, 4);
            p += 4;
        }
    }
    return TMF_OK;
}

static enum tmf_error apply_indices(const struct tmf_chunk *chunk, float *values)
{
    const uint8_t *const end = chunk->data + chunk->size, *p = chunk->data;
    uint32_t marked;
    if (!leb_get(&p, end, &marked) || marked > chunk->count) {
        return TMF_ERROR_ENCODING;
    }
    const uint8_t *const gaps = p;
    uint64_t next = 0;
    for (uint32_t i = 0; i < marked; i++) {
        uint32_t gap;
        if (!leb_get(&p, end, &gap)) {
            return TMF_ERROR_ENCODING;
        }
        next += (uint64_t)gap + 1;
        if (next > chunk->count) {
            return TMF_ERROR_RANGE;
        }
    }
    if ((size_t)(end - p) != (size_t)marked * 4) {
        return TMF_ERROR_ENCODING;
    }
    const uint8_t *gap_at = gaps;
    next = 0;
    for (uint32_t i = 0; i < marked; i++, p += 4) {
        uint32_t gap = 0;
        leb_get(&gap_at, end, &gap); /* read once before, so there is one */
        memcpy(&values[next + gap], p, 4);
        next += (uint64_t)gap + 1;
    }
    return TMF_OK;
}

enum tmf_error tmf_chunk_apply(const struct tmf_chunk *chunk, float *values, uint32_t n)
{
    if (chunk->first > n || chunk->count > n - chunk->first) {
        return TMF_ERROR_RANGE;
    }
    values += chunk->first;
    switch (chunk->encoding) {
    case TMF_DENSE:
        if (chunk->size != (size_t)chunk->count * 4) {
            return TMF_ERROR_ENCODING;
        }
        if (chunk->size > 0) { /* an empty chunk may have no data to point to */
            memcpy(values, chunk->data, chunk->size);
        }
        return TMF_OK;
    case TMF_BITMAP: return apply_bitmap(chunk, values);
    case TMF_INDICES: return apply_indices(chunk, values);
    }
    return TMF_ERROR_ENCODING;
}
