# The core as a shared library for the orchestrator, the same with what the tests look into, and two
# programs for the sanitizers: a node on its standard input and output, and training in two layouts.
if(TMF_SANITIZE)
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
  foreach(target tmf_core tmf_protocol)
    target_compile_options(${target} PRIVATE -fsanitize=address,undefined -fno-sanitize-recover=all)
  endforeach()
endif()

if(TMF_FUZZ)
  set(fuzzed -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
      -fprofile-instr-generate -fcoverage-mapping)
  foreach(target tmf_core tmf_protocol)
    target_compile_options(${target} PRIVATE ${fuzzed} -Wno-unknown-attributes) # some are of GCC alone
  endforeach()
  set(harnesses "${CMAKE_CURRENT_SOURCE_DIR}/../tests/firmware/fuzz")
  foreach(name raw requests)
    add_executable(fuzz_${name} "${harnesses}/${name}.c" "${harnesses}/fuzzing.c")
    target_compile_options(fuzz_${name} PRIVATE ${fuzzed} ${TMF_WARNINGS})
    target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer,address,undefined -fprofile-instr-generate)
    target_link_libraries(fuzz_${name} PRIVATE tmf_core)
  endforeach()
  return() # the core as fuzzers look at it is for nothing else
endif()

# A host has wide registers, for which loops are made at -O3; the sanitizers look at the core as nodes have it.
if(NOT TMF_SANITIZE)
  target_compile_definitions(tmf_core PRIVATE TMF_SELECT_WIDE)
  set_source_files_properties("${TMF_CORE}/tmf_select.c" PROPERTIES COMPILE_OPTIONS -O3)
endif()

set(host ports/host/tmf_host.c ports/host/tmf_floats.c)
add_library(tinymetafed SHARED ${host} ports/host/tmf_clients.c)
target_link_libraries(tinymetafed PRIVATE tmf_core tmf_protocol m)
target_compile_options(tinymetafed PRIVATE ${TMF_WARNINGS})

if(NOT TMF_TESTS)
  return()
endif()
set(tests "${CMAKE_CURRENT_SOURCE_DIR}/../tests/firmware")
add_library(tinymetafed_test SHARED "${tests}/math_probe.c" "${tests}/node_probe.c"
            "${tests}/clients_probe.c" "${tests}/select_probe.c" "${tests}/forward_probe.c"
            "${tests}/floats_probe.c" ${host})
target_include_directories(tinymetafed_test PRIVATE ports/host)
target_compile_options(tinymetafed_test PRIVATE ${TMF_WARNINGS})
target_link_libraries(tinymetafed_test PRIVATE -Wl,--whole-archive tmf_core -Wl,--no-whole-archive tmf_protocol m)

add_executable(tinymetafed_pipe "${tests}/pipe_node.c" ${host})
target_include_directories(tinymetafed_pipe PRIVATE ports/host)
target_compile_options(tinymetafed_pipe PRIVATE ${TMF_WARNINGS})
target_link_libraries(tinymetafed_pipe PRIVATE tmf_core m)

add_executable(tinymetafed_layouts "${tests}/layouts.c")
target_compile_options(tinymetafed_layouts PRIVATE ${TMF_WARNINGS})
target_link_libraries(tinymetafed_layouts PRIVATE tmf_core)
