#pragma once
#include <stddef.h>
#include <stdint.h>

#include "tmf_sizes.h"

/* The firmware's core in-process, one node a handle. Python reads this file (cffi): declarations only,
 * lines that begin with # are passed over. */

struct tmf_host;

/* A node that has just booted: its hello is there to be read. `build` has 20 bytes. NULL where there
 * is no memory. */
struct tmf_host *tmf_host_new(const uint8_t *build);
void tmf_host_free(struct tmf_host *host);

/* Boots it again: another node may have had its memory. */
void tmf_host_boot(struct tmf_host *host);

/* Gives the node `size` bytes off its link; it has answered what there was to answer on return. */
void tmf_host_write(struct tmf_host *host, const uint8_t *data, size_t size);

/* Takes at most `size` bytes that the node has sent; returns how many. */
size_t tmf_host_read(struct tmf_host *host, uint8_t *data, size_t size);

/* What the last model loaded takes, whether it fits or not; nothing where it cannot be. */
struct tmf_sizes tmf_host_sizes(const struct tmf_host *host);

/* The working weights of the last model loaded: as many as it has parameters. */
const float *tmf_host_working(const struct tmf_host *host);
