/* A node as a Zephyr application. */
#include <zephyr/device.h>
#include <zephyr/drivers/uart.h>
#include <zephyr/fatal.h>
#include <zephyr/kernel.h>
#include <zephyr/linker/devicetree_regions.h>
#include <zephyr/sys/reboot.h>

#include <cmsis_core.h>

#include "tmf_cycles.h"
#include "tmf_node.h"

extern const uint8_t build_id[TMF_BUILD_SIZE]; /* from the linker */

/* Of an image that was built with -DTMF_BACKBONE; its address is NULL in any other. */
extern const struct tmf_backbone tmf_backbone __attribute__((weak));

static const struct device *const uart = DEVICE_DT_GET(DT_CHOSEN(zephyr_console));

static struct tmf_node node;

/* The board's RAM by its devicetree, without the stack, the frame buffers and what Zephyr needs: on an
 * nRF52840 TMF_MODEL_MEMORY. */
#define OWN_MEMORY ((IS_ENABLED(CONFIG_ARMV8_M_MAINLINE) ? 44u : 40u) * 1024u)
#define MODEL_MEMORY (DT_REG_SIZE(DT_CHOSEN(zephyr_sram)) - OWN_MEMORY)
BUILD_ASSERT(DT_REG_SIZE(DT_CHOSEN(zephyr_sram)) > OWN_MEMORY, "the board has no RAM for a model");
static float memory[MODEL_MEMORY / sizeof(float)];

/* Where a peer reaches the node's memory: an emulator's host, which finds it by its name. An nRF52840 has
 * no such memory; one that is emulated says in its customer registers where it has. */
#define SHARED DT_NODELABEL(psram)
#define HAS_SHARED DT_NODE_HAS_PROP(SHARED, zephyr_memory_region)
#if HAS_SHARED
static struct tmf_window tmf_window Z_GENERIC_SECTION(LINKER_DT_NODE_REGION_NAME_TOKEN(SHARED));
#ifdef CONFIG_SOC_NRF52840
#include <soc.h>
#define IS_SHARED (NRF_UICR->CUSTOMER[0] == DT_REG_ADDR(SHARED))
#else
#define IS_SHARED true
#endif
#endif

static K_SEM_DEFINE(request, 0, 1);
static K_SEM_DEFINE(sent, 0, 1);
static const uint8_t *next_out;
static size_t left_out;
static bool sending;

/* The thread is woken once for a frame, not for its bytes. */
static void receive(void)
{
    uint8_t bytes[16];
    int count;
    while ((count = uart_fifo_read(uart, bytes, sizeof bytes)) > 0) {
        for (int i = 0; i < count; i++) {
            tmf_node_receive(&node, bytes[i]);
        }
    }
    if (tmf_node_ready(&node)) {
        k_sem_give(&request);
    }
}

static void transmit(void)
{
    while (left_out > 0) {
        const int count = uart_fifo_fill(uart, next_out, (int)left_out);
        if (count <= 0) {
            return;
        }
        next_out += count;
        left_out -= (size_t)count;
    }
    uart_irq_tx_disable(uart);
    sending = false;
    k_sem_give(&sent);
}

/* Some drivers call a transmitter ready that is not enabled: whether it is used is known here. */
static void on_uart(const struct device *device, void *context)
{
    ARG_UNUSED(context);
    while (uart_irq_update(device) && uart_irq_rx_ready(device)) {
        receive();
    }
    if (sending && uart_irq_tx_ready(device)) {
        transmit();
    }
}

static void write(void *context, const uint8_t *data, size_t size)
{
    ARG_UNUSED(context);
    if (size == 0) {
        return;
    }
    next_out = data;
    left_out = size;
    sending = true;
    uart_irq_tx_enable(uart);
    k_sem_take(&sent, K_FOREVER);
}

#define EXC_RETURN_PSP (1u << 2)
#define XPSR_ALIGNED (1u << 9)

/* What the fault was, before Zephyr has cleared the registers that tell it. */
static struct tmf_fault fault;

void __real_z_arm_fault(uint32_t msp, uint32_t psp, uint32_t exc_return, void *callee_regs);
void __wrap_z_arm_fault(uint32_t msp, uint32_t psp, uint32_t exc_return, void *callee_regs);

void __wrap_z_arm_fault(uint32_t msp, uint32_t psp, uint32_t exc_return, void *callee_regs)
{
    fault.exception = __get_IPSR();
    fault.registers.sp = (exc_return & EXC_RETURN_PSP) != 0 ? psp : msp;
    fault.registers.cfsr = SCB->CFSR;
    fault.registers.hfsr = SCB->HFSR;
    fault.registers.mmfar = SCB->MMFAR;
    fault.registers.bfar = SCB->BFAR;
    __real_z_arm_fault(msp, psp, exc_return, callee_regs);
}

/* Says what and where over the UART, then starts again. Where the stack has run over, what Zephyr found
 * on it are no registers. */
void k_sys_fatal_error_handler(unsigned int reason, const struct arch_esf *esf)
{
    struct tmf_registers *registers = &fault.registers;
    const uint32_t unstacked = SCB_CFSR_MSTKERR_Msk | SCB_CFSR_STKERR_Msk;
    fault.reason = reason;
    if (esf != NULL && (registers->cfsr & unstacked) == 0) {
        registers->r0 = esf->basic.r0;
        registers->r1 = esf->basic.r1;
        registers->r2 = esf->basic.r2;
        registers->r3 = esf->basic.r3;
        registers->r12 = esf->basic.r12;
        registers->lr = esf->basic.lr;
        registers->pc = esf->basic.pc;
        registers->xpsr = esf->basic.xpsr;
        if (registers->sp != 0) { /* past what the exception stacked */
            registers->sp += sizeof esf->basic + ((registers->xpsr & XPSR_ALIGNED) != 0 ? 4 : 0);
        }
    }
    static uint8_t out[TMF_FAULT_SIZE];
    const size_t size = tmf_fault_frame(&fault, out);
    uart_poll_out(uart, 0); /* ends a frame that the fault has cut */
    for (size_t i = 0; i < size; i++) {
        uart_poll_out(uart, out[i]);
    }
    sys_reboot(SYS_REBOOT_COLD);
    CODE_UNREACHABLE;
}

int main(void)
{
    static struct tmf_port port = {
        .memory = memory,
        .memory_size = sizeof memory,
        .build = build_id,
        .backbone = &tmf_backbone,
        .cycles = tmf_cycles,
        .write = write,
    };
#if HAS_SHARED
    port.window = IS_SHARED ? &tmf_window : NULL;
#endif
    uart_irq_callback_set(uart, on_uart);
    tmf_node_init(&node, &port);
    uart_irq_rx_enable(uart);
    /* A byte that came before raises no interrupt on an edge-triggered UART: take it by hand. */
    const unsigned int key = irq_lock();
    receive();
    irq_unlock(key);
    tmf_node_start(&node);
    for (;;) {
        k_sem_take(&request, K_FOREVER);
        while (tmf_node_ready(&node)) {
            tmf_node_poll(&node);
        }
    }
}
