"""A federation under test, for tests that are plain functions."""

from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import FirmwareFault
from ..experiments.experiment import Experiment
from .loop import Loop
from .running import Running, faults_of, start

T = TypeVar("T")


class Federation:
    """A federation whose nodes run until it is closed.

    Figures are those of all nodes together in the rounds of the last run_rounds(), divided by the
    number of these rounds. Each raises AssertionError where the federation cannot tell or do it,
    and TinyMetaFedError, whose kind FirmwareFault has the place in the firmware.

    Attributes:
        nodes: those of the federation, by their number.
    """

    def __init__(self, experiment: Experiment, name: str = "federation") -> None:
        """Boots the nodes and describes the model to them. name: what messages call it."""
        self._loop = Loop()
        self._running: Running | None = None
        try:
            self._running = self._loop.run(start(name, experiment))
        except BaseException:
            self._loop.close()
            raise
        self.nodes: Sequence[Node] = [Node(self, i) for i in range(experiment.nodes.count)]

    @property
    def running(self) -> Running:
        """What runs. Raises AssertionError where it is closed."""
        if self._running is None:
            raise AssertionError("this federation is closed")
        return self._running

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of work on the federation's own loop."""
        return self._loop.run(work)

    def run_rounds(self, count: int = 1) -> None:
        """The nodes that are there learn, their updates are aggregated. A node that gets lost is
        started again and does its work again."""
        self.do(self.running.run(count))

    @property
    def rounds_done(self) -> int:
        """Since the start."""
        return self.running.state.done

    @property
    def theta(self) -> NDArray[np.float32]:
        """The weights: float32 [parameters]."""
        return self.running.state.theta

    def loss(self) -> float:
        """Mean loss on the devices for validation, after adaptation to each."""
        return self.do(self.running.loss())

    @property
    def counts_instructions(self) -> bool:
        """Whether its backend does, so that instructions and energy are known."""
        return self.running.counts_instructions

    @property
    def bytes_per_round(self) -> float:
        """On the links, both ways, with framing and repetitions."""
        return self.running.bytes_per_round()

    @property
    def instructions_per_round(self) -> Mapping[str, float]:
        """By phase of the firmware: "receive", "learn", "select", "send" …"""
        return self.running.instructions_per_round()

    @property
    def joules_per_round(self) -> float:
        """Of processors and radios, as expected; see docs/energy.md for its bounds."""
        return self.running.energy_per_round()

    def corrupt_links(self, **noise: Any) -> None:
        """From now on links have this noise in rounds: keys and values of [[faults.links]]."""
        self.do(self.running.disturb("corrupt_links", noise))

    def take_faults(self) -> str:
        """The firmware's faults since the last call, a line for each with function, file, line and
        registers; empty where there are none, or the experiment tolerates them."""
        return faults_of(self.running)

    def check_faults(self) -> None:
        """Raises FirmwareFault where there are any since the last look."""
        if faults := self.take_faults():
            raise FirmwareFault(faults)

    def close(self) -> None:
        """Ends the nodes."""
        if self._running is not None:
            running, self._running = self._running, None
            try:
                self._loop.run(running.resources.aclose())
            finally:
                self._loop.close()


class Node:
    """One node of a federation under test. federation: that it is in. index: its number."""

    def __init__(self, federation: Federation, index: int) -> None:
        self.federation, self.index = federation, index

    def __repr__(self) -> str:
        return f"<node-{self.index} of {self.federation.running.name}>"

    @property
    def version(self) -> str:
        """Of the firmware."""
        return self._hello.version

    @property
    def build(self) -> str:
        """Of the firmware: the hash of its image."""
        return self._hello.build.hex()

    @property
    def memory(self) -> int:
        """Bytes that the model takes there, with what training needs."""
        return self.federation.running.federation.engine.memory

    @property
    def is_running(self) -> bool:
        """Whether it answers. Asking is no part of the figures."""
        return self.federation.do(self.federation.running.lost(self.index)) is None

    def unplug(self) -> None:
        """Ends it. Rounds do without it until plug_in(); it uses no energy."""
        self.federation.do(self.federation.running.federation.unplug(self.index))

    def plug_in(self) -> None:
        """Boots it after unplug(); it takes part in the rounds again."""
        running = self.federation.running
        if self.index not in running.federation.unplugged:
            raise AssertionError(f"node-{self.index} is plugged in already")
        self.federation.do(running.federation.plug_in(self.index))

    def cut_power(self) -> None:
        """Ends it without the federation's knowledge, which notices with its next request and
        starts it again."""
        self.federation.do(self.federation.running.powers[self.index].close())

    @property
    def _hello(self) -> Any:
        return self.federation.running.nodes[self.index].hello
