"""TinyMetaFed: Ren, Li, Anicic, Runkler 2023, arXiv:2307.06822.

Online as TinyReptile (arXiv:2304.05201), with partial local reconstruction (Singhal et al. 2021,
arXiv:2102.03448) and Top-P% selective communication.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from ..model import Model
from ..nodes.node import Delta, Node
from ..samples import Samples
from ..settings import Settings
from .base import Theta, annealed, outer_step, stream


class TinyMetaFed(Settings):
    """Settings: rates β_l, β_g and α0, samples per device, and P."""

    name: Literal["tinymetafed"]
    local_rate: Annotated[float, Field(gt=0, le=10)] = 0.01  # β_l
    global_rate: Annotated[float, Field(gt=0, le=10)] = 0.01  # β_g
    outer_rate: Annotated[float, Field(gt=0, le=10)] = 1.0  # α0
    support: Annotated[int, Field(ge=1, le=100_000)] = 10
    query: Annotated[int, Field(ge=1, le=100_000)] = 32
    percent: Annotated[float, Field(gt=0, le=100)] = 50.0  # P

    @property
    def uses_local(self) -> bool:
        return True

    @property
    def batch(self) -> int:
        return 1

    @property
    def capacity(self) -> int:
        return 0

    def keep(self, model: Model) -> int:
        """Entries of the global part that make P%, at least one."""
        return max(1, round(self.percent / 100 * int(model.global_mask.sum())))

    async def reconstruct(self, node: Node, model: Model, support: Samples) -> None:
        """θl from the shared initialisation: one pass over the support stream, θg frozen."""
        if not model.global_mask.all():
            await node.train(support, rate=self.local_rate, frozen=model.frozen(local=False))

    async def adapt(self, node: Node, model: Model, support: Samples, query: Samples) -> Delta:
        await self.reconstruct(node, model, support)
        await node.train(query, rate=self.global_rate, frozen=model.frozen(local=True))
        return await node.update(model.global_runs, self.keep(model))

    def aggregate(
        self, theta: Theta, deltas: Sequence[Delta], round_number: int, rounds: int
    ) -> Theta:
        return outer_step(theta, deltas, annealed(self.outer_rate, round_number, rounds))

    async def personalise(self, node: Node, model: Model, support: Samples, steps: int) -> None:
        await self.reconstruct(node, model, support)
        await node.train(stream(support, steps), rate=self.global_rate)
