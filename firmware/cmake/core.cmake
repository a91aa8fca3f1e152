# What every port builds of the core.
set(TMF_VERSION 0.1.0)
set(TMF_CORE "${CMAKE_CURRENT_LIST_DIR}/../core")
set(TMF_CORE_SOURCES)
foreach(name chunk crc32 error learn link loss math model node operation phase select)
  list(APPEND TMF_CORE_SOURCES "${TMF_CORE}/tmf_${name}.c")
endforeach()

# Bit-exactness across compilers and processors: no contraction into fused multiply-add, nothing that
# reorders floating point.
set(TMF_EXACT -ffp-contract=off -fno-fast-math)
set(TMF_WARNINGS -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes)
