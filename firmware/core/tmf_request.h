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
};

/* Does a request, NULL standing for one that is none of the protocol, and adds its answer. False where that
 * is an error. */
bool tmf_request_do(struct tmf_node *node, const struct request_body_r *request,
                    struct tmf_response *response);

/* The working weights start again from the weights held. */
void tmf_request_ready(struct tmf_node *node);

/* Adds a hello. */
void tmf_request_hello(const struct tmf_node *node, struct tmf_response *response);

#endif
