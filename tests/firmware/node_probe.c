/* A node whose peer is as fast as can be: the next request has arrived before the last byte of an
 * answer has left. For tests. */
#include "tmf_node.h"

static struct tmf_node node;
static float memory[1024];
static const uint8_t *next;
static size_t next_size;
static uint32_t answers;

static void write(void *context, const uint8_t *data, size_t size)
{
    (void)context, (void)data, (void)size;
    answers++;
    for (size_t i = 0; i < next_size; i++) {
        tmf_node_receive(&node, next[i]);
    }
}

uint32_t tmf_probe_hurried(const uint8_t *request, size_t size, uint32_t rounds, uint32_t *overruns);

/* Sends `request` again from within every answer, the hello at boot included; returns the answers to
 * `rounds` polls. */
uint32_t tmf_probe_hurried(const uint8_t *request, size_t size, uint32_t rounds, uint32_t *overruns)
{
    static const uint8_t build[TMF_BUILD_SIZE];
    const struct tmf_port port = {
        .memory = memory, .memory_size = sizeof memory, .build = build, .write = write};
    next = request;
    next_size = size;
    tmf_node_init(&node, &port);
    tmf_node_start(&node);
    answers = 0;
    for (uint32_t i = 0; i < rounds; i++) {
        tmf_node_poll(&node);
    }
    *overruns = node.link.overruns;
    return answers;
}
