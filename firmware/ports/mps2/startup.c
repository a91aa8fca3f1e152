/* From reset to main, and what happens when the processor faults. */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "cortex_m.h"
#include "tmf_node.h"
#include "uart.h"

extern const uint16_t text_start[], text_end[];
extern uint32_t stack_bottom[], stack_top[], data_load[], data_start[], data_end[], bss_start[], bss_end[];

int main(void);
void reset_handler(void);
void hard_fault_handler(void);
void report_fault(uint32_t sp, uint32_t exc_return);

/* What would go unnoticed is a fault: a division of integers by zero, and an access to what is no memory of
 * the image's (mps2.ld). Here that is more RAM, or does nothing: the stack could run over, or a pointer be
 * NULL, and the work would go on. */
static void trap_mistakes(void)
{
    static const struct {
        uint32_t base, attributes;
    } regions[] = {
        {0x00000000, RASR_READ_ONLY | RASR_NORMAL | RASR_SIZE(20)},                   /* FLASH */
        {0x10000000, RASR_NO_ACCESS | RASR_NEVER_CODE | RASR_SIZE(28)}, /* below it; Renode has to be told */
        {0x20000000, RASR_READ_WRITE | RASR_NEVER_CODE | RASR_NORMAL | RASR_SIZE(18)}, /* RAM */
        {0x21000000, RASR_READ_WRITE | RASR_NEVER_CODE | RASR_NORMAL | RASR_SIZE(24)}, /* PSRAM */
        {0x40000000, RASR_READ_WRITE | RASR_NEVER_CODE | RASR_DEVICE | RASR_SIZE(29)}, /* peripherals */
    };
    SCB_CCR |= CCR_DIV_0_TRP;
    for (uint32_t i = 0; i < sizeof regions / sizeof regions[0]; i++) {
        MPU_RBAR = regions[i].base | RBAR_VALID | i;
        MPU_RASR = regions[i].attributes | RASR_ENABLE;
    }
    MPU_CTRL = MPU_CTRL_ENABLE;
    barrier();
}

void reset_handler(void)
{
    trap_mistakes();
    memcpy(data_start, data_load, (size_t)((uint8_t *)data_end - (uint8_t *)data_start));
    memset(bss_start, 0, (size_t)((uint8_t *)bss_end - (uint8_t *)bss_start));
    SCB_CPACR |= CPACR_FPU;
    barrier();
    main();
    for (;;) {
        wait_for_interrupt();
    }
}

/* The codec has it copy what does not overlap; the library's own would be several times this code. */
__attribute__((used, optimize("no-tree-loop-distribute-patterns"))) void *memmove(void *to, const void *from, size_t n)
{
    uint8_t *const out = to;
    const uint8_t *const in = from;
    if ((uintptr_t)out - (uintptr_t)in >= n && (uintptr_t)in - (uintptr_t)out >= n) {
        return memcpy(to, from, n);
    }
    for (size_t i = 0; i < n; i++) {
        const size_t at = out < in ? i : n - 1 - i;
        out[at] = in[at];
    }
    return to;
}

/* A return address is odd, and behind a BL or a BLX (Arm DDI 0403E, A7.7.18 and A7.7.19). */
static bool is_return_address(uint32_t value)
{
    const uint32_t first = (uint32_t)text_start + 4;
    if ((value & 1) == 0 || value < first || value > (uint32_t)text_end) {
        return false;
    }
    const uint16_t *behind = (const uint16_t *)(value - 1);
    return ((behind[-2] & 0xF800) == 0xF000 && (behind[-1] & 0xD000) == 0xD000) ||
           (behind[-1] & 0xFF87) == 0x4780;
}

/* Says what and where over the UART, then starts again. `sp` is where the processor should have pushed r0
 * to r3, r12, lr, pc and xPSR. Where it could not, since the stack has run over, the innermost return
 * address that is still on the stack stands for lr. */
__attribute__((used)) void report_fault(uint32_t sp, uint32_t exc_return)
{
    const uint32_t bottom = (uint32_t)stack_bottom, top = (uint32_t)stack_top;
    struct tmf_fault fault = {
        .exception = ipsr(),
        .registers = {
            .sp = sp,
            .cfsr = SCB_CFSR,
            .hfsr = SCB_HFSR,
            .mmfar = SCB_MMFAR,
            .bfar = SCB_BFAR,
        },
    };
    struct tmf_registers *registers = &fault.registers;
    const uint32_t *word = (const uint32_t *)(sp > bottom ? sp & ~3u : bottom);
    if (sp >= bottom && sp <= top - 32 && (registers->cfsr & (CFSR_MSTKERR | CFSR_STKERR)) == 0) {
        memcpy(registers, word, 32);
        registers->sp += (exc_return & EXC_RETURN_BASIC ? 32 : 104) + (registers->xpsr & XPSR_ALIGNED ? 4 : 0);
    } else {
        while (word < stack_top && !is_return_address(*word)) {
            word++;
        }
        registers->lr = word < stack_top ? *word : 0;
    }
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
 * into which floating-point registers may still be saved: the handler has a stack of its own. All other
 * faults are not enabled and end here too. */
__attribute__((used, aligned(8))) static uint8_t fault_stack[1024];

__attribute__((naked)) void hard_fault_handler(void)
{
    __asm__ volatile(
        "mrs r0, msp\n\t"
        "mov r1, lr\n\t"
        "ldr r2, =fault_stack + %c0\n\t"
        "mov sp, r2\n\t"
        "b report_fault\n\t"
        ".ltorg"
        :
        : "i"(sizeof fault_stack));
}

__attribute__((section(".vectors"), used)) static const void *const vectors[] = {
    stack_top,
    (const void *)reset_handler,
    [3] = (const void *)hard_fault_handler,
    [4] = (const void *)hard_fault_handler, /* these three are not enabled, and end in a HardFault; */
    [5] = (const void *)hard_fault_handler, /* Renode takes them all the same */
    [6] = (const void *)hard_fault_handler,
    [16] = (const void *)uart_receive_handler,
    [17] = (const void *)uart_transmit_handler,
};
