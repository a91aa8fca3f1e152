"""Keywords of Robot Framework (https://robotframework.org) 6.1 or later, for scenarios on a
federation."""

import asyncio
import re
import signal
from collections import defaultdict
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from signal import SIGALRM, SIGINT, SIGTERM
from typing import Any, TypeVar

import numpy as np
from robot.api import SkipExecution, logger
from robot.api.deco import keyword, library

from .energy.ledger import balance
from .errors import TinyMetaFedError
from .experiments import experiment
from .federation.client import Client
from .federation.engines import LinkEngine
from .federation.federation import Federation
from .federation.settings import FederationSettings
from .federation.state import FederationState
from .nodes import renode
from .nodes.backends import make_nodes, private_directory
from .nodes.faulty import FaultyLink
from .nodes.node import Node
from .nodes.transport import NodeLost
from .results import accounts
from .results.store import NodeRound, PhaseCount

T = TypeVar("T")

VERSION = metadata.version("tinymetafed")


class Energy(float):
    """Joules, given with a unit: ``3 mJ``, ``250 uJ``, ``250 µJ`` or ``0.003 J``."""

    @classmethod
    def parse(cls, text: str) -> "Energy":
        """Raises ValueError."""
        return cls(_quantity(text, {"J": 1.0, "mJ": 1e-3, "uJ": 1e-6, "µJ": 1e-6}))


class Size(float):
    """Bytes, given with a unit: ``4096 B``, ``30 kB`` (30,000 bytes) or ``2 MB``."""

    @classmethod
    def parse(cls, text: str) -> "Size":
        """Raises ValueError."""
        return cls(_quantity(text, {"B": 1.0, "kB": 1e3, "MB": 1e6}))


def _quantity(text: str, units: dict[str, float]) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(\S+)", text.strip())
    if not found or found[2] not in units:
        raise ValueError(f"give a number and one of {', '.join(units)}")
    return float(found[1]) * units[found[2]]


@dataclass
class _Running:
    """A federation under test.

    resources: end it, its nodes and its files. rounds, rows, phases: of the last `Run Rounds`.
    absent: nodes that were unplugged in these rounds.
    """

    name: str
    federation: Federation
    nodes: list[Node]
    links: list[FaultyLink]
    resources: AsyncExitStack
    state: FederationState
    rounds: int = 0
    rows: list[NodeRound] = field(default_factory=list)
    phases: list[PhaseCount] = field(default_factory=list)
    absent: frozenset[int] = frozenset()

    @property
    def experiment(self) -> FederationSettings:
        """The settings that it runs."""
        return self.federation.settings

    @property
    def counts_instructions(self) -> bool:
        """Whether its backend does."""
        return all(node.pricing is not None for node in self.nodes)

    def need_node(self, index: int) -> None:
        """Raises AssertionError where there is none of that number."""
        count = len(self.nodes)
        if not 0 <= index < count:
            raise AssertionError(f"no node {index}; {self.name} has 0 to {count - 1}")

    def bytes_per_round(self) -> float:
        """Both ways. Raises AssertionError."""
        self._need_rounds()
        return sum(row.bytes_down + row.bytes_up for row in self.rows) / self.rounds

    def instructions_per_round(self) -> dict[str, float]:
        """By phase. Raises AssertionError."""
        self._need_counts()
        total: dict[str, int] = defaultdict(int)
        for row in self.phases:
            total[row.phase] += row.instructions
        return {phase: count / self.rounds for phase, count in total.items()}

    def energy_per_round(self) -> float:
        """Joules, expected. Raises AssertionError."""
        self._need_counts()
        settings = self.experiment
        entries = accounts.book(
            self.rows, self.phases, settings.energy, settings.nodes.count, settings.attendance.away
        )
        return balance([e for e in entries if e.node not in self.absent]).joules / self.rounds

    def _need_rounds(self) -> None:
        if self.rounds == 0:
            raise AssertionError(f"{self.name} has done no rounds yet; use 'Run Rounds'")

    def _need_counts(self) -> None:
        self._need_rounds()
        if not self.counts_instructions:
            backend = self.experiment.nodes.backend
            raise AssertionError(
                f"{self.name}: {backend} nodes are not counted; use qemu or renode"
            )
        lost = next((row for row in self.rows if not row.counted), None)
        if lost is not None:
            raise AssertionError(
                f"{self.name}: node-{lost.node} was started again in round {lost.round}, so what "
                "it executed is not known; measure other rounds"
            )


