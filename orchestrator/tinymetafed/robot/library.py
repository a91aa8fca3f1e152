"""The keywords, and when federations end."""

from collections.abc import Coroutine
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from robot.api import SkipExecution, logger
from robot.api.deco import keyword, library
from robot.result import TestCase
from robot.running import TestSuite as RunningSuite

from ..errors import TinyMetaFedError
from ..experiments.experiment import read
from ..nodes import renode_console
from ..testing.loop import Loop
from ..testing.running import Running, faults_of, start
from .units import Energy, Size

T = TypeVar("T")

VERSION = metadata.version("tinymetafed")


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

    = Faults =

    A test in which the firmware of a node faults fails, whatever else it finds: `Node Should Not
    Have Faulted` is on at the end of each test, and of the suite. The message names function, file
    and line, and has the registers; it is in Robot's log and in JUnit (``--xunit``). It is off for
    federations with ``faults.tolerate=true``:

    | Start Federation | experiments/demo.toml | faults.tolerate=true |

    A node that is unplugged, or whose link is spoiled, has not faulted.

    = Figures =

    Bytes, instructions and energy are those of all nodes together in the rounds of the last
    `Run Rounds`, divided by the number of these rounds. Neither `Get Loss` nor
    `Node Should Be Running` is part of them. Energy is estimated, see docs/energy.md, for the
    device and radio of the experiment (``energy.device``, ``energy.radio``).
    """

    ROBOT_LISTENER_API_VERSION = 3

    def __init__(self) -> None:
        self.ROBOT_LIBRARY_LISTENER = self
        self._loop = Loop()
        self._running: dict[str, Running] = {}  # the last one is the current one
        self._of_suite: dict[str, Running] = {}
        self._of_ended: list[str] = []  # faults in federations that have ended

    # What Robot Framework tells a listener.

    def start_suite(self, data: RunningSuite, result: object) -> None:
        """The suite's teardown ends with a look at faults: a listener cannot fail a suite."""
        check = "Node Should Not Have Faulted"
        if data.has_teardown:
            mine = data.teardown
            mine.config(name="Run Keywords", args=(mine.name, *mine.args, "AND", check))
        else:
            data.teardown.config(name=check)

    def start_test(self, data: object, result: object) -> None:
        """What runs already is the suite's."""
        self._of_suite = dict(self._running)

    def end_test(self, data: object, result: TestCase) -> None:
        """Fails the test where a node has faulted in it. Ends what it started; the current
        federation is the suite's again."""
        if faults := self._new_faults():
            if result.passed or result.skipped:
                result.status = "FAIL"
                result.message = faults
            else:
                result.message += f"\n\nAlso: {faults}"
        for name, running in list(self._running.items()):
            if self._of_suite.get(name) is not running:
                self._stop(name)
        self._running = {
            name: self._running[name] for name in self._of_suite if name in self._running
        }

    def _new_faults(self) -> str:
        """What nodes of all federations have done that was not looked at yet; empty for nothing."""
        found = self._of_ended + [
            text for one in self._running.values() if (text := faults_of(one))
        ]
        self._of_ended = []
        return "\n".join(found)

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
        self._do(self._current.run(count))

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
        self._do(running.powers[node].close())

    @keyword
    def corrupt_links(
        self,
        rate: float = 0.0,
        *,
        lost_frames: float = 0.0,
        doubled_frames: float = 0.0,
        reordered_frames: float = 0.0,
        direction: str = "both",
        nodes: list[int] | None = None,
    ) -> None:
        """Has every byte on the nodes' links spoiled with a probability of ``rate``, either way: it
        is lost, or a bit of it is flipped, the one as often as the other. Frames are lost, arrive
        twice, or behind the next one, with the other probabilities. ``direction`` is ``down`` for
        frames to the nodes, ``up`` for those from them. Without a rate there is no noise any more.

        It is the noise of ``[[faults.links]]`` in an experiment, which has it from the start on. In
        rounds only, links are disturbed. Which frames, is a function of the experiment's seed. One
        that does not arrive is sent again at once.

        | Corrupt Links | 1e-5 |
        | Corrupt Links | lost_frames=0.02 | direction=up | nodes=[0, 2] |
        """
        noise = {
            "flipped_bytes": rate / 2, "lost_bytes": rate / 2, "lost_frames": lost_frames,
            "doubled_frames": doubled_frames, "reordered_frames": reordered_frames,
            "direction": direction, "nodes": nodes,
        }  # fmt: skip
        if not 0 <= rate <= 1:
            raise AssertionError(f"a probability is from 0 to 1, not {rate:g}")
        self._do(self._current.disturb("Corrupt Links", noise))

    @keyword
    def links_should_have_been_corrupted(self) -> None:
        """Fails if no frame was spoiled since the start of the federation."""
        spoiled = self._current.spoiled()
        logger.info(f"{sum(spoiled)} frames were spoiled, by node: {spoiled}")
        if not any(spoiled):
            raise AssertionError(f"no frame was spoiled on the links of {self._current.name}")

    @keyword
    def node_should_be_running(self, node: int) -> None:
        """Asks a node who it is; fails if it does not answer."""
        lost = self._do(self._current.lost(node))
        if lost is not None:
            raise AssertionError(f"node-{node} is not running: {lost}")

    @keyword
    def node_should_be_lost(self, node: int) -> None:
        """Fails if a node answers. One that was unplugged, or has no power, does not."""
        if self._do(self._current.lost(node)) is None:
            raise AssertionError(f"node-{node} is running")

    @keyword
    def node_should_not_have_faulted(self) -> None:
        """Fails if the firmware of a node has faulted, hung or started again by itself, in any
        federation, since this was looked at last: here, or at the end of a test, see `Faults`.

        | Run Rounds | 10 |
        | Node Should Not Have Faulted |
        """
        if faults := self._new_faults():
            raise AssertionError(faults)

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
        """Mean loss of the current weights on the devices for validation, which training never
        sees, after adaptation to each; see ``[evaluation]`` of the experiment.

        | ${before}= | Get Loss |
        | Run Rounds | 100 |
        | Loss Should Be Below | ${{ 0.5 * $before }} |
        """
        loss = self._do(self._current.loss())
        logger.info(f"loss {loss:.4f} after {self._current.state.done} rounds")
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
            backend = " and ".join(running.experiment.nodes.backends)
            raise SkipExecution(f"{backend} nodes are not counted")

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
        if renode_console.program() is None:
            raise SkipExecution("Renode is not installed; see renode.io, or name it in TMF_RENODE")

    @property
    def _current(self) -> Running:
        if not self._running:
            raise AssertionError("no federation is running; use 'Start Federation'")
        return next(reversed(self._running.values()))

    def _named(self, name: str) -> Running:
        if name not in self._running:
            there = ", ".join(self._running) or "none"
            raise AssertionError(f"no federation '{name}' is running; there is {there}")
        return self._running[name]

    def _stop(self, name: str) -> None:
        running = self._running.pop(name)
        if faults := faults_of(running):
            self._of_ended.append(faults)
        self._do(running.resources.aclose())

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        """The result. Raises AssertionError where the federation cannot do it."""
        try:
            return self._loop.run(work)
        except TinyMetaFedError as error:
            raise AssertionError(str(error)) from None


async def _start(name: str, path: Path, changes: tuple[str, ...]) -> Running:
    return await start(name, read(path, changes))


def _should_be_below(what: str, found: float, limit: float, unit: str) -> None:
    """unit: says a figure."""
    text = f"{what} {unit.format(found)} per round"
    logger.info(text)
    if not found < limit:
        raise AssertionError(f"{text}, not below {unit.format(limit)}")
