# The C codec, generated from protocol.cddl by zcbor, with the C runtime that zcbor's package carries:
# TMF_PROTOCOL_SOURCES, and TMF_PROTOCOL_INCLUDES for who uses it.
find_program(ZCBOR zcbor REQUIRED)
execute_process(
  COMMAND "${ZCBOR}" --version
  OUTPUT_VARIABLE zcbor_version OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)

# The runtime lies beside the Python module, which is not the same place in every environment. The one in which
# pip builds has no Python beside zcbor, but has any Python find the module.
get_filename_component(zcbor_bin "${ZCBOR}" DIRECTORY)
find_program(zcbor_python NAMES python3 python HINTS "${zcbor_bin}" NO_CACHE REQUIRED)
execute_process(
  COMMAND "${zcbor_python}" -c "import importlib.util as util; print(*util.find_spec('zcbor').submodule_search_locations)"
  OUTPUT_VARIABLE zcbor_dir OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)

set(cddl "${CMAKE_CURRENT_LIST_DIR}/../protocol.cddl")
set(generated "${CMAKE_CURRENT_BINARY_DIR}/generated")
file(MAKE_DIRECTORY "${generated}")
add_custom_command(
  OUTPUT "${generated}/protocol_decode.c" "${generated}/protocol_encode.c"
         "${generated}/protocol_decode.h" "${generated}/protocol_encode.h"
         "${generated}/protocol_types.h"
  COMMAND "${ZCBOR}" code -c "${cddl}" -d -e -t request-body response-body
          --oc "${generated}/protocol.c" --oh "${generated}/protocol.h"
  DEPENDS "${cddl}"
  COMMENT "Generating the codec with zcbor ${zcbor_version}"
  VERBATIM)

set(TMF_PROTOCOL_SOURCES
  "${generated}/protocol_decode.c" "${generated}/protocol_encode.c"
  "${zcbor_dir}/src/zcbor_common.c" "${zcbor_dir}/src/zcbor_decode.c"
  "${zcbor_dir}/src/zcbor_encode.c")
set(TMF_PROTOCOL_INCLUDES "${generated}" "${zcbor_dir}/include")
