"""Programs of many host nodes, carried out by the shared library in threads without the GIL.

The library does what a Node does over its link, frame for frame, and counts the same bytes; what it
leaves out is the link.
"""

import itertools
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import TinyMetaFedError
from ..link import Error, messages
from ..link.connection import COUNTED
from ..models.model import Model
from ..places import BUILT_BY
from ..tasks.samples import Samples
from . import program as primitives
from .answers import EXPECTED
from .broadcast import Broadcast
from .library import Library, host_library
from .node import Vector
from .outcome import Evaluation
from .packing import Frame, Room, pack
from .program import Program
from .usage import FRAMING, UNUSED, Usage

NAMES = (*EXPECTED, FRAMING)
"""Of requests, by their numbers in struct tmf_client."""
_NUMBERS = {name: number for number, name in enumerate(NAMES)}
_SOURCES = {"support": 1, "query": 2}  # in struct tmf_segment
SLICES = 4  # of the clients, for each thread: one that is faster takes more
WORTH_A_THREAD = 5e-4  # seconds of work
MOST_AT_ONCE = 256  # clients
MOST_SPARE = 256  # arrays that are kept to be used again
_BROKEN = -1

_jobs = itertools.count(1)


class Client(NamedTuple):
    """A node before its program, and the samples of the device that it plays. (What a round makes
    for each of its nodes is a tuple, which is made in a third of a dataclass's time.)

    held: version of the weights that it has, 0 for none. sequence: number of its last frame. kept:
    float32 [parameters], what it keeps from round to round, which the program changes; None where
    the node keeps nothing.
    """

    held: int
    sequence: int
    support: Samples
    query: Samples
    kept: Vector | None = None


class Played(NamedTuple):
    """What a client's program came to.

    sequence: number of its last frame. refused: the request that was refused and the node's error,
    by which the program ended. indices, values: what was sent, int32 and float32 [k], ascending.
    evaluations: those of the program, in order.
    """

    sequence: int
    refused: tuple[str, Error] | None
    indices: NDArray[np.int32]
    values: Vector
    usage: Usage
    evaluations: Sequence[Evaluation]


