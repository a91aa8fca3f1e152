"""A program packed into frames: as few as the node's receive buffer allows.

How it is packed depends on how many samples there are, and not on what they are: one packing serves
all nodes of a round that get the same broadcast.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..errors import TinyMetaFedError
from ..link import chunk, messages
from ..link.messages import MOST_REQUESTS
from . import program as primitives
from .broadcast import CHUNK_OVERHEAD
from .program import Program, Source


class ProgramError(TinyMetaFedError, ValueError):
    """A program that no node can carry out."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the strategy's program: {what}")


HEAD_SIZE = 3
"""Bytes of a body before its first request, at most."""

PART_OVERHEAD = 12
"""Bytes of a part of a sample without the sample's, at most."""

WEIGHTS = -1
"""Place of what brings the weights, before the program's first primitive."""

Range = tuple[Source, int, int]
"""A set of samples, the first of it, and the one after the last."""


@dataclass(frozen=True)
class Piece:
    """A request in a frame.

    Attributes:
        name: of the request.
        place: of the primitive in the program that it is of, or WEIGHTS.
        before, behind: its CBOR around the samples; all of it in `before` where it has none.
        samples: that it carries, one behind the other, or that it is about.
        within: of these samples' bytes, the first that it carries and the one after the last; all
            of them where not given.
        run: of an `update` request, which of the global part's runs it asks for.
    """

    name: str
    place: int
    before: bytes
    behind: bytes = b""
    samples: tuple[Range, ...] = ()
    within: tuple[int, int] | None = None
    run: int | None = None

    @property
    def size(self) -> int:
        """Bytes of it without the samples."""
        return len(self.before) + len(self.behind)

    def ranges(self, sample: int) -> Iterator[Range]:
        """What it carries of either set, in bytes. sample: bytes of one."""
        for source, first, end in self.samples:
            start, stop = self.within or (0, (end - first) * sample)
            yield source, first * sample + start, first * sample + stop


Frame = tuple[Piece, ...]


@dataclass(frozen=True)
class Room:
    """What a packing depends on besides the program.

    Attributes:
        support, query: samples of either set.
        sample: bytes of one.
        runs: (first, end) of the global part's runs of parameters.
        capacity: bytes of a frame's body, at most.
    """

    support: int
    query: int
    sample: int
    runs: tuple[tuple[int, int], ...]
    capacity: int

    def of(self, source: Source) -> int:
        """Samples of a set."""
        return self.support if source == "support" else self.query


def pack(program: Program, room: Room, weights: Sequence[bytes] = ()) -> tuple[Frame, ...]:
    """The frames of a program, behind the requests that bring the weights, the last of which shares
    its frame with what follows. None where there is nothing to ask for.

    Raises ProgramError where it cannot be carried out on such samples, TinyMetaFedError where a
    mini-batch does not fit into a frame.
    """
    if weights and _trains_on_others(program):
        raise ProgramError("stored samples that the program has not stored are another device's")
    alone = tuple((Piece("weights", WEIGHTS, request),) for request in weights[:-1])
    first = len(weights[-1]) if weights else 0
    frames = _packed(program, room, first)
    if weights:
        shared = (Piece("weights", WEIGHTS, weights[-1]), *frames[0])
        frames = (shared, *frames[1:])
    return tuple(frame for frame in alone + frames if frame)  # a part may be of no samples


def _trains_on_others(program: Program) -> bool:
    """Whether it uses what lies in the node's memory before it puts its own samples there."""
    for primitive in program:
        match primitive:
            case primitives.Store():
                return False
            case primitives.Train(samples="stored"):
                return True
            case _:
                pass
    return False


