/* What both harnesses of libFuzzer share: a node that has just booted, and what it is sent. */
#ifndef FUZZING_H
#define FUZZING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tmf_node.h"

/* A node as it boots; with a window or without. It is the same one each time. */
struct tmf_node *fuzzed_node(bool windowed);

/* Sends bytes over the UART. The node is polled behind each, as its port does. */
void fuzzed_receive(struct tmf_node *node, const uint8_t *data, size_t size);

/* Lays at most TMF_RECEIVE_SIZE bytes into the window, says that there are `claimed`, and rings. */
void fuzzed_window(struct tmf_node *node, const uint8_t *data, size_t size, uint32_t claimed);

/* Of what the node has sent since it booted. */
size_t fuzzed_frames(void);

#endif
