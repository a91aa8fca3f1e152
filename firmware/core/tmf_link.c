#include "tmf_link.h"

#include <string.h>

#include "tmf_bits.h"
#include "tmf_crc32.h"

void tmf_link_init(struct tmf_link *link, uint8_t *buffer, struct tmf_window *window)
{
    *link = (struct tmf_link){.buffer = buffer, .window = window};
    if (window != NULL) {
        window->up.size = 0;
        window->down.size = 0;
    }
}

bool tmf_link_receive(struct tmf_link *link, uint8_t byte)
{
    if (atomic_load_explicit(&link->ready, memory_order_acquire)) {
        link->overruns++;
        link->skipping = byte != 0; /* what follows is the rest of a frame that was cut */
        return false;
    }
    if (link->skipping) {
        link->skipping = byte != 0;
        return false;
    }
    if (byte != 0) {
        if (link->length == TMF_RECEIVE_SIZE) {
            link->bad_frames++;
            link->skipping = true;
            link->length = 0;
            return false;
        }
        link->buffer[link->length++] = byte;
        return link->length == 1;
    }
    link->windowed = link->length == 0;
    if (link->windowed && (link->window == NULL || link->window->down.size == 0)) {
        return false; /* nothing between two zeros */
    }
    atomic_store_explicit(&link->ready, true, memory_order_release);
    return link->windowed;
}

bool tmf_link_is_idle(const struct tmf_link *link)
{
    return link->length == 0 && !atomic_load_explicit(&link->ready, memory_order_acquire);
}

void tmf_link_release(struct tmf_link *link)
{
    link->length = 0;
    atomic_store_explicit(&link->ready, false, memory_order_release);
}

static inline uint32_t get_word(const uint8_t *p)
{
    uint32_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

/* Not zero where one of the word's bytes is. */
static inline uint32_t put_word(uint8_t *p, uint32_t word)
{
    memcpy(p, &word, sizeof word);
    return (word - 0x01010101u) & ~word & 0x80808080u;
}

/* Copies to elsewhere or towards lower addresses; false where a byte is zero. */
static inline bool copy(uint8_t *out, const uint8_t *in, size_t length)
{
    uint32_t zero = 0;
    for (; length >= 16; length -= 16, in += 16, out += 16) { /* loads that follow each other are faster */
        const uint32_t w0 = get_word(in), w1 = get_word(in + 4), w2 = get_word(in + 8), w3 = get_word(in + 12);
        zero |= put_word(out, w0) | put_word(out + 4, w1) | put_word(out + 8, w2) | put_word(out + 12, w3);
    }
    for (; length >= 4; length -= 4, in += 4, out += 4) {
        zero |= put_word(out, get_word(in));
    }
    for (; length > 0; length--) {
        *out = *in++;
        zero |= *out++ == 0;
    }
    return zero == 0;
}

/* Undoes COBS: the size of what comes out, 0 where `in` is not COBS. `out` has room for `size` bytes and
 * may be `in`, since no byte comes out before it went in. `in` may lie in memory that somebody else
 * writes to meanwhile: a byte is read once. */
static size_t unstuff(const uint8_t *in, size_t size, uint8_t *out)
{
    const uint8_t *const end = in + size;
    const uint8_t *const start = out;
    while (in < end) {
        const uint8_t code = *(const volatile uint8_t *)in++;
        const size_t length = code - 1u;
        if (code == 0 || length > (size_t)(end - in) || !copy(out, in, length)) {
            return 0;
        }
        in += length;
        out += length;
        if (code != 0xff && in < end) { /* a block shorter than the longest ends in a zero */
            *out++ = 0;
        }
    }
    return (size_t)(out - start);
}

size_t tmf_link_body(struct tmf_link *link)
{
    const uint8_t *frame = link->buffer;
    size_t size = link->length, length = 0;
    if (link->windowed) {
        frame = link->window->down.data;
        size = link->window->down.size;
        link->window->down.size = 0;
    }
    if (size <= TMF_RECEIVE_SIZE) {
        length = unstuff(frame, size, link->buffer);
    }
    if (length > 4) {
        size = length - 4;
        if (tmf_crc32(0, link->buffer, size) == tmf_get_u32(link->buffer + size)) {
            return size;
        }
    }
    link->bad_frames++;
    tmf_link_release(link);
    return 0;
}

size_t tmf_link_frame(uint8_t *body, size_t size, uint8_t *frame)
{
    uint32_t crc = tmf_crc32(0, body, size);
    for (int i = 0; i < 4; i++) {
        body[size++] = (uint8_t)(crc >> (8 * i));
    }
    size_t end = 0;
    for (size_t i = 0;;) { /* a block: its code, then all before a zero, up to 254 bytes */
        const size_t code = end++;
        const size_t stop = size - i < 254 ? size : i + 254;
        const uint8_t *const zero = memchr(body + i, 0, stop - i);
        const size_t length = zero != NULL ? (size_t)(zero - (body + i)) : stop - i;
        memcpy(frame + end, body + i, length);
        end += length;
        i += length;
        frame[code] = (uint8_t)(end - code);
        if (i == size) {
            break;
        }
        if (end - code < 0xff) { /* it stands for the zero too */
            i++;
        }
    }
    frame[end++] = 0;
    return end;
}
