#include "tmf_host.h"

#include <stdlib.h>
#include <string.h>

#include "tmf_floats.h"
#include "tmf_host_node.h"

static void keep(struct tmf_host *host, const uint8_t *data, size_t size)
{
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

static void host_write(void *context, const uint8_t *data, size_t size)
{
    struct tmf_host *host = context;
    if (host->window.up.size > 0) {
        keep(host, host->window.up.data, host->window.up.size);
        host->window.up.size = 0;
    }
    keep(host, data, size);
}

struct tmf_host *tmf_host_new(const uint8_t *build)
{
    struct tmf_host *host = calloc(1, sizeof *host);
    if (host != NULL) {
        memcpy(host->build, build, sizeof host->build);
        tmf_host_boot(host);
    }
    return host;
}

void tmf_host_boot(struct tmf_host *host)
{
    const struct tmf_port port = {
        .memory = host->memory,
        .memory_size = sizeof host->memory,
        .build = host->build,
        .window = &host->window,
        .write = host_write,
        .context = host,
    };
    host->sent_size = host->load_size = host->job = 0;
    tmf_node_init(&host->node, &port);
    tmf_node_start(&host->node);
}

void tmf_host_free(struct tmf_host *host)
{
    if (host != NULL) {
        free(host->sent);
        free(host);
    }
}

static void receive(struct tmf_host *host, uint8_t byte)
{
    tmf_node_receive(&host->node, byte);
    if (tmf_node_ready(&host->node)) {
        tmf_node_poll(&host->node);
    }
}

void tmf_host_write(struct tmf_host *host, const uint8_t *data, size_t size)
{
    struct tmf_floats before;
    tmf_floats_begin(&before);
    while (size > 0) {
        const uint8_t *zero = memchr(data, 0, size);
        size_t piece = zero != NULL ? (size_t)(zero - data) : size;
        const struct tmf_link *link = &host->node.link;
        /* What a link passes over is no frame, though none has begun. */
        if (zero != NULL && piece > 0 && piece <= TMF_RECEIVE_SIZE && tmf_link_is_idle(link) &&
            !link->skipping) {
            memcpy(host->window.down.data, data, piece);
            host->window.down.size = (uint32_t)piece;
        } else {
            for (size_t i = 0; i < piece; i++) {
                receive(host, data[i]);
            }
        }
        if (zero != NULL) {
            receive(host, 0);
            piece++;
        }
        data += piece;
        size -= piece;
    }
    tmf_floats_end(&before);
}

size_t tmf_host_read(struct tmf_host *host, uint8_t *data, size_t size)
{
    size_t n = size < host->sent_size ? size : host->sent_size;
    memcpy(data, host->sent, n);
    host->sent_size -= n;
    memmove(host->sent, host->sent + n, host->sent_size);
    return n;
}

const float *tmf_host_working(const struct tmf_host *host)
{
    return host->node.model.working;
}

struct tmf_sizes tmf_host_sizes(const struct tmf_host *host)
{
    return host->node.model.sizes;
}
