/* What tests look at of the programs for many nodes: the length of a frame that nobody makes. */
#include "../../firmware/ports/host/tmf_clients.c"

uint32_t tmf_probe_frame_size(const uint8_t *body, size_t size);

uint32_t tmf_probe_frame_size(const uint8_t *body, size_t size)
{
    return frame_size(body, size);
}
