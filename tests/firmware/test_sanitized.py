"""The node against whatever a link may bring, under sanitizers.

Each example is a process: a node that has just booted on standard input and output. What it is sent
ends in a hello; it has to answer that, to have answered each frame before it once, and to end well.
"""

import os
import struct
import subprocess
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import cbor2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tinymetafed.link import frame, messages
from tinymetafed.link.chunk import BITMAP, DENSE, FLOAT32, INDICES, INT8, Chunk
from tinymetafed.link.chunk import decode as decode_chunk
from tinymetafed.link.messages import (
    CORRECTED,
    FROM_MARK,
    FROZEN,
    GLOBAL,
    LOCAL,
    MARK,
    MOST_REQUESTS,
    RESIDUAL,
    VARIATE,
    Answers,
    Backbone,
    Cycles,
    Done,
    Error,
    Evaluate,
    Evaluated,
    Hello,
    HelloRequest,
    Layer,
    Load,
    Loaded,
    Mark,
    Outputs,
    Part,
    Predict,
    Renew,
    Request,
    Residual,
    Response,
    Restore,
    Select,
    Selected,
    Store,
    Train,
    Trained,
    Update,
    Updated,
    Variate,
    Weights,
)
from tinymetafed.places import BUILD

# Or a failure would be that its input is too long to print, and nothing else.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

NODE = BUILD / "sanitize/tinymetafed_pipe"
RECEIVE = 8192  # bytes of the node's receive buffer
MEMORY = 216 * 1024  # bytes for a model
LAST = 0xFFFF_FFFE  # the sequence number of the hello that ends an example

# enum tmf_error; what a request may come to is a set of these, OK among them or not.
OK, MALFORMED, NO_MODEL, MODEL, NO_MEMORY, NO_WEIGHTS = range(6)
RANGE, ENCODING, SAMPLES, ARGUMENT, DIVERGED, ORDER = range(6, 12)

# Where numbers change their length in CBOR, and what the core compares sizes with.
BORDERS = [0, 1, 2, 23, 24, 255, 256, 2**16 - 1, 2**16, 2**24, 2**24 + 1, 2**31, 2**32 - 1]


