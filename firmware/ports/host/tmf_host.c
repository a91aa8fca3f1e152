#include "tmf_host.h"

#include <stdlib.h>
#include <string.h>

#include "tmf_node.h"

struct tmf_host {
    struct tmf_node node;
    uint8_t build[TMF_BUILD_SIZE];
    uint8_t *sent; /* what the node has sent and nobody has read */
    size_t sent_size;
    size_t sent_capacity;
    float memory[TMF_MODEL_MEMORY / sizeof(float)];
};

static void host_write(void *context, const uint8_t *data, size_t size)
{
    struct tmf_host *host = context;
    if (host->sent_capacity - host->sent_size < size) {
        size_t capacity = 2 * (host->sent_size + size);
        uint8_t *sent = realloc(host->sent, capacity);
        if (sent == NULL) {
            return; /* a link that loses bytes: the request will be sent again */
        }
        host->sent = sent;
        host->sent_capacity = capacity;
    }
    memcpy(host->sent + host->sent_size, data, size);
    host->sent_size += size;
}

struct tmf_host *tmf_host_new(const uint8_t *build)
{
    struct tmf_host *host = calloc(1, sizeof *host);
    if (host != NULL) {
        memcpy(host->build, build, sizeof host->build);
        const struct tmf_port port = {
            .memory = host->memory,
            .memory_size = sizeof host->memory,
            .build = host->build,
            .write = host_write,
            .context = host,
        };
        tmf_node_init(&host->node, &port);
        tmf_node_start(&host->node);
    }
    return host;
}

void tmf_host_free(struct tmf_host *host)
{
    if (host != NULL) {
        free(host->sent);
        free(host);
    }
}

void tmf_host_write(struct tmf_host *host, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        tmf_node_receive(&host->node, data[i]);
        if (tmf_node_ready(&host->node)) {
            tmf_node_poll(&host->node);
        }
    }
}

size_t tmf_host_read(struct tmf_host *host, uint8_t *data, size_t size)
{
    size_t n = size < host->sent_size ? size : host->sent_size;
    memcpy(data, host->sent, n);
    host->sent_size -= n;
    memmove(host->sent, host->sent + n, host->sent_size);
    return n;
}

struct tmf_sizes tmf_host_sizes(const struct tmf_host *host)
{
    return host->node.model.sizes;
}
