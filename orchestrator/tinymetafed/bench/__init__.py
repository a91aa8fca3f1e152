"""How fast the bench itself is, measured in one run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..nodes import renode_console
from . import emulated, host, kernels
from .kernels import LayerCost
from .measuring import REPEATS, machine, sine

NODES = (1, 2, 4, 8, 16, 32, 64)
MANY = (10, 100, 1000, 10_000)
WIDTHS = (10, 20, 40, 80, 120)
"""Of both hidden layers of the sine's model."""


@dataclass(frozen=True)
class Measured:
    """All of it.

    machine: what it was measured on. image: bytes of flash and of RAM of a node's image.
    """

    machine: dict[str, str]
    image: tuple[int, int]
    kernels: Sequence[kernels.Kernel]
    layers: Sequence[LayerCost]
    links: Sequence[emulated.Link]
    boots: Sequence[emulated.Boot]
    rounds: Sequence[emulated.Round]
    hosts: Sequence[host.HostRound]
    on_renode: Sequence[emulated.Round] = ()


def run(progress: Callable[[str], None]) -> Measured:
    """Measures everything; `progress` is told what comes. Raises TinyMetaFedError."""
    progress("kernels")
    around = machine()
    found = [kernels.measure(name, model) for name, model in kernels.MODELS.items()]
    layers = [kernels.layer(name) for name in kernels.LAYERS]
    progress("link")
    links = emulated.links(8)
    boots: list[emulated.Boot] = []
    rounds: list[emulated.Round] = []
    for count in NODES:
        progress(f"{count} emulated nodes")
        experiment = sine(f"nodes.count={count}")
        boots.append(emulated.boot(experiment))
        rounds.append(emulated.rounds(experiment, max(10, 100 // count)))
    for width in WIDTHS:
        if width != 40:
            progress(f"emulated nodes, {width} units in a layer")
            rounds.append(emulated.rounds(sine("nodes.count=8", *_wide(width)), 20))
    on_renode: list[emulated.Round] = []
    if renode_console.program() is not None:
        progress("4 nodes on Renode")
        on_renode.append(emulated.rounds(sine("nodes.backend=renode", "nodes.count=4"), 20))
    hosts: list[host.HostRound] = []
    for threads in (1, 2):
        for count in MANY:
            progress(f"{count:,} host nodes, threads: {threads}")
            repeats = 3 if count > 1000 else REPEATS
            hosts.append(host.rounds(sine(*_many(threads, count)), repeats))
        for width in WIDTHS:
            if width != 40:
                progress(f"1,000 host nodes, threads: {threads}, {width} units in a layer")
                hosts.append(host.rounds(sine(*_many(threads, 1000), *_wide(width)), REPEATS))
    return Measured(around, kernels.image(), found, layers, links, boots, rounds, hosts, on_renode)


def _many(threads: int, count: int) -> tuple[str, ...]:
    nodes = (f"nodes.threads={threads}", f"nodes.count={count}")
    return ("nodes.backend=host", *nodes, "devices.seen=10000")


def _wide(width: int) -> tuple[str, ...]:
    hidden = f"{{units={width}, activation='tanh'}}"
    return (f"model.layers=[{hidden}, {hidden}, {{units=1, local=true}}]",)
