/* From reset to main, with the FPU on; then out by semihosting with what main returned. */
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
    mov r1, #0xF00000   /* full access to CP10 and CP11 */
    str r1, [r0]
    dsb
    isb
    bl main
    cmp r0, #0
    ite eq
    ldreq r1, =0x20026 /* ADP_Stopped_ApplicationExit */
    ldrne r1, =0x20024 /* ADP_Stopped_InternalError */
    movs r0, #0x18     /* SYS_EXIT */
    bkpt 0xAB
    .size reset_handler, . - reset_handler
    .ltorg
