#include "fuzzing.h"

#include <stdlib.h>
#include <string.h>

static const uint8_t build[TMF_BUILD_SIZE];
static struct tmf_node node;
static struct tmf_window window;
static float memory[TMF_MODEL_MEMORY / sizeof(float)];
static size_t frames;

/* A node sends whole frames, and none longer than the longest. */
static void sent(void *context, const uint8_t *data, size_t size)
{
    (void)context;
    if (size > TMF_RECEIVE_SIZE || (size > 0 && memchr(data, 0, size) != data + size - 1)) {
        abort();
    }
    frames += size > 0;
}

struct tmf_node *fuzzed_node(bool windowed)
{
    const struct tmf_port port = {
        .memory = memory,
        .memory_size = sizeof memory,
        .build = build,
        .window = windowed ? &window : NULL,
        .write = sent,
    };
    memset(memory, 0xa5, sizeof memory); /* as memory may be that was just turned on */
    memset(&window, 0xa5, sizeof window);
    frames = 0;
    tmf_node_init(&node, &port);
    tmf_node_start(&node);
    return &node;
}

void fuzzed_receive(struct tmf_node *to, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        tmf_node_receive(to, data[i]);
        if (tmf_node_ready(to)) {
            tmf_node_poll(to);
        }
    }
}

void fuzzed_window(struct tmf_node *to, const uint8_t *data, size_t size, uint32_t claimed)
{
    static const uint8_t doorbell;
    memcpy(window.down.data, data, size < TMF_RECEIVE_SIZE ? size : TMF_RECEIVE_SIZE);
    window.down.size = claimed;
    fuzzed_receive(to, &doorbell, 1);
}

size_t fuzzed_frames(void)
{
    return frames;
}
