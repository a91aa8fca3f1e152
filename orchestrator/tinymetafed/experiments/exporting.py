"""A run's network for other tools: its initialisation, or what a device makes of it."""

import asyncio
import dataclasses
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import TinyMetaFedError
from ..federation import returned
from ..federation.client import Client
from ..federation.settings import FederationSettings
from ..files import replacing
from ..models.model import Model
from ..models.network import Network
from ..nodes.answers import NodeRefused
from ..nodes.broadcast import Broadcast
from ..nodes.host import HostTransport
from ..nodes.node import Node
from ..results.store import Run, Store
from ..tasks.samples import Samples
from . import model_source

Values = NDArray[np.float32]
REPRESENTATIVE = 20
"""Devices whose samples show a quantiser which values there are."""

MOST_SAMPLES = 100
"""Of these."""

_NONE = np.zeros(0, np.float32)


class Exported:
    """The network of a run that has come to its end.

    Attributes:
        settings: of the run.
        network: with the weights, after adaptation where a device is given.
        samples: support and query of that device, or of the first that training never sees.
    """

    def __init__(self, store: Store, run: Run, device: int | None = None) -> None:
        """device: its number among the unseen ones, from 0 on. Raises TinyMetaFedError."""
        if run.done < run.rounds:
            raise TinyMetaFedError(
                f"run {run.id}: {run.done} of {run.rounds} rounds are done; 'tinymetafed run "
                f"--resume {run.id}' goes on"
            )
        self.settings = settings = model_source.experiment_of(store, run)
        unseen = settings.devices_of("unseen")
        if device is not None and device >= len(unseen):
            raise TinyMetaFedError(
                f"--device {device}: run {run.id} was judged on {len(unseen)} unseen devices, "
                "numbered from 0 on"
            )
        settings.task.prepare(settings.seed)
        self._client = Client(settings)
        number = settings.devices.seen if device is None else unseen[device]
        self.samples = self._client.never_seen(number)
        theta = run.weights
        if device is not None:
            theta = adapted(self._client, theta, self.samples[0], f"--device {device}")
        shaped = settings.model.model_copy(update={"shape": settings.shape})
        about = _metadata(run, settings, device)
        self.network = Network.of(shaped, self._client.model, theta, about)
        self.theta = theta

    def write(self, path: Path, *, int8: bool = False) -> Iterator[str]:
        """Writes a file of the kind that its suffix says; yields what there is to say of it. int8:
        of a .tflite, see tflite_writer. Raises TinyMetaFedError."""
        network = self.network
        match path.suffix:
            case ".onnx":
                from ..models import onnx_writer

                _write(path, onnx_writer.write(network))
            case ".npz":
                from ..models import array_writer

                _write(path, array_writer.write(network))
            case ".c" | ".h":
                from ..models import c_writer

                model, sample = self._client.model, self.samples[1].inputs[0]
                memory = asyncio.run(_memory(model))
                header, source = path.with_suffix(".h"), path.with_suffix(".c")
                _write(header, c_writer.header(network, model, memory, path.stem))
                _write(source, c_writer.source(network, model, sample, path.stem))
                flash = 4 * network.parameters
                yield f"{header}, {source}: {flash} bytes of weights in flash, {memory} of RAM"
                return
            case suffix:
                assert suffix == ".tflite"
                yield from self._tflite(path, int8)
        yield f"{path}: {path.stat().st_size} bytes, {network.parameters} parameters"

    def _tflite(self, path: Path, int8: bool) -> Iterator[str]:
        """Writes it, and holds it beside the node."""
        from ..models import tflite_runner, tflite_writer

        inputs = self.samples[1].inputs
        memory = asyncio.run(_memory(self._client.model))
        node = self.predicted(inputs)
        yield f"node: {self._judged(node)}, {memory} bytes of RAM to predict"
        kinds = {"float32": tflite_writer.write(self.network)}
        if int8:
            kinds["int8"] = tflite_runner.quantised(kinds["float32"], self._representative())
        for kind, data in kinds.items():
            outputs = tflite_runner.run(data, inputs)
            differs = float(np.abs(outputs - node).max())
            line = f"{kind}: {self._judged(outputs)}, outputs differ by {differs:.2g} at most"
            if (arena := tflite_runner.arena(data)) is not None:
                line += f", TensorFlow Lite Micro takes {arena} bytes of RAM on this machine"
            yield line
        _write(path, kinds["int8" if int8 else "float32"])

    def _representative(self) -> Values:
        """Samples that training saw: float32 [n, inputs]."""
        seen = min(self.settings.devices.seen, REPRESENTATIVE)
        sets = itertools.chain(*self._client.population(range(seen)))
        return np.concatenate([one.inputs for one in sets])[:MOST_SAMPLES]

    def _judged(self, outputs: Values) -> str:
        """On the query samples."""
        targets = self.samples[1].targets
        if not self.settings.task.target_is_class:
            return f"mean squared error {float(np.mean((outputs - targets) ** 2)):.4g}"
        right = self._client.model.decided(outputs) == targets
        return f"accuracy {float(np.mean(right)):.1%} of {len(targets)} samples"

    def predicted(self, inputs: Values) -> Values:
        """What a host node gives for inputs, float32 [n, inputs]: float32 [n, outputs]."""
        return predicted(self._client, self.theta, inputs)


