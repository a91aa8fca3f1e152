"""TinyMetaFed: Ren, Li, Anicic, Runkler 2023, arXiv:2307.06822.

Online as TinyReptile (arXiv:2304.05201), with partial local reconstruction (Singhal et al. 2021,
arXiv:2102.03448) and Top-P% selective communication. With error feedback, what is not sent, and
what rounding to float16 or int8 takes off, stays on the node and is added to its next update before
the selection, as in Deep Gradient Compression (Lin, Han, Mao, Wang, Dally 2018, arXiv:1712.01887).
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from ..models.model import Model
from ..nodes.node import Delta, Node
from ..settings import Settings
from ..tasks.samples import Samples
from .base import Count, Rate, Theta, Usual, annealed, outer_step, stream

Percent = Annotated[float, Field(gt=0, le=100)]


class Schedule(Settings):
    """Linear over the rounds: `start` in the first, `end` in the last."""

    start: Percent
    end: Percent


def _kind(percent: Any) -> str:
    return "object" if isinstance(percent, dict | Schedule) else "number"


class TinyMetaFed(Usual):
    """Settings: rates β_l, β_g and α0, samples per device, P, how the values of an update are sent,
    and whether what is not sent is kept.

    With P = 100 and float32 there is nothing to keep: error feedback takes its memory then, and
    changes nothing.
    """

    name: Literal["tinymetafed"]
    local_rate: Rate = 0.01  # β_l
    global_rate: Rate = 0.01  # β_g
    outer_rate: Rate = 1.0  # α0
    support: Count = 10
    query: Count = 32
    percent: Annotated[
        Annotated[Percent, Tag("number")] | Annotated[Schedule, Tag("object")],
        Discriminator(_kind),
    ] = 50.0  # P
    values: Literal["float32", "float16", "int8"] = "float32"
    error_feedback: bool = False

    @property
    def uses_local(self) -> bool:
        return True

    @property
    def keeps(self) -> bool:
        return self.error_feedback

    @property
    def batch(self) -> int:
        return 1

    def keep(self, model: Model, round_number: int, rounds: int) -> int:
        """Entries of the global part that make P% in a round, at least one."""
        percent = self.percent
        if isinstance(percent, Schedule):
            passed = round_number / max(1, rounds - 1)
            percent = percent.start + (percent.end - percent.start) * passed
        return max(1, round(percent / 100 * model.global_parameters))

    async def reconstruct(self, node: Node, model: Model, support: Samples) -> None:
        """θl from the shared initialisation: one pass over the support stream, θg frozen."""
        if model.global_parameters < model.parameters:
            await node.train(support, rate=self.local_rate, frozen=model.frozen(local=False))

    async def adapt(
        self, node: Node, model: Model, support: Samples, query: Samples, round_number: int,
        rounds: int,
    ) -> Delta:  # fmt: skip
        await self.reconstruct(node, model, support)
        await node.train(query, rate=self.global_rate, frozen=model.frozen(local=True))
        keep = self.keep(model, round_number, rounds)
        return await node.update(model.global_runs, keep, self.values)

    def aggregate(
        self, theta: Theta, deltas: Sequence[Delta], round_number: int, rounds: int
    ) -> Theta:
        return outer_step(theta, deltas, annealed(self.outer_rate, round_number, rounds))

    async def personalise(self, node: Node, model: Model, support: Samples, steps: int) -> None:
        await self.reconstruct(node, model, support)
        if steps:
            await node.train(stream(support, steps), rate=self.global_rate)
