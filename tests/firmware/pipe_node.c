/* A node whose link is standard input and output: the core and its host port under the sanitizers,
 * in a process of their own that may die. With an argument the node has a window. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tmf_host.h"
#include "tmf_node.h"

static const uint8_t build[TMF_BUILD_SIZE];

static int over_uart(void)
{
    struct tmf_host *host = tmf_host_new(build);
    if (host == NULL) {
        return 1;
    }
    uint8_t buffer[4096];
    ssize_t n = 0;
    do {
        tmf_host_write(host, buffer, (size_t)n);
        for (size_t size; (size = tmf_host_read(host, buffer, sizeof buffer)) > 0;) {
            if (fwrite(buffer, 1, size, stdout) != size) {
                return 1;
            }
        }
        fflush(stdout);
    } while ((n = read(STDIN_FILENO, buffer, sizeof buffer)) > 0);
    tmf_host_free(host);
    return n == 0 ? 0 : 1;
}

/* What lies in the window comes before what goes over the UART. */
static void write_both(void *context, const uint8_t *data, size_t size)
{
    struct tmf_window *window = context;
    fwrite(window->up.data, 1, window->up.size, stdout);
    window->up.size = 0;
    fwrite(data, 1, size, stdout);
}

/* Standard input is steps: what the window's size is to be, how many bytes are put into it, how many go
 * over the UART then, as uint32; these bytes. */
static int by_window(void)
{
    static struct tmf_node node;
    static float memory[TMF_MODEL_MEMORY / sizeof(float)];
    struct tmf_window *window = malloc(sizeof *window); /* of the heap, whose ends are watched */
    if (window == NULL) {
        return 1;
    }
    memset(window, 0xa5, sizeof *window); /* as memory may be that was just turned on */
    const struct tmf_port port = {
        .memory = memory,
        .memory_size = sizeof memory,
        .build = build,
        .window = window,
        .write = write_both,
        .context = window,
    };
    tmf_node_init(&node, &port);
    tmf_node_start(&node);
    tmf_node_receive(&node, 0); /* a doorbell with nothing behind it */
    uint32_t step[3];
    while (fread(step, sizeof step, 1, stdin) == 1) {
        if (step[1] > sizeof window->down.data ||
            fread(window->down.data, 1, step[1], stdin) != step[1]) {
            return 1;
        }
        window->down.size = step[0];
        for (uint32_t i = 0; i < step[2]; i++) {
            tmf_node_receive(&node, (uint8_t)getchar());
            if (tmf_node_ready(&node)) {
                tmf_node_poll(&node);
            }
        }
    }
    free(window);
    return 0;
}

int main(int argc, char **argv)
{
    (void)argv;
    return argc > 1 ? by_window() : over_uart();
}
