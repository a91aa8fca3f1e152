#ifndef CORTEX_M_H
#define CORTEX_M_H

#include <stdint.h>

/* What the firmware uses of the Arm v7-M system control space (Arm DDI 0403E, B3). */

#define SCB_AIRCR (*(volatile uint32_t *)0xE000ED0C)
#define SCB_CCR (*(volatile uint32_t *)0xE000ED14)
#define SCB_CFSR (*(volatile uint32_t *)0xE000ED28)
#define SCB_HFSR (*(volatile uint32_t *)0xE000ED2C)
#define SCB_MMFAR (*(volatile uint32_t *)0xE000ED34)
#define SCB_BFAR (*(volatile uint32_t *)0xE000ED38)
#define SCB_CPACR (*(volatile uint32_t *)0xE000ED88)
#define MPU_CTRL (*(volatile uint32_t *)0xE000ED94)
#define MPU_RBAR (*(volatile uint32_t *)0xE000ED9C)
#define MPU_RASR (*(volatile uint32_t *)0xE000EDA0)
#define NVIC_ISER ((volatile uint32_t *)0xE000E100)
#define NVIC_ICER ((volatile uint32_t *)0xE000E180)

#define AIRCR_RESET ((0x05FAu << 16) | (1u << 2)) /* key, SYSRESETREQ */
#define CPACR_FPU (0xFu << 20)                    /* full access to CP10 and CP11 */
#define CCR_DIV_0_TRP (1u << 4)
#define CFSR_MSTKERR (1u << 4)
#define CFSR_STKERR (1u << 12)
#define EXC_RETURN_BASIC (1u << 4) /* a frame without floating-point registers */
#define XPSR_ALIGNED (1u << 9)     /* a word was left out below the frame */

#define RBAR_VALID (1u << 4) /* the number of the region is in the lower bits */
#define RASR_NEVER_CODE (1u << 28)
#define RASR_NO_ACCESS 0u
#define RASR_READ_ONLY (6u << 24)
#define RASR_READ_WRITE (3u << 24)
#define RASR_NORMAL (1u << 17) /* memory that a cache may hold, written through */
#define RASR_DEVICE (1u << 16)
#define RASR_SIZE(bits) (((bits) - 1u) << 1) /* 2^bits bytes */
#define RASR_ENABLE (1u << 0)
#define MPU_CTRL_ENABLE (1u << 0) /* not while a HardFault is handled */

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

/* The number of the exception that is being handled; 0 for none. */
static inline uint32_t ipsr(void)
{
    uint32_t number;
    __asm__ volatile("mrs %0, ipsr" : "=r"(number));
    return number;
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
