"""The firmware's core as a library that tests look into."""

from types import SimpleNamespace

import cffi
import pytest

from tinymetafed import places

TEST_LIBRARY = "libtinymetafed_test"

DECLARATIONS = """
float tmf_expf(float x);
float tmf_logf(float x);
float tmf_tanhf(float x);
float tmf_sigmoidf(float x);
void tmf_math_map(int function, uint32_t start_bits, uint32_t stride, uint32_t count, float *out);
uint32_t tmf_math_crc(int function, uint32_t start_bits, uint32_t stride, uint32_t count);

uint32_t tmf_crc32(uint32_t crc, const uint8_t *data, size_t size);
size_t tmf_link_frame(uint8_t *body, size_t size, uint8_t *frame);
uint32_t tmf_probe_frame_size(const uint8_t *body, size_t size);

struct tmf_format { int values; int32_t exponent; };
struct tmf_format tmf_format_for(int values, uint32_t largest);
uint32_t tmf_format_zero(const struct tmf_format *format);
uint32_t tmf_format_code(const struct tmf_format *format, float value);
float tmf_format_value(const struct tmf_format *format, uint32_t code);

struct tmf_selection {
    uint32_t threshold; size_t ties_end; size_t marked; struct tmf_format format;
};
bool tmf_select(const float *values, size_t n, size_t keep, struct tmf_selection *selection);
bool tmf_probe_select(const float *values, size_t n, size_t keep, struct tmf_selection *selection);
void tmf_select_format(const float *values, size_t n, int format, struct tmf_selection *selection);

struct tmf_chunk {
    uint32_t first; uint32_t count; uint32_t encoding; const uint8_t *data; size_t size;
};
struct tmf_chunk tmf_chunk_encode(const float *values, const struct tmf_selection *selection,
                                  uint32_t first, uint32_t end, uint8_t *out, size_t capacity);
uint32_t tmf_probe_hurried(const uint8_t *request, size_t size, uint32_t rounds,
                           uint32_t *overruns);
void tmf_probe_flush(bool flush);
bool tmf_probe_flushes(void);
uint32_t tmf_probe_forward(const uint32_t *layers, size_t count, uint32_t inputs,
                           const float *theta, const float *x, float *y);
int tmf_chunk_apply(const struct tmf_chunk *chunk, float *values, uint32_t n);
"""


@pytest.fixture(scope="session")
def core() -> SimpleNamespace:
    """`ffi` and `lib` of the host build, or of that with sanitizers."""
    ffi = cffi.FFI()
    ffi.cdef(DECLARATIONS)
    return SimpleNamespace(
        ffi=ffi, lib=ffi.dlopen(str(places.HOST_LIBRARY.with_stem(TEST_LIBRARY)))
    )
