#pragma once

#include "tmf_host.h"
#include "tmf_node.h"

#define TMF_LOAD_SIZE 2048u /* bytes of the body of a `load` of 32 layers of 6 arguments, and some more */

/* One node in this process. */
struct tmf_host {
    struct tmf_node node;
    uint8_t build[TMF_BUILD_SIZE];
    uint8_t *sent; /* what the node has sent and nobody has read */
    size_t sent_size;
    size_t sent_capacity;
    struct tmf_window window;    /* a frame goes through it in one piece */
    uint8_t load[TMF_LOAD_SIZE]; /* the body by which the model was loaded, in tmf_clients_run */
    size_t load_size;            /* 0: by nothing, or another way */
    uint64_t job;                /* whose weights it holds */
    float memory[TMF_MODEL_MEMORY / sizeof(float)];
};
