/* CRC-32s of the results of exp, log and tanh over a walk through all bit patterns, sent over the UART
 * as three uint32 a step, so that a test can hold them to the host's. */
#include <stdint.h>

#include "math_probe.h"
#include "uart.h"

int main(void)
{
    uart_start();
    for (uint32_t step = 0; step < MATH_PROBE_STEPS; step++) {
        uint32_t crcs[3];
        for (int function = 0; function < 3; function++) {
            crcs[function] = tmf_math_crc(function, MATH_PROBE_START(step), MATH_PROBE_STRIDE,
                                          MATH_PROBE_COUNT);
        }
        uart_write((const uint8_t *)crcs, sizeof crcs);
    }
    return 0;
}
