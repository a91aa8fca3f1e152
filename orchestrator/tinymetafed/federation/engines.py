"""What has the nodes at work: this process, or others that host nodes are spread over."""

import asyncio
import importlib
import multiprocessing
import os
import pickle
import secrets
import signal
import socket
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, compress
from typing import Any, Protocol, TypeVar

from ..errors import TinyMetaFedError
from ..nodes.node import Broadcast, Node, NodeState
from ..nodes.process import die_with_parent
from ..results.store import DeviceEvaluation
from . import worker
from .client import Learnt, Lesson, Work

S = TypeVar("S")
T = TypeVar("T")

Note = Callable[[int, Learnt], T]
"""Takes what node i of those at work has done. It is called while others are still at work."""

SHARES = 2  # of a round for each worker: the slower ones take fewer
ATTEMPTS = 4  # at the work of workers that died, before the run is given up


class Engine(Protocol):
    """What has the nodes at work; results are the same from all of them, bit for bit."""

    async def start(self) -> None:
        """Comes before all else. Raises TinyMetaFedError where the nodes cannot work."""
        ...

    async def learn(
        self, nodes: Sequence[Node], broadcast: Broadcast, lessons: Sequence[Lesson], note: Note[T]
    ) -> list[T]:
        """Work.learn of each node; what `note` makes of them, in order."""
        ...

    async def judge(
        self,
        nodes: Sequence[Node],
        broadcast: Broadcast,
        done: int,
        devices: Sequence[Sequence[int]],
    ) -> list[DeviceEvaluation]:
        """Work.judge of each node on its devices."""
        ...

    async def close(self) -> None:
        """Ends what was started."""
        ...


class Local:
    """Nodes at work side by side in this process; emulated ones are processes of their own."""

    def __init__(self, work: Work) -> None:
        self._work = work

    async def start(self) -> None:
        """See Engine."""

    async def learn(
        self, nodes: Sequence[Node], broadcast: Broadcast, lessons: Sequence[Lesson], note: Note[T]
    ) -> list[T]:
        """See Engine."""

        async def learn(i: int) -> T:
            return note(i, await self._work.learn(nodes[i], broadcast, lessons[i]))

        return await together(map(learn, range(len(nodes))))

    async def judge(
        self,
        nodes: Sequence[Node],
        broadcast: Broadcast,
        done: int,
        devices: Sequence[Sequence[int]],
    ) -> list[DeviceEvaluation]:
        """See Engine."""
        pairs = zip(nodes, devices, strict=True)
        shares = (self._work.judge(node, broadcast, done, mine) for node, mine in pairs)
        return list(chain(*await together(shares)))

    async def close(self) -> None:
        """See Engine."""


class Workers(Protocol):
    """Processes that call functions of `worker`."""

    async def start(self) -> None:
        """Raises TinyMetaFedError."""
        ...

    def count(self) -> int:
        """How many calls go on at a time."""
        ...

    async def call(
        self,
        function: Callable[..., T],
        common: object,
        each: Sequence[Any],
        take: Callable[[int, T], None],
    ) -> None:
        """Has `take` take function(common, each[i]), with i, as soon as it is there; the function
        is called again where a process has died over it. Raises TinyMetaFedError."""
        ...

    async def close(self) -> None:
        """Ends what start began."""
        ...


