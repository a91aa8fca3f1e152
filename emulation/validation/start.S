/* From reset to main, with the FPU on where there is one; then out by semihosting with what main returned. For
 * every Cortex-M: of Armv6-M's instructions alone. */
    .syntax unified
    .thumb

    .section .vectors, "a"
    .word stack_top
    .word reset_handler
    .space 12 * 4
    .weak PendSV_Handler
    .word PendSV_Handler
    .word 0

    .text
    .global reset_handler
    .type reset_handler, %function
    .thumb_func
reset_handler:
    ldr r0, =0xE000ED88 /* CPACR */
    ldr r1, =0xF00000   /* full access to CP10 and CP11 */
    str r1, [r0]
    dsb
    isb
    bl main
    ldr r1, =0x20026 /* ADP_Stopped_ApplicationExit */
    cmp r0, #0
    beq 1f
    ldr r1, =0x20024 /* ADP_Stopped_InternalError */
1:
    movs r0, #0x18   /* SYS_EXIT */
    bkpt 0xAB
    .size reset_handler, . - reset_handler
    .ltorg
