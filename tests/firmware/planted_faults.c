/* A node whose firmware has mistakes, one of them at a time: a test writes into the ELF file which, and at
 * which selection of an update after a boot. 0: at the boot. */
#include <stdint.h>

#include "cortex_m.h"
#include "tmf_node.h"
#include "tmf_select.h"

#define MISTAKE __attribute__((noinline, noclone))

enum mistake {
    NONE, BAD_WRITE, BAD_READ, WRITE_TO_NULL, UNDEFINED, BAD_JUMP, NO_THUMB, DIVISION, UNALIGNED, DEEP, ENDLESS,
    LOCKED_UP, RESET, ASLEEP
};

struct planted {
    uint32_t mistake, call;
};
const volatile struct planted planted = {NONE, 0};

static volatile uint32_t calls, sink, zero;

MISTAKE static void bad_write(void)
{
    *(volatile uint32_t *)0x60000000 = 1; /* line: bad_write */
}

MISTAKE static void bad_read(void)
{
    sink = *(volatile uint32_t *)0x60000000; /* line: bad_read */
}

MISTAKE static void write_to_null(void)
{
    *(volatile uint32_t *)zero = 1; /* line: write_to_null */
}

MISTAKE static void undefined(void)
{
    __asm__ volatile("udf #1"); /* line: undefined */
}

MISTAKE static void bad_jump(void)
{
    ((void (*)(void))0x60000001)(); /* line: bad_jump */
    sink = 1;
}

MISTAKE static void no_thumb(void)
{
    ((void (*)(void))((uint32_t)bad_write & ~1u))(); /* line: no_thumb */
    sink = 1;
}

MISTAKE static void division(void)
{
    sink = sink / zero; /* line: division */
}

MISTAKE static void unaligned(void)
{
    __asm__ volatile("ldrd r2, r3, [%0]" : : "r"((uint32_t)&sink + 1) : "r2", "r3"); /* line: unaligned */
}

MISTAKE static uint32_t deep(uint32_t depth)
{
    volatile uint32_t room[16] = {depth};
    return depth + zero == UINT32_MAX ? 0 : room[0] + deep(depth + 1) + room[1]; /* line: deep */
}

MISTAKE static void endless(void)
{
    for (;;) {
        sink++; /* line: endless */
    }
}

MISTAKE static void locked_up(void)
{
    __asm__ volatile("cpsid f\n\tudf #1"); /* line: locked_up */
}

MISTAKE static void reset(void)
{
    SCB_AIRCR = AIRCR_RESET;
    barrier();
    for (;;) {
    }
}

MISTAKE static void asleep(void)
{
    NVIC_ICER[0] = ~0u; /* no interrupt wakes it */
    for (;;) {
        wait_for_interrupt();
    }
}

MISTAKE static void make(enum mistake mistake)
{
    switch (mistake) {
    case NONE: break;
    case BAD_WRITE: bad_write(); break;
    case BAD_READ: bad_read(); break;
    case WRITE_TO_NULL: write_to_null(); break;
    case UNDEFINED: undefined(); break;
    case BAD_JUMP: bad_jump(); break;
    case NO_THUMB: no_thumb(); break;
    case DIVISION: division(); break;
    case UNALIGNED: unaligned(); break;
    case DEEP: sink = deep(0); break;
    case ENDLESS: endless(); break;
    case LOCKED_UP: locked_up(); break;
    case RESET: reset(); break;
    case ASLEEP: asleep(); break;
    }
}

bool __real_tmf_select(const float *values, size_t n, size_t keep, struct tmf_selection *selection);
bool __wrap_tmf_select(const float *values, size_t n, size_t keep, struct tmf_selection *selection);
void __real_tmf_node_init(struct tmf_node *node, const struct tmf_port *port);
void __wrap_tmf_node_init(struct tmf_node *node, const struct tmf_port *port);

bool __wrap_tmf_select(const float *values, size_t n, size_t keep, struct tmf_selection *selection)
{
    if (++calls == planted.call) {
        make((enum mistake)planted.mistake); /* call */
    }
    return __real_tmf_select(values, n, keep, selection);
}

void __wrap_tmf_node_init(struct tmf_node *node, const struct tmf_port *port)
{
    if (planted.call == 0) {
        make((enum mistake)planted.mistake); /* call: boot */
    }
    __real_tmf_node_init(node, port);
}
