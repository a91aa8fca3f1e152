# Bare metal on Arm MPS2 with the AN386 image (Cortex-M4F); boots on QEMU's mps2-an386.
set_source_files_properties(${TMF_COLD_SOURCES} ${TMF_PROTOCOL_SOURCES} ports/mps2/main.c ports/mps2/startup.c
                            ports/cortex_m/tmf_cycles.c PROPERTIES COMPILE_OPTIONS "${TMF_SMALL}")

function(tmf_mps2_image name)
  add_executable(${name} ${ARGN} ports/mps2/startup.c ports/mps2/uart.c ports/cortex_m/tmf_cycles.c)
  target_include_directories(${name} PRIVATE ports/mps2 ports/cortex_m)
  target_compile_options(${name} PRIVATE ${TMF_WARNINGS})
  target_link_libraries(${name} PRIVATE tmf_core)
  target_link_options(${name} PRIVATE
    -T "${CMAKE_CURRENT_SOURCE_DIR}/ports/mps2/mps2.ld" -nostartfiles --specs=nano.specs
    -Wl,--gc-sections -Wl,--build-id=sha1 -Wl,--fatal-warnings -Wl,--print-memory-usage
    "-Wl,-Map=${name}.map")
  set_target_properties(${name} PROPERTIES
    SUFFIX .elf LINK_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/ports/mps2/mps2.ld")
  # An image whose bytes are others than these is not loaded.
  add_custom_command(TARGET ${name} POST_BUILD VERBATIM WORKING_DIRECTORY "$<TARGET_FILE_DIR:${name}>"
    COMMAND "${CMAKE_COMMAND}" -E sha256sum ${name}.elf > ${name}.elf.sha256)
endfunction()

# Frozen weights that lie in the image: -DTMF_BACKBONE=FILE.c, as `tinymetafed firmware build` writes it.
tmf_mps2_image(tinymetafed ports/mps2/main.c ${TMF_BACKBONE})
# A network that `tinymetafed export` wrote as C: -DTMF_NETWORK=FILE.c
if(TMF_NETWORK)
  tmf_mps2_image(tinymetafed_predict ports/mps2/predict.c "${TMF_NETWORK}")
  string(REGEX REPLACE "c$" "h" TMF_NETWORK_HEADER "${TMF_NETWORK}")
  target_compile_definitions(tinymetafed_predict PRIVATE TMF_NETWORK_HEADER="${TMF_NETWORK_HEADER}")
endif()
if(NOT TMF_TESTS)
  return()
endif()
set(tests "${CMAKE_CURRENT_SOURCE_DIR}/../tests/firmware")
tmf_mps2_image(tinymetafed_math "${tests}/math_mps2.c" "${tests}/math_probe.c")
tmf_mps2_image(tinymetafed_faults ports/mps2/main.c "${tests}/planted_faults.c")
target_link_options(tinymetafed_faults PRIVATE -Wl,--wrap=tmf_select -Wl,--wrap=tmf_node_init)
