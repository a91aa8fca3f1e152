#pragma once
#include <stdint.h>

/* A node's floats are rounded to nearest, and its subnormal numbers are numbers. Another library in this process may
 * have set the thread's to be otherwise, as those do that were built with -ffast-math. Python reads this file (cffi):
 * declarations only, lines that begin with # are passed over. */

struct tmf_floats {
    uint64_t kept[8];
};

/* Has this thread's floats be a node's. `before`: how they were. */
void tmf_floats_begin(struct tmf_floats *before);

void tmf_floats_end(const struct tmf_floats *before);
