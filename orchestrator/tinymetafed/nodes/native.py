"""Programs of many host nodes, carried out by the shared library in threads without the GIL.

The library does what a Node does over its link, frame for frame, and counts the same bytes; what it
leaves out is the link.
"""

import itertools
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import TinyMetaFedError
from ..link import Error, messages
from ..models.model import Model
from ..places import HOST_LIBRARY
from ..tasks.samples import Samples
from . import program as primitives
from .broadcast import Broadcast
from .library import Library, library
from .node import EXPECTED, Evaluation, Vector
from .packing import Frame, Room, pack
from .program import Program
from .usage import FRAMING, UNUSED, Usage

NAMES = (*EXPECTED, FRAMING)
"""Of requests, by their numbers in struct tmf_client."""
_NUMBERS = {name: number for number, name in enumerate(NAMES)}
_SOURCES = {"support": 1, "query": 2}  # in struct tmf_segment
SLICES = 4  # of the clients, for each thread: one that is faster takes more
WORTH_A_THREAD = 5e-4  # seconds of work
_BROKEN = -1

_jobs = itertools.count(1)


@dataclass(frozen=True)
class Client:
    """A node before its program, and the samples of the device that it plays.

    held: version of the weights that it has, 0 for none. sequence: number of its last frame. kept:
    float32 [parameters], what it keeps from round to round, which the program changes; None where
    the node keeps nothing.
    """

    held: int
    sequence: int
    support: Samples
    query: Samples
    kept: Vector | None = None


