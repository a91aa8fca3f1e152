#ifndef TMF_CYCLES_H
#define TMF_CYCLES_H

#include <stdbool.h>
#include <stdint.h>

#include "tmf_phase.h"

/* Cycles of each phase by the processor's own counter, DWT->CYCCNT (Armv7-M Architecture Reference Manual,
 * C1.8; Armv8-M, D1.2), since the first call, which starts it. A phase that lasts for longer than 2^32
 * cycles is not told from a shorter one. False where the counter stands still: there is none, or an
 * emulator has none. */
bool tmf_cycles(uint64_t cycles[TMF_PHASES]);

#endif
