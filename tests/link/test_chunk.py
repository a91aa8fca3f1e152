"""Chunks: what goes in comes out, in as few bytes and as few chunks as there can be."""

import struct

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from numpy.typing import NDArray

from tinymetafed.link import chunk
from tinymetafed.link.chunk import (
    BITMAP,
    DENSE,
    FLOAT16,
    FLOAT32,
    INDICES,
    INT8,
    Chunk,
    ChunkError,
    decode,
    encode,
)

EXAMPLES = settings(deadline=None, derandomize=True)


def leb(number: int, size: int = 0) -> bytes:
    """LEB128, with superfluous zeros up to `size` bytes."""
    out = [number & 0x7F]
    while (number := number >> 7) or len(out) < size:
        out[-1] |= 0x80
        out.append(number & 0x7F)
    return bytes(out)


def sizes(marked: NDArray[np.bool_]) -> list[int]:
    """Bytes of the three encodings, by firmware/protocol.cddl."""
    where = np.flatnonzero(marked).tolist()
    gaps = [there - here - 1 for here, there in zip([-1, *where], where, strict=False)]
    values = 4 * len(where)
    indices = len(leb(len(where))) + sum(len(leb(gap)) for gap in gaps)
    return [4 * len(marked), -(-len(marked) // 8) + values, indices + values]


@st.composite
def vectors(draw: st.DrawFn) -> tuple[NDArray[np.float32], NDArray[np.bool_], int, int]:
    """Values, marks, first and end. The marks come in runs, some of them wider than one LEB128."""
    runs = draw(
        st.lists(
            st.tuples(st.integers(1, 40) | st.integers(100, 300), st.floats(0, 1)), max_size=12
        )
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    densities = np.concatenate([np.full(n, density) for n, density in runs] or [np.empty(0)])
    marked = rng.random(len(densities)) < densities
    values = rng.integers(0, 2**32, len(marked), dtype=np.uint32).view(np.float32)
    first = draw(st.integers(0, len(marked)))
    return values, marked, first, draw(st.integers(first, len(marked)))


VECTORS = vectors()
CAPACITIES = st.integers(4, 40) | st.integers(4, 4000)


@EXAMPLES
@given(VECTORS, CAPACITIES)
def test_decoding_gives_every_marked_value_and_nothing_outside_or_of_another_value(
    vector, capacity
):
    values, marked, first, end = vector
    right, missing = values.view(np.uint32), ~values.view(np.uint32)
    received = missing.copy()
    for piece in chunk.encode(values, marked, first, end, capacity):
        where, what = chunk.decode(piece)
        received[where] = what.view(np.uint32)
    inside = slice(first, end)
    assert (received == right)[inside][marked[inside]].all()
    assert ((received == right) | (received == missing)).all()
    received[inside] = missing[inside]
    assert np.array_equal(received, missing)


@EXAMPLES
@given(VECTORS, CAPACITIES)
def test_chunks_follow_each_other_up_to_the_last_mark(vector, capacity):
    values, marked, first, end = vector
    where = np.flatnonzero(marked[first:end])
    last = first + int(where[-1]) + 1 if len(where) else first
    for piece in chunk.encode(values, marked, first, end, capacity):
        assert piece.first == first
        assert piece.count > 0
        first += piece.count
    assert first == last


@EXAMPLES
@given(VECTORS, CAPACITIES)
def test_a_chunk_fits_and_has_the_smallest_encoding(vector, capacity):
    values, marked, first, end = vector
    for piece in chunk.encode(values, marked, first, end, capacity):
        candidates = sizes(marked[piece.first : piece.first + piece.count])
        assert len(piece.data) == min(candidates) <= capacity
        assert piece.encoding == candidates.index(min(candidates))


@EXAMPLES
@given(VECTORS, CAPACITIES)
def test_a_chunk_is_as_long_as_it_can_be(vector, capacity):
    values, marked, first, end = vector
    assume(marked[first:end].any())
    *full, _ = chunk.encode(values, marked, first, end, capacity)
    for piece in full:
        assert min(sizes(marked[piece.first : piece.first + piece.count + 1])) > capacity


@pytest.mark.parametrize(
    ("marks", "encoding", "data"),
    [
        ([1, 1, 1], DENSE, "0000803f 00000040 00004040"),
        ([1, 0, 0, 0, 0, 0, 0, 0, 1], BITMAP, "0101 0000803f 00001041"),
        ([0, 0, 1, 0, 0, 0, 0, 0, 1] + [0] * 128 + [1], INDICES, "03 02 05 8001 "),
    ],
)
def test_worked_examples_fix_the_bytes(marks, encoding, data):
    values = np.arange(1, len(marks) + 1, dtype=np.float32)
    if encoding == INDICES:
        data += "00004040 00001041 00000a43"
    [piece] = chunk.encode(values, np.array(marks, bool), 0, len(marks), 1000)
    assert piece == Chunk(0, len(marks), encoding, bytes.fromhex(data))


@pytest.mark.parametrize("gap", [127, 128, 2**14 - 1, 2**14, 2**21 - 1, 2**21])
def test_gaps_of_any_width_are_sent_and_come_back(gap):
    values = np.zeros(gap + 2, np.float32)
    values[[0, -1]] = 1, 2
    [piece] = chunk.encode(values, values != 0, 0, len(values), 20)
    assert piece.data == b"".join(map(leb, [2, 0, gap])) + values[[0, -1]].tobytes()
    assert chunk.decode(piece)[0].tolist() == [0, gap + 1]
    assert len(list(chunk.encode(values, values != 0, 0, len(values), len(piece.data) - 1))) == 2


@st.composite
def sent(draw: st.DrawFn) -> tuple[Chunk, list[int], bytes]:
    """A chunk as a node may send it, the smallest or not; the entries in it, and their values as
    float32."""
    encoding, form = draw(st.sampled_from([DENSE, BITMAP, INDICES])), draw(st.integers(0, 2))
    marks = draw(st.lists(st.just(True) if encoding == DENSE else st.booleans(), max_size=300))
    where = [place for place, is_marked in enumerate(marks) if is_marked]
    rng = np.random.default_rng(len(marks))
    values, codes, scale = rng.bytes(4 * len(where)), b"", b""
    if form == FLOAT32:
        codes = values
    elif form == FLOAT16:
        halves = rng.normal(0, 1e-3, len(where)).astype("<f2")
        values, codes = halves.astype("<f4").tobytes(), halves.tobytes()
    else:
        exponent = draw(st.integers(-125, 121))
        numbers = rng.integers(-127, 128, len(where)).astype("i1")
        values = (numbers * 2.0**exponent).astype("<f4").tobytes()
        codes, scale = numbers.tobytes(), struct.pack("b", exponent)
    head = b""
    if encoding == BITMAP:
        head = np.packbits(np.array(marks, bool), bitorder="little").tobytes()
    elif encoding == INDICES:
        gaps = [there - here - 1 for here, there in zip([-1, *where], where, strict=False)]
        head = b"".join(map(leb, [len(where), *gaps]))
    first = draw(st.integers(0, 1000))
    entries = [first + place for place in where]
    return Chunk(first, len(marks), encoding + 4 * form, scale + head + codes), entries, values


SENT = sent()
CHUNKS = SENT.map(lambda made: made[0])


def check_decoded(piece: Chunk) -> None:
    """Decodes to entries of the chunk in ascending order, or is a ChunkError; nothing else."""
    try:
        where, what = chunk.decode(piece)
    except ChunkError:
        return
    assert len(where) == len(what)
    assert (np.diff(where) > 0).all()
    assert ((where >= piece.first) & (where < piece.first + piece.count)).all()


@EXAMPLES
@given(SENT)
def test_every_chunk_of_the_protocol_is_decoded(made):
    piece, entries, values = made
    where, what = chunk.decode(piece)
    assert where.tolist() == entries
    assert what.tobytes() == values


@EXAMPLES
@given(CHUNKS, st.integers(0))
@example(Chunk(0, 9, BITMAP, b"\0\0"), 1)  # what is left of the bitmap marks nothing
def test_a_chunk_that_is_cut_short_is_a_chunk_error(piece, cut):
    if piece.data:
        cut %= len(piece.data)
        with pytest.raises(ChunkError):
            chunk.decode(Chunk(piece.first, piece.count, piece.encoding, piece.data[:cut]))


@EXAMPLES
@given(CHUNKS, st.binary(min_size=1, max_size=8))
def test_bytes_after_the_last_value_are_a_chunk_error(piece, more):
    with pytest.raises(ChunkError):
        chunk.decode(Chunk(piece.first, piece.count, piece.encoding, piece.data + more))


@EXAMPLES
@given(CHUNKS, st.sampled_from([3, 7, 11]) | st.integers(12, 255))
def test_an_unknown_encoding_is_a_chunk_error(piece, encoding):
    with pytest.raises(ChunkError, match=str(encoding)):
        chunk.decode(Chunk(piece.first, piece.count, encoding, piece.data))


@EXAMPLES
@given(CHUNKS, st.integers(1, 2**32 - 1))
def test_an_entry_past_the_end_of_the_chunk_is_a_chunk_error(piece, beyond):
    outside = leb(1) + leb(piece.count - 1 + beyond) + bytes(4)
    with pytest.raises(ChunkError):
        chunk.decode(Chunk(piece.first, piece.count, INDICES, outside))


@EXAMPLES
@given(st.integers(1, 100).filter(lambda count: count % 8), st.data())
def test_a_bit_past_the_end_of_a_bitmap_is_a_chunk_error(count, data):
    bit = data.draw(st.integers(count, -(-count // 8) * 8 - 1))
    bitmap = (1 << bit).to_bytes(-(-count // 8), "little")
    with pytest.raises(ChunkError):
        chunk.decode(Chunk(0, count, BITMAP, bitmap + bytes(4)))


@pytest.mark.parametrize(
    "numbers",
    [
        pytest.param([1, 2**70], id="over 64 bits"),
        # Their sum is 4 where it is taken modulo 2⁶⁴.
        pytest.param([3, 2**63 - 2, 2**63 - 2, 4], id="sum over 64 bits"),
    ],
)
def test_gaps_that_overflow_are_a_chunk_error(numbers):
    data = b"".join(map(leb, numbers)) + bytes(4 * numbers[0])
    with pytest.raises(ChunkError):
        chunk.decode(Chunk(0, 9, INDICES, data))


def test_a_number_of_more_than_five_bytes_is_a_chunk_error():
    assert len(chunk.decode(Chunk(0, 9, INDICES, leb(1, size=5) + leb(3) + bytes(4)))[0]) == 1
    with pytest.raises(ChunkError):
        chunk.decode(Chunk(0, 9, INDICES, leb(1, size=6) + leb(3) + bytes(4)))


@EXAMPLES
@given(st.integers(0, 2**32 - 1), st.integers(0, 5000), st.integers(0, 12), st.binary(max_size=40))
def test_arbitrary_bytes_decode_to_entries_of_the_chunk_or_are_a_chunk_error(
    first, count, encoding, data
):
    check_decoded(Chunk(first, count, encoding, data))


@EXAMPLES
@given(
    CHUNKS.filter(lambda piece: piece.data),
    st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=3),
)
def test_a_changed_chunk_decodes_to_entries_of_the_chunk_or_is_a_chunk_error(piece, changes):
    data = bytearray(piece.data)
    for place, byte in changes:
        data[place % len(data)] = byte
    check_decoded(Chunk(piece.first, piece.count, piece.encoding, bytes(data)))


@pytest.mark.parametrize(
    ("form", "data"),
    [
        pytest.param(FLOAT16, "007c", id="infinity"),
        pytest.param(FLOAT16, "01fe", id="no number"),
        pytest.param(INT8, "0080", id="less than the least"),
        pytest.param(INT8, "7a01", id="power past the largest"),
        pytest.param(INT8, "8201", id="power below the smallest"),
    ],
)
def test_a_code_that_no_node_makes_is_a_chunk_error(form, data):
    with pytest.raises(ChunkError):
        decode(Chunk(0, 1, DENSE + 4 * form, bytes.fromhex(data)))


@pytest.mark.parametrize(
    ("form", "data", "value"),
    [(FLOAT16, "0100", 2**-24), (FLOAT16, "ff7b", 65504), (INT8, "83ff", -(2**-125)),
     (INT8, "797f", 127 * 2.0**121)],
)  # fmt: skip
def test_worked_examples_fix_what_codes_stand_for(form, data, value):
    where, what = decode(Chunk(7, 1, DENSE + 4 * form, bytes.fromhex(data)))
    assert (where.tolist(), what.tolist()) == ([7], [value])


def test_no_room_for_an_entry_is_an_error():
    values, marked = np.ones(3, np.float32), np.ones(3, np.bool_)
    with pytest.raises(ValueError, match="3 bytes have no room for an entry of 4"):
        list(encode(values, marked, 0, 3, 3))
    assert [chunk.count for chunk in encode(values, marked, 0, 3, 4)] == [1, 1, 1]


def test_a_head_alone_makes_nothing_large():
    """A dense chunk that says 2^40 entries and has one is refused before memory is asked for."""
    with pytest.raises(ChunkError, match="4 bytes do not make a chunk of 1099511627776 entries"):
        decode(Chunk(0, 2**40, DENSE, bytes(4)))