@lru_cache(maxsize=256)
def _packed(program: Program, room: Room, first: int) -> tuple[Frame, ...]:
    """As pack; in the first frame `first` bytes are taken by another request, if any."""
    packer = _Packer(room.capacity, first)
    for place, primitive in enumerate(program):
        match primitive:
            case primitives.Store(samples=source):
                _pack_store(packer, place, source, room)
            case primitives.Train():
                _pack_train(packer, place, primitive, room)
            case primitives.Evaluate(samples=source):
                every: list[Range] = [(source, 0, room.of(source))]
                _cut(packer, place, every, 1, room, lambda _: messages.Evaluate(b""))
            case primitives.Variate(values=values):
                for piece in _dense(packer, values):
                    packer.add(Piece("variate", place, messages.encode_request(piece)))
            case primitives.Send():
                for run, (start, end) in enumerate(room.runs):
                    packer.add(update_piece(place, run, start, end))
            case _:
                packer.add(_plain(place, primitive))
    return packer.frames()


def update_piece(place: int, run: int, first: int, end: int) -> Piece:
    """Asks for the marked entries of a run from `first` on."""
    request = messages.encode_request(messages.Update(first, end))
    return Piece("update", place, request, run=run)


def _plain(place: int, primitive: primitives.Mark | primitives.Renew | primitives.Select) -> Piece:
    match primitive:
        case primitives.Mark():
            return Piece("mark", place, messages.encode_request(messages.Mark()))
        case primitives.Renew(rate=rate):
            return Piece("renew", place, messages.encode_request(messages.Renew(rate)))
        case primitives.Select(keep=keep, values=values):
            request = messages.Select(keep, chunk.VALUES[values])
            return Piece("select", place, messages.encode_request(request))


class _Packer:
    """Frames as they fill up."""

    def __init__(self, capacity: int, first: int) -> None:
        self._capacity = capacity - HEAD_SIZE
        self._done: list[Frame] = []
        self._open: list[Piece] = []
        self._used, self._count = first, 1 if first else 0

    @property
    def left(self) -> int:
        """Bytes in the open frame."""
        return self._capacity - self._used if self._count < MOST_REQUESTS else 0

    @property
    def most(self) -> int:
        """Bytes in an empty frame."""
        return self._capacity

    def add(self, piece: Piece, samples: int = 0) -> None:
        """samples: bytes that it carries."""
        if piece.size + samples > self.left:
            self.close()
        self._open.append(piece)
        self._used += piece.size + samples
        self._count += 1

    def close(self) -> None:
        """The next piece begins a frame."""
        self._done.append(tuple(self._open))
        self._open, self._used, self._count = [], 0, 0

    def frames(self) -> tuple[Frame, ...]:
        """All of them."""
        if self._count or not self._done:
            self.close()
        return tuple(self._done)


def _dense(packer: _Packer, values: np.ndarray) -> Iterator[messages.Variate]:
    """All of the values in pieces that fit into the frames. What fits into one frame is not cut."""

    def piece(first: int, count: int) -> messages.Variate:
        data = values[first : first + count].astype("<f4").tobytes()
        return messages.Variate(chunk.Chunk(first, count, chunk.DENSE, data))

    first = 0
    while first < len(values):
        rest = piece(first, len(values) - first)
        size = len(messages.encode_request(rest))
        if size > packer.left and (size <= packer.most or packer.left < 2 * CHUNK_OVERHEAD):
            packer.close()
        if size <= packer.left:
            yield rest
            return
        count = (packer.left - CHUNK_OVERHEAD) // 4
        yield piece(first, count)
        first += count


def _pack_store(packer: _Packer, place: int, source: Source, room: Room) -> None:
    def request(first: bool) -> messages.Store:
        return messages.Store(not first, b"")

    _cut(packer, place, [(source, 0, room.of(source))], 1, room, request)


def _pack_train(packer: _Packer, place: int, train: primitives.Train, room: Room) -> None:
    options = messages.FROM_MARK * train.from_mark + messages.CORRECTED * train.corrected

    def request(first: bool) -> messages.Train:
        return messages.Train(
            train.rate, train.frozen, train.batch, train.epochs, None, train.proximal, options
        )

    if train.samples == "stored":
        packer.add(Piece("train", place, messages.encode_request(request(True))))
        return
    if train.epochs > 1:
        raise ProgramError("samples that are dropped after use make one epoch: store them first")
    ranges = _ranges(train, train.samples, room.of(train.samples))
    if ranges or train.part is None:
        _cut(packer, place, ranges, train.batch, room, request)


