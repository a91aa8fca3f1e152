#ifndef CORTEX_M_H
#define CORTEX_M_H

#include <stdint.h>

/* What the firmware uses of the Arm v7-M system control space (Arm DDI 0403E, B3). */

#define SCB_AIRCR (*(volatile uint32_t *)0xE000ED0C)
#define SCB_CFSR (*(volatile uint32_t *)0xE000ED28)
#define SCB_HFSR (*(volatile uint32_t *)0xE000ED2C)
#define SCB_MMFAR (*(volatile uint32_t *)0xE000ED34)
#define SCB_BFAR (*(volatile uint32_t *)0xE000ED38)
#define SCB_CPACR (*(volatile uint32_t *)0xE000ED88)
#define NVIC_ISER ((volatile uint32_t *)0xE000E100)

#define AIRCR_RESET ((0x05FAu << 16) | (1u << 2)) /* key, SYSRESETREQ */
#define CPACR_FPU (0xFu << 20)                    /* full access to CP10 and CP11 */
#define CFSR_MMARVALID (1u << 7)
#define CFSR_BFARVALID (1u << 15)

static inline void irq_disable(void)
{
    __asm__ volatile("cpsid i" ::: "memory");
}

static inline void irq_enable(void)
{
    __asm__ volatile("cpsie i" ::: "memory");
}

/* Sleeps until an interrupt is pending, also one that is masked. */
static inline void wait_for_interrupt(void)
{
    __asm__ volatile("dsb\n\twfi\n\tisb" ::: "memory");
}

static inline void barrier(void)
{
    __asm__ volatile("dsb\n\tisb" ::: "memory");
}

static inline void nvic_enable(unsigned irq)
{
    NVIC_ISER[irq / 32] = 1u << irq % 32;
}

#endif
