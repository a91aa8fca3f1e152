"""A process that nodes of a round are spread over: host nodes, brought there by their states."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import TinyMetaFedError
from ..nodes.host import HostTransport, library_build
from ..nodes.node import Broadcast, Node, NodeState
from ..results.store import DeviceEvaluation
from .client import Learnt, Lesson, Work
from .settings import FederationSettings

T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """An experiment as JSON, and the build of the host library that its nodes run."""

    settings: str
    build: bytes

    @classmethod
    def of(cls, experiment: FederationSettings) -> "Job":
        """With this machine's build. Raises TinyMetaFedError where there is none."""
        own = experiment.model_dump_json(include=set(FederationSettings.model_fields))
        return cls(own, library_build())


@dataclass(frozen=True)
class Common:
    """What all shares of a round have. theta, changed, version: of the broadcast."""

    job: Job
    theta: NDArray[np.float32]
    changed: NDArray[np.int64]
    version: int


@dataclass(frozen=True)
class Share:
    """Nodes, by their states, and what each is to do: a lesson; or rounds done, and devices to
    judge by."""

    states: list[NodeState]
    tasks: Sequence[Any]


class _Seat:
    """A node that takes the place of others, and its experiment."""

    def __init__(self, job: Job) -> None:
        if library_build() != job.build:
            raise TinyMetaFedError(
                f"{socket.gethostname()}: its host build of the firmware is another than here; "
                "build the same source with the same compiler there ('make firmware')"
            )
        self.work = Work(FederationSettings.model_validate_json(job.settings))
        self.node = Node("host node", _open)
        self.runner = asyncio.Runner()
        self.runner.run(self.work.boot(self.node))


async def _open() -> HostTransport:
    return HostTransport()


_seat = lru_cache(maxsize=4)(_Seat)


def learn(common: Common, share: Share) -> list[tuple[NodeState, Learnt]]:
    """Work.learn of each node, and its state then. Raises TinyMetaFedError."""

    async def learn(seat: _Seat, broadcast: Broadcast, lesson: Lesson) -> Learnt:
        return await seat.work.learn(seat.node, broadcast, lesson)

    return _each(common, share, learn)


def judge(common: Common, share: Share) -> list[tuple[NodeState, list[DeviceEvaluation]]]:
    """Work.judge of each node, and its state then. Raises TinyMetaFedError."""

    async def judge(
        seat: _Seat, broadcast: Broadcast, task: tuple[int, Sequence[int]]
    ) -> list[DeviceEvaluation]:
        return await seat.work.judge(seat.node, broadcast, *task)

    return _each(common, share, judge)


def _each(
    common: Common, share: Share, work: Callable[[_Seat, Broadcast, Any], Awaitable[T]]
) -> list[tuple[NodeState, T]]:
    found: list[tuple[NodeState, T]] = []

    async def run() -> None:
        broadcast = Broadcast(common.theta, common.changed, common.version)
        for state, task in zip(share.states, share.tasks, strict=True):
            seat.node.become(state, broadcast)
            result = await work(seat, broadcast, task)
            found.append((seat.node.state(), result))

    try:
        seat = _seat(common.job)
        seat.runner.run(run())  # a result would be made text of by `signal`, which takes its time
    except TinyMetaFedError as error:
        raise TinyMetaFedError(str(error)) from None  # its kinds do not travel
    return found
