#include "tmf_node.h"

#include <string.h>

#include "protocol_decode.h"
#include "protocol_encode.h"
#include "tmf_number.h"
#include "tmf_phase.h"
#include "tmf_request.h"

_Static_assert(TMF_FRAME_SIZE(TMF_BODY_SIZE) <= TMF_RECEIVE_SIZE, "a response fits its frame");
_Static_assert(TMF_BODY_SIZE + 4 <= TMF_RECEIVE_SIZE, "a body is built in the receive buffer");

/* A body is a list of a number and of what zcbor decodes and encodes one by one: a struct that held all of
 * a frame's requests would be larger than the stack. The list's head is one byte. */
#define LIST_HEAD 0x80u

/* ---- requests --------------------------------------------------------------------------------------- */

struct requests {
    const uint8_t *next;
    const uint8_t *end;
    uint32_t sequence;
    uint32_t left; /* to be decoded; 0 where the body's head is none of the protocol */
};

/* Reads the head of a body: a list of two to TMF_MOST_REQUESTS + 1, of which the first is a number. */
static struct requests read_head(const uint8_t *body, size_t size)
{
    struct requests requests = {.next = body + 2, .end = body + size};
    if (size < 3 || body[0] < LIST_HEAD + 2 || body[0] > LIST_HEAD + 1 + TMF_MOST_REQUESTS) {
        return requests;
    }
    size_t more = 0; /* bytes of the number behind its head */
    if (body[1] < 24) {
        requests.sequence = body[1];
    } else if (body[1] <= 26) {
        more = (size_t)1 << (body[1] - 24);
    } else {
        return requests;
    }
    if (size < 3 + more) {
        return requests;
    }
    while (more-- > 0) {
        requests.sequence = requests.sequence << 8 | *requests.next++;
    }
    requests.left = body[0] - LIST_HEAD - 1;
    return requests;
}

/* The next request; false where it is none of the protocol, or the last and not the body's end. */
static bool next_request(struct requests *requests, struct request_body_r *request)
{
    size_t used = 0;
    if (requests->left == 0 ||
        cbor_decode_request_body(requests->next, (size_t)(requests->end - requests->next), request,
                                 &used) != ZCBOR_SUCCESS) {
        return false;
    }
    requests->next += used;
    requests->left--;
    return requests->left > 0 || requests->next == requests->end;
}

/* A hello alone is answered afresh, under whatever number. */
static bool is_hello(const struct requests *requests)
{
    return requests->left == 1 && requests->end - requests->next == 2 && requests->next[0] == 0x81 &&
           requests->next[1] == 0;
}

/* ---- responses -------------------------------------------------------------------------------------- */

/* Builds the response's body in the receive buffer, whose requests have been dealt with: its size. Sizes are
 * chosen so that it fits; no answer would be better than half of one. */
static size_t build(struct tmf_node *node, uint32_t sequence, struct tmf_response *response)
{
    uint8_t *p = node->received, *const end = p + TMF_BODY_SIZE;
    *p++ = (uint8_t)(LIST_HEAD + 1 + response->count);
    p = tmf_put_number(p, sequence);
    for (uint32_t i = 0; i < response->count; i++) {
        size_t size = 0;
        if (cbor_encode_response_body(p, (size_t)(end - p), &response->answers[i], &size) !=
            ZCBOR_SUCCESS) {
            return 0;
        }
        response->sizes[i] = (uint16_t)size;
        p += size;
    }
    return (size_t)(p - node->received);
}

size_t tmf_node_answer(struct tmf_node *node, size_t size, struct tmf_response *response)
{
    struct requests requests = read_head(node->received, size);
    response->count = 0;
    response->requests = requests.left > 0 ? requests.left : 1;
    response->bytes = 0;
    bool goes_on;
    do {
        struct request_body_r request;
        const bool well_formed = next_request(&requests, &request);
        goes_on = tmf_request_do(node, well_formed ? &request : NULL, response);
    } while (goes_on && requests.left > 0);
    tmf_phase_send();
    node->sequence = requests.sequence;
    node->answered = true;
    return build(node, requests.sequence, response);
}

static void make_frame(struct tmf_node *node, size_t size)
{
    node->frame_size = size == 0 ? 0 : tmf_link_frame(node->received, size, node->frame);
}

/* Through the window all of it is there for the peer but its zero, which is the doorbell. */
static void send_frame(const struct tmf_node *node, bool windowed)
{
    tmf_phase_send();
    size_t sent = 0;
    if (windowed && node->frame_size > 0) {
        sent = node->frame_size - 1;
        node->port.window->up.size = (uint32_t)sent;
    }
    node->port.write(node->port.context, node->frame + sent, node->frame_size - sent);
    if (tmf_link_is_idle(&node->link)) { /* else the interrupt has begun with the next request */
        tmf_phase_idle();
    }
}

/* ---- the node --------------------------------------------------------------------------------------- */

void tmf_node_init(struct tmf_node *node, const struct tmf_port *port)
{
    memset(node, 0, sizeof *node);
    node->port = *port;
    node->frame = port->window != NULL ? port->window->up.data : node->own_frame;
    tmf_link_init(&node->link, node->received, port->window);
    struct tmf_response response;
    response.count = 0;
    tmf_request_hello(node, &response);
    make_frame(node, build(node, 0, &response));
}

void tmf_node_start(struct tmf_node *node)
{
    send_frame(node, false);
}

void tmf_node_receive(struct tmf_node *node, uint8_t byte)
{
    if (tmf_link_receive(&node->link, byte)) {
        tmf_phase_receive();
    }
}

bool tmf_node_ready(const struct tmf_node *node)
{
    return atomic_load_explicit(&node->link.ready, memory_order_acquire);
}

void tmf_node_poll(struct tmf_node *node)
{
    size_t size = 0;
    if (tmf_node_ready(node)) {
        tmf_phase_receive(); /* again: the interrupt may have come between two looks of send_frame */
        size = tmf_link_body(&node->link);
    }
    if (size == 0) {
        tmf_phase_idle();
        return;
    }
    const struct requests requests = read_head(node->received, size);
    if (!node->answered || requests.sequence != node->sequence || is_hello(&requests)) {
        struct tmf_response response;
        make_frame(node, tmf_node_answer(node, size, &response));
    }
    const bool windowed = node->link.windowed; /* a request is answered the way that it came */
    /* Before the answer is out: the next request may follow it at once. */
    tmf_link_release(&node->link);
    send_frame(node, windowed);
}

size_t tmf_fault_frame(const struct tmf_fault *fault, uint8_t frame[TMF_FAULT_SIZE])
{
    uint8_t body[TMF_FAULT_SIZE];
    size_t size = 0;
    const struct response_body_r response = {
        .response_body_choice = response_body_fault_m_c,
        .response_body_fault_m = {
            .fault_exception = fault->exception,
            .fault_reason = fault->reason,
            .fault_registers = { (const uint8_t *)&fault->registers, sizeof fault->registers },
        },
    };
    body[0] = LIST_HEAD + 2;
    body[1] = 0; /* unasked */
    if (cbor_encode_response_body(body + 2, sizeof body - 6, &response, &size) != ZCBOR_SUCCESS) {
        return 0;
    }
    return tmf_link_frame(body, 2 + size, frame);
}
