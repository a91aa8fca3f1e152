#ifndef TMF_REQUEST_H
#define TMF_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol_types.h"
#include "tmf_node.h"

#define TMF_MOST_REQUESTS 22u /* in a frame: so its list's head is one byte of CBOR */

/* The answers to a frame's requests, until all of them are done: the requests lie in the buffer in which
 * the response is built. Strings among them may point into node->frame. */
struct tmf_response {
    struct response_body_r answers[TMF_MOST_REQUESTS];
    uint32_t count;
    uint32_t requests; /* in the frame, those that are yet to be done among them; not 0 */
    size_t bytes; /* of node->frame that belong to them */
    uint16_t sizes[TMF_MOST_REQUESTS]; /* bytes of each in the response's body, once that is built */
};

/* Does a request, NULL standing for one that is none of the protocol, and adds its answer. False where that
 * is an error. */
bool tmf_request_do(struct tmf_node *node, const struct request_body_r *request,
                    struct tmf_response *response);

/* The working weights start again from the weights held. */
void tmf_request_ready(struct tmf_node *node);

/* Does the requests in the body of `size` bytes at the start of node->received, one after the other and none
 * behind one that fails, and builds the response's body in their place. Returns its size. */
size_t tmf_request_answer(struct tmf_node *node, size_t size, struct tmf_response *response);

/* Adds a hello. */
void tmf_request_hello(const struct tmf_node *node, struct tmf_response *response);

#endif
