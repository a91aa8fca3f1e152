"""Pieces of a sparse vector as bytes: the counterpart of firmware/core/tmf_chunk.c.

Of three encodings a chunk has the smallest, and of equals the one with the lower number:
dense (every value), bitmap (a bit per entry, then the values of the set bits), indices (LEB128
gaps, then the values). firmware/protocol.cddl has the bytes.

Values are float32; in what a node sends of an update, where it was asked to, float16 or int8.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DENSE, BITMAP, INDICES = 0, 1, 2
ENTRY_SIZE = 4  # bytes of one, at least
FLOAT32, FLOAT16, INT8 = 0, 1, 2  # how values are sent: added to the encoding, four times
VALUES = {"float32": FLOAT32, "float16": FLOAT16, "int8": INT8}
_DTYPES = tuple(map(np.dtype, ("<f4", "<f2", "i1")))
_EXPONENTS = range(-125, 122)  # of the power of two that int8 counts


@dataclass(frozen=True)
class Chunk:
    """The entries first … first + count − 1 of a vector, or those of them that are marked."""

    first: int
    count: int
    encoding: int
    data: bytes


class ChunkError(ValueError):
    """A chunk whose bytes do not match its head."""


def encode(
    values: NDArray[np.float32], marked: NDArray[np.bool_], first: int, end: int, capacity: int
) -> Iterator[Chunk]:
    """Cuts the marked entries of values[first:end] into chunks of at most `capacity` bytes of data,
    each as long as it can be.

    values: float32 [n]. marked: bool [n]. Where nothing is marked no chunk comes out. Raises
    ValueError where `capacity` has no room for one entry.
    """
    if capacity < ENTRY_SIZE:
        raise ValueError(f"{capacity} bytes have no room for an entry of {ENTRY_SIZE}")
    last = int(np.flatnonzero(marked[first:end])[-1]) + 1 if marked[first:end].any() else 0
    end = first + last
    while first < end:
        chunk = _longest(values[first:end], marked[first:end], first, capacity)
        yield chunk
        first += chunk.count


def _leb_size(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    sizes = np.ones_like(numbers)
    largest = int(numbers.max(initial=0))
    for limit in (1 << 7, 1 << 14, 1 << 21, 1 << 28):
        if largest >= limit:
            sizes += numbers >= limit
    return sizes


def _longest(
    values: NDArray[np.float32], marked: NDArray[np.bool_], first: int, capacity: int
) -> Chunk:
    n = len(values)
    if marked.all():  # nothing is shorter than the values alone
        reach = min(n, capacity // 4)
        return Chunk(first, reach, DENSE, values[:reach].astype("<f4").tobytes())
    indices = np.flatnonzero(marked)
    gaps = np.diff(indices, prepend=-1) - 1
    gap_sizes = _leb_size(gaps)
    # What fits with every value needs no look at how far it reaches.
    reach = n if 4 * n <= capacity else _reach(n, indices, gap_sizes, capacity)
    number = int(np.searchsorted(indices, reach))
    sizes = (
        4 * reach,
        (reach + 7) // 8 + 4 * number,
        len(_leb(number)) + int(gap_sizes[:number].sum()) + 4 * number,
    )
    encoding = sizes.index(min(sizes))
    marked = marked[:reach]
    if encoding == DENSE:
        data = values[:reach].astype("<f4").tobytes()
    else:
        sent = values[:reach][marked].astype("<f4").tobytes()
        if encoding == BITMAP:
            data = np.packbits(marked, bitorder="little").tobytes() + sent
        else:
            data = b"".join(map(_leb, [number, *gaps[:number].tolist()])) + sent
    return Chunk(first, reach, encoding, data)


def _reach(n: int, indices: NDArray[np.int64], gap_sizes: NDArray[np.int64], capacity: int) -> int:
    """How many of the n entries fit in the encoding that has room for most of them."""
    count = np.arange(1, n + 1)
    number, gaps = np.zeros((2, n), np.int64)
    number[indices], gaps[indices] = 1, gap_sizes
    number = np.cumsum(number)
    dense = 4 * count
    bitmap = (count + 7) // 8 + 4 * number
    listed = _leb_size(number) + np.cumsum(gaps) + 4 * number
    fits = np.minimum(np.minimum(dense, bitmap), listed) <= capacity
    return n if fits.all() else int(np.argmin(fits))


def _leb(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def decode(chunk: Chunk) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Indices into the whole vector, ascending, int32 [k], and values, float32 [k].

    Raises ChunkError where the bytes do not match the head.
    """
    values, encoding = divmod(chunk.encoding, 4)
    if values > INT8:
        raise ChunkError(f"unknown encoding {chunk.encoding}")
    data, dtype, exponent = chunk.data, _DTYPES[values], 0
    if values == INT8:
        exponent = int.from_bytes(data[:1], signed=True)
        if not data or exponent not in _EXPONENTS:
            raise ChunkError(f"no power of two for its values, or 2^{exponent}")
        data = data[1:]
    if encoding == DENSE:
        # As many as there are bytes for: the head alone makes nothing large.
        offsets = np.arange(min(chunk.count, len(data) // dtype.itemsize + 1))
    elif encoding == BITMAP:
        size = (chunk.count + 7) // 8
        bits = np.unpackbits(np.frombuffer(data[:size], np.uint8), bitorder="little")
        offsets = np.flatnonzero(bits.view(np.bool_))
        if len(data) < size:
            raise ChunkError("the bitmap is cut short")
        data = data[size:]
    elif encoding == INDICES:
        gaps, data = _split_leb(data)
        offsets = np.cumsum(np.array(gaps, dtype=np.int64) + 1) - 1
    else:
        raise ChunkError(f"unknown encoding {chunk.encoding}")
    if len(data) != dtype.itemsize * len(offsets) or (len(offsets) and offsets[-1] >= chunk.count):
        raise ChunkError(f"{len(chunk.data)} bytes do not make a chunk of {chunk.count} entries")
    codes = np.frombuffer(data, dtype)
    if (values == FLOAT16 and not np.isfinite(codes).all()) or (
        values == INT8 and (codes == -128).any()
    ):
        raise ChunkError("a code that stands for no value")
    numbers = codes.astype(np.float32)
    offsets = (offsets + chunk.first).astype(np.int32)
    return offsets, np.ldexp(numbers, exponent) if values == INT8 else numbers


def _split_leb(data: bytes) -> tuple[list[int], bytes]:
    numbers: list[int] = []
    number = shift = 0
    for position, byte in enumerate(data):
        number |= (byte & 0x7F) << shift
        shift += 7
        if shift > 35 or number >= 2**32:
            raise ChunkError("a gap of more than 32 bits")
        if not byte & 0x80:
            numbers.append(number)
            number = shift = 0
            if len(numbers) == numbers[0] + 1:
                return numbers[1:], data[position + 1 :]
    raise ChunkError("gaps are cut short")
