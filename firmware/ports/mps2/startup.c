/* From reset to main, and what happens when the processor faults. */
#include <stdint.h>
#include <string.h>

#include "cortex_m.h"
#include "tmf_node.h"
#include "uart.h"

extern uint32_t stack_top[], data_load[], data_start[], data_end[], bss_start[], bss_end[];

int main(void);
void reset_handler(void);
void hard_fault_handler(void);
void report_fault(const uint32_t *frame);

void reset_handler(void)
{
    memcpy(data_start, data_load, (size_t)((uint8_t *)data_end - (uint8_t *)data_start));
    memset(bss_start, 0, (size_t)((uint8_t *)bss_end - (uint8_t *)bss_start));
    SCB_CPACR |= CPACR_FPU;
    barrier();
    main();
    for (;;) {
        wait_for_interrupt();
    }
}

/* Says what and where over the UART, then starts again. `frame` is what the processor pushed: r0 to
 * r3, r12, lr, pc, xPSR; NULL where it could not. */
__attribute__((used)) void report_fault(const uint32_t *frame)
{
    const uint32_t cfsr = SCB_CFSR;
    const struct tmf_fault fault = {
        .pc = frame != NULL ? frame[6] : 0,
        .lr = frame != NULL ? frame[5] : 0,
        .cfsr = cfsr,
        .hfsr = SCB_HFSR,
        .address = cfsr & CFSR_BFARVALID ? SCB_BFAR : cfsr & CFSR_MMARVALID ? SCB_MMFAR : 0,
    };
    static const uint8_t end = 0; /* ends a frame that the fault has cut */
    static uint8_t out[TMF_FAULT_SIZE];
    uart_write_polled(&end, 1);
    uart_write_polled(out, tmf_fault_frame(&fault, out));
    SCB_AIRCR = AIRCR_RESET;
    barrier();
    for (;;) {
    }
}

/* A stack that ran over is not to be used again, and one that did not has the processor's frame on it,
 * into which floating-point registers may still be saved: the handler has a stack of its own. The frame
 * is passed only where the whole of it lies in the stack. All other faults are not enabled and end here
 * too. */
__attribute__((used, aligned(8))) static uint8_t fault_stack[1024];

__attribute__((naked)) void hard_fault_handler(void)
{
    __asm__ volatile(
        "mrs r0, msp\n\t"
        "ldr r1, =fault_stack + %c0\n\t"
        "mov sp, r1\n\t"
        "ldr r1, =stack_top - 32\n\t"
        "cmp r0, r1\n\t"
        "bhi 1f\n\t"
        "ldr r1, =stack_bottom\n\t"
        "cmp r0, r1\n\t"
        "bhs 2f\n"
        "1:\n\t"
        "movs r0, #0\n"
        "2:\n\t"
        "b report_fault\n\t"
        ".ltorg"
        :
        : "i"(sizeof fault_stack));
}

__attribute__((section(".vectors"), used)) static const void *const vectors[] = {
    stack_top,
    (const void *)reset_handler,
    [3] = (const void *)hard_fault_handler,
    [16] = (const void *)uart_receive_handler,
    [17] = (const void *)uart_transmit_handler,
};