def hostile(examples: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The same examples each time, as many as the test can do in a second or two."""
    slow_is_fine = [
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.large_base_example,
    ]
    return settings(
        max_examples=examples, derandomize=True, deadline=None, suppress_health_check=slow_is_fine
    )


# ---- talking to a node ---------------------------------------------------------------------------


LAST_FRAME = frame.encode(messages.encode(LAST, HelloRequest()))


def run(*arguments: str, given: bytes) -> bytes:
    """What a fresh node sends."""
    process = subprocess.run(
        [NODE, *arguments],
        input=given,
        capture_output=True,
        timeout=120,  # an endless loop would hang the tests
        env=os.environ
        | {
            # The search for leaks takes as long again, and the core has no malloc.
            "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=1",
            "UBSAN_OPTIONS": "print_stacktrace=1",
        },
    )
    assert process.returncode == 0, process.stderr.decode(errors="replace")
    assert process.stdout.endswith(b"\0")
    return process.stdout


def answers_in(sent: bytes, taken: Sequence[bytes], dropped: int) -> list[bytes]:
    """The bodies that a node has answered `taken` with; its count of what it dropped is right."""
    receiver = frame.FrameReceiver()
    boot, *answers, end = receiver.receive(sent)
    assert receiver.bad_frames == 0
    first = decode(boot)
    assert (first.sequence, *map(type, first.responses)) == (messages.UNASKED, Hello)
    last = decode(end)
    assert last.sequence == LAST
    [hello] = last.responses
    assert isinstance(hello, Hello)
    assert (hello.bad_frames, hello.overruns) == (dropped, 0)
    assert [decode(answer).sequence for answer in answers] == [sequence_of(body) for body in taken]
    return answers


def talk(stream: bytes) -> list[bytes]:
    """What a fresh node answers `stream` with: a body for each frame in it that is whole."""
    pieces = [piece for piece in stream.split(b"\0") if piece]
    return answers_in(run(given=stream + b"\0" + LAST_FRAME), *judged(pieces))


def decode(body: bytes) -> Answers:
    """Answers, which are of the protocol; if one is an error it is the last, and tells a person
    something."""
    decoded = messages.decode(body)
    assert decoded is not None, body.hex()
    *before, last = decoded.responses
    assert not any(isinstance(one, Error) for one in before)
    if isinstance(last, Error):
        assert MALFORMED <= last.code <= ORDER
        assert last.message
    return decoded


def body_in(piece: bytes) -> bytes | None:
    """Of a frame without its zero; None where a node counts it as bad."""
    if 0 in piece or len(piece) > RECEIVE:
        return None
    return next(iter(frame.FrameReceiver().receive(piece + b"\0")), None)


def judged(pieces: Sequence[bytes]) -> tuple[list[bytes], int]:
    """The bodies of the frames that a node takes, and how many it counts as bad."""
    bodies = [body for body in map(body_in, pieces) if body is not None]
    return bodies, len(pieces) - len(bodies)


def sequence_of(body: bytes) -> int:
    """The number of the answer to `body`: the request's, or 0 where none can be read."""
    if not body or not 0x82 <= body[0] <= 0x81 + MOST_REQUESTS:  # a list's head of one byte
        return 0
    number = read_head(body[1:])
    if number is None or number[0] != 0 or number[1] is None or number[2] > 5:
        return 0
    return number[1] if len(body) > 1 + number[2] else 0  # where nothing follows


def read_head(data: bytes) -> tuple[int, int | None, int] | None:
    """Of the CBOR head that `data` begins with: major type, argument (None: indefinite), length."""
    if not data:
        return None
    major, additional = data[0] >> 5, data[0] & 31
    if additional < 24:
        return major, additional, 1
    if additional == 31:
        return major, None, 1
    length = 1 + (1 << (additional - 24)) if additional < 28 else len(data) + 1
    return (major, int.from_bytes(data[1:length]), length) if length <= len(data) else None


Frames = Sequence[Sequence[Request]]


def framed(frames: Frames, first: int = 1) -> list[bytes]:
    """Of requests, numbered from `first` on."""
    found = [
        frame.encode(messages.encode((first + i) % 2**32, *requests))
        for i, requests in enumerate(frames)
    ]
    assert all(len(whole) <= RECEIVE for whole in found)
    return found


def alone(requests: Sequence[Request]) -> list[list[Request]]:
    """A frame for each."""
    return [[request] for request in requests]


def together(requests: Sequence[Request], seed: int) -> list[list[Request]]:
    """Few of them in a frame or many, as the seed has it; none longer than what a node takes."""
    rng = np.random.default_rng(seed)
    share, room = rng.random(), 0
    frames: list[list[Request]] = []
    for request in requests:
        size = len(messages.encode_request(request))
        full = not frames or size > room or len(frames[-1]) == MOST_REQUESTS
        if full or rng.random() > share:
            frames.append([])
            room = frame.capacity(RECEIVE) - 6
        frames[-1].append(request)
        room -= size
    return frames


# ---- noise ---------------------------------------------------------------------------------------


def damaged(whole: bytes, position: int, change: int) -> bytes:
    """One byte changed, at a position that is taken modulo the length."""
    position %= len(whole)
    return whole[:position] + bytes([whole[position] ^ change]) + whole[position + 1 :]


def random_bytes(seed: int, n: int, zeros: bool) -> bytes:
    return np.random.default_rng(seed).integers(0 if zeros else 1, 256, n, np.uint8).tobytes()


SEEDS = st.integers(0, 2**32 - 1)
LENGTHS = st.sampled_from([1, 253, 254, 255, 256, 4096, 8100, 9216]) | st.integers(0, 9216)
RUNS = st.builds(lambda unit, n: (unit * n)[:n], st.binary(min_size=1, max_size=4), LENGTHS)
GARBAGE = st.one_of(
    st.binary(max_size=64),
    RUNS,
    st.builds(lambda byte, n: bytes([byte]) * n, st.sampled_from([0, 1, 2, 0xFE, 0xFF]), LENGTHS),
    st.builds(random_bytes, SEEDS, LENGTHS, st.booleans()),
)


@hostile(60)
@given(st.lists(GARBAGE, max_size=4).map(b"".join))
def test_garbage_is_dropped(stream: bytes):
    talk(stream)


def test_a_frame_with_a_wrong_crc_is_counted_and_dropped():
    whole = framed([[HelloRequest()]])[0]
    copies = [damaged(whole, i, 1 << bit) for i in range(len(whole) - 1) for bit in range(8)]
    assert len(talk(b"".join([*copies, whole]))) == 1  # talk has compared the count


def test_a_frame_of_any_length_is_taken_or_counted():
    longest = frame.capacity(RECEIVE)
    lengths = [*range(1, 12), *range(240, 270), *range(500, 520), longest - 1, longest]
    whole = [frame.encode((b"\x82\x07" + bytes(n))[:n]) for n in lengths]
    assert len(talk(b"".join(whole))) == len(lengths)
    assert len(talk(frame.encode(b"") + whole[0])) == 1
    for fill in b"\0\x55":
        borders = [frame.encode(bytes([fill]) * (longest + n)) for n in range(40)]
        assert 0 < len(talk(b"".join(borders))) < len(borders)
    for n in [RECEIVE - 3, RECEIVE, 9216, 70_000]:
        for fill in b"\0\x55":
            assert len(talk(frame.encode(bytes([fill]) * n) + whole[0])) == 1


# ---- frames around anything ----------------------------------------------------------------------


def any_of(values: list[str]) -> st.SearchStrategy[bytes]:
    return st.sampled_from([bytes.fromhex(value) for value in values])


SCALARS = st.one_of(
    st.sampled_from([n - 1 for n in BORDERS] + BORDERS + [2**32, 2**63, 2**64 - 1, -(2**64)]),
    st.sampled_from([0.0, -0.0, 1.0, 1e-45, 6e-8, 1e300, float("nan"), float("-inf")]),
    st.sampled_from([None, True, False, cbor2.undefined, cbor2.CBORSimpleValue(99)]),
    st.binary(max_size=40),
    st.text(max_size=10),
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=8),
        st.dictionaries(st.integers(0, 9), inner, max_size=4),
        st.builds(cbor2.CBORTag, st.sampled_from([0, 24, 2**32, 2**64 - 1]), inner),
    ),
    max_leaves=20,
)
ALMOST = st.builds(
    lambda sequence, code, items: [sequence, [code, *items]], SCALARS, st.integers(0, 11),
    st.lists(TREES, max_size=9),
)  # fmt: skip
NESTED = st.builds(
    lambda head, opening, n: head + opening * n,
    st.sampled_from([b"", b"\x82\x01", b"\x9f\x01\x9f\x01", b"\x82\x01\x86\x01\x04\x00\xf4\x00"]),
    any_of(["81", "82", "9f", "bf", "c0", "5f", "d818", "9bffffffffffffffff"]),
    st.integers(1, 8000 // 9),
)
BODIES = st.one_of(
    st.binary(min_size=1, max_size=64),
    GARBAGE.map(lambda data: data[:8150] or b"\0"),
    (TREES | ALMOST).map(cbor2.dumps),
    NESTED,
)
PIECES = st.one_of(
    BODIES.map(frame.encode),
    st.builds(damaged, BODIES.map(frame.encode), SEEDS, st.integers(1, 255)),
    st.builds(lambda body, n: frame.encode(body)[:-n], BODIES, st.integers(1, 8)),
    GARBAGE,
)


@hostile(100)
@given(st.lists(BODIES, min_size=1, max_size=8))
def test_a_frame_around_anything_is_answered(bodies: list[bytes]):
    assert len(talk(b"".join(map(frame.encode, bodies)))) == len(bodies)


@hostile(80)
@given(st.lists(PIECES, max_size=8).map(b"".join))
def test_frames_are_found_in_noise(stream: bytes):
    talk(stream)


# ---- the window: frames in memory that the node shares -------------------------------------------


class Step(NamedTuple):
    """What is put into the window, the size that it is said to have, and what the UART brings."""

    size: int
    data: bytes
    uart: bytes = b"\0"


def laid(whole: bytes) -> Step:
    """A frame as it should be."""
    return Step(len(whole) - 1, whole[:-1])


def talk_by_window(steps: Sequence[Step]) -> list[bytes]:
    """What a fresh node with a window answers: a body for each frame that came either way."""
    last = laid(LAST_FRAME)._replace(uart=b"\0\0")  # the first may end something
    window, partial, pieces = bytearray(RECEIVE), b"", []
    for step in steps:
        window[: len(step.data)] = step.data
        size = step.size
        *ended, partial = (partial + step.uart).split(b"\0")
        for piece in ended:
            if not piece and size:
                piece = bytes(window[:size]) if size <= RECEIVE else bytes(1)
                size = 0
            pieces += [piece] if piece else []
    pieces += [partial] if partial else []
    given = b"".join(
        struct.pack("<3I", one.size, len(one.data), len(one.uart)) + one.data + one.uart
        for one in [*steps, last]
    )
    return answers_in(run("window", given=given), *judged(pieces))


SIZES = st.sampled_from([*BORDERS, RECEIVE - 1, RECEIVE, RECEIVE + 1]) | st.integers(0, 9000)
UARTS = st.sampled_from([b"\0", b"\0", b"\0\0", b"", b"\1\0", b"\5half"]) | PIECES
STEPS = st.one_of(
    BODIES.map(frame.encode).map(laid),
    st.builds(Step, SIZES, GARBAGE.map(lambda data: data[:RECEIVE]), UARTS),
    st.builds(lambda body, size, uart: Step(size, frame.encode(body)[:-1], uart),
              BODIES, SIZES, UARTS),
    st.builds(lambda body, position, change: laid(damaged(frame.encode(body), position, change)),
              BODIES, SEEDS, st.integers(1, 255)),
)  # fmt: skip


@hostile(100)
@given(st.lists(BODIES, min_size=1, max_size=8))
def test_a_frame_in_the_window_is_answered_as_one_over_the_uart(bodies: list[bytes]):
    whole = [frame.encode(body) for body in bodies]
    assert talk_by_window([laid(one) for one in whole]) == talk(b"".join(whole))


@hostile(200)
@given(st.lists(STEPS, max_size=6))
def test_whatever_lies_in_the_window_is_answered_or_counted(steps: list[Step]):
    talk_by_window(steps)


def test_a_size_that_is_wrong_reads_nothing_else():
    whole = framed([[HelloRequest()]])[0]
    right = len(whole) - 1
    sizes = [
        *range(right),
        *range(right + 1, right + 300),
        *range(RECEIVE - 2, RECEIVE + 3),
        *BORDERS,
    ]
    steps = [Step(size, whole[:-1].ljust(RECEIVE, b"\1")) for size in sizes]
    assert talk_by_window(steps) == []
    assert len(talk_by_window([*steps, laid(whole)])) == 1


def test_a_frame_in_the_window_ends_where_one_over_the_uart_would():
    """A zero within it, under a right CRC, is no frame either way."""
    body = messages.encode(1, HelloRequest())
    data = body + zlib.crc32(body).to_bytes(4, "little")
    assert 0 in data
    assert talk_by_window([laid(bytes([len(data) + 1]) + data + b"\0")]) == []


def test_a_doorbell_that_ends_noise_leaves_the_frame_for_the_next():
    whole = framed([[HelloRequest()]])[0]
    [answer] = talk_by_window([laid(whole)._replace(uart=b"noise\0\0")])
    assert talk_by_window([laid(whole)._replace(uart=b"noise\0")]) == []
    assert decode(answer).sequence == 1


# ---- requests and what is almost one -------------------------------------------------------------


def head(major: int, argument: int, length: int = 0) -> bytes:
    """A CBOR head whose argument takes `length` bytes, or as many as it needs."""
    least = 0 if argument < 24 else next(n for n in (1, 2, 4, 8) if argument < 1 << 8 * n)
    length = max(length, least)
    if length == 0:
        return bytes([major << 5 | argument])
    return bytes([major << 5 | 23 + length.bit_length()]) + argument.to_bytes(length)


def array(items: list[bytes], length: int | None) -> bytes:
    """`length`: bytes of the number of items; None: of indefinite length."""
    if length is None:
        return b"\x9f" + b"".join(items) + b"\xff"
    return head(4, len(items), length) + b"".join(items)


@dataclass(frozen=True)
class Field:
    """A place in a request: items that belong there, and items that do not."""

    good: st.SearchStrategy[bytes]
    bad: st.SearchStrategy[bytes]


HEAD_LENGTHS = st.sampled_from([0, 0, 0, 1, 2, 4])
ARRAY_LENGTHS = HEAD_LENGTHS | st.none()
# An item of each kind. Some belong in one field and not in another, the others in none.
NUMBER, NEGATIVE, BYTES, TEXT = b"\x00", b"\x20", b"\x41a", b"\x61a"
HALF, SINGLE, TRUE, NIL = b"\xf9\x3c\x00", b"\xfa\x3f\x80\x00\x00", b"\xf5", b"\xf6"
NOWHERE = [
    NEGATIVE, TEXT, b"\x3a\xff\xff\xff\xff", b"\xfb\x3f\xf0" + bytes(6), b"\xf7", b"\xf8\x20",
    b"\xf8\x15", b"\x80", b"\xa0", b"\xc1\x01", b"\x5f\x41a\xff", b"\x1c", b"\x5c", b"\xff",
    b"\x1b\0\0\0\1\0\0\0\0", b"\x5a\xff\xff\xff\xff", b"\x5b" + b"\xff" * 8, b"",
]  # fmt: skip


def numbers(limit: int) -> Field:
    borders = [n for n in BORDERS if n <= limit]
    values = st.sampled_from(borders) | st.integers(0, limit)
    beyond = head(0, limit + 1)
    return Field(
        st.builds(head, st.just(0), values, HEAD_LENGTHS),
        st.sampled_from([*NOWHERE, BYTES, HALF, SINGLE, TRUE, NIL, beyond]),
    )


U8, U16, U32 = numbers(0xFF), numbers(0xFFFF), numbers(0xFFFF_FFFF)
PART = numbers(2)
BOOL = Field(
    st.sampled_from([b"\xf4", TRUE]),
    st.sampled_from([*NOWHERE, NUMBER, b"\x01", BYTES, HALF, SINGLE, NIL, b"\xf8\x14"]),
)
RATE = Field(
    st.one_of(
        any_of(["f90000", "f93c00", "f90001", "f98001", "f97bff", "f97c00", "f9fc00", "f97e00"]),
        any_of(
            ["fa3dcccccd", "fa00000001", "fa7f7fffff", "fa7f800000", "faffc00000", "fa80000000"]
        ),
    ),
    st.sampled_from([*NOWHERE, NUMBER, BYTES, TRUE, NIL]),
)
DATA = Field(
    st.builds(lambda data, n: head(2, len(data), n) + data, st.binary(max_size=48), HEAD_LENGTHS),
    st.sampled_from([*NOWHERE, NUMBER, HALF, SINGLE, TRUE, NIL]),
)
DATA_OR_NIL = Field(DATA.good | st.just(NIL), st.sampled_from([*NOWHERE, NUMBER, HALF, TRUE]))


def lists(item: st.SearchStrategy[bytes], least: int, most: int) -> st.SearchStrategy[bytes]:
    return st.builds(array, st.lists(item, min_size=least, max_size=most), ARRAY_LENGTHS)


def layers(least: int, most: int) -> st.SearchStrategy[bytes]:
    parameters = st.lists(U32.good, min_size=least, max_size=most)
    items = st.builds(lambda a, b, more: [a, b, *more], U8.good, PART.good, parameters)
    return st.builds(array, items, ARRAY_LENGTHS)


LAYER = layers(0, 6)
TINY = st.just(b"\x82\x02\x00")
BAD_LAYER = st.one_of(
    layers(7, 8),
    st.builds(lambda item: array([item, b"\x00"], 0), U8.bad),
    st.builds(lambda item: array([b"\x01", item, b"\x01"], 0), PART.bad),
    st.builds(lambda items, item: array([b"\x01", b"\x00", *items, item], 0),
              st.lists(U32.good, max_size=5), U32.bad.filter(len)),
    st.just(b"\x81\x01"),
    st.sampled_from([*NOWHERE, NUMBER]).filter(len),
)  # fmt: skip
LAYERS = Field(
    st.one_of(lists(LAYER, 1, 4), lists(TINY, 32, 32)),
    st.one_of(
        st.sampled_from([*NOWHERE, NUMBER, BYTES, b"\x9f\xff"]),
        lists(TINY, 33, 34),
        st.builds(lambda a, bad, b, n: array([*a, bad, *b], n), st.lists(LAYER, max_size=2),
                  BAD_LAYER, st.lists(LAYER, max_size=1), ARRAY_LENGTHS),
    ),
)  # fmt: skip
REQUESTS: list[list[Field]] = [
    [],
    [U32, U8, BOOL, U32, LAYERS],
    [U32, U32, BOOL, U32, U32, U8, DATA],
    [RATE, U32, U16, U16, DATA_OR_NIL],
    [BOOL, DATA],
    [DATA],
    [DATA],
    [U32],
    [U32, U32],
    [U32, U32],
    [U32, U32, U8, DATA],
    [],
    [U32, U32, U8, DATA],
    [RATE],
    [U32, DATA],
    [U32, U32, U8, DATA],
    [],
]


def without(field: Field, *items: bytes) -> Field:
    """Where these would belong, if not there."""
    return Field(field.good, field.bad.filter(lambda item: item and item not in items))


# Fields that may be at the end, all that can be there at once.
OPTIONAL = {
    Load.CODE: [[without(U8)]],
    Select.CODE: [[without(U8)]],
    Train.CODE: [
        [without(RATE, NUMBER)], [without(U8, HALF, SINGLE)], [without(RATE), without(U8)],
    ],
}  # fmt: skip
ANSWERS = [
    Hello, Loaded, Done, Trained, Done, Evaluated, Outputs, Selected, Updated, Updated, Done, Done,
    Done, Done, Done, Done, Outputs,
]  # fmt: skip
HELLO = b"\x81\0"


@st.composite
def bodies(draw: st.DrawFn, sequence: int) -> tuple[bytes, int, int, bool]:
    """A frame of hellos and a last request, or something that is not one: its number as the answer
    has it, how many hellos are answered, and which it is."""
    code = draw(st.integers(0, len(REQUESTS) - 1))
    fields = [U8, *REQUESTS[code]]
    needed = len(fields)
    extra = [*NOWHERE, NUMBER, BYTES]
    if code in OPTIONAL:
        extra.remove(NUMBER)  # it could be a field that is not there
        if draw(FLAGS):
            fields += draw(st.sampled_from(OPTIONAL[code]))
    items = [head(0, code), *(draw(field.good) for field in fields[1:])]
    number = head(0, sequence, draw(HEAD_LENGTHS))
    hellos = draw(st.sampled_from([0, 0, 1, 2, MOST_REQUESTS - 1]))
    outer = [number, *hellos * [HELLO]]
    lengths: list[int | None] = [0]
    flaw = draw(st.integers(0, 13))
    place = draw(st.integers(0, len(items) - 1))
    if flaw == 1:
        items[place] = draw(fields[place].bad)
    elif flaw == 2:
        # Not one alone: without its first, a select can be a hello.
        del items[min(place, needed - 1) :]
    elif flaw == 3:
        items.insert(place + 1, draw(st.sampled_from(extra).filter(len)))
    elif flaw == 4:
        items[0] = draw(
            st.sampled_from([head(0, len(REQUESTS)), head(0, 99), head(0, 2**32), NEGATIVE])
        )
    elif flaw == 5:
        outer.append(draw(st.sampled_from([NUMBER, b"\x80"])))
    elif flaw == 6:
        outer[0] = draw(st.sampled_from([*NOWHERE, BYTES, HALF, TRUE, NIL]))
        sequence, hellos = 0, 0
    elif flaw == 9:
        lengths = [1, 2, 4, 8, None]
        sequence, hellos = 0, 0
    outer.append(array(items, draw(ARRAY_LENGTHS)))
    body = array(outer, draw(st.sampled_from(lengths)))
    if flaw == 7:
        body += draw(st.sampled_from([b"\0", b"\xff", HELLO, body]))
    elif flaw == 8:
        cut = draw(st.integers(1, len(outer[-1])))
        body = body[:-cut]
        if cut == len(outer[-1]) and hellos == 0:
            sequence = 0
    elif len(outer) > MOST_REQUESTS + 1:
        sequence, hellos = 0, 0
    return body, sequence, hellos, flaw not in range(1, 10)


@hostile(150)
@given(st.tuples(*(bodies(sequence) for sequence in range(1, 9))))
def test_what_is_not_a_request_is_called_malformed(
    cases: tuple[tuple[bytes, int, int, bool], ...],
):
    answers = talk(b"".join(frame.encode(body) for body, *_ in cases))
    for (body, number, hellos, is_request), raw in zip(cases, answers, strict=True):
        found = decode(raw)
        *before, answer = found.responses
        malformed = isinstance(answer, Error) and answer.code == MALFORMED
        assert (found.sequence, malformed) == (number, not is_request), (body.hex(), answer)
        assert [type(one) for one in before] == hellos * [Hello]


# ---- the contract: what a node may answer to requests that are well-formed -----------------------


@dataclass(frozen=True)
class Shape:
    """The model that a load describes; `least` and `most`: between what it needs in bytes."""

    load: Load
    outputs: int
    parameters: int
    backbone: int  # frozen parameters, which are apart
    local: tuple[range, ...]  # of the parameters
    least: int
    most: int

    @property
    def sample_size(self) -> int:
        return 4 * (self.load.inputs + (1 if self.load.loss else self.outputs))

    def count(self, data: bytes) -> int | None:
        """How many samples; None where there are none, a part of one, or one of no class."""
        count, rest = divmod(len(data), self.sample_size)
        classes = [data[i * self.sample_size - 4 :][:4] for i in range(1, count + 1)]
        most = max(self.outputs, 2)
        valid = self.load.loss == 0 or all(u32(target) < most for target in classes)
        return count if count and not rest and valid else None


def u32(data: bytes) -> int:
    return int.from_bytes(data, "little")


@dataclass(frozen=True)
class Planned:
    """A layer; `patch`: values under a window of a convolution."""

    outputs: int
    parameters: int = 0
    patch: int = 0


def plan(layer: Layer, widths: Sequence[int], routes: Sequence[int]) -> Planned | None:
    """None where the layer cannot follow others. widths: values of the sample, then of each layer.
    routes: numbers of the layers that are no source."""
    arguments, inputs = layer.arguments, widths[-1]
    if layer.operation == 1 and len(arguments) == 1:
        return Planned(arguments[0], arguments[0] * (inputs + 1))
    if layer.operation in (2, 3, 9, 10) and not arguments:
        return Planned(inputs)
    if layer.operation == 8 and len(arguments) == 1:
        slope = np.uint32(arguments[0]).view(np.float32)
        return Planned(inputs) if 0 < slope < 1 else None
    if layer.operation in (ADD, ROUTE) and len(arguments) == 1:
        [source] = arguments
        if source >= len(widths) or source in routes:
            return None
        return Planned(inputs) if layer.operation == ROUTE or widths[source] == inputs else None
    if layer.operation not in WINDOW_ARGUMENTS:
        return None
    if len(arguments) != WINDOW_ARGUMENTS[layer.operation]:
        return None
    (height, width, *packed), more = arguments[:5], (*arguments[5:], 0)[0]
    sizes, strides, padding = (n.to_bytes(4, "little") for n in packed)
    pixels = height * width
    if not pixels or inputs % pixels or any(sizes[2:] + strides[2:]):
        return None
    places: list[int] = []
    for i, length in enumerate((height, width)):
        before, behind = padding[2 * i : 2 * i + 2]
        spare = length + before + behind - sizes[i]
        if not strides[i] or not max(before, behind) < sizes[i] or spare < 0:
            return None
        places.append(spare // strides[i] + 1)
    channels = inputs // pixels
    patch = sizes[0] * sizes[1] * channels
    count = places[0] * places[1]
    if count > 2**24 or (layer.operation == AVERAGE and more > 1):
        return None
    if layer.operation == 4:
        return Planned(count * more, more * (patch + 1), patch) if patch <= 2**24 else None
    return Planned(count * channels, patch + channels if layer.operation == 5 else 0)


AVERAGE, ADD, ROUTE = 7, 11, 12
WINDOW_ARGUMENTS = {4: 6, 5: 5, 6: 5, AVERAGE: 6}


def shape_of(load: Load) -> Shape | None:
    """None where the layers do not make a model."""
    widths, parameters, backbone, patch = [load.inputs], 0, 0, 0
    local: list[range] = []
    routes: list[int] = []
    sources: set[int] = set()
    for number, layer in enumerate(load.layers, 1):
        planned = plan(layer, widths, routes)
        if planned is None or not all(0 < n <= 2**24 for n in (widths[-1], planned.outputs)):
            return None
        if layer.operation in (ADD, ROUTE):
            sources.add(layer.arguments[0])
        if layer.operation == ROUTE:
            routes.append(number)
            planned = Planned(widths[layer.arguments[0]])
        if layer.part == LOCAL:
            local.append(range(parameters, parameters + planned.parameters))
        if layer.part == FROZEN:
            backbone += planned.parameters
        else:
            parameters += planned.parameters
        patch = max(patch, planned.patch)
        widths.append(planned.outputs)
    outputs = widths[-1]
    both = RESIDUAL | VARIATE
    suits = {0: True, 1: outputs > 1, 2: outputs == 1}.get(load.loss, False)
    if not suits or load.room > 7 or load.room & both == both:
        return None
    if any(number > 1 and number - 1 not in sources for number in routes):
        return None  # nobody reads what the layer before gives
    sample = load.inputs + (1 if load.loss else outputs)
    vectors = 2 + load.accumulate + load.room.bit_count()
    least = backbone + vectors * parameters + (load.capacity + (4 * sample > WHOLE)) * sample
    most = least + 2 * sum(widths) + 2 * max(widths) + patch
    return Shape(load, outputs, parameters, backbone, tuple(local), 4 * least, 4 * most)


def fits(chunk: Chunk, values: int = FLOAT32) -> bool:
    """Whether the bytes are what the chunk's head says, and the values are sent like that."""
    data, count, encoding, width = chunk.data, chunk.count, chunk.encoding - 4 * values, 4 >> values
    if values == INT8:
        if not data or data[0] in range(122, 131):  # less than -125, more than 121
            return False
        data = data[1:]
    if encoding == DENSE:
        return len(data) == width * count
    if encoding == BITMAP:
        size = (count + 7) // 8
        marks = u32(data[:size])
        return marks < 1 << count and len(data) == size + width * marks.bit_count()
    if encoding != INDICES:
        return False
    numbers: list[int] = []
    while data and (not numbers or len(numbers) <= numbers[0]):
        number, data = read_leb(data)
        numbers.append(number)
    if not numbers or len(numbers) <= numbers[0]:
        return False
    marked, *gaps = numbers
    return sum(gaps) + marked <= count and len(data) == width * marked


def read_leb(data: bytes) -> tuple[int, bytes]:
    """A LEB128 number, larger than any other where it takes more than 32 bits, and what follows."""
    number = 0
    for i, byte in enumerate(data[:5]):
        number |= (byte & 0x7F) << 7 * i
        if byte < 0x80 and number < 2**32:
            return number, data[i + 1 :]
    return 2**40, b""


WHOLE = 8100  # bytes of a sample that never comes in parts
ALONE = 8152 - 40  # bytes of data in the only answer of a response, at most
CHUNK_LEAST = 16  # bytes without which there is no entry in a chunk


class Contract:
    """What the answers of a node may be, request by request."""

    def __init__(self) -> None:
        self.shape: Shape | None = None
        self.backbone = 0  # entries that have arrived
        self.stored = 0
        self.version = 0
        self.broadcast = (0, 0)
        self.next = 0  # entry of the broadcast
        self.working = ""
        self.values = FLOAT32  # as they were selected
        self.kept: NDArray[np.uint32] | None = None  # its bits, where they are known
        self.marked = False
        self.steps: int | None = 0  # None: unknown
        self.room = ALONE  # bytes of data that the answer may have

    def has(self, room: int) -> bool:
        """Whether the model has room for this."""
        return self.shape is not None and bool(self.shape.load.room & room)

    def check_frame(self, requests: Sequence[Request], answers: Answers) -> None:
        """That the answers to a frame are some that may be: one each, up to an error."""
        responses = answers.responses
        assert len(responses) == len(requests) or isinstance(responses[-1], Error)
        room = ALONE - 64 * (len(requests) - 1)
        for request, answer in zip(requests, responses, strict=False):
            self.room = max(0, room)
            self.check(request, answer)
            if isinstance(answer, Outputs):
                room -= len(answer.values)
            if isinstance(answer, Updated):
                room -= len(answer.chunk.data)

    def check(self, request: Request, answer: Response) -> None:
        """That the answer is one that may be; after that, what the request has changed."""
        code = answer.code if isinstance(answer, Error) else OK
        may = self.may(request)
        assert code in may, (request, answer, may)
        self.follow(request, code)
        if isinstance(answer, Trained) and self.steps is not None:
            self.steps += answer.steps
        if isinstance(answer, Error):
            memory = (answer.needed, answer.available)
            assert memory[0] > memory[1] == MEMORY if code == NO_MEMORY else memory == (0, 0)
        else:
            assert type(answer) is ANSWERS[request.CODE]
            assert self.is_right(request, answer), (request, answer)

    def may(self, request: Request) -> set[int]:
        """The codes that the request may come to."""
        shape = self.shape
        if isinstance(request, HelloRequest | Cycles):
            return {OK}
        if isinstance(request, Load):
            new = shape_of(request)
            if new is None:
                return {MODEL}
            return {NO_MEMORY if needed > MEMORY else OK for needed in (new.least, new.most)}
        if shape is None:
            return {NO_MODEL}
        if isinstance(request, Backbone):
            chunk = request.chunk
            outside = chunk.first + chunk.count > shape.backbone
            if chunk.first != self.backbone or chunk.encoding != DENSE or outside:
                return {RANGE}
            return {OK if fits(chunk) else ENCODING}
        if self.backbone < shape.backbone:
            return {NO_WEIGHTS}
        if isinstance(request, Weights):
            return self.may_weights(request, shape)
        if isinstance(request, Store):
            held = self.stored if request.append else 0
            count = shape.count(request.samples)
            if count is None:
                return {SAMPLES}
            return {RANGE if held + count > shape.load.capacity else OK}
        if isinstance(request, Part):  # no sample here is longer, and has all of its parts
            return {SAMPLES} if shape.sample_size <= WHOLE else {SAMPLES, RANGE, OK}
        if isinstance(request, Residual):
            right = request.first < request.end <= shape.parameters
            return {OK if self.has(RESIDUAL | VARIATE) and right else RANGE}
        if isinstance(request, Restore):
            chunk = request.chunk
            outside = chunk.first + chunk.count > shape.parameters
            if not self.has(RESIDUAL | VARIATE) or outside:
                return {RANGE}
            return {OK} if fits(chunk) else {ENCODING, RANGE}
        if isinstance(request, Update):
            if self.working != "update":
                return {ORDER}
            return {OK if request.first < request.end <= shape.parameters else RANGE}
        if self.working != "weights":
            return {ORDER if self.version else NO_WEIGHTS}
        if isinstance(request, Train):
            return self.may_train(request, shape)
        if isinstance(request, Evaluate):
            return {SAMPLES} if shape.count(request.samples) is None else {OK, DIVERGED}
        if isinstance(request, Predict):
            count, rest = divmod(len(request.samples), 4 * shape.load.inputs)
            wrong = count == 0 or rest != 0 or 4 * count * shape.outputs > self.room
            return {SAMPLES} if wrong else {OK, DIVERGED}
        if isinstance(request, Mark):
            return {OK if self.has(MARK) else ARGUMENT}
        if isinstance(request, Variate):
            chunk = request.chunk
            outside = chunk.first + chunk.count > shape.parameters
            if not self.has(VARIATE):
                return {ARGUMENT}
            return {RANGE if outside or chunk.encoding != DENSE or not fits(chunk) else OK}
        if isinstance(request, Renew):
            if not self.has(VARIATE) or not 0 < request.rate < np.inf or self.steps == 0:
                return {ARGUMENT}
            return {OK, DIVERGED} if self.steps else {OK, DIVERGED, ARGUMENT}
        return {ARGUMENT} if request.values > INT8 else {OK, DIVERGED}

    def may_train(self, request: Train, shape: Shape) -> set[int]:
        wrong: set[int] = set()
        if not 0 <= request.rate < np.inf or request.batch == 0 or request.epochs == 0:
            wrong.add(ARGUMENT)
        from_mark, corrected = request.options & FROM_MARK, request.options & CORRECTED
        if not 0 <= request.proximal < np.inf or request.options > FROM_MARK | CORRECTED:
            wrong.add(ARGUMENT)
        if not shape.load.accumulate and (request.batch > 1 or request.proximal > 0 or from_mark):
            wrong.add(ARGUMENT)
        if (from_mark and not self.has(MARK)) or (corrected and not self.has(VARIATE)):
            wrong.add(ARGUMENT)
        elif from_mark and not self.marked:
            wrong.add(ORDER)
        if not (self.stored if request.samples is None else shape.count(request.samples)):
            wrong.add(SAMPLES)
        return wrong or {OK, DIVERGED}

    def begins(self, request: Weights) -> bool:
        again = request.base == 0 and request.chunk.first == 0
        return again or self.broadcast != (request.base, request.to)

    def may_weights(self, request: Weights, shape: Shape) -> set[int]:
        chunk, begins = request.chunk, self.begins(request)
        if request.to == 0:
            return {NO_WEIGHTS, RANGE}
        if begins and request.base not in (0, self.version):
            return {NO_WEIGHTS}
        start, end = 0 if begins else self.next, chunk.first + chunk.count
        if chunk.first < start or end > shape.parameters:
            return {RANGE}
        if request.base == 0 and (chunk.first > start or chunk.encoding != DENSE):
            return {RANGE}
        if not fits(chunk):
            return {ENCODING, RANGE}
        return {RANGE if request.base == 0 and request.last and end < shape.parameters else OK}

    def follow(self, request: Request, code: int) -> None:
        """What the request has changed."""
        if isinstance(request, Load):
            self.__init__()
            self.shape = shape_of(request) if code == OK else None
            if self.shape is not None:
                self.kept = np.zeros(self.shape.parameters, np.uint32)
        elif self.shape is None:
            pass
        elif isinstance(request, Backbone) and code == OK:
            self.backbone += request.chunk.count
        elif isinstance(request, Weights):
            self.follow_weights(request, code, self.shape)
        elif isinstance(request, Store) and code == OK:
            held = self.stored if request.append else 0
            self.stored = held + (self.shape.count(request.samples) or 0)
        elif isinstance(request, Restore) and code == OK and self.kept is not None:
            where, what = decode_chunk(request.chunk)
            self.kept[where] = what.view(np.uint32)
        elif isinstance(request, Select) and code in (OK, DIVERGED):
            self.working = "update" if code == OK else ""
            self.values = request.values
            if code == OK and self.has(RESIDUAL):
                self.kept = None
        elif isinstance(request, Mark) and code == OK:
            self.marked = True
        elif isinstance(request, Train) and code == DIVERGED:
            self.steps = None
        elif isinstance(request, Renew) and code in (OK, DIVERGED):
            self.kept = None
        elif isinstance(request, Variate) and code == OK and self.kept is not None:
            self.follow_variate(request.chunk, self.kept)

    def follow_variate(self, chunk: Chunk, kept: NDArray[np.uint32]) -> None:
        """What was kept becomes the difference to it."""
        part = kept[chunk.first :][: chunk.count]
        with np.errstate(all="ignore"):
            difference = np.frombuffer(chunk.data, "<f4") - part.view(np.float32)
        part[:] = difference.view(np.uint32)
        if np.isnan(difference).any():  # of which there are many
            self.kept = None

    def follow_weights(self, request: Weights, code: int, shape: Shape) -> None:
        chunk = request.chunk
        if code == NO_WEIGHTS or request.to == 0:
            return
        if self.begins(request):
            self.broadcast, self.next = (request.base, request.to), 0
        end = chunk.first + chunk.count
        in_place = request.base == 0 and chunk.encoding == DENSE and chunk.first == self.next
        if code == OK or (in_place and fits(chunk) and end <= shape.parameters):
            self.version, self.working, self.next = 0, "", end
        if code == OK and request.last:
            self.version, self.working, self.broadcast = request.to, "weights", (0, 0)
            self.marked, self.steps = False, 0

    def is_right(self, request: Request, answer: Response) -> bool:
        """What of an answer that is no error follows without a computation."""
        shape = self.shape
        if isinstance(request, Cycles):
            return answer == Outputs(b"")  # the host has no counter
        if shape is None:
            return isinstance(answer, Hello)
        match request, answer:
            case Load(), Loaded():
                sizes = (answer.parameters, answer.available)
                return sizes == (shape.parameters, MEMORY) and shape.least < answer.needed <= MEMORY
            case Train(), Trained():
                data = request.samples
                count = self.stored if data is None else shape.count(data) or 0
                return answer.steps == request.epochs * -(-count // request.batch)
            case Evaluate(), Evaluated():
                right = answer.correct <= (answer.samples if shape.load.loss else 0)
                right &= answer.samples == shape.count(request.samples)
                return right and bool(np.isfinite(answer.loss))
            case Predict(), Outputs():
                count = len(request.samples) // (4 * shape.load.inputs)
                values = np.frombuffer(answer.values, "<f4")
                return len(values) == count * shape.outputs and bool(np.isfinite(values).all())
            case Select(), Selected():
                shared = shape.parameters - sum(map(len, shape.local))
                return answer.entries <= min(request.keep, shared)
            case Update(), Updated():
                chunk = answer.chunk
                end = chunk.first + chunk.count
                if self.room < CHUNK_LEAST:
                    return chunk == Chunk(request.first, 0, DENSE, b"")
                right = chunk.first == request.first < end <= request.end
                if not right or not fits(chunk, self.values) or len(chunk.data) > self.room:
                    return False
                indices, values = decode_chunk(chunk)
                of_local = np.isin(indices, [i for part in shape.local for i in part])
                return bool(np.isfinite(values).all()) and not values[of_local].any()
            case Residual(), Updated():
                chunk = answer.chunk
                count = min(request.end - request.first, self.room // 4)
                if (chunk.first, chunk.count, chunk.encoding) != (request.first, count, DENSE):
                    return False
                found = np.frombuffer(chunk.data, "<u4")
                known = self.kept
                return len(found) == count and (
                    known is None or np.array_equal(found, known[chunk.first :][:count])
                )
            case _:
                return True


# ---- sessions: what a server might ask, most of it right -----------------------------------------


def some_values(seed: int, n: int, wild: bool) -> bytes:
    """n float32: of ordinary size, or any bits at all."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 2**32, n, np.uint32) if wild else rng.normal(size=n).astype("<f4")
    return values.tobytes()


def some_samples(shape: Shape, seed: int, n: int, wild: bool) -> bytes:
    rng = np.random.default_rng(seed)
    values = np.frombuffer(some_values(seed, n * shape.sample_size // 4, wild), "<u4").copy()
    if shape.load.loss:
        values.reshape(n, shape.sample_size // 4)[:, -1] = rng.integers(0, shape.outputs, n)
    return values.tobytes()


def some_chunk(seed: int, first: int, count: int, encoding: int, wild: bool) -> Chunk:
    rng = np.random.default_rng(seed)
    marked = rng.random(count) < rng.random()
    data = some_values(seed, count if encoding == DENSE else int(marked.sum()), wild)
    if encoding == BITMAP:
        data = np.packbits(marked, bitorder="little").tobytes() + data
    if encoding == INDICES:
        gaps = np.diff(np.flatnonzero(marked), prepend=-1) - 1
        data = b"".join(map(leb, [len(gaps), *gaps.tolist()])) + data
    return Chunk(first, count, encoding, data)


def leb(number: int, length: int = 1) -> bytes:
    """LEB128, of at least `length` bytes."""
    if number < 0x80 and length <= 1:
        return bytes([number])
    return bytes([number & 0x7F | 0x80]) + leb(number >> 7, length - 1)


# Models small enough for an example to take milliseconds; some take several frames.
WIDTHS = st.integers(1, 6) | st.integers(1, 90)
COUNTS = st.integers(0, 5) | st.sampled_from([40, 300])
FLAGS = st.booleans()
ODD = st.sampled_from(BORDERS) | st.integers(0, 300)
TRAINED = st.sampled_from([GLOBAL, LOCAL])
PARTS = TRAINED | TRAINED | st.just(FROZEN)
DENSE_LAYERS = st.builds(Layer, st.just(1), PARTS, st.tuples(WIDTHS))
LAST_LAYERS = st.builds(Layer, st.just(1), TRAINED, st.tuples(st.integers(2, 6)))
ACTIVATIONS = st.builds(Layer, st.sampled_from([2, 3, 9, 10]), PARTS, st.just(()))
HIDDEN = st.lists(DENSE_LAYERS | ACTIVATIONS, max_size=4)
LAYER_LISTS = st.builds(lambda hidden, last: (*hidden, last), HIDDEN, LAST_LAYERS)
ROOMS = st.sampled_from([0, 0, RESIDUAL, RESIDUAL | MARK, VARIATE, VARIATE | MARK, MARK])
DENSE_LOADS = st.builds(Load, WIDTHS, st.integers(0, 1), FLAGS, COUNTS, LAYER_LISTS, ROOMS)


@st.composite
def image_loads(draw: st.DrawFn) -> Load:
    """Windows over a small image, in front of other layers."""
    height, width, channels = (draw(st.integers(1, 7)) for _ in range(3))
    inputs, layers = height * width * channels, list[Layer]()
    for _ in range(draw(st.integers(1, 3))):
        operation, stride = draw(st.integers(4, 7)), draw(st.integers(1, 3))
        padding = draw(st.integers(0, 2)) if operation < 6 else 0
        size = draw(st.integers(padding + 1, min(height, width) + 2 * padding))
        channels = draw(st.integers(1, 9)) if operation == 4 else channels
        last = channels if operation == 4 else draw(st.integers(0, 1))
        packed = size * 0x0101, stride * 0x0101, padding * 0x0101_0101
        arguments = (height, width, *packed, last)[: WINDOW_ARGUMENTS[operation]]
        layers.append(Layer(operation, draw(PARTS), arguments))
        height, width = ((n + 2 * padding - size) // stride + 1 for n in (height, width))
    rest = draw(LAYER_LISTS)
    return Load(
        inputs, draw(st.integers(0, 1)), draw(FLAGS), draw(COUNTS), (*layers, *rest), draw(ROOMS)
    )


LOADS = DENSE_LOADS | image_loads()
ODD_OPERATIONS = st.integers(0, 13) | st.just(255)
ODD_LAYERS = st.builds(Layer, ODD_OPERATIONS, PARTS, st.lists(ODD, max_size=6).map(tuple))
ODD_DENSE_LAYERS = st.builds(Layer, st.just(1), PARTS, st.tuples(ODD))
PACKED = st.builds(lambda sides: int.from_bytes(sides, "little"), st.binary(max_size=4)) | (
    st.builds(lambda a, b: a | b << 8, st.integers(0, 4), st.integers(0, 4))
)
LENGTHS = st.builds(
    lambda lengths, packed: (*lengths, *packed),
    st.tuples(st.integers(0, 4), st.integers(0, 4)),
    st.lists(PACKED, min_size=2, max_size=4),
)
ODD_WINDOWS = st.builds(Layer, st.integers(4, 7), PARTS, LENGTHS)
JOINS = st.builds(Layer, st.integers(11, 12), PARTS, st.tuples(st.integers(0, 3)))
ANY_LAYERS = st.one_of(DENSE_LAYERS, ACTIVATIONS, ODD_LAYERS, ODD_DENSE_LAYERS, ODD_WINDOWS, JOINS)
ODD_LISTS = st.one_of(
    st.lists(ANY_LAYERS, min_size=1, max_size=3).map(tuple),
    st.lists(DENSE_LAYERS | ACTIVATIONS, min_size=32, max_size=32).map(tuple),
)


@st.composite
def backbones(draw: st.DrawFn, shape: Shape) -> list[Request]:
    """All frozen parameters, in pieces."""
    pieces: list[Request] = []
    end = 0
    while end < shape.backbone:
        count = min(
            draw(st.sampled_from([1, 40, 1600])) if len(pieces) < 3 else 1600, shape.backbone - end
        )
        pieces.append(Backbone(some_chunk(draw(SEEDS), end, count, DENSE, False)))
        end += count
    return pieces


@st.composite
def broadcasts(draw: st.DrawFn, shape: Shape, base: int, to: int, wild: bool) -> list[Request]:
    pieces: list[Request] = []
    end = 0
    while end < shape.parameters or not pieces:
        first = end if base == 0 else min(end + draw(COUNTS), shape.parameters)
        count = min(draw(COUNTS) if len(pieces) < 3 else 1600, shape.parameters - first)
        encoding = DENSE if base == 0 else draw(st.integers(0, 2))
        end = first + count
        chunk = some_chunk(draw(SEEDS), first, count, encoding, wild)
        pieces.append(Weights(base, to, end == shape.parameters, chunk))
    return pieces


WORK = st.sampled_from([Store, Train, Train, Evaluate, Predict, Mark, Variate])


@st.composite
def rounds(draw: st.DrawFn, shape: Shape, version: int, wild: bool) -> list[Request]:
    """Weights for a node that holds those of `version`, work with them, and mostly an update."""
    load = shape.load
    requests = draw(broadcasts(shape, draw(st.sampled_from([0, version])), version + 1, wild))
    batches = st.sampled_from([1, 2, 3, 65535] if load.accumulate else [1])
    room, stored, marked = load.capacity, False, False
    keeps, rates = load.room & (RESIDUAL | VARIATE), st.sampled_from([0.0, 1e-45, 0.01, 0.1])
    for operation in draw(st.lists(WORK, max_size=6)):
        count = max(1, min(draw(COUNTS), 7000 // shape.sample_size, 7000 // (4 * shape.outputs)))
        data = some_samples(shape, draw(SEEDS), count, wild)
        if operation is Store and count <= load.capacity:
            append = draw(FLAGS) and count <= room
            requests.append(Store(append, data))
            room, stored = (room if append else load.capacity) - count, True
        if operation is Train:
            samples = None if stored and draw(FLAGS) else data
            proximal = draw(st.sampled_from([0.0, 0.0, 1e-45, 0.5])) if load.accumulate else 0.0
            options = FROM_MARK * (marked and load.accumulate and draw(FLAGS))
            options |= CORRECTED * (load.room & VARIATE != 0 and draw(FLAGS))
            epochs = draw(st.integers(1, 2))
            requests.append(
                Train(
                    draw(rates),
                    draw(st.integers(0, 31)),
                    draw(batches),
                    epochs,
                    samples,
                    proximal,
                    options,
                )
            )
            if load.room & VARIATE and draw(FLAGS):
                requests.append(Renew(draw(rates)))
        if operation is Mark and load.room & MARK:
            requests.append(Mark())
            marked = True
        if operation is Variate and load.room & VARIATE:
            first = draw(st.integers(0, shape.parameters - 1))
            count = min(draw(COUNTS), shape.parameters - first)
            requests.append(Variate(some_chunk(draw(SEEDS), first, count, DENSE, wild)))
        if operation is Evaluate:
            requests.append(Evaluate(data))
        if operation is Predict:
            requests.append(Predict(some_values(draw(SEEDS), count * load.inputs, wild)))
    if keeps and draw(FLAGS):
        first = draw(st.integers(0, shape.parameters - 1))
        count, encoding = draw(st.integers(0, shape.parameters - first)), draw(st.integers(0, 2))
        chunk = some_chunk(draw(SEEDS), first, min(count, 1600), encoding, wild)
        requests += [Restore(chunk), Residual(0, shape.parameters)]
    if draw(st.integers(0, 3)):
        keep = draw(st.sampled_from([1, 5, shape.parameters // 10]) | ODD)
        requests.append(Select(keep, draw(st.integers(0, 2))))
        for first in draw(st.lists(st.integers(0, shape.parameters - 1), max_size=3)):
            asked = Residual if keeps and draw(FLAGS) else Update
            requests.append(asked(first, draw(st.integers(first + 1, shape.parameters))))
    return requests


SMALL = st.integers(0, 3)
ODD_FIELDS: dict[type, dict[str, st.SearchStrategy[Any]]] = {
    HelloRequest: {},
    Load: {
        "inputs": ODD,
        "loss": SMALL,
        "capacity": ODD,
        "layers": ODD_LISTS,
        "room": st.integers(0, 9) | st.just(255),
    },
    Weights: {"base": SMALL, "to": SMALL, "last": FLAGS, "chunk": st.nothing()},
    Chunk: {
        "first": ODD,
        "count": ODD,
        "encoding": st.integers(0, 11) | st.just(255),
        "data": st.nothing(),
    },
    Train: {
        "rate": st.sampled_from([0.5, 1e30, -0.0, -0.1, np.inf, np.nan]),
        "batch": st.sampled_from([0, 2, 65535]),
        "epochs": st.just(0),
        "samples": st.just(b""),
        "proximal": st.sampled_from([0.5, 1e30, -0.0, -0.1, np.inf, np.nan]),
        "options": st.integers(0, 4) | st.just(255),
    },
    Store: {"samples": st.nothing()},
    Evaluate: {"samples": st.nothing()},
    Predict: {"samples": st.nothing()},
    Select: {"keep": ODD, "values": SMALL | st.just(255)},
    Update: {"first": ODD, "end": ODD},
    Residual: {"first": ODD, "end": ODD},
    Restore: {"chunk": st.nothing()},
    Mark: {},
    Cycles: {},
    Variate: {"chunk": st.nothing()},
    Backbone: {"chunk": st.nothing()},
    Renew: {"rate": st.sampled_from([0.5, 1e30, 0.0, -0.0, -0.1, np.inf, np.nan])},
}


@st.composite
def spoilt(draw: st.DrawFn, right: Any) -> Any:
    """A request or a chunk with one field that may not belong there."""
    fields = ODD_FIELDS[type(right)]
    if not fields:
        return right
    name = draw(st.sampled_from(list(fields)))
    value = getattr(right, name)
    if isinstance(value, Chunk):
        wrong = draw(spoilt(value))
    else:
        wrong = draw(spoilt_data(value) if isinstance(value, bytes) else fields[name])
    return replace(right, **{name: wrong})


@st.composite
def spoilt_data(draw: st.DrawFn, data: bytes) -> bytes:
    match draw(SMALL):
        case 0:
            return draw(st.sampled_from([b"", data[:-1], data[:-4], data + b"\0", data + bytes(4)]))
        case 1:
            place, change = draw(st.integers(0, 40) | SEEDS), draw(st.integers(1, 255))
            return damaged(data or b"\0", place, change)
        case 2:
            return data[:-4] + struct.pack(
                "<I", draw(st.integers(0, 7) | ODD)
            )  # a class, where there are classes
        case _:
            return draw(st.binary(max_size=20))


@st.composite
def sessions(draw: st.DrawFn) -> list[Request]:
    """All right, or with a few requests that are spoilt, left out, repeated or out of place."""
    requests: list[Request] = [HelloRequest(), *draw(st.lists(st.just(Cycles()), max_size=1))]
    for _ in range(draw(st.integers(1, 2))):
        load = draw(LOADS)
        shape = shape_of(load)
        assert shape is not None
        requests.append(load)
        if shape.most <= MEMORY:
            requests += draw(backbones(shape))
            for version in range(draw(st.integers(1, 3))):
                requests += draw(rounds(shape, version, draw(st.integers(0, 5)) == 5))
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, len(requests) - 1))
        one, other = requests[place], draw(st.sampled_from(requests))
        wrong = draw(spoilt(one))
        out_of_place = [[one, one], [other, one], [] if len(requests) > 1 else [one]]
        requests[place : place + 1] = draw(st.sampled_from([[wrong], [wrong, one], *out_of_place]))
    return requests


def ask_frames(frames: Frames, first: int = 1) -> list[Answers]:
    """The answers of a fresh node, each of which may be."""
    contract = Contract()
    found = list(map(decode, talk(b"".join(framed(frames, first)))))
    for requests, answers in zip(frames, found, strict=True):
        contract.check_frame(requests, answers)
    return found


def ask(requests: Sequence[Request], first: int = 1) -> list[Response]:
    """The answers to requests in a frame each."""
    return [answers.responses[0] for answers in ask_frames(alone(requests), first)]


@hostile(90)
@given(sessions(), st.sampled_from([0, 1, 2**32 - 9]))
def test_each_answer_of_a_session_is_one_that_may_be(requests: list[Request], first: int):
    ask(requests, first)


@hostile(90)
@given(sessions(), SEEDS, st.sampled_from([0, 1, 2**32 - 9]))
def test_each_answer_to_several_requests_is_one_that_may_be(
    requests: list[Request], seed: int, first: int
):
    ask_frames(together(requests, seed), first)


@hostile(40)
@given(sessions(), SEEDS)
def test_what_is_asked_together_is_what_is_asked_alone(requests: list[Request], seed: int):
    """Where no request of a frame is refused, and no answer has less room than alone."""
    frames = together(requests, seed)
    found = list(map(decode, talk(b"".join(framed(frames)))))
    done = [
        request
        for some, answers in zip(frames, found, strict=True)
        for request in some[: len(answers.responses)]
    ]
    answers = [response for one in found for response in one.responses]
    expected = [decode(raw).responses[0] for raw in talk(b"".join(framed(alone(done))))]
    for request, one, other in zip(done, answers, expected, strict=True):
        if isinstance(one, Updated) and isinstance(other, Updated):
            assert one.chunk.count <= other.chunk.count
            if len(other.chunk.data) < ALONE - 64 * MOST_REQUESTS - 7000:
                assert one == other
        elif not isinstance(request, Predict):
            assert one == other


@st.composite
def disturbed(draw: st.DrawFn) -> tuple[Frames, bytes, list[int]]:
    """A session, its frames among noise and more than once, and how often each is there."""
    frames = together(draw(sessions()), draw(SEEDS))
    pieces: list[bytes] = []
    copies: list[int] = []
    for whole in framed(frames):
        noise = st.one_of(
            st.just(b""),
            st.builds(damaged, st.just(whole), SEEDS, st.integers(1, 255)),
            GARBAGE,
        )
        copies.append(draw(st.sampled_from([1, 1, 2, 3])))
        pieces += [draw(noise) + b"\0" + whole for _ in range(copies[-1])]
    return frames, b"".join(pieces), copies


def without_counts(body: bytes) -> Answers:
    """Answers that do not say how many bad frames there were."""
    answers = decode(body)
    responses = [
        replace(one, bad_frames=0) if isinstance(one, Hello) else one for one in answers.responses
    ]
    return Answers(answers.sequence, tuple(responses), ())


@hostile(50)
@given(disturbed())
def test_noise_and_repetition_change_no_answer(session: tuple[Frames, bytes, list[int]]):
    """So nothing is done twice: training, append or select would leave other answers behind."""
    frames, stream, copies = session
    once = iter(talk(b"".join(framed(frames))))
    often = iter(talk(stream))
    for requests, count in zip(frames, copies, strict=True):
        expected, bodies = next(once), [next(often) for _ in range(count)]
        assert {without_counts(body) for body in [expected, *bodies]} == {without_counts(expected)}
        if requests != [HelloRequest()]:  # which alone is answered afresh
            assert len(set(bodies)) == 1
        if not any(isinstance(request, HelloRequest) for request in requests):
            assert bodies[0] == expected


def model_of(inputs: int, outputs: int, **fields: Any) -> Load:
    """Of one dense layer."""
    return replace(Load(inputs, 0, False, 0, (Layer(1, GLOBAL, (outputs,)),)), **fields)


@hostile(20)
@given(st.lists(LOADS.flatmap(spoilt), min_size=10, max_size=20))
def test_a_model_is_taken_or_refused_for_its_reason(loads: list[Load]):
    ask(loads)


@st.composite
def odd_chunks(draw: st.DrawFn) -> Chunk:
    first = draw(st.integers(0, 600))
    count = draw(st.integers(0, 600 - first))
    return draw(spoilt(some_chunk(draw(SEEDS), first, count, draw(st.integers(0, 2)), wild=False)))


@st.composite
def odd_indices(draw: st.DrawFn) -> Chunk:
    """The last entry is before, at or behind the end, or numbers have more bytes than they need."""
    count = draw(st.integers(0, 600))
    gaps = draw(st.lists(st.integers(0, 9), max_size=3))
    to_the_end = count - sum(gaps) - len(gaps) - 1
    gaps.append(draw(st.sampled_from([max(0, to_the_end), max(0, to_the_end + 1), 2**32]) | ODD))
    marked = len(gaps) + draw(st.sampled_from([0, 0, 0, 1, 2**32]))
    lengths = draw(st.sampled_from([1, 1, 5, 6, 12]))
    data = b"".join(leb(number, lengths) for number in [marked, *gaps])
    return Chunk(600 - count, count, INDICES, data + bytes(4 * len(gaps)))


@hostile(40)
@given(st.lists(odd_chunks() | odd_indices(), min_size=10, max_size=20))
def test_weights_are_taken_or_refused_for_their_reason(chunks: list[Chunk]):
    requests: list[Request] = [model_of(599, 1)]
    for chunk in chunks:
        requests.append(Weights(0, 1, True, Chunk(0, 600, DENSE, bytes(2400))))
        requests.append(Weights(1, 1, True, chunk))
    ask(requests)


@st.composite
def odd_work(draw: st.DrawFn) -> list[Request]:
    load = model_of(
        2, 3, loss=draw(st.integers(0, 1)), accumulate=draw(FLAGS), capacity=5, room=draw(ROOMS)
    )
    shape = shape_of(load)
    assert shape is not None
    requests: list[Request] = [load, Weights(0, 1, True, some_chunk(0, 0, 9, DENSE, wild=False))]
    for _ in range(draw(st.integers(10, 20))):
        data = some_samples(shape, draw(SEEDS), draw(st.integers(1, 3)), wild=False)
        train = Train(0.01, draw(st.integers(0, 1)), 1, 1, data)
        other = replace(train, proximal=draw(st.sampled_from([0.0, 0.5])))
        other = replace(other, options=draw(st.integers(0, 3)))
        variate = Variate(some_chunk(draw(SEEDS), draw(st.integers(0, 8)), 1, DENSE, wild=False))
        work = [train, train, Store(True, data), Evaluate(data), Predict(data)]
        work += [other, other, Mark(), variate, Renew(0.01)]
        requests.append(draw(spoilt(draw(st.sampled_from(work)))))
    return requests


@hostile(30)
@given(odd_work())
def test_work_is_done_or_refused_for_its_reason(requests: list[Request]):
    ask(requests)


HALVES = Load(
    72,
    0,
    False,
    0,
    (Layer(1, LOCAL, (36,)), Layer(3, GLOBAL, ()), Layer(1, GLOBAL, (72,))),
    RESIDUAL,
)
ENTRIES = st.just(0) | st.integers(0, 5292)  # of the parameters, 2628 of which are local
KEPT = st.integers(0, 20) | st.integers(0, 5292) | st.sampled_from([2600, 2664])
TASKS = st.tuples(
    SEEDS, KEPT, st.integers(0, 2), st.lists(st.tuples(ENTRIES, ENTRIES), min_size=1, max_size=5)
)


@hostile(40)
@given(st.lists(TASKS, min_size=1, max_size=4), SEEDS)
def test_an_update_of_any_entries_fits_its_response(
    tasks: list[tuple[int, int, int, list[tuple[int, int]]]], seed: int
):
    shape = shape_of(HALVES)
    assert shape is not None
    requests: list[Request] = [HALVES]
    for first in range(0, 5292, 1764):
        chunk = some_chunk(first, first, 1764, DENSE, wild=False)
        requests.append(Weights(0, 1, first == 3528, chunk))
    for seed, keep, values, ranges in tasks:
        requests.append(Train(0.01, 0, 1, 1, some_samples(shape, seed, 1, wild=False)))
        requests.append(Select(keep, values))
        requests += [Update(first, 5292 if end <= first else end) for first, end in ranges]
        requests += [Residual(first, 5292) for first in (0, 2028, 4056, 5291)]
        requests.append(Weights(1, 1, True, Chunk(0, 0, DENSE, b"")))
    ask(requests)
    ask_frames(together(requests, seed))


@hostile(40)
@given(st.lists(st.tuples(ENTRIES, ENTRIES), min_size=1, max_size=MOST_REQUESTS), KEPT, FLAGS)
def test_updates_fill_a_response_and_no_more(ranges: list[tuple[int, int]], keep: int, ends: bool):
    """Also where something else follows, which is refused or answered at some length."""
    requests: list[Request] = [HALVES]
    for first in range(0, 5292, 1764):
        chunk = some_chunk(first, first, 1764, DENSE, wild=False)
        requests += [Restore(chunk), Weights(0, 1, first == 3528, chunk)]
    asked: list[Request] = [
        (Residual if i % 5 == 4 else Update)(first, 5292 if end <= first else end)
        for i, (first, end) in enumerate(ranges)
    ]
    if ends:
        last = HelloRequest() if keep % 2 else Load(2**24, 0, False, 2**32 - 1, HALVES.layers)
        asked = [*asked[: MOST_REQUESTS - 1], last]
    ask_frames([*alone(requests), [Select(keep)], asked])


@hostile(40)
@given(st.lists(odd_chunks() | odd_indices(), min_size=10, max_size=20), FLAGS)
def test_a_residual_is_taken_or_refused_for_its_reason(chunks: list[Chunk], keeps: bool):
    requests: list[Request] = [model_of(599, 1, room=RESIDUAL * keeps)]
    for chunk in chunks:
        requests += [Restore(chunk), Residual(0, 600), Residual(chunk.first, chunk.count)]
    ask(requests)


@hostile(40)
@given(st.lists(odd_chunks() | odd_indices(), min_size=10, max_size=20), FLAGS)
def test_a_control_variate_is_taken_or_refused_for_its_reason(chunks: list[Chunk], has_room: bool):
    requests: list[Request] = [
        model_of(599, 1, room=VARIATE * has_room),
        Weights(0, 1, True, Chunk(0, 600, DENSE, bytes(2400))),
    ]
    for i, chunk in enumerate(chunks):
        restored = replace(chunk, data=chunk.data[::-1])
        requests += [Restore(restored), Variate(chunk), Residual(0, 600)]
        if i % 4 == 3:
            requests += [Train(1e-3, 0, 1, 1, bytes(2400), 0.0, CORRECTED), Renew(1e-3)]
    ask(requests)


NOT_A_NUMBER = b"\xff" * 4
FILLER: list[Request] = [  # of the memory, all but a few hundred bytes
    model_of(164, 164, capacity=1),
    *(Weights(0, 1, n == 14, Chunk(n * 1804, 1804, DENSE, 1804 * NOT_A_NUMBER)) for n in range(15)),
    Store(False, 328 * NOT_A_NUMBER),
    Evaluate(328 * NOT_A_NUMBER),
    model_of(1, 1, capacity=2**32 - 1),  # is refused, so that there is none
]


@hostile(30)
@given(sessions())
def test_what_memory_held_before_does_not_matter(requests: list[Request]):
    fresh = talk(b"".join(framed(alone(requests), 100)))
    used = talk(b"".join(framed(alone(FILLER)) + framed(alone(requests), 100)))
    assert used[len(FILLER) :] == fresh


# ---- borders -------------------------------------------------------------------------------------


def test_a_model_may_take_the_memory_to_its_last_byte():
    plane = model_of(4, 1)  # what is left for samples is a whole number of these
    (empty,) = ask([plane])
    assert isinstance(empty, Loaded)
    capacity = (MEMORY - empty.needed) // 20
    starts = range(0, capacity, 400)
    values = [some_values(start, 5 * min(400, capacity - start), False) for start in starts]
    requests = [
        replace(plane, capacity=capacity),
        Weights(0, 1, True, Chunk(0, 5, DENSE, bytes(20))),
        *(Store(True, data) for data in values),
        Store(True, bytes(20)),
        Train(0.01, 0, 1, 1, None),
        Evaluate(values[-1]),
    ]
    loaded, *_, overfull, trained, _ = ask(requests)
    assert isinstance(loaded, Loaded)
    assert loaded.needed == MEMORY
    assert isinstance(overfull, Error)
    assert isinstance(trained, Trained)
    assert trained.steps == capacity


@pytest.mark.parametrize("inputs", range(1, 7))
def test_a_model_may_not_take_a_word_more(inputs: int):
    some = model_of(inputs, 2, loss=1)
    (empty,) = ask([some])
    assert isinstance(empty, Loaded)
    size = 4 * (inputs + 1)
    capacity, rest = divmod(MEMORY - empty.needed, size)
    loads: list[Request] = [replace(some, capacity=capacity + more) for more in (0, 1)]
    loaded, refused = ask(loads)
    assert isinstance(loaded, Loaded)
    assert isinstance(refused, Error)
    assert (loaded.needed, refused.needed) == (MEMORY - rest, MEMORY - rest + size)


@pytest.mark.parametrize("outputs", [1, 2, 39, 2027, 2028, 2029, 2038, 2039, 2048, 2060])
def test_outputs_fill_a_response_and_no_more(outputs: int):
    requests: list[Request] = [model_of(1, outputs)]
    for first in range(0, 2 * outputs, 1000):
        count = min(1000, 2 * outputs - first)
        requests.append(
            Weights(
                0, 1, first + count == 2 * outputs, Chunk(first, count, DENSE, bytes(4 * count))
            )
        )
    most = RECEIVE // (4 * outputs)
    requests += [Predict(bytes(4 * n)) for n in range(max(1, most - 20), min(2000, most) + 3)]
    ask(requests)


@pytest.mark.parametrize("number", [2, 3, 4, 2**31, 2**32 - 1])
def test_a_class_is_one_of_the_outputs(number: int):
    data = bytes(20) + struct.pack("<I", number) + bytes(12)
    weights = Weights(0, 1, True, Chunk(0, 9, DENSE, bytes(36)))
    work = [Store(False, data), Train(0.01, 0, 1, 1, data), Evaluate(data)]
    answers = ask([model_of(2, 3, loss=1, capacity=3), weights, *work])
    assert [isinstance(answer, Error) for answer in answers[2:]] == 3 * [number > 2]


@pytest.mark.parametrize("value", ["7f800000", "ff800000", "7f800001", "7fc00000", "ffffffff"])
def test_what_is_not_finite_is_not_sent(value: str):
    weights = Weights(0, 1, True, Chunk(0, 2, DENSE, bytes(4) + bytes.fromhex(value)[::-1]))
    work = [Train(0.01, 0, 1, 1, bytes(8)), Evaluate(bytes(8)), Predict(bytes(4)), Select(2)]
    answers = ask([model_of(1, 1), weights, *work])
    assert [answer.code for answer in answers if isinstance(answer, Error)] == 4 * [DIVERGED]


@pytest.mark.parametrize("values", range(3))
def test_a_residual_that_is_not_finite_is_not_sent(values: int):
    weights = Weights(0, 1, True, Chunk(0, 2, DENSE, bytes(8)))
    broken = Restore(Chunk(1, 1, DENSE, bytes.fromhex("7f800000")[::-1]))
    *_, refused, kept = ask(
        [model_of(1, 1, room=RESIDUAL), weights, broken, Select(2, values), Residual(0, 2)]
    )
    assert isinstance(refused, Error)
    assert refused.code == DIVERGED
    assert isinstance(kept, Updated)


@pytest.mark.parametrize("values", range(3))
def test_the_largest_and_the_smallest_update_have_codes(values: int):
    numbers = np.array([-3.4028235e38, 2.0**-149, 3e38, -65519, 1e-7, 0], np.float32)
    weights = Weights(0, 1, True, Chunk(0, 6, DENSE, bytes(24)))
    restore = Restore(Chunk(0, 6, DENSE, numbers.tobytes()))
    work = [Select(6, values), Update(0, 6), Residual(0, 6)]
    *_, updated, kept = ask([model_of(1, 3, room=RESIDUAL), weights, restore, *work])
    assert isinstance(updated, Updated)
    assert isinstance(kept, Updated)
    sent, (where, what) = np.zeros(6), decode_chunk(updated.chunk)
    sent[where] = what
    rest = np.frombuffer(kept.chunk.data, "<f4")
    np.testing.assert_allclose(sent + rest, numbers, rtol=1e-7)


def test_the_largest_numbers_of_a_training():
    sample = bytes(20)
    *_, nothing, _, alone, together = ask([
        model_of(2, 3, accumulate=True, capacity=4),
        Weights(0, 1, True, Chunk(0, 9, DENSE, bytes(36))),
        Train(1.0, 0, 65535, 65535, None),
        Store(False, 4 * sample),
        Train(1.0, 0, 65535, 65535, sample),
        Train(1.0, 2**32 - 1, 65535, 65535, None),
    ])  # fmt: skip
    assert isinstance(nothing, Error)
    assert isinstance(alone, Trained)
    assert isinstance(together, Trained)
    assert alone.steps == together.steps == 65535