def _ranges(train: primitives.Train, source: Source, count: int) -> list[Range]:
    """The samples that are used, in their order."""
    if train.part is not None:
        first, end = (min(place, count) for place in train.part)
        return [(source, first, end)] if first < end else []
    left = count if train.steps is None else train.steps
    found: list[Range] = []
    while left > 0 and count > 0:
        found.append((source, 0, min(left, count)))
        left -= count
    return found


def _cut(
    packer: _Packer,
    place: int,
    ranges: Iterable[Range],
    batch: int,
    room: Room,
    request: Callable[[bool], messages.Train | messages.Store | messages.Evaluate],
) -> None:
    """Requests for the samples in `ranges`, in whole mini-batches. What fits into one frame is not
    cut. request: the first one, or one behind it."""
    left = list(ranges)
    total = sum(end - first for _, first, end in left)
    if total == 0 or batch < 1:
        raise ProgramError(f"{total} samples in mini-batches of {batch}")
    name = type(request(True)).__name__.lower()
    begun = False
    while left:
        before, behind = messages.around_samples(request(not begun), total * room.sample)
        around = len(before) + len(behind)
        fit = [(space - around) // room.sample for space in (packer.left, packer.most)]
        if fit[1] == 0 and min(batch, total) == 1:
            _cut_in_parts(packer, place, left, room, name, request)
            return
        if fit[1] < min(batch, total):
            raise TinyMetaFedError(
                f"{batch} samples of {room.sample} bytes do not fit into a node's receive buffer, "
                f"which holds a body of {room.capacity} bytes; store them on the node or use "
                "smaller mini-batches"
            )
        if fit[0] < total and (fit[1] >= total or fit[0] < batch):
            packer.close()
            fit[0] = fit[1]
        count = total if fit[0] >= total else fit[0] // batch * batch
        taken, left = _split(left, count)
        before, behind = messages.around_samples(request(not begun), count * room.sample)
        packer.add(Piece(name, place, before, behind, taken), count * room.sample)
        total -= count
        begun = True


def _cut_in_parts(
    packer: _Packer,
    place: int,
    ranges: Sequence[Range],
    room: Room,
    name: str,
    request: Callable[[bool], messages.Train | messages.Store | messages.Evaluate],
) -> None:
    """Each sample in parts that fill the frames, and behind them a request for it."""
    begun = False
    for source, first, end in ranges:
        for i in range(first, end):
            one: tuple[Range, ...] = ((source, i, i + 1),)
            for part, start, stop in _parts(packer, room.sample):
                packer.add(Piece("part", place, part, b"", one, (start, stop)), stop - start)
            before, behind = messages.around_samples(request(not begun), 0)
            packer.add(Piece(name, place, before, behind, one, (0, 0)))
            begun = True


def _parts(packer: _Packer, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Of a sample of `size` bytes, the parts: the CBOR before the bytes of each, the first of these
    and the one after the last."""
    first = 0
    while first < size:
        if packer.left < 2 * PART_OVERHEAD:
            packer.close()
        end = min(size, first + packer.left - PART_OVERHEAD)
        before, _ = messages.around_samples(messages.Part(first, b""), end - first)
        yield before, first, end
        first = end


def _split(ranges: Sequence[Range], count: int) -> tuple[tuple[Range, ...], list[Range]]:
    """The first `count` samples, and the others."""
    taken: list[Range] = []
    for i, (source, first, end) in enumerate(ranges):
        if count == 0:
            return tuple(taken), list(ranges[i:])
        middle = min(end, first + count)
        taken.append((source, first, middle))
        count -= middle - first
        if middle < end:
            return tuple(taken), [(source, middle, end), *ranges[i + 1 :]]
    return tuple(taken), []
