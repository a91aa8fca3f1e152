# What every port builds of the core.
set(TMF_VERSION 0.1.0)
set(TMF_CORE "${CMAKE_CURRENT_LIST_DIR}/../core")
set(TMF_CORE_SOURCES)
foreach(name activation chunk convolution crc32 dense depthwise error format join kernel learn link loss math
        matrix model node operation phase pool request select training)
  list(APPEND TMF_CORE_SOURCES "${TMF_CORE}/tmf_${name}.c")
endforeach()

# What works once for a frame, a request or a model. There a small image counts, in what works for each weight speed.
# Pools are as fast either way.
set(TMF_SMALL -Os -fno-align-loops)
set(TMF_COLD_SOURCES)
foreach(name error join kernel learn loss model node operation phase pool request training)
  list(APPEND TMF_COLD_SOURCES "${TMF_CORE}/tmf_${name}.c")
endforeach()

# Bit-exactness across compilers and processors: no contraction into fused multiply-add, nothing that
# reorders floating point. A Cortex-M4 fetches words, and the FPU's instructions are words: a loop of them
# begins with one.
set(TMF_OPTIONS -ffp-contract=off -fno-fast-math -falign-loops=4)
set(TMF_WARNINGS -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes)
