"""Chunks on the node: the orchestrator's bytes, and nothing is written that is not right."""

from dataclasses import replace
from itertools import zip_longest

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from numpy.typing import NDArray

from reference import select_top
from tinymetafed.link import chunk
from tinymetafed.link.chunk import BITMAP, DENSE, INDICES, Chunk, ChunkError

EXAMPLES = settings(deadline=None, derandomize=True)
SEEDS = st.integers(0, 2**32 - 1)
CAPACITIES = st.integers(4, 40) | st.integers(4, 4000)
GUARD = b"\xa5" * 16


@st.composite
def vectors(draw: st.DrawFn) -> tuple[NDArray[np.float32], NDArray[np.bool_], int, int]:
    """Values, the marks of the large ones, and the first and the end of a part with a mark."""
    runs = draw(
        st.lists(
            st.tuples(st.integers(1, 40) | st.integers(100, 300), st.floats(0, 1)),
            min_size=1,
            max_size=9,
        )
    )
    rng = np.random.default_rng(draw(SEEDS))
    densities = np.concatenate([np.full(n, density) for n, density in runs])
    marks = rng.random(len(densities)) < densities
    large = rng.choice([1, 1, 1.25, -1.5, 3e38], len(marks))
    small = rng.choice([0.0, -0.0, 0.5, -(2.0**-149)], len(marks))
    first = draw(st.integers(0, len(marks) - 1))
    end = draw(st.integers(first + 1, len(marks)))
    assume(marks[first:end].any())
    return np.where(marks, large, small).astype(np.float32), marks, first, end


def encode(
    core, values: NDArray[np.float32], keep: int, first: int, end: int, capacity: int, form: int = 0
) -> list[Chunk]:
    """The chunks that the node makes of values[first:end] with the `keep` largest marked. form: how
    values are sent."""
    floats = core.ffi.from_buffer("float[]", values)
    selection = core.ffi.new("struct tmf_selection *")
    assert core.lib.tmf_select(floats, len(values), keep, selection)
    if form:
        core.lib.tmf_select_format(floats, len(values), form, selection)
    chunks: list[Chunk] = []
    while first < end:
        out = bytearray(capacity) + GUARD
        made = core.lib.tmf_chunk_encode(
            floats, selection, first, end, core.ffi.from_buffer("uint8_t[]", out), capacity
        )
        assert made.first == first
        assert made.count > 0
        assert out[capacity:] == GUARD
        chunks.append(Chunk(first, made.count, made.encoding, bytes(out[: made.size])))
        first += made.count
    return chunks


def apply(core, piece: Chunk, values: NDArray[np.float32]) -> tuple[int, NDArray[np.uint32]]:
    """What the node answers to the chunk, and the bits of the values afterwards; those around them
    have to be as they were."""
    guard = np.frombuffer(GUARD, np.float32)
    memory = np.concatenate([guard, values, guard])
    data = core.ffi.from_buffer("uint8_t[]", piece.data) if piece.data else core.ffi.NULL
    head = [piece.first, piece.count, piece.encoding, data, len(piece.data)]
    made = core.ffi.new("struct tmf_chunk *", head)
    floats = core.ffi.from_buffer("float[]", memory, require_writable=True)
    error = core.lib.tmf_chunk_apply(made, floats + len(guard), len(values))
    after = memory.view(np.uint32)
    assert after[: len(guard)].tobytes() == after[-len(guard) :].tobytes() == GUARD
    return error, after[len(guard) : -len(guard)]


def expected(piece: Chunk, values: NDArray[np.float32]) -> NDArray[np.uint32] | None:
    """The bits of the values with the chunk written over them; None where that cannot be, as with
    one that has other values than float32."""
    if piece.first + piece.count > len(values) or piece.encoding > INDICES:
        return None
    try:
        where, what = chunk.decode(piece)
    except ChunkError:
        return None
    bits = values.view(np.uint32).copy()
    bits[where] = what.view(np.uint32)
    return bits


@EXAMPLES
@given(vectors(), CAPACITIES)
def test_the_bytes_are_those_of_the_orchestrator(core, vector, capacity):
    values, marks, first, end = vector
    end = first + int(np.flatnonzero(marks[first:end])[-1]) + 1
    sent = np.where(marks, values, np.float32(0))
    chunks = encode(core, values, int(marks.sum()), first, end, capacity)
    assert chunks == list(chunk.encode(sent, marks, first, end, capacity))


@pytest.mark.parametrize("gap", [127, 128, 2**14 - 1, 2**14, 2**21 - 1, 2**21])
def test_gaps_of_any_width_are_those_of_the_orchestrator(core, gap):
    values = np.zeros(gap + 2, np.float32)
    values[[0, -1]] = 1, 2
    chunks = encode(core, values, 2, 0, len(values), 20)
    assert chunks == list(chunk.encode(values, values != 0, 0, len(values), 20))
    error, after = apply(core, chunks[0], np.zeros(gap + 2, np.float32))
    assert error == 0
    assert np.array_equal(after.view(np.float32), values)


@EXAMPLES
@given(vectors(), CAPACITIES)
def test_what_follows_the_last_mark_is_in_the_chunks_as_nothing(core, vector, capacity):
    values, marks, first, end = vector
    received = np.zeros(len(values), np.float32)
    for piece in encode(core, values, int(marks.sum()), first, end, capacity):
        where, what = chunk.decode(piece)
        received[where] = what
        assert len(piece.data) <= capacity
    inside = (np.arange(len(values)) >= first) & (np.arange(len(values)) < end)
    assert np.array_equal(received, np.where(marks & inside, values, 0))