@dataclass(frozen=True)
class Played:
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
        self._threads = threads or len(os.sched_getaffinity(0))
        self._library = library(HOST_LIBRARY)
        self._seconds = 0.0  # that a client took, when it was last looked at

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._threads)

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
        """Carries out the program on each client. Without `counts` a client begins with the
        broadcast's weights, whatever it holds, and what passes its link is not counted.

        Raises what packing.pack raises.
        """
        if not clients:
            return []
        room = _Told(self._library, self._model, self._load, self._capacity)
        job = _Job(room, program, broadcast, clients, counts)
        start = time.perf_counter()
        if self._threads == 1 or len(clients) * self._seconds < WORTH_A_THREAD:
            job.play(slice(0, len(clients)))
            self._seconds = (time.perf_counter() - start) / len(clients)
        else:
            size = -(-len(clients) // (self._threads * SLICES))
            slices = (slice(i, i + size) for i in range(0, len(clients), size))
            list(self._pool.map(job.play, slices))
        return job.results()


@dataclass(frozen=True)
class _Told:
    """The library, and the model that its nodes were told of by the body `load`."""

    library: Library
    model: Model
    load: bytes
    capacity: int


class _Job:
    """A program on many clients, as the library takes it."""

    def __init__(
        self,
        told: _Told,
        program: Program,
        broadcast: Broadcast,
        clients: Sequence[Client],
        counts: bool,
    ) -> None:
        self._library, model, capacity = told.library, told.model, told.capacity
        self._counts = counts
        self._program = program
        self._alive: list[Any] = []  # what the library has pointers to
        self._table = np.zeros(len(clients), _layout(self._library))
        self._sample = clients[0].query.size
        packings: dict[tuple[int, int, int], int] = {}
        frames: list[tuple[Frame, ...]] = []
        which: list[int] = []
        for client in clients:
            held = client.held if counts else broadcast.version
            key = (held, len(client.support), len(client.query))
            if key not in packings:
                packings[key] = len(frames)
                room = Room(*key[1:], self._sample, model.global_runs, capacity)
                weights = broadcast.requests(held, capacity) if counts else ()
                frames.append(pack(program, room, weights))
            which.append(packings[key])
        self._table["packing"] = which
        self._table["held"] = [one.held for one in clients] if counts else broadcast.version
        self._table["sequence"] = [one.sequence for one in clients]
        self._place_samples(clients)
        self._place_kept(clients)
        self._place_results(model, max(map(len, frames)))
        self._job = self._common(told, broadcast, frames)

    def _pointer(self, array: NDArray[Any]) -> int:
        self._alive.append(array)
        return array.ctypes.data

    def _place_samples(self, clients: Sequence[Client]) -> None:
        packed = [part for one in clients for part in (one.support.packed, one.query.packed)]
        base = self._pointer(np.frombuffer(b"".join(packed), np.uint8))
        ends = np.cumsum([0, *map(len, packed)])
        self._table["support"] = base + ends[0:-1:2]
        self._table["query"] = base + ends[1:-1:2]

    def _place_kept(self, clients: Sequence[Client]) -> None:
        if clients[0].kept is not None:
            kept = [one.kept for one in clients if one.kept is not None]
            self._table["kept"] = [self._pointer(one) for one in kept]

    def _place_results(self, model: Model, frames: int) -> None:
        count = len(self._table)
        keep = sum(one.keep for one in self._program if isinstance(one, primitives.Select))
        keep = min(keep, model.global_parameters)
        # Room for one more: an entry is written before it is known whether it is marked.
        self._indices = np.empty((count, keep + 1), np.int32)
        self._values = np.empty((count, keep + 1), np.float32)
        # Responses to requests for the rest of an update are full but for the last of each run.
        rest = 4 * keep // 4096 + len(model.global_runs) + 1
        self._frames = np.zeros((2, count, frames + rest), np.uint32)
        judged = sum(isinstance(one, primitives.Evaluate) for one in self._program)
        self._loss = np.zeros((count, judged))
        self._correct, self._judged = np.zeros((2, count, judged), np.uint32)
        row = np.arange(count, dtype=np.uint64)
        for name, array in (
            ("indices", self._indices), ("values", self._values),
            ("frames_down", self._frames[0]), ("frames_up", self._frames[1]),
            ("loss", self._loss), ("correct", self._correct), ("samples", self._judged),
        ):  # fmt: skip
            self._table[name] = self._pointer(array) + row * array.strides[0]
        self._table["frame_room"] = frames + rest

    def _common(self, told: _Told, broadcast: Broadcast, frames: list[tuple[Frame, ...]]) -> Any:
        ffi: Any = self._library.ffi
        packings = ffi.new("struct tmf_packing[]", [self._packing(one) for one in frames])
        runs = ffi.new("struct tmf_run[]", list(told.model.global_runs))
        theta = ffi.from_buffer("float[]", broadcast.theta)
        job = ffi.new("struct tmf_job *")
        job.number, job.theta, job.version = next(_jobs), theta, broadcast.version
        load = ffi.from_buffer("uint8_t[]", told.load)
        job.load, job.load_size = load, len(told.load)
        job.packings, job.runs, job.run_count = packings, runs, len(runs)
        job.update, job.framing = _NUMBERS["update"], _NUMBERS[FRAMING]
        job.counts = self._counts
        self._alive += [packings, runs, theta, load]
        return job

    def _packing(self, frames: tuple[Frame, ...]) -> dict[str, Any]:
        ffi: Any = self._library.ffi
        pieces: list[tuple[int, int, int]] = []
        segments: list[tuple[Any, int, int, int]] = []
        evaluations = [
            i for i, one in enumerate(self._program) if isinstance(one, primitives.Evaluate)
        ]
        for piece in itertools.chain(*frames):
            parts: list[tuple[Any, int, int, int]] = []
            for part in (piece.before, piece.behind):
                if part:
                    buffer = ffi.from_buffer("uint8_t[]", part)
                    self._alive.append(buffer)
                    parts.append((buffer, 0, 0, len(part)))
            size = self._sample
            parts[1:1] = [
                (ffi.NULL, _SOURCES[source], first * size, (end - first) * size)
                for source, first, end in piece.samples
            ]
            ordinal = piece.run or 0
            if piece.name == "evaluate":
                ordinal = evaluations.index(piece.place)
            pieces.append((_NUMBERS[piece.name], len(parts), ordinal))
            segments += parts
        arrays = {
            "requests": ffi.new("uint32_t[]", list(map(len, frames))),
            "pieces": ffi.new("struct tmf_piece[]", pieces),
            "segments": ffi.new("struct tmf_segment[]", segments),
        }
        self._alive.append(arrays)
        return {"frames": len(frames), **arrays}

    def play(self, clients: slice) -> None:
        """Plays some of them; in any thread."""
        some = self._table[clients]
        host = self._library.take()
        try:
            pointer = self._library.ffi.cast("struct tmf_client *", some.ctypes.data)
            self._library.lib.tmf_clients_run(host, self._job, pointer, len(some))
        finally:
            self._library.give_back(host)

    def results(self) -> list[Played]:
        """Of all clients, when all were played."""
        table = self._table
        columns = (
            table["code"], table["failed"], table["sequence"], table["entries"], table["sensor"],
            table["frames"], table["down"], table["up"], *self._frames,
            self._loss, self._correct, self._judged,
        )  # fmt: skip
        return [
            Played(
                sequence,
                self._refused(code, failed) if code else None,
                self._indices[i, :entries],
                self._values[i, :entries],
                Usage(
                    _traffic(down), _traffic(up), sensor, tuple(sizes_down[:frames]),
                    tuple(sizes_up[:frames]),
                ) if self._counts else UNUSED,
                () if code else tuple(map(_evaluation, *sums)),
            )
            for i, (
                code, failed, sequence, entries, sensor, frames, down, up, sizes_down, sizes_up,
                *sums,
            ) in enumerate(zip(*(column.tolist() for column in columns), strict=True))
        ]  # fmt: skip

    def _refused(self, code: int, failed: int) -> tuple[str, Error]:
        if code == _BROKEN:
            raise TinyMetaFedError("a host node did what no node does; run 'make firmware'")
        text = self._library.ffi.string(self._library.lib.tmf_error_text(code)).decode()
        return NAMES[failed], Error(code, text, 0, 0)


def _evaluation(loss: float, correct: int, samples: int) -> Evaluation:
    return Evaluation(loss / samples, correct / samples)


def _traffic(counts: list[int]) -> dict[str, int]:
    return {name: count for name, count in zip(NAMES, counts, strict=False) if count}


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
