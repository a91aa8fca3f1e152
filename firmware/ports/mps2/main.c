/* A node on bare metal. */
#include "cortex_m.h"
#include "tmf_cycles.h"
#include "tmf_node.h"
#include "uart.h"

extern const uint8_t build_id[TMF_BUILD_SIZE]; /* from the linker */

/* Of an image that was built with -DTMF_BACKBONE; its address is NULL in any other. */
extern const struct tmf_backbone tmf_backbone __attribute__((weak));

static struct tmf_node node;
static float memory[TMF_MODEL_MEMORY / sizeof(float)];

/* The emulator's host finds it by its name. */
static struct tmf_window tmf_window __attribute__((section(".window")));

static void receive(uint8_t byte)
{
    tmf_node_receive(&node, byte);
}

static void write(void *context, const uint8_t *data, size_t size)
{
    (void)context;
    uart_write(data, size);
}

int main(void)
{
    static const struct tmf_port port = {
        .memory = memory,
        .memory_size = sizeof memory,
        .build = build_id,
        .backbone = &tmf_backbone,
        .window = &tmf_window,
        .cycles = tmf_cycles,
        .write = write,
    };
    uart_start();
    tmf_node_init(&node, &port);
    uart_listen(receive);
    tmf_node_start(&node);
    for (;;) {
        /* Masked between the check and the sleep: a byte in between still ends the WFI. */
        irq_disable();
        if (!tmf_node_ready(&node)) {
            wait_for_interrupt();
        }
        irq_enable();
        if (tmf_node_ready(&node)) {
            tmf_node_poll(&node);
        }
    }
}
