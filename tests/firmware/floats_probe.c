/* What a library sets that was built with -ffast-math: subnormal numbers are zeros, coming in and going out. */
#include <stdbool.h>
#include <stdint.h>

#if defined(__x86_64__) || defined(__i386__)
#include <xmmintrin.h>
#define GET() ((uint64_t)_mm_getcsr())
#define SET(value) _mm_setcsr((uint32_t)(value))
#define FLUSH 0x8040u /* FTZ, DAZ */
#elif defined(__aarch64__)
static uint64_t get(void)
{
    uint64_t value;
    __asm__ volatile("mrs %0, fpcr" : "=r"(value));
    return value;
}
#define GET() get()
#define SET(value) __asm__ volatile("msr fpcr, %0" ::"r"((uint64_t)(value)))
#define FLUSH (1u << 24) /* FZ */
#else
#error "floats_probe: how subnormal numbers are flushed is not known here"
#endif

void tmf_probe_flush(bool flush);
bool tmf_probe_flushes(void);

void tmf_probe_flush(bool flush)
{
    SET(flush ? GET() | FLUSH : GET() & ~(uint64_t)FLUSH);
}

bool tmf_probe_flushes(void)
{
    return (GET() & FLUSH) != 0;
}
