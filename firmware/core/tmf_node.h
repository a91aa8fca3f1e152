#ifndef TMF_NODE_H
#define TMF_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tmf_link.h"
#include "tmf_model.h"
#include "tmf_phase.h"
#include "tmf_select.h"

#define TMF_PROTOCOL 5

/* Of emulated nodes and of those on the host, so that they take or refuse the same models. With the stack,
 * the frame buffers and what an operating system needs it makes up the 256 KiB of an nRF52840. A board has
 * what its RAM leaves. */
#define TMF_MODEL_MEMORY (216u * 1024u)

#define TMF_BODY_SIZE 8152u    /* the longest body sent: its frame is no longer than one received */
_Static_assert(TMF_WHOLE_SAMPLE <= TMF_BODY_SIZE - 40, "a request around a sample fits");
#define TMF_BUILD_SIZE 20u     /* bytes of a build-id (SHA-1) */

struct tmf_response;

/* Frozen parameters that are a part of the image. */
struct tmf_backbone {
    const float *weights;
    uint32_t parameters;
    uint32_t checksum; /* CRC-32 of their bytes */
};

/* What a port brings. */
struct tmf_port {
    void *memory; /* memory_size bytes for the model, aligned for float */
    size_t memory_size;
    const uint8_t *build;      /* TMF_BUILD_SIZE bytes that identify the image */
    const struct tmf_backbone *backbone; /* NULL where the image has none */
    struct tmf_window *window; /* NULL where no peer reaches the node's memory */

    /* See ports/cortex_m/tmf_cycles.h; NULL where there is no counter. */
    bool (*cycles)(uint64_t cycles[TMF_PHASES]);

    /* Sends the bytes and returns when they have been taken off `data`. */
    void (*write)(void *context, const uint8_t *data, size_t size);
    void *context;
};

/* A broadcast of weights under way. */
struct tmf_broadcast {
    uint32_t from, to; /* versions; to is 0: none is under way */
    uint32_t next;     /* lowest entry that the next piece may begin with */
};

/* One node: all of its state, in memory that the caller brings. */
struct tmf_node {
    struct tmf_port port;
    struct tmf_link link;
    struct tmf_model model;
    uint32_t backbone; /* entries of model.backbone that have come */
    uint32_t version; /* of model.held; 0: not complete */
    struct tmf_broadcast broadcast;
    uint32_t arrived; /* bytes of model.arriving */
    enum { TMF_EMPTY, TMF_TRAINING, TMF_SELECTED } working; /* what model.working holds */
    uint32_t steps; /* of training since these were the weights held */
    bool marked;    /* model.mark was set since then */
    struct tmf_selection selection;
    bool loaded;
    bool answered; /* `frame` answers the one numbered `sequence` */
    uint32_t sequence;
    size_t frame_size;
    uint8_t *frame; /* the last response, kept in case it has to be sent again */
    uint8_t received[TMF_RECEIVE_SIZE];
    uint8_t own_frame[TMF_RECEIVE_SIZE]; /* `frame` where it does not lie in a window */
};

/* Makes the node ready to receive. */
void tmf_node_init(struct tmf_node *node, const struct tmf_port *port);

/* Says hello. The port has to receive by then: a request may follow at once, and be a single byte on the
 * wire, with none behind it to wake a receiver that comes late. */
void tmf_node_start(struct tmf_node *node);

/* Takes one byte off the wire; may run in an interrupt. */
void tmf_node_receive(struct tmf_node *node, uint8_t byte);

/* Whether tmf_node_poll has something to do; safe to ask with interrupts masked. */
bool tmf_node_ready(const struct tmf_node *node);

/* Answers the frame that has arrived, if one has. */
void tmf_node_poll(struct tmf_node *node);

/* Does the requests in the body of `size` bytes at the start of node->received, one after the other and none
 * behind one that fails, and builds the response's body in their place. Returns its size. `response` has the answers then. */
size_t tmf_node_answer(struct tmf_node *node, size_t size, struct tmf_response *response);

/* What stopped the processor, as protocol.cddl has it; a register that is not known is 0. */
struct tmf_fault {
    uint32_t exception, reason;
    struct tmf_registers {
        uint32_t r0, r1, r2, r3, r12, lr, pc, xpsr, sp, cfsr, hfsr, mmfar, bfar;
    } registers;
};

#define TMF_FAULT_SIZE 80u /* bytes of a fault's frame, at most */

/* The frame that reports a fault; uses no state of the node. Returns its size. */
size_t tmf_fault_frame(const struct tmf_fault *fault, uint8_t frame[TMF_FAULT_SIZE]);

#endif
