/* A processor's fault registers; and a node that is sent the input as it is: over its UART, or where the first byte is odd through its
 * window, in pieces that begin with their length and the length that is claimed. */
#include <stdlib.h>
#include <string.h>

#include "fuzzing.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void report_fault(const uint8_t *data, size_t size)
{
    struct tmf_fault fault = {0};
    uint8_t frame[TMF_FAULT_SIZE];
    memcpy(&fault, data, size < sizeof fault ? size : sizeof fault);
    const size_t length = tmf_fault_frame(&fault, frame);
    if (length == 0 || length > sizeof frame || frame[length - 1] != 0) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    report_fault(data, size);
    const bool windowed = data[0] & 1;
    struct tmf_node *node = fuzzed_node(windowed);
    data++, size--;
    if (!windowed) {
        fuzzed_receive(node, data, size);
        return 0;
    }
    while (size >= 4) {
        const size_t length = (size_t)(data[0] | data[1] << 8);
        const uint32_t claimed = (uint32_t)(data[2] | data[3] << 8);
        data += 4, size -= 4;
        const size_t there = length < size ? length : size;
        fuzzed_window(node, data, there, claimed);
        data += there, size -= there;
    }
    return 0;
}
