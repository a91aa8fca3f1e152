/* CRC-32s of the results of tmf_math.h's functions over a walk through all bit patterns, sent over the UART
 * as four uint32 a step, so that a test can hold them to the host's. */
#include <stdint.h>

#include "math_probe.h"
#include "uart.h"

int main(void)
{
    uart_start();
    for (uint32_t step = 0; step < MATH_PROBE_STEPS; step++) {
        uint32_t crcs[4];
        for (int function = 0; function < 4; function++) {
            crcs[function] = tmf_math_crc(function, MATH_PROBE_START(step), MATH_PROBE_STRIDE,
                                          MATH_PROBE_COUNT);
        }
        uart_write((const uint8_t *)crcs, sizeof crcs);
    }
    return 0;
}