def rounded(values: NDArray[np.float32], form: int) -> NDArray[np.float32]:
    """As they are sent: by numpy."""
    if form == chunk.FLOAT16:
        return np.clip(values, -65504, 65504).astype(np.float16).astype(np.float32)
    if form == chunk.INT8:
        exponent = max(-125, int(np.frexp(np.abs(values).max())[1]) - 7)
        scaled = np.ldexp(values.astype(np.float64), -exponent)
        return np.ldexp(np.clip(np.rint(scaled), -127, 127), exponent).astype(np.float32)
    return values


FORMS = st.sampled_from([chunk.FLOAT32, chunk.FLOAT16, chunk.INT8])


@EXAMPLES
@given(SEEDS, st.integers(1, 900), st.floats(0, 1), st.integers(1, 300), FORMS, CAPACITIES)
def test_the_orchestrator_reads_the_values_as_they_were_rounded(
    core, seed, n, density, keep, form, capacity
):
    """And each chunk is the smallest, and as long as it can be: no more than the first entry of the
    next would fit."""
    rng = np.random.default_rng(seed)
    values = np.where(rng.random(n) < density, rng.normal(0, 2.0 ** rng.integers(-30, 20), n), 0)
    values = values.astype(np.float32)
    right = np.zeros(n, np.float32)
    chosen = select_top(values.astype(np.float64), keep)
    if len(chosen):
        right[chosen] = rounded(values, form)[chosen]
    pieces = encode(core, values, keep, 0, n, capacity, form)
    received = np.zeros(n, np.float32)
    for piece, after in zip_longest(pieces, pieces[1:]):
        assert piece.encoding >> 2 == form
        where, what = chunk.decode(piece)
        received[where] = what
        assert len(piece.data) == size_of(right, piece.first, piece.count, form) <= capacity
        if after is not None:
            assert size_of(right, piece.first, piece.count + 1, form) > capacity
    assert np.array_equal(received, right)


def size_of(sent: NDArray[np.float32], first: int, count: int, form: int) -> int:
    """Bytes of a chunk in the smallest encoding, by firmware/protocol.cddl."""
    where = np.flatnonzero(sent[first : first + count]).tolist()
    gaps = [there - here - 1 for here, there in zip([-1, *where], where, strict=False)]
    width, head = [(4, 0), (2, 0), (1, 1)][form]
    indices = sum(max(1, -(-number.bit_length() // 7)) for number in [len(where), *gaps])
    return head + min(
        width * count, -(-count // 8) + width * len(where), indices + width * len(where)
    )


@st.composite
def changed_chunks(draw: st.DrawFn) -> Chunk:
    """A good chunk with some of its bytes, or one number of its head, replaced."""
    values, marks, first, end = draw(vectors())
    piece = draw(st.sampled_from(list(chunk.encode(values, marks, first, end, draw(CAPACITIES)))))
    data = bytearray(piece.data)
    for place, byte in draw(st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=3)):
        data[place % len(data)] = byte
    data = data[: len(data) - draw(st.integers(0, 5))] + draw(st.binary(max_size=5))
    changed = draw(st.sampled_from(["first", "count", "encoding", None, None]))
    number = draw(st.integers(0, 11) | st.integers(0, 2**32 - 1))
    return replace(piece, data=bytes(data), **({changed: number} if changed else {}))


SMALL = st.builds(
    Chunk, st.integers(0, 9), st.integers(0, 40), st.integers(0, 11), st.binary(max_size=30)
)
LENGTHS = st.integers(0, 60) | st.integers(1000, 3000)


def random_values(seed: int, n: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).integers(0, 2**32, n, dtype=np.uint32).view(np.float32)


@EXAMPLES
@given(vectors(), CAPACITIES, SEEDS)
def test_applying_the_orchestrators_chunks_writes_the_marked_values(core, vector, capacity, seed):
    values, marks, first, end = vector
    held = np.where(marks, random_values(seed, len(values)), values)  # as a broadcast's receiver
    for piece in chunk.encode(values, marks, first, end, capacity):
        error, after = apply(core, piece, held)
        assert error == 0
        held = after.view(np.float32)
    assert np.array_equal(held[first:end].view(np.uint32), values[first:end].view(np.uint32))


@EXAMPLES
@given(changed_chunks() | SMALL, LENGTHS, SEEDS)
@example(Chunk(0, 9, DENSE, bytes(36)), 8, 0)
@example(Chunk(2**32 - 1, 1, DENSE, bytes(4)), 8, 0)
@example(Chunk(0, 4, BITMAP, b"\x10" + bytes(4)), 8, 0)
@example(Chunk(0, 2, INDICES, b"\2\0\1" + bytes(8)), 8, 0)
def test_a_chunk_is_written_as_it_decodes_or_not_at_all(core, piece, n, seed):
    values = random_values(seed, n)
    error, after = apply(core, piece, values)
    right = expected(piece, values) if error == 0 else values.view(np.uint32)
    assert right is not None
    assert np.array_equal(after, right)


@EXAMPLES
@given(changed_chunks() | SMALL, LENGTHS)
@example(Chunk(0, 9, BITMAP, b"\0"), 9)
@example(Chunk(0, 9, INDICES, b"\x01\x03" + bytes(5)), 9)
@example(Chunk(0, 9, INDICES, b"\x81\x80\x80\x80\x00\x03" + bytes(4)), 9)  # 1 in five bytes
@example(Chunk(0, 9, INDICES, b"\x81\x80\x80\x80\x80\x00\x03" + bytes(4)), 9)  # in six
@example(Chunk(0, 9, INDICES, b"\x01\x83\x80\x80\x80\x10" + bytes(4)), 9)  # 2³² + 3
def test_the_node_refuses_the_chunks_that_the_orchestrator_refuses(core, piece, n):
    values = np.zeros(n, np.float32)
    error, _ = apply(core, piece, values)
    assert (error == 0) == (expected(piece, values) is not None)
