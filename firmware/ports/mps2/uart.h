#ifndef UART_H
#define UART_H

#include <stddef.h>
#include <stdint.h>

/* UART0 of the CMSDK (Arm DDI 0479, chapter 4), interrupt-driven both ways. */

/* Turns the UART on, for sending. */
void uart_start(void);

/* From here on each byte received goes to `receive`, in the interrupt. */
void uart_listen(void (*receive)(uint8_t byte));

/* Sends by interrupt and sleeps until the last byte has been taken. */
void uart_write(const uint8_t *data, size_t size);

/* Sends by waiting for each byte: for when interrupts no longer run. */
void uart_write_polled(const uint8_t *data, size_t size);

void uart_receive_handler(void);
void uart_transmit_handler(void);

#endif
