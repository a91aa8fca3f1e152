#include "uart.h"

#include <stdatomic.h>
#include <stdbool.h>

#include "cortex_m.h"

struct cmsdk_uart {
    volatile uint32_t data;
    volatile uint32_t state;
    volatile uint32_t control;
    volatile uint32_t interrupt; /* status; write 1 to clear */
    volatile uint32_t divider;   /* of the peripheral clock, 25 MHz */
};

#define UART0 ((struct cmsdk_uart *)0x40004000)
#define UART0_RECEIVE_IRQ 0
#define UART0_TRANSMIT_IRQ 1

#define STATE_TRANSMIT_FULL (1u << 0)
#define STATE_RECEIVE_FULL (1u << 1)
#define CONTROL_TRANSMIT (1u << 0)
#define CONTROL_RECEIVE (1u << 1)
#define CONTROL_TRANSMIT_INTERRUPT (1u << 2)
#define CONTROL_RECEIVE_INTERRUPT (1u << 3)
#define INTERRUPT_TRANSMIT (1u << 0)
#define INTERRUPT_RECEIVE (1u << 1)

#define BAUD_DIVIDER 25u /* 1 MBaud; the emulated UART takes any from 16 on and ignores it */

static void (*on_receive)(uint8_t byte);
static const uint8_t *next_out;
static size_t left_out;
static atomic_bool sending;

void uart_start(void)
{
    UART0->divider = BAUD_DIVIDER;
    UART0->control = CONTROL_TRANSMIT | CONTROL_TRANSMIT_INTERRUPT;
    nvic_enable(UART0_TRANSMIT_IRQ);
}

void uart_listen(void (*receive)(uint8_t byte))
{
    on_receive = receive;
    UART0->control |= CONTROL_RECEIVE | CONTROL_RECEIVE_INTERRUPT;
    nvic_enable(UART0_RECEIVE_IRQ);
    /* A byte that came before the interrupt was enabled raises none: take it by hand. */
    irq_disable();
    uart_receive_handler();
    irq_enable();
}

void uart_receive_handler(void)
{
    UART0->interrupt = INTERRUPT_RECEIVE;
    while (UART0->state & STATE_RECEIVE_FULL) {
        on_receive((uint8_t)UART0->data);
    }
}

void uart_transmit_handler(void)
{
    UART0->interrupt = INTERRUPT_TRANSMIT;
    while (left_out > 0 && !(UART0->state & STATE_TRANSMIT_FULL)) {
        left_out--;
        UART0->data = *next_out++;
    }
    if (left_out == 0) {
        atomic_store_explicit(&sending, false, memory_order_release);
    }
}

void uart_write(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return;
    }
    irq_disable();
    next_out = data;
    left_out = size;
    atomic_store_explicit(&sending, true, memory_order_release);
    uart_transmit_handler(); /* the interrupt comes when a byte has gone: send the first by hand */
    irq_enable();
    for (;;) {
        /* Masked between the check and the sleep: an interrupt in between still ends the WFI. */
        irq_disable();
        bool done = !atomic_load_explicit(&sending, memory_order_acquire);
        if (!done) {
            wait_for_interrupt();
        }
        irq_enable();
        if (done) {
            return;
        }
    }
}

void uart_write_polled(const uint8_t *data, size_t size)
{
    UART0->divider = BAUD_DIVIDER; /* the fault may be one of the start */
    UART0->control = CONTROL_TRANSMIT;
    for (size_t i = 0; i < size; i++) {
        while (UART0->state & STATE_TRANSMIT_FULL) {
        }
        UART0->data = data[i];
    }
}
