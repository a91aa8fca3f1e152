#ifndef TMF_LINK_H
#define TMF_LINK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Frames: COBS(body ‖ CRC-32(body), little-endian) and a zero byte. A zero occurs nowhere else, so a
 * receiver is in step again at the next zero whatever it was fed. */

#define TMF_RECEIVE_SIZE 8192u /* the longest frame taken, bytes on the wire */

/* Bytes on the wire of a body of `size` bytes, at most. */
#define TMF_FRAME_SIZE(size) ((size) + 4 + ((size) + 4) / 254 + 2)

/* Memory that both ends of a link share, for a peer that moves frames by DMA: a frame lies in it but for
 * the zero that ends it, which follows over the UART and is the doorbell. Who sends writes `size` last.
 * `down` goes to the node; it is the last, so that what reads too far leaves the window. */
struct tmf_window {
    struct tmf_slot {
        _Atomic uint32_t size; /* of the frame in `data`; 0: none */
        uint8_t data[TMF_RECEIVE_SIZE];
    } up, down;
};

/* The receiving end. tmf_link_receive may run in an interrupt; everything else runs in the thread.
 * The buffer belongs to the interrupt until `ready` is set and to the thread until it is cleared. */
struct tmf_link {
    uint8_t *buffer;           /* TMF_RECEIVE_SIZE bytes */
    struct tmf_window *window; /* NULL where there is none */
    size_t length;             /* bytes of the frame so far */
    bool skipping;             /* up to the next zero */
    bool windowed;             /* the frame that is ready lies in the window */
    atomic_bool ready;         /* a frame is complete */
    uint32_t bad_frames;       /* not COBS, too long, too short, or a wrong CRC */
    uint32_t overruns;         /* bytes that came while a frame was being worked on */
};

void tmf_link_init(struct tmf_link *link, uint8_t *buffer, struct tmf_window *window);

/* Takes one byte off the wire. Returns true when it is the first of a frame, or the doorbell of one. */
bool tmf_link_receive(struct tmf_link *link, uint8_t byte);

/* Whether no frame has begun since the last. */
bool tmf_link_is_idle(const struct tmf_link *link);

/* Unpacks the frame that is ready: the size of its body, which is at the buffer's start. A bad frame is
 * counted, dropped and released, with 0 returned. */
size_t tmf_link_body(struct tmf_link *link);

/* Gives the buffer back to the receiver. */
void tmf_link_release(struct tmf_link *link);

/* Makes a frame of the `size` bytes of body at `body`, which has room for 4 bytes more, and returns
 * its size. `frame` holds TMF_FRAME_SIZE(size) bytes and does not overlap `body`. */
size_t tmf_link_frame(uint8_t *body, size_t size, uint8_t *frame);

#endif