def _metadata(run: Run, settings: FederationSettings, device: int | None) -> dict[str, str]:
    versions: dict[str, str] = json.loads(run.versions)
    about = {
        "experiment": run.name, "run": str(run.id), "rounds": str(run.done), "seed": str(run.seed),
        "strategy": settings.strategy.name, "task": settings.task.name, "loss": settings.model.loss,
        "weights": "initialisation" if device is None else f"adapted to unseen device {device}",
    }  # fmt: skip
    return about | {f"with {name}": version for name, version in versions.items()}


def adapted(client: Client, theta: Values, support: Samples, who: str) -> Values:
    """The weights of a host node that has adapted to these samples as an evaluation does:
    float32 [parameters]. who: has the samples, for a message. Raises TinyMetaFedError."""
    strategy, steps = client.settings.strategy, client.settings.evaluation.steps
    found = strategy.personalise(client.model, len(support), steps)
    where = returned.of(strategy, "personalise")
    program = returned.program(found, where, client.model.parameters)

    async def work() -> Values:
        async with _host_node() as (node, transport):
            await client.boot(node)
            changed = np.ones(len(theta), np.int64)
            try:
                await node.run(program, support, support, Broadcast(theta, changed, 1))
            except NodeRefused as refused:
                if not refused.diverged:
                    raise
                raise TinyMetaFedError(f"{who}: its adaptation diverges") from None
            return transport.working(len(theta))

    return asyncio.run(work())


def predicted(client: Client, theta: Values, inputs: Values) -> Values:
    """What a host node with these weights gives for inputs, float32 [n, inputs]: float32 [n,
    outputs]."""
    return asyncio.run(_predicted(client, theta, inputs))


async def _memory(model: Model) -> int:
    """Bytes that the layers compute in, where nothing is trained."""
    from ..models import c_writer

    async with _host_node() as (node, transport):
        await node.start()
        frozen = dataclasses.replace(model, parts=(), backbone=_NONE)
        await node.load(frozen, c_writer.description(model))
        sizes = transport.sizes()
        return sizes["activations"] + sizes["backward"]


async def _predicted(client: Client, theta: Values, inputs: Values) -> Values:
    async with _host_node() as (node, _):
        await client.boot(node)
        await node.set_weights(Broadcast(theta, np.ones(len(theta), np.int64), 1))
        return await node.predict(inputs)


@asynccontextmanager
async def _host_node() -> AsyncIterator[tuple[Node, HostTransport]]:
    """A node in this process, not booted, and its transport."""
    transport = HostTransport()

    async def open_transport() -> HostTransport:
        return transport

    node = Node("node-0", open_transport)
    try:
        yield node, transport
    finally:
        await node.close()


def _write(path: Path, data: bytes | str) -> None:
    """Raises TinyMetaFedError."""
    with replacing(path) as file:
        file.write(data if isinstance(data, bytes) else data.encode())
