"""Frames: nothing is lost between two zeros, and nothing bad gets through."""

import zlib
from itertools import pairwise

import hypothesis.strategies as st
import pytest
from cobs import cobs
from hypothesis import given, settings

from tinymetafed.link import frame

EXAMPLES = settings(deadline=None, derandomize=True)
BODIES = st.one_of(
    st.binary(min_size=1, max_size=600),
    # Around the borders of COBS blocks.
    st.builds(
        lambda fill, size: bytes([fill]) * size,
        st.integers(0, 255),
        st.sampled_from([*range(1, 6), *range(248, 258), *range(502, 512)]),
    ),
)
GARBAGE = st.one_of(
    st.binary(max_size=300),
    st.builds(lambda body, cut: frame.encode(body)[:cut], BODIES, st.integers(0, 600)),
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[first:end] for first, end in pairwise(ends)]


def body_without_zeros(size: int) -> bytes:
    """A body whose frame is the longest of its size: its CRC has no zeros either."""
    for number in range(1, 256**2):
        body = number.to_bytes(2, "little").rjust(size, b"\1")[-size:]
        if 0 not in body + zlib.crc32(body).to_bytes(4, "little"):
            return body
    raise AssertionError("no such body")


@EXAMPLES
@given(st.lists(BODIES), st.lists(st.integers(0, 10_000)))
def test_bodies_come_out_as_they_went_in_however_the_stream_is_cut(bodies, places):
    receiver = frame.FrameReceiver()
    stream = b"".join(frame.encode(body) for body in bodies)
    received = [body for piece in cut(stream, places) for body in receiver.receive(piece)]
    assert received == bodies
    assert receiver.bad_frames == 0


@EXAMPLES
@given(BODIES)
def test_the_only_zero_of_a_frame_is_its_last_byte(body):
    assert frame.encode(body).index(0) == len(frame.encode(body)) - 1


@EXAMPLES
@given(GARBAGE, st.lists(BODIES, min_size=1, max_size=3))
def test_frames_after_garbage_and_a_zero_are_received(garbage, bodies):
    receiver = frame.FrameReceiver()
    receiver.receive(garbage + b"\0")
    assert receiver.receive(b"".join(frame.encode(body) for body in bodies)) == bodies


@EXAMPLES
@given(BODIES, st.integers(0), st.integers(1, 255), BODIES)
def test_a_frame_with_a_changed_byte_is_counted_and_dropped(body, place, change, following):
    damaged = bytearray(frame.encode(body))
    damaged[place % (len(damaged) - 1)] ^= change  # any but the zero at the end
    receiver = frame.FrameReceiver()
    assert receiver.receive(bytes(damaged) + frame.encode(following)) == [following]
    # A byte that became zero makes two of the frame, of which one may be empty.
    assert receiver.bad_frames in ((1, 2) if 0 in damaged[:-1] else (1,))


@EXAMPLES
@given(st.binary(max_size=300), st.integers(1, 2**32 - 1))
def test_a_wrong_crc_is_counted_and_dropped(body, change):
    crc = (zlib.crc32(body) ^ change).to_bytes(4, "little")
    receiver = frame.FrameReceiver()
    assert receiver.receive(cobs.encode(body + crc) + b"\0") == []
    assert receiver.bad_frames == 1


@EXAMPLES
@given(st.binary(max_size=4))
def test_a_frame_without_room_for_a_body_is_counted_and_dropped(decoded):
    receiver = frame.FrameReceiver()
    assert receiver.receive(cobs.encode(decoded) + b"\0" + frame.encode(b"")) == []
    assert receiver.bad_frames == 2


def test_zeros_between_frames_are_no_bad_frames():
    receiver = frame.FrameReceiver()
    assert receiver.receive(b"\0\0" + frame.encode(b"a") + b"\0\0" + frame.encode(b"b")) == [
        b"a",
        b"b",
    ]
    assert receiver.bad_frames == 0


@EXAMPLES
@given(st.integers(8, 9000))
def test_capacity_is_the_longest_body_that_is_certain_to_fit(frame_size):
    capacity = frame.capacity(frame_size)
    assert len(frame.encode(body_without_zeros(capacity))) <= frame_size
    assert len(frame.encode(body_without_zeros(capacity + 1))) > frame_size


@EXAMPLES
@given(BODIES)
def test_no_frame_is_longer_than_that_of_a_body_without_zeros(body):
    assert len(frame.encode(body)) <= len(frame.encode(body_without_zeros(len(body))))


@pytest.mark.parametrize("piece", [1000, 65536, 10**6])
def test_a_frame_without_an_end_is_dropped_and_takes_no_memory(piece: int):
    """Counted once, however long it is; the receiver is in step again at the zero."""
    receiver = frame.FrameReceiver()
    for _ in range(3 * 10**6 // piece):
        assert receiver.receive(piece * b"\1") == []
        assert len(receiver._partial) <= frame.LONGEST
    assert receiver.bad_frames == 1
    assert receiver.receive(b"\1\0" + frame.encode(b"after")) == [b"after"]
    assert receiver.bad_frames == 1


def test_a_frame_of_the_longest_size_is_taken_and_none_that_is_longer():
    longest = next(
        body for size in range(frame.LONGEST, 0, -1)
        if len(frame.encode(body := size * b"\1")) <= frame.LONGEST + 1
    )  # fmt: skip
    receiver = frame.FrameReceiver()
    for pieces in (1, 7000):
        sent = frame.encode(longest) + frame.encode(longest + b"\1") + frame.encode(b"after")
        found: list[bytes] = []
        for first in range(0, len(sent), len(sent) // pieces):
            found += receiver.receive(sent[first : first + len(sent) // pieces])
        assert found == [longest, b"after"]
    assert receiver.bad_frames == 2
