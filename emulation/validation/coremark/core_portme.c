#include "coremark.h"

/* The run for performance: seeds and iterations of CoreMark's rules. */
volatile ee_s32 seed1_volatile = 0;
volatile ee_s32 seed2_volatile = 0;
volatile ee_s32 seed3_volatile = 0x66;
volatile ee_s32 seed4_volatile = ITERATIONS;
volatile ee_s32 seed5_volatile = 0;

ee_u32 default_num_contexts = 1;

__attribute__((noinline, noclone)) void tmf_phase_coremark(void)
{
    __asm__ volatile("");
}

__attribute__((noinline, noclone)) void tmf_phase_end(void)
{
    __asm__ volatile("nop");
}

void start_time(void)
{
    tmf_phase_coremark();
}

void stop_time(void)
{
    tmf_phase_end();
}

/* There is no clock; CoreMark says itself that such a run is too short to be reported. */
CORE_TICKS get_time(void)
{
    return 1;
}

secs_ret time_in_secs(CORE_TICKS ticks)
{
    return ticks;
}

void portable_init(core_portable *p, int *argc, char *argv[])
{
    extern void initialise_monitor_handles(void); /* of newlib's semihosting */
    (void)argc;
    (void)argv;
    initialise_monitor_handles();
    p->portable_id = 1;
}

void portable_fini(core_portable *p)
{
    p->portable_id = 0;
}
