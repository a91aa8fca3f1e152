"""Host nodes spread over the processes of a Ray cluster (https://ray.io)."""

import asyncio
import importlib
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar, cast

from ..errors import TinyMetaFedError
from ..nodes.broadcast import Broadcast
from ..nodes.folder import private_directory
from ..results.store import DeviceEvaluation
from ..signals import handlers_restored
from . import ray_worker
from .client import Client, FitResult
from .engines import HostEngine, RoundOrder
from .host_clients import HostNode

T = TypeVar("T")
S = TypeVar("S")

SHARES = 2  # of a round for each process: one that is slower takes fewer
START_TIMEOUT = 50.0  # seconds, for Ray to start or to connect; after 60 it ends the process
ATTEMPTS = 4  # at the work of processes that died, before the run is given up

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # tells nobody
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # workers see what there is, and ask for nothing
}
LOOPBACK = ("", "127.0.0.1", "localhost")
ON_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Else Ray takes the machine's address on the network for 127.0.0.1."""


class RayCluster:
    """Processes that call functions of `ray_worker`, as many as the cluster has processors for."""

    def __init__(self, ray: Any, address: str, resources: ExitStack) -> None:
        self._ray = ray
        self._address = address
        self._resources = resources

    @classmethod
    async def open(cls, address: str) -> "RayCluster":
        """address: HOST:PORT of its head, or "local" for one on this machine and for this run
        alone, which ends with it. Raises TinyMetaFedError where the cluster cannot be used."""
        os.environ |= ENVIRONMENT
        host, _, port = address.rpartition(":")
        if host in LOOPBACK:
            os.environ |= ON_LOOPBACK
        settings: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
        resources, ended = ExitStack(), threading.Event()
        resources.callback(ended.set)
        try:
            if not host:  # a cluster for this run and nobody else
                # Ray reads a token once in a process, so a second cluster has the first one's.
                os.environ["RAY_AUTH_MODE"] = "token"
                os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
                folder = resources.enter_context(_folder())
                settings |= {
                    "address": "local", "_temp_dir": str(folder), "include_dashboard": False,
                    "_node_ip_address": "127.0.0.1",
                }  # fmt: skip
            else:
                socket.create_connection((host, int(port)), timeout=10).close()
                settings["address"] = address
            with handlers_restored():  # Ray has SIGTERM end the process with a trace of its stack
                ray = await _in_time(partial(_start, resources, settings), ended)
        except TinyMetaFedError:
            resources.close()
            raise
        except Exception as error:  # Ray's own, of many classes
            resources.close()
            reason = str(error).strip().partition("\n")[0]
            raise TinyMetaFedError(
                f"nodes.address: no Ray cluster to be used at {address}: {reason}"
            ) from None
        return cls(ray, address, resources)

    def count(self) -> int:
        """How many calls go on at a time."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    async def call(
        self, function: Callable[..., T], common: Sequence[object], each: Sequence[object]
    ) -> list[T]:
        """function(*common, one) of each, in their order; it is called again where a process has
        died over it. Raises TinyMetaFedError."""
        ray = self._ray
        remote = ray.remote(function).options(max_retries=ATTEMPTS - 1)
        shared = [ray.put(one) for one in common]
        try:
            return await asyncio.gather(*(remote.remote(*shared, one) for one in each))
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

    def close(self) -> None:
        """Ends what was started."""
        self._resources.close()


def _start(resources: ExitStack, settings: dict[str, Any]) -> Any:
    """Ray, connected to a cluster until the resources are closed."""
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError:
        raise TinyMetaFedError(
            "nodes.engine: ray is not installed; pip install 'tinymetafed[scale]'"
        ) from None
    ray.init(**settings)
    resources.callback(ray.shutdown)
    return ray


async def _in_time(work: Callable[[], T], ended: threading.Event) -> T:
    """What it returns. Where it takes longer than START_TIMEOUT it is left to itself, since nothing
    ends it: Ray waits for minutes for a cluster that does not answer. ended: what it has started is
    not needed any more; its thread lives until then, because Ray's processes end with the thread
    that has started them. Raises TimeoutError."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(cast("T", result))

    def call() -> None:
        try:
            result, error = work(), None
        except Exception as raised:
            result, error = None, raised
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)
        ended.wait()

    threading.Thread(target=call, daemon=True).start()
    try:
        async with asyncio.timeout(START_TIMEOUT):
            return await done
    except TimeoutError:
        raise TimeoutError(f"it does not answer within {START_TIMEOUT:g} s") from None


@contextmanager
def _folder() -> Iterator[Path]:
    """For a cluster's sockets and logs. Ray's processes end a moment after it says so, and write
    meanwhile; what they leave the next start removes."""
    with private_directory(short=True) as folder:
        yield folder / "ray"


class RayEngine(HostEngine):
    """Host nodes whose work is done by a cluster; where they stand is known here."""

    def __init__(self, client: Client, address: str) -> None:
        """address: see RayCluster."""
        super().__init__(client)
        self._address = address
        self._cluster: RayCluster | None = None

    async def _start(self, capacity: int) -> None:
        self._cluster = await RayCluster.open(self._address)
        self._setup = ray_worker.Setup.of(self.client.settings, capacity)

    async def _fit(self, order: RoundOrder, nodes: Sequence[HostNode]) -> list[FitResult]:
        work = [
            ray_worker.Fit(nodes[share], order.instructions[share])
            for share in self._shares(len(nodes))
        ]
        common = (self._setup, order.program, _weights(order.broadcast))
        return await self._spread(ray_worker.fit, common, work)

    async def evaluate(
        self, broadcast: Broadcast, done: int, devices: Mapping[int, Sequence[int]]
    ) -> list[DeviceEvaluation]:
        """See Engine."""
        every = list(chain(*devices.values()))
        work = [every[share] for share in self._shares(len(every))]
        common = (self._setup, done, _weights(broadcast))
        return await self._spread(ray_worker.evaluate, common, work)

    async def _spread(
        self, function: Callable[..., list[T]], common: Sequence[object], work: Sequence[object]
    ) -> list[T]:
        assert self._cluster is not None
        return list(chain(*await self._cluster.call(function, common, work)))

    def _shares(self, count: int) -> list[slice]:
        assert self._cluster is not None
        size = max(1, -(-count // (SHARES * self._cluster.count())))
        return [slice(i, i + size) for i in range(0, count, size)]

    async def close(self) -> None:
        """See Engine."""
        await super().close()
        if self._cluster is not None:
            self._cluster.close()


def _weights(broadcast: Broadcast) -> ray_worker.Weights:
    return ray_worker.Weights(broadcast.theta, broadcast.changed, broadcast.version)