class Spread:
    """Host nodes spread over workers. Their states between rounds are here."""

    def __init__(self, work: Work, workers: Workers) -> None:
        self._workers = workers
        self._job = worker.Job.of(work.experiment)

    async def start(self) -> None:
        """See Engine."""
        await self._workers.start()

    async def learn(
        self, nodes: Sequence[Node], broadcast: Broadcast, lessons: Sequence[Lesson], note: Note[T]
    ) -> list[T]:
        """See Engine."""
        return await self._share_out(worker.learn, nodes, broadcast, lessons, note)

    async def judge(
        self,
        nodes: Sequence[Node],
        broadcast: Broadcast,
        done: int,
        devices: Sequence[Sequence[int]],
    ) -> list[DeviceEvaluation]:
        """See Engine."""
        tasks = [(done, mine) for mine in devices]
        rows = await self._share_out(worker.judge, nodes, broadcast, tasks, lambda _, mine: mine)
        return list(chain(*rows))

    async def _share_out(
        self,
        function: Callable[[worker.Common, worker.Share], list[tuple[NodeState, S]]],
        nodes: Sequence[Node],
        broadcast: Broadcast,
        tasks: Sequence[Any],
        note: Callable[[int, S], T],
    ) -> list[T]:
        common = worker.Common(self._job, broadcast.theta, broadcast.changed, broadcast.version)
        size = -(-len(nodes) // (SHARES * self._workers.count()))
        shares = [
            worker.Share([node.state() for node in nodes[i : i + size]], tasks[i : i + size])
            for i in range(0, len(nodes), size)
        ]
        found: list[Any] = [None] * len(nodes)

        def take(share: int, results: list[tuple[NodeState, S]]) -> None:
            for i, (state, result) in enumerate(results, share * size):
                nodes[i].become(state, broadcast)
                found[i] = note(i, result)

        await self._workers.call(function, common, shares, take)
        return found

    async def close(self) -> None:
        """See Engine."""
        await self._workers.close()


class Processes:
    """Workers on this machine, one for each processor unless said otherwise."""

    def __init__(self, count: int | None) -> None:
        self._count = count or len(os.sched_getaffinity(0))

    async def start(self) -> None:
        """See Workers."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([worker.__name__])
        self._pool = ProcessPoolExecutor(self._count, context, _begin)

    def count(self) -> int:
        """See Workers."""
        return self._count

    async def call(
        self,
        function: Callable[..., T],
        common: object,
        each: Sequence[Any],
        take: Callable[[int, T], None],
    ) -> None:
        """See Workers."""

        async def call(i: int) -> None:
            future = self._pool.submit(_pickled, function, common, each[i])
            take(i, pickle.loads(await asyncio.wrap_future(future)))

        left: Sequence[int] = range(len(each))
        for _ in range(ATTEMPTS):
            results = await asyncio.gather(*map(call, left), return_exceptions=True)
            broken = [isinstance(result, BrokenProcessPool) for result in results]
            for result, again in zip(results, broken, strict=True):
                if isinstance(result, BaseException) and not again:
                    raise result
            left = list(compress(left, broken))
            if not left:
                return
            await self.close()  # a pool of which a process died takes no more work
            await self.start()
        raise TinyMetaFedError(
            f"worker processes died {ATTEMPTS} times over the same work; is there enough memory? "
            "Use fewer of them (nodes.workers)"
        )

    async def close(self) -> None:
        """See Workers."""
        self._pool.shutdown(cancel_futures=True)


def _pickled(function: Callable[[Any, Any], object], common: object, one: object) -> bytes:
    # By itself the pool takes protocol 4, which is four times slower with many arrays.
    return pickle.dumps(function(common, one), pickle.HIGHEST_PROTOCOL)


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal; the parent ends its workers
    die_with_parent()


RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # tells nobody
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # workers see what there is, and ask for nothing
}
LOOPBACK = ("", "127.0.0.1", "localhost")
RAY_ON_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Else Ray takes the machine's address on the network for 127.0.0.1."""


class Ray:
    """Workers of a Ray cluster (https://ray.io), as many as it has processors for."""

    def __init__(self, address: str) -> None:
        """address: HOST:PORT of its head, or "local" for one on this machine, which ends with the
        run."""
        self._address = address

    async def start(self) -> None:
        """See Workers."""
        os.environ |= RAY_ENVIRONMENT
        host, _, port = self._address.rpartition(":")
        if host in LOOPBACK:
            os.environ |= RAY_ON_LOOPBACK
        if not host:  # a cluster for this run and nobody else
            os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        try:
            ray: Any = importlib.import_module("ray")
        except ImportError:
            raise TinyMetaFedError(
                "nodes.engine: ray is not installed; pip install 'tinymetafed[scale]'"
            ) from None
        self._ray = ray
        quiet = {"logging_level": "ERROR", "log_to_driver": False}
        try:
            if host:
                socket.create_connection((host, int(port)), timeout=10).close()
                ray.init(self._address, **quiet)
            else:
                ray.init(include_dashboard=False, **quiet)
        except Exception as error:  # Ray's own, of many classes
            reason = str(error).strip().partition("\n")[0]
            raise TinyMetaFedError(
                f"nodes.address: no Ray cluster to be used at {self._address}: {reason}"
            ) from None

    def count(self) -> int:
        """See Workers."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    async def call(
        self,
        function: Callable[..., T],
        common: object,
        each: Sequence[Any],
        take: Callable[[int, T], None],
    ) -> None:
        """See Workers."""
        ray = self._ray
        remote = ray.remote(function).options(max_retries=ATTEMPTS - 1)
        shared = ray.put(common)

        async def call(i: int) -> None:
            take(i, await remote.remote(shared, each[i]))

        try:
            await asyncio.gather(*map(call, range(len(each))))
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, TinyMetaFedError):
                raise error.cause from None
            reason = str(error.cause).strip().partition("\n")[0]
            raise TinyMetaFedError(
                f"a worker of the Ray cluster at {self._address}: {type(error.cause).__name__}: "
                f"{reason}"
            ) from None
        except ray.exceptions.RayError as error:
            reason = str(error).strip().partition("\n")[0]
            raise TinyMetaFedError(f"the Ray cluster at {self._address}: {reason}") from None

    async def close(self) -> None:
        """See Workers."""
        if hasattr(self, "_ray"):
            self._ray.shutdown()


def make_engine(work: Work) -> Engine:
    """The one that the experiment names, not started yet. Raises TinyMetaFedError."""
    settings = work.experiment.nodes
    if settings.engine == "local":
        return Local(work)
    if settings.engine == "processes":
        return Spread(work, Processes(settings.workers))
    assert settings.address is not None
    return Spread(work, Ray(settings.address))


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All results in order; the first error ends the rest."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