async def _start(name: str, path: Path, changes: tuple[str, ...]) -> _Running:
    settings = experiment.read(path, changes)
    async with AsyncExitStack() as resources:
        nodes = make_nodes(settings.nodes, resources.enter_context(private_directory()))
        links: list[FaultyLink] = []
        for i, node in enumerate(nodes):
            link = FaultyLink(node.name, node.open_transport, (settings.seed, 0x_FA017, i))
            node.open_transport = link.open
            links.append(link)
        federation = Federation(settings, LinkEngine(Client(settings), nodes))
        resources.push_async_callback(federation.close)
        state = await federation.start()
        return _Running(name, federation, nodes, links, resources.pop_all(), state)


@library(
    scope="SUITE",
    version=VERSION,
    doc_format="ROBOT",
    converters={Energy: Energy.parse, Size: Size.parse},
)
class FederationLibrary:
    """Federations of emulated nodes, and what should be true of them.

    | *** Settings ***
    | Library    tinymetafed.robot
    |
    | *** Test Cases ***
    | A Node Is Lost And Comes Back
    |     Start Federation    experiments/demo.toml    nodes.backend=qemu    rounds=10
    |     Run Rounds    2
    |     Unplug Node    1
    |     Run Rounds    2
    |     Plug In Node    1
    |     Run Rounds    1
    |     Energy Per Round Should Be Below    15 mJ

    = Federations =

    A federation is an experiment file and changes to it, see `Start Federation`. It ends with the
    test that started it, or with the suite if that was a suite setup, however they end; nothing of
    it is left behind.

    Keywords act on the federation that was started last, or was chosen with `Switch Federation`.
    Those that compare federations take their names.

    = Nodes =

    Nodes are numbered from 0. A node is on one of three backends (``nodes.backend``): ``qemu`` and
    ``renode`` emulate a Cortex-M4F, ``host`` runs the firmware's core in-process. The same
    experiment ends in the same weights on all of them, bit for bit.

    = Figures =

    Bytes, instructions and energy are those of all nodes together in the rounds of the last
    `Run Rounds`, divided by the number of these rounds. Neither `Get Loss` nor
    `Node Should Be Running` is part of them. Energy is estimated, see docs/energy.md, for the
    device and radio of the experiment (``energy.device``, ``energy.radio``).
    """

    ROBOT_LISTENER_API_VERSION = 3

    def __init__(self) -> None:
        self.ROBOT_LIBRARY_LISTENER = self
        self._loop = asyncio.Runner()
        self._running: dict[str, _Running] = {}  # the last one is the current one
        self._of_suite: dict[str, _Running] = {}

    # What Robot Framework tells a listener.

    def start_test(self, data: object, result: object) -> None:
        """What runs already is the suite's."""
        self._of_suite = dict(self._running)

    def end_test(self, data: object, result: object) -> None:
        """Ends what the test started; the current federation is the suite's again."""
        for name, running in list(self._running.items()):
            if self._of_suite.get(name) is not running:
                self._stop(name)
        self._running = {
            name: self._running[name] for name in self._of_suite if name in self._running
        }

    def close(self) -> None:
        """Ends all federations: the suite is over."""
        for name in list(self._running):
            self._stop(name)
        self._loop.close()

    # Federations

    @keyword
    def start_federation(self, path: Path, *changes: str, federation: str = "federation") -> None:
        """Boots the nodes of an experiment and describes its model to them.

        ``path`` is an experiment file. ``changes`` are like ``--set`` of the command line.
        ``federation`` is a name to tell it from others by; one of the same name ends first.

        | Start Federation | experiments/demo.toml | nodes.count=2 | strategy.percent=20 |
        | Start Federation | experiments/reptile.toml | nodes.backend=host | federation=baseline |
        """
        if federation in self._running:
            self._stop(federation)
        self._running[federation] = self._do(_start(federation, path, changes))

    @keyword
    def stop_federation(self) -> None:
        """Ends the current federation and its nodes. The one before is the current one then."""
        self._stop(self._current.name)

    @keyword
    def switch_federation(self, federation: str) -> None:
        """Makes a federation the current one.

        | Switch Federation | baseline |
        """
        self._running[federation] = self._running.pop(self._named(federation).name)

    @keyword
    def run_rounds(self, count: int) -> None:
        """Has the federation do ``count`` rounds: the nodes that are there learn, their updates
        are aggregated. A node that gets lost is started again and does its work again.

        | Run Rounds | 10 |
        """
        running = self._current
        done, rounds = running.state.done, running.experiment.rounds
        if not 1 <= count <= rounds - done:
            raise AssertionError(
                f"{running.name} cannot do {count} rounds: {done} of its {rounds} are done; "
                f"start it with rounds={done + max(1, count)}"
            )
        running.rounds, running.rows, running.phases = 0, [], []
        running.absent = frozenset(running.federation.unplugged)
        for _ in range(count):
            result = self._do(running.federation.round(running.state))
            running.state = result.state
            running.rounds += 1
            running.rows += result.rows
            running.phases += result.phases

    # Nodes and their links

    @keyword
    def unplug_node(self, node: int) -> None:
        """Ends a node. Rounds do without it until `Plug In Node`; it uses no energy."""
        running = self._current
        running.need_node(node)
        self._do(running.federation.unplug(node))

    @keyword
    def plug_in_node(self, node: int) -> None:
        """Boots a node that was unplugged; it takes part in the rounds again."""
        running = self._current
        running.need_node(node)
        if node not in running.federation.unplugged:
            raise AssertionError(f"node-{node} is plugged in already")
        self._do(running.federation.plug_in(node))

    @keyword
    def cut_power_of_node(self, node: int) -> None:
        """Ends a node without the federation's knowledge. What it held is lost. The federation
        notices with its next request, and starts it again."""
        running = self._current
        running.need_node(node)
        self._do(running.links[node].close())

    @keyword
    def corrupt_links(self, rate: float) -> None:
        """Has every byte on the nodes' links spoiled with a probability of ``rate``, either way: it
        is lost, or a bit of it is flipped. 0 ends it.

        Which bytes is random, and depends on the experiment's seed. A frame that arrives spoiled is
        dropped and sent again after ``nodes.timeout`` seconds; a short timeout saves time.

        | Start Federation | experiments/demo.toml | nodes.timeout=2 |
        | Corrupt Links | 1e-5 |
        """
        if not 0 <= rate <= 1:
            raise AssertionError(f"a probability is from 0 to 1, not {rate:g}")
        for link in self._current.links:
            link.rate = rate

    @keyword
    def links_should_have_been_corrupted(self) -> None:
        """Fails if no byte was spoiled since the start of the federation."""
        spoiled = [link.spoiled for link in self._current.links]
        logger.info(f"{sum(spoiled)} bytes were spoiled, by node: {spoiled}")
        if not any(spoiled):
            raise AssertionError(f"no byte was spoiled on the links of {self._current.name}")

    @keyword
    def node_should_be_running(self, node: int) -> None:
        """Asks a node who it is; fails if it does not answer."""
        lost = self._lost(node)
        if lost is not None:
            raise AssertionError(f"node-{node} is not running: {lost}")

    @keyword
    def node_should_be_lost(self, node: int) -> None:
        """Fails if a node answers. One that was unplugged, or has no power, does not."""
        if self._lost(node) is None:
            raise AssertionError(f"node-{node} is running")

    @keyword
    def every_node_should_run_version(self, version: str = VERSION) -> None:
        """Compares the version of the firmware in every node's hello; with the orchestrator's own
        where none is given.

        | Every Node Should Run Version |
        | Every Node Should Run Version | 0.1.0 |
        """
        for node in self._current.nodes:
            assert node.hello is not None
            if node.hello.version != version:
                raise AssertionError(f"{node.name} runs {node.hello.version}, not {version}")

    @keyword
    def every_node_should_run_the_same_build(self) -> None:
        """Compares the build in every node's hello: the hash of its image."""
        builds: dict[str, list[str]] = {}
        for node in self._current.nodes:
            assert node.hello is not None
            builds.setdefault(node.hello.build.hex(), []).append(node.name)
        if len(builds) > 1:
            who = "; ".join(f"{', '.join(names)}: {build}" for build, names in builds.items())
            raise AssertionError(f"the nodes run different builds: {who}")
        logger.info(f"build {next(iter(builds))}")

    # What was learnt

    @keyword
    def get_loss(self) -> float:
        """Mean loss of the current weights on devices that training never sees, after adaptation
        to each; see ``[evaluation]`` of the experiment.

        | ${before}= | Get Loss |
        | Run Rounds | 100 |
        | Loss Should Be Below | ${{ 0.5 * $before }} |
        """
        running = self._current
        judged = self._do(running.federation.evaluate(running.state))
        known = [one.loss_after for one in judged if one.loss_after is not None]
        if len(known) < len(judged):
            raise AssertionError(
                f"adaptation diverged on {len(judged) - len(known)} of {len(judged)} devices"
            )
        loss = float(np.mean(known))
        logger.info(f"loss {loss:.4f} on {len(judged)} devices after {running.state.done} rounds")
        return loss

    @keyword
    def loss_should_be_below(self, limit: float) -> None:
        """Compares with `Get Loss`.

        | Loss Should Be Below | 1.5 |
        """
        loss = self.get_loss()
        if not loss < limit:
            done = self._current.state.done
            raise AssertionError(f"loss is {loss:.4f} after {done} rounds, not below {limit:.4f}")

    @keyword
    def weights_should_be_identical(self, federation: str, other: str) -> None:
        """Compares the weights of two federations bit for bit.

        | Weights Should Be Identical | on qemu | on host |
        """
        states = [self._named(name).state for name in (federation, other)]
        mine, theirs = (state.theta for state in states)
        if len(mine) != len(theirs):
            raise AssertionError(
                f"{federation} has {len(mine):,} weights, {other} has {len(theirs):,}"
            )
        differ = np.flatnonzero(mine.view(np.uint32) != theirs.view(np.uint32))
        if differ.size:
            first = differ[0]
            raise AssertionError(
                f"{differ.size:,} of {len(mine):,} weights differ; number {first} is "
                f"{mine[first]:.9g} in {federation} after {states[0].done} rounds and "
                f"{theirs[first]:.9g} in {other} after {states[1].done}"
            )

    # What it took

    @keyword
    def bytes_per_round_should_be_below(self, limit: Size) -> None:
        """Bytes on the links, both ways, with framing and repetitions, without the samples.

        | Bytes Per Round Should Be Below | 50 kB |
        """
        running = self._current
        found = running.bytes_per_round()
        _should_be_below(f"{running.name} moved", found, limit, "{:,.0f} bytes")

    @keyword
    def skip_unless_instructions_are_counted(self) -> None:
        """Skips the rest of the test where the backend does not count instructions, so that
        neither they nor energy can be known."""
        running = self._current
        if not running.counts_instructions:
            raise SkipExecution(f"{running.experiment.nodes.backend} nodes are not counted")

    @keyword
    def instructions_per_round_should_be_below(self, phase: str, limit: int) -> None:
        """Instructions executed in a phase of the firmware: ``receive``, ``reconstruct``,
        ``learn``, ``select``, ``send`` …

        | Instructions Per Round Should Be Below | learn | 6 000 000 |
        """
        running = self._current
        counts = running.instructions_per_round()
        if phase not in counts:
            raise AssertionError(f"no phase '{phase}'; there were {', '.join(sorted(counts))}")
        unit = f"{{:,.0f}} instructions in '{phase}'"
        _should_be_below(f"{running.name} executed", counts[phase], limit, unit)

    @keyword
    def energy_per_round_should_be_below(self, limit: Energy) -> None:
        """Energy of processors and radios, as expected; see docs/energy.md for its bounds.

        | Energy Per Round Should Be Below | 15 mJ |
        """
        running = self._current
        found = running.energy_per_round()
        _should_be_below(f"{running.name} used", found * 1e3, limit * 1e3, "{:,.3f} mJ")

    @keyword
    def should_use_less_energy(self, federation: str, other: str) -> None:
        """Compares the energy per round of two federations.

        | Should Use Less Energy | tinymetafed | reptile |
        """
        mine, theirs = (self._named(name).energy_per_round() for name in (federation, other))
        figures = (
            f"{federation} used {mine * 1e3:,.3f} mJ per round, {other} {theirs * 1e3:,.3f} mJ"
        )
        logger.info(figures)
        if not mine < theirs:
            raise AssertionError(f"{figures}: not less")

    # Renode is the one backend that may be missing.

    @keyword
    def skip_unless_renode_is_installed(self) -> None:
        """Skips the test, or as a suite setup the whole suite, where there is no Renode."""
        if renode.program() is None:
            raise SkipExecution("Renode is not installed; see renode.io, or name it in TMF_RENODE")

    @property
    def _current(self) -> _Running:
        if not self._running:
            raise AssertionError("no federation is running; use 'Start Federation'")
        return next(reversed(self._running.values()))

    def _named(self, name: str) -> _Running:
        if name not in self._running:
            there = ", ".join(self._running) or "none"
            raise AssertionError(f"no federation '{name}' is running; there is {there}")
        return self._running[name]

    def _stop(self, name: str) -> None:
        self._do(self._running.pop(name).resources.aclose())

    def _lost(self, index: int) -> str | None:
        """Why the node does not answer; None where it does."""
        running = self._current
        running.need_node(index)
        node = running.nodes[index]

        async def ask() -> str | None:
            with node.not_counted():
                try:
                    await node.greet()
                except NodeLost as error:
                    return str(error)
            return None

        return self._do(ask())

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work` on the library's loop.

        Robot Framework ends a keyword with an exception out of a signal's handler: at the time-out
        of a test, at Ctrl+C. Amid the loop it might be lost. So the work is cancelled instead, and
        the handler is called when it has ended.
        """
        loop = self._loop.get_loop()
        handlers = {number: signal.getsignal(number) for number in (SIGALRM, SIGINT, SIGTERM)}
        arrived: list[int] = []

        async def run() -> T:
            task = asyncio.current_task()
            assert task is not None

            def end(number: int, frame: object) -> None:
                arrived.append(number)
                loop.call_soon_threadsafe(task.cancel)

            for number in handlers:
                signal.signal(number, end)
            return await work

        try:
            return self._loop.run(run())
        except TinyMetaFedError as error:
            raise AssertionError(str(error)) from None
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            for number in arrived:
                signal.raise_signal(number)


def _should_be_below(what: str, found: float, limit: float, unit: str) -> None:
    """unit: says a figure."""
    text = f"{what} {unit.format(found)} per round"
    logger.info(text)
    if not found < limit:
        raise AssertionError(f"{text}, not below {unit.format(limit)}")


robot = FederationLibrary
"""What Robot Framework finds for `Library    tinymetafed.robot`."""