class NativeNodes:
    """Host nodes that were told of one model."""

    def __init__(
        self, model: Model, load: messages.Load, capacity: int, threads: int | None = None
    ) -> None:
        """load: by which they were told. capacity: of a frame's body, as their hello has it.
        threads: one for each processor where not given."""
        self._model = model
        self._load = messages.body_head(1, 1) + messages.encode_request(load)
        self._capacity = capacity
        self.threads = threads or len(os.sched_getaffinity(0))
        self._library = host_library()
        self._spare = _Spare()
        self._seconds = 0.0  # that a client took, when it was last looked at

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.threads)

    def close(self) -> None:
        """Ends the threads."""
        if "_pool" in vars(self):
            self._pool.shutdown()
            del self._pool

    def run(
        self,
        program: Program,
        broadcast: Broadcast,
        clients: Sequence[Client],
        *,
        counts: bool = True,
    ) -> list[Played]:
        """`stream` of clients that are there."""
        every = self.stream(
            program, broadcast, len(clients), lambda some: clients[some], counts=counts
        )
        return list(every)

    def stream(
        self,
        program: Program,
        broadcast: Broadcast,
        count: int,
        make: Callable[[slice], Sequence[Client]],
        *,
        counts: bool = True,
    ) -> Iterator[Played]:
        """Carries out the program on `count` clients, which `make` makes some at a time, while
        others are at work; what they come to, in order. Without `counts` a client begins with the
        broadcast's weights, whatever it holds, and what passes its link is not counted.

        Raises what packing.pack raises.
        """
        orders = _Orders(
            self._library, self._model, self._load, self._capacity, program, broadcast, counts,
            self._spare,
        )  # fmt: skip
        threaded = min(self.threads, count) > 1 and count * self._seconds >= WORTH_A_THREAD
        size = -(-count // (self.threads * SLICES)) if threaded else min(count, MOST_AT_ONCE)
        under_way: deque[tuple[_Table, Future[None] | None]] = deque()
        for first in range(0, count, max(1, size)):
            table = _Table(orders, make(slice(first, min(first + size, count))))
            if threaded:
                under_way.append((table, self._pool.submit(table.play)))
                while len(under_way) > self.threads + 1:
                    yield from self._ended(*under_way.popleft())
            else:
                start = time.perf_counter()
                table.play()
                self._seconds = (time.perf_counter() - start) / len(table)
                yield from table.results()
        while under_way:
            yield from self._ended(*under_way.popleft())

    def _ended(self, table: "_Table", future: "Future[None] | None") -> Iterator[Played]:
        if future is not None:
            future.result()
        return table.results()


class _Spare:
    """Arrays that nobody looks at any more, to be used again: memory that was used is there, where
    new memory is made of zeros page by page."""

    def __init__(self) -> None:
        self._arrays: list[NDArray[Any]] = []

    def take(self, shape: tuple[int, int], kind: type[np.generic]) -> NDArray[Any]:
        """An array with anything in it."""
        for array in self._arrays:
            # Of those without a view: here, in the list, and as the call's argument.
            if (array.shape, array.dtype) == (shape, kind) and sys.getrefcount(array) == 3:
                return array
        if len(self._arrays) == MOST_SPARE:
            self._arrays.clear()
        self._arrays.append(np.empty(shape, kind))
        return self._arrays[-1]


class _Orders:
    """What is the same for all clients of a program, as the library takes it."""

    def __init__(
        self,
        library: Library,
        model: Model,
        load: bytes,
        capacity: int,
        program: Program,
        broadcast: Broadcast,
        counts: bool,
        spare: _Spare,
    ) -> None:
        self.spare = spare
        self.library, self.model, self.counts = library, model, counts
        self._capacity, self._program, self._broadcast = capacity, program, broadcast
        self.evaluations = [
            place for place, one in enumerate(program) if isinstance(one, primitives.Evaluate)
        ]
        keep = sum(one.keep for one in program if isinstance(one, primitives.Select))
        self.keep = min(keep, model.global_parameters)
        self._packings: dict[tuple[int, int, int], tuple[int, int]] = {}
        ffi: Any = library.ffi
        runs = ffi.new("struct tmf_run[]", list(model.global_runs))
        theta = ffi.from_buffer("float[]", broadcast.theta)
        backbone = ffi.from_buffer("float[]", model.backbone)
        described = ffi.from_buffer("uint8_t[]", load)
        self.job: Any = ffi.new("struct tmf_job *")
        job = self.job
        job.number, job.theta, job.version = next(_jobs), theta, broadcast.version
        job.load, job.load_size, job.backbone = described, len(load), backbone
        job.runs, job.run_count = runs, len(runs)
        job.update, job.framing, job.counts = _NUMBERS["update"], _NUMBERS[FRAMING], counts
        # What the library has pointers to.
        self._alive: list[Any] = [runs, theta, backbone, described]

    def packing(self, client: Client) -> tuple[int, int]:
        """The address of the client's frames, and how many they are."""
        held = client.held if self.counts else self._broadcast.version
        key = (held, len(client.support), len(client.query))
        if key not in self._packings:
            size = client.query.size
            room = Room(*key[1:], size, self.model.global_runs, self._capacity)
            weights = self._broadcast.requests(held, self._capacity) if self.counts else ()
            frames = pack(self._program, room, weights)
            base = self._broadcast.base(held)
            self._packings[key] = self._address(frames, size, base, len(weights)), len(frames)
        return self._packings[key]

    def _address(self, frames: tuple[Frame, ...], size: int, base: int, weights: int) -> int:
        """size: bytes of a sample. base: the version from which the weights lead to the
        broadcast's. weights: requests that bring them."""
        ffi: Any = self.library.ffi
        alone = max(0, weights - 1)
        after = self._broadcast.first_of(base, self._capacity, alone) if alone else 0
        pieces: list[tuple[int, int, int]] = []
        segments: list[tuple[Any, int, int, int]] = []
        for piece in itertools.chain(*frames):
            parts: list[tuple[Any, int, int, int]] = []
            for part in (piece.before, piece.behind):
                if part:
                    buffer = ffi.from_buffer("uint8_t[]", part)
                    self._alive.append(buffer)
                    parts.append((buffer, 0, 0, len(part)))
            parts[1:1] = [
                (ffi.NULL, _SOURCES[source], first, end - first)
                for source, first, end in piece.ranges(size)
            ]
            ordinal = piece.run or 0
            if piece.name == "evaluate":
                ordinal = self.evaluations.index(piece.place)
            pieces.append((_NUMBERS[piece.name], len(parts), ordinal))
            segments += parts
        requests = ffi.new("uint32_t[]", list(map(len, frames)))
        arrays = ffi.new("struct tmf_piece[]", pieces), ffi.new("struct tmf_segment[]", segments)
        sizes = ffi.new("uint32_t[]", alone * (COUNTED[-1] + 1))
        packing = ffi.new(
            "struct tmf_packing *",
            (len(frames), alone, base, after, _NUMBERS["weights"], sizes, requests, *arrays),
        )
        self._alive += [requests, arrays, sizes, packing]
        return int(ffi.cast("uintptr_t", packing))


class _Table:
    """Some of the clients: struct tmf_client, a row each."""

    def __init__(self, orders: _Orders, clients: Sequence[Client]) -> None:
        self._orders = orders
        self._alive: list[Any] = []
        self._rows = np.zeros(len(clients), _layout(orders.library))
        packings = [orders.packing(one) for one in clients]
        self._rows["packing"] = [address for address, _ in packings]
        held = [one.held for one in clients]
        self._rows["held"] = held if orders.counts else int(orders.job.version)
        self._rows["sequence"] = [one.sequence for one in clients]
        self._place_samples(clients)
        if clients[0].kept is not None:
            kept = [one.kept for one in clients if one.kept is not None]
            self._rows["kept"] = [self._pointer(one) for one in kept]
        self._place_results(max(frames for _, frames in packings))

    def __len__(self) -> int:
        return len(self._rows)

    def _pointer(self, array: NDArray[Any]) -> int:
        self._alive.append(array)
        return array.ctypes.data

    def _place_samples(self, clients: Sequence[Client]) -> None:
        packed = [part for one in clients for part in (one.support.packed, one.query.packed)]
        base = self._pointer(np.frombuffer(b"".join(packed), np.uint8))
        ends = base + np.cumsum([0, *map(len, packed)])
        self._rows["support"], self._rows["query"] = ends[0:-1:2], ends[1:-1:2]

    def _place_results(self, frames: int) -> None:
        count, keep = len(self._rows), self._orders.keep
        # Room for one more: an entry is written before it is known whether it is marked.
        self._indices = self._orders.spare.take((count, keep + 1), np.int32)
        self._values = self._orders.spare.take((count, keep + 1), np.float32)
        # The answers to requests for the rest of an update are full, but for the last of each run.
        rest = 4 * keep // 4096 + len(self._orders.model.global_runs) + 1
        self._frames = np.zeros((count, 2, frames + rest), np.uint32)
        judged = len(self._orders.evaluations)
        self._loss = np.zeros((count, judged))
        self._correct, self._judged = np.zeros((2, count, judged), np.uint32)
        row = np.arange(count, dtype=np.uint64)
        for name, array in (
            ("indices", self._indices), ("values", self._values), ("frame_sizes", self._frames),
            ("loss", self._loss), ("correct", self._correct), ("samples", self._judged),
        ):  # fmt: skip
            self._rows[name] = self._pointer(array) + row * array.strides[0]
        self._rows["frame_room"] = frames + rest

    def play(self) -> None:
        """In any thread."""
        library = self._orders.library
        host = library.take()
        try:
            pointer = library.ffi.cast("struct tmf_client *", self._rows.ctypes.data)
            library.lib.tmf_clients_run(host, self._orders.job, pointer, len(self._rows))
        finally:
            library.give_back(host)

    def results(self) -> Iterator[Played]:
        """Of each client, when all were played."""
        rows = self._rows
        columns = (rows[name].tolist() for name in ("code", "failed", "sequence", "entries"))
        usages = self._usages() if self._orders.counts else itertools.repeat(UNUSED, len(rows))
        judges = bool(self._orders.evaluations)
        for i, (code, failed, sequence, entries, usage) in enumerate(
            zip(*columns, usages, strict=True)
        ):
            yield Played(
                sequence,
                self._refused(code, failed) if code else None,
                self._indices[i, :entries],
                self._values[i, :entries],
                usage,
                self._evaluations(i) if judges and not code else (),
            )

    def _usages(self) -> Iterator[Usage]:
        """Most clients have the same as others, and share it."""
        numbers = np.column_stack(
            [
                self._rows["sensor"], self._rows["frames"], self._rows["down"], self._rows["up"],
                self._frames.reshape(len(self._rows), -1),
            ]
        )  # fmt: skip
        data, size = numbers.tobytes(), numbers.strides[0]
        known: dict[bytes, Usage] = {}
        for i in range(len(numbers)):
            key = data[i * size : (i + 1) * size]
            if (usage := known.get(key)) is None:
                usage = known[key] = self._usage(numbers[i].tolist())
            yield usage

    def _usage(self, numbers: list[int]) -> Usage:
        sensor, frames, *rest = numbers
        kinds = _layout(self._orders.library)["down"].shape[0]
        room = (len(rest) - 2 * kinds) // 2
        sizes = rest[2 * kinds :]
        return Usage(
            _traffic(rest[:kinds]), _traffic(rest[kinds : 2 * kinds]), sensor,
            tuple(sizes[:frames]), tuple(sizes[room : room + frames]),
        )  # fmt: skip

    def _refused(self, code: int, failed: int) -> tuple[str, Error]:
        library = self._orders.library
        if code == _BROKEN:
            raise TinyMetaFedError(f"a host node did what no node does; run '{BUILT_BY}'")
        text = library.ffi.string(library.lib.tmf_error_text(code).text).decode()
        return NAMES[failed], Error(code, text, 0, 0)

    def _evaluations(self, i: int) -> Sequence[Evaluation]:
        sums = (one[i].tolist() for one in (self._loss, self._correct, self._judged))
        return tuple(
            Evaluation(loss / samples, correct / samples)
            for loss, correct, samples in zip(*sums, strict=True)
        )


def _traffic(counts: list[int]) -> dict[str, int]:
    return {name: count for name, count in zip(NAMES, counts, strict=True) if count}


@cache
def _layout(library: Library) -> np.dtype[Any]:
    """struct tmf_client as numpy has it; pointers are numbers."""
    kinds = {"uint32_t": "u4", "int32_t": "i4", "double": "f8"}
    names, formats, offsets = [], [], []
    struct = library.ffi.typeof("struct tmf_client")
    for name, field in struct.fields:
        kind: Any = field.type
        names.append(name)
        offsets.append(field.offset)
        if kind.kind == "array":
            formats.append((kinds[kind.item.cname], (kind.length,)))
        else:
            formats.append("u8" if kind.kind == "pointer" else kinds[kind.cname])
    size = library.ffi.sizeof(struct)
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": size})
