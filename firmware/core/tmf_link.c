#include "tmf_link.h"

#include "tmf_bits.h"
#include "tmf_crc32.h"

void tmf_link_init(struct tmf_link *link, uint8_t *buffer, size_t capacity)
{
    *link = (struct tmf_link){.buffer = buffer, .capacity = capacity};
}

static void start_frame(struct tmf_link *link)
{
    link->length = 0;
    link->code = 0;
    link->left = 0;
}

static void drop(struct tmf_link *link)
{
    link->bad_frames++;
    link->skipping = true;
}

static void append(struct tmf_link *link, uint8_t byte)
{
    if (link->length < link->capacity) {
        link->buffer[link->length++] = byte;
    } else {
        drop(link);
    }
}

bool tmf_link_receive(struct tmf_link *link, uint8_t byte)
{
    if (atomic_load_explicit(&link->ready, memory_order_acquire)) {
        link->overruns++;
        link->skipping = byte != 0; /* what follows is the rest of a frame that was cut */
        return false;
    }
    if (byte == 0) {
        if (link->skipping || link->code == 0) { /* the end of the noise, or nothing between zeros */
            link->skipping = false;
            start_frame(link);
        } else if (link->left != 0) {
            link->bad_frames++;
            start_frame(link);
        } else {
            atomic_store_explicit(&link->ready, true, memory_order_release);
        }
        return false;
    }
    if (link->skipping) {
        return false;
    }
    if (link->left > 0) {
        append(link, byte);
        link->left--;
        return false;
    }
    bool first = link->code == 0;
    if (!first && link->code != 0xff) { /* a block shorter than the longest ends in a zero */
        append(link, 0);
    }
    link->code = byte;
    link->left = byte - 1;
    return first;
}

bool tmf_link_is_idle(const struct tmf_link *link)
{
    return link->code == 0;
}

void tmf_link_release(struct tmf_link *link)
{
    start_frame(link);
    atomic_store_explicit(&link->ready, false, memory_order_release);
}

size_t tmf_link_body(struct tmf_link *link)
{
    if (link->length > 4) {
        size_t size = link->length - 4;
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
    size_t code = 0; /* where the open block's code goes */
    size_t end = 1;
    for (size_t i = 0; i < size; i++) {
        if (end - code == 0xff) { /* the block is full: it stands for no zero */
            frame[code] = 0xff;
            code = end++;
        }
        if (body[i] != 0) {
            frame[end++] = body[i];
        } else {
            frame[code] = (uint8_t)(end - code);
            code = end++;
        }
    }
    frame[code] = (uint8_t)(end - code);
    frame[end++] = 0;
    return end;
}
