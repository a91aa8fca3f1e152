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

bool tmf_leb_get(const uint8_t **p, const uint8_t *end, uint32_t *value)
{
    uint32_t sum = 0;
    for (unsigned shift = 0; shift < 35 && *p < end; shift += 7) {
        const uint8_t byte = *(*p)++;
        sum |= (uint32_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0) {
            *value = sum;
            return shift < 28 || byte < 16; /* four bits are left for the fifth */
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

/* How far a chunk from `first` on can reach. An entry makes no encoding longer by more than its value and a
 * byte, but for the bytes of a gap that began before and of the number of marked ones: so what is left of the
 * capacity says how many can be taken before the size is to be known again. */
#define SLACK 8u

static struct tmf_chunk measure(const float *values, const struct tmf_selection *selection,
                                uint32_t first, uint32_t end, size_t capacity, uint32_t *marked)
{
    struct tmf_chunk chunk = {.first = first};
    const size_t width = tmf_format_size(&selection->format);
    size_t gaps = 0;
    uint32_t next = first, found = 0;
    for (;;) {
        const size_t left = end - first - chunk.count;
        const size_t size = smallest(chunk.count, found, gaps, width, &chunk.encoding) + SLACK;
        size_t sure = size < capacity ? (capacity - size) / (width + 1) : 0;
        sure = sure < left ? sure : left;
        if (sure == 0) {
            break;
        }
        chunk.count += (uint32_t)sure;
        for (const uint32_t stop = first + chunk.count; sure > 0; sure--) {
            const uint32_t i = stop - (uint32_t)sure;
            const uint32_t is_marked = tmf_is_marked(selection, values, i);
            if (is_marked & (i - next > 127)) {
                gaps += leb_size(i - next) - 1;
            }
            found += is_marked;
            gaps += is_marked;
            next += is_marked * (i + 1 - next);
        }
    }
    /* Near the end, one by one. */
    while (chunk.count < end - first) {
        const uint32_t i = first + chunk.count;
        const bool is_marked = tmf_is_marked(selection, values, i);
        const size_t wider = gaps + (is_marked ? leb_size(i - next) : 0);
        if (smallest(chunk.count + 1, found + is_marked, wider, width, &chunk.encoding) > capacity) {
            break;
        }
        chunk.count++;
        found += is_marked;
        gaps = wider;
        next = is_marked ? i + 1 : next;
    }
    *marked = found;
    chunk.size = smallest(chunk.count, found, gaps, width, &chunk.encoding);
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

/* The bits of the entries, and behind them at p the marked values: each value is written, and the next one over
 * it where it is not marked. Which of the entries are, when half of them are, no branch predictor knows. */
static uint8_t *put_bitmap(uint8_t *bits, uint8_t *p, const float *values, const struct tmf_selection *selection,
                           const struct tmf_chunk *chunk)
{
    const uint32_t end = chunk->first + chunk->count;
    const uint8_t *const last = bits + chunk->size; /* of the values: all that is marked comes before */
    for (uint32_t i = chunk->first; i < end;) {
        uint32_t byte = 0;
        const uint32_t stop = end - i < 8 ? end - i : 8;
        for (uint32_t bit = 0; bit < stop; bit++, i++) {
            const uint32_t is_marked = tmf_is_marked(selection, values, i);
            byte |= is_marked << bit;
            if (p < last) {
                memcpy(p, &values[i], sizeof values[i]);
            }
            p += is_marked * sizeof values[i];
        }
        *bits++ = (uint8_t)byte;
    }
    return p;
}

/* The entries in any encoding and format. */
static uint8_t *put_entries(uint8_t *bits, uint8_t *where, uint8_t *p, const float *values,
                            const struct tmf_selection *selection, const struct tmf_chunk *chunk)
{
    const struct tmf_format *const format = &selection->format;
    uint32_t next = chunk->first;
    if (chunk->encoding == TMF_BITMAP) {
        memset(bits, 0, (chunk->count + 7) / 8);
    }
    for (uint32_t i = chunk->first; i < chunk->first + chunk->count; i++) {
        if (!tmf_is_marked(selection, values, i)) {
            if (chunk->encoding == TMF_DENSE) {
                p = put_value(p, format, 0.0f);
            }
            continue;
        }
        if (chunk->encoding == TMF_BITMAP) {
            bits[(i - chunk->first) / 8] |= (uint8_t)(1u << (i - chunk->first) % 8);
        } else if (chunk->encoding == TMF_INDICES) {
            where = leb_put(where, i - next);
            next = i + 1;
        }
        p = put_value(p, format, values[i]);
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
    if (chunk.encoding == TMF_INDICES) {
        where = leb_put(where, marked);
    } else if (chunk.encoding == TMF_DENSE) {
        p = out;
    }
    if (chunk.encoding == TMF_BITMAP && format->values == TMF_FLOAT32) {
        p = put_bitmap(out, p, values, selection, &chunk);
    } else {
        p = put_entries(out, where, p, values, selection, &chunk);
    }
    chunk.encoding |= (unsigned)format->values << TMF_VALUES_SHIFT;
    chunk.data = data;
    chunk.size = (size_t)(p - data);
    return chunk;
}

/* ---- apply ------------------------------------------------------------------------------------------ */

/* Bits set in the `size` bytes. */
static size_t count_bits(const uint8_t *bytes, size_t size)
{
    size_t count = 0;
    for (const uint8_t *const end = bytes + size; bytes < end; bytes++) {
        uint32_t sum = *bytes - (*bytes >> 1 & 0x55u); /* of two bits each */
        sum = (sum & 0x33u) + (sum >> 2 & 0x33u);      /* of four */
        count += (sum & 0xfu) + (sum >> 4);
    }
    return count;
}

static enum tmf_error apply_bitmap(const struct tmf_chunk *chunk, float *values)
{
    const size_t map = ((size_t)chunk->count + 7) / 8;
    if (chunk->size < map || chunk->size != map + count_bits(chunk->data, map) * 4 ||
        (chunk->count % 8 != 0 && chunk->data[map - 1] >> chunk->count % 8 != 0)) {
        return TMF_ERROR_ENCODING;
    }
    const uint8_t *p = chunk->data + map;
    for (const uint8_t *bits = chunk->data; bits < chunk->data + map; bits++, values += 8) {
        const uint32_t byte = *bits;
#define VALUE(i)                                                                           \
    if (byte & 1u << (i)) {                                                                \
        memcpy(&values[i], p, 4);                                                          \
        p += 4;                                                                            \
    }
        VALUE(0)
        VALUE(1)
        VALUE(2)
        VALUE(3)
        VALUE(4)
        VALUE(5)
        VALUE(6)
        VALUE(7)
#undef VALUE
    }
    return TMF_OK;
}

static enum tmf_error apply_indices(const struct tmf_chunk *chunk, float *values)
{
    const uint8_t *const end = chunk->data + chunk->size, *p = chunk->data;
    uint32_t marked;
    if (!tmf_leb_get(&p, end, &marked) || marked > chunk->count) {
        return TMF_ERROR_ENCODING;
    }
    const uint8_t *const gaps = p;
    uint32_t next = 0; /* is no more than the count */
    for (uint32_t i = 0; i < marked; i++) {
        uint32_t gap;
        if (!tmf_leb_get(&p, end, &gap)) {
            return TMF_ERROR_ENCODING;
        }
        if (gap >= chunk->count - next) {
            return TMF_ERROR_RANGE;
        }
        next += gap + 1;
    }
    if ((size_t)(end - p) != (size_t)marked * 4) {
        return TMF_ERROR_ENCODING;
    }
    const uint8_t *gap_at = gaps;
    next = 0;
    for (uint32_t i = 0; i < marked; i++, p += 4) {
        uint32_t gap = 0;
        tmf_leb_get(&gap_at, end, &gap); /* read once before, so there is one */
        memcpy(&values[next + gap], p, 4);
        next += gap + 1;
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
