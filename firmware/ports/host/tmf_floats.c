#include "tmf_floats.h"

#include <fenv.h>
#include <string.h>

_Static_assert(sizeof(fenv_t) <= sizeof(struct tmf_floats), "a floating-point environment has its place");

void tmf_floats_begin(struct tmf_floats *before)
{
    fenv_t environment;
    fegetenv(&environment);
    memcpy(before, &environment, sizeof environment);
    fesetenv(FE_DFL_ENV);
}

void tmf_floats_end(const struct tmf_floats *before)
{
    fenv_t environment;
    memcpy(&environment, before, sizeof environment);
    fesetenv(&environment);
}
