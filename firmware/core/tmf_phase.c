#include "tmf_phase.h"

#include <stddef.h>

static void (*on_phase)(enum tmf_phase phase); /* NULL: nobody measures */

void tmf_measure_phases(void (*begins)(enum tmf_phase phase))
{
    on_phase = begins;
}

static __attribute__((noinline)) void begin(enum tmf_phase phase)
{
    if (on_phase != NULL) {
        on_phase(phase);
    }
}

/* no_icf: functions that were the same to the compiler must still have an address each. */
#define PHASE(name, phase)                                              \
    __attribute__((noinline, noclone, no_icf)) void tmf_phase_##name(void) \
    {                                                                   \
        begin(phase);                                                   \
    }

PHASE(idle, TMF_IDLE)
PHASE(receive, TMF_RECEIVE)
PHASE(reconstruct, TMF_RECONSTRUCT)
PHASE(learn, TMF_LEARN)
PHASE(select, TMF_SELECT)
PHASE(evaluate, TMF_EVALUATE)
PHASE(send, TMF_SEND)
