#include "tmf_phase.h"

/* no_icf: the functions are the same to the compiler and must still have an address each. The asm
 * keeps a call of a function that does nothing from being dropped. */
#define PHASE(name)                                                     \
    __attribute__((noinline, noclone, no_icf)) void tmf_phase_##name(void) \
    {                                                                   \
        __asm__ volatile("");                                           \
    }

PHASE(idle)
PHASE(receive)
PHASE(reconstruct)
PHASE(learn)
PHASE(select)
PHASE(evaluate)
PHASE(send)
