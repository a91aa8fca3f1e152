/* Predicts the sample that an exported network brings along, and writes the bits of each output on a line by
 * semihosting; ends with 1 where the network does not fit. */
#include "cortex_m.h"
#include TMF_NETWORK_HEADER

enum { SYS_OPEN = 0x01, SYS_WRITE = 0x05, SYS_EXIT = 0x18, FINISHED = 0x20026, FAILED = 0x20023 };

static uintptr_t semihost(uintptr_t operation, uintptr_t argument)
{
    register uintptr_t r0 __asm__("r0") = operation;
    register uintptr_t r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

int main(void)
{
    static float memory[TMF_NETWORK_MEMORY / sizeof(float)];
    static struct tmf_model model;
    const uintptr_t terminal[] = {(uintptr_t)":tt", 4 /* to write */, 3 /* characters */};
    const uintptr_t out = semihost(SYS_OPEN, (uintptr_t)terminal);
    if (tmf_network_place(&model, memory, sizeof memory) != TMF_OK) {
        semihost(SYS_EXIT, FAILED);
    }
    const float *y = tmf_predict(&model, (const uint8_t *)tmf_network_sample);
    for (uint32_t i = 0; i < model.outputs; i++) {
        char line[] = "00000000\n";
        for (uint32_t digit = 0; digit < 8; digit++) {
            line[digit] = "0123456789abcdef"[tmf_float_bits(y[i]) >> (28 - 4 * digit) & 15];
        }
        const uintptr_t text[] = {out, (uintptr_t)line, sizeof line - 1};
        semihost(SYS_WRITE, (uintptr_t)text);
    }
    semihost(SYS_EXIT, FINISHED);
    return 0;
}
