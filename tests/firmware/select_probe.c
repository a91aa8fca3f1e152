/* The selection as nodes have it, beside the host's. For tests. */
#define tmf_select tmf_probe_select
#define tmf_select_format tmf_probe_select_format
#include "../../firmware/core/tmf_select.c"
