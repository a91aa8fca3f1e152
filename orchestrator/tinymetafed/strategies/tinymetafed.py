"""TinyMetaFed: Ren, Li, Anicic, Runkler 2023, arXiv:2307.06822.

Online as TinyReptile (arXiv:2304.05201), with partial local reconstruction (Singhal et al. 2021,
arXiv:2102.03448) and Top-P% selective communication. With error feedback, what is not sent, and
what rounding to float16 or int8 takes off, stays on the node and is added to its next update before
the selection, as in Deep Gradient Compression (Lin, Han, Mao, Wang, Dally 2018, arXiv:1712.01887).
"""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from ..models.model import Model
from ..nodes.program import Program, Select, Send, Train
from ..settings import Settings
from .base import Count, OnlineSGD, Rate, Round, ServerState

Percent = Annotated[float, Field(gt=0, le=100)]


class Schedule(Settings):
    """Linear over the rounds: `start` in the first, `end` in the last."""

    start: Percent
    """Percent in the first round."""
    end: Percent
    """Percent in the last round."""


def _kind(percent: Any) -> str:
    return "object" if isinstance(percent, dict | Schedule) else "number"


class TinyMetaFed(OnlineSGD):
    """TinyMetaFed: the node refits its local part, trains the rest online, and sends the largest
    P% of the update.

    With P = 100 and float32 there is nothing to keep: error feedback takes its memory then, and
    changes nothing.
    """

    name: Literal["tinymetafed"]
    local_rate: Rate = 0.01
    """β_l, of the reconstruction of the local part."""
    global_rate: Rate = 0.01
    """β_g, of the steps on the global part."""
    support: Count = 10
    """Samples that the local part is refitted on."""
    percent: Annotated[
        Annotated[Percent, Tag("number")] | Annotated[Schedule, Tag("object")],
        Discriminator(_kind),
    ] = 50.0
    """P, the percent of the global update's entries that are sent; or `{ start = …, end = … }`,
    linear over the rounds."""
    values: Literal["float32", "float16", "int8"] = "float32"
    """How the values of an update are sent."""
    error_feedback: bool = False
    """Whether a node keeps what it did not send, and adds it to its next update."""
    local: bool = True
    """Whether layers marked local stay on the nodes and are refitted there; else all are shared."""

    @property
    def uses_local(self) -> bool:
        """See Strategy."""
        return self.local

    @property
    def keeps(self) -> Literal["residual"] | None:
        """See Strategy."""
        return "residual" if self.error_feedback else None

    def keep(self, model: Model, server_round: Round) -> int:
        """Entries of the global part that make P% in a round, at least one."""
        percent = self.percent
        if isinstance(percent, Schedule):
            passed = server_round.number / max(1, server_round.total - 1)
            percent = percent.start + (percent.end - percent.start) * passed
        return max(1, round(percent / 100 * model.global_parameters))

    def reconstruct(self, model: Model) -> Program:
        """θl from the shared initialisation: one pass over the support stream, θg frozen."""
        if model.global_parameters == model.parameters:
            return ()
        return (Train("support", rate=self.local_rate, frozen=model.frozen(local=False)),)

    def program(self, state: ServerState, model: Model, server_round: Round) -> Program:
        """See Strategy."""
        learn = Train("query", rate=self.global_rate, frozen=model.frozen(local=True))
        select = Select(self.keep(model, server_round), self.values)
        return *self.reconstruct(model), learn, select, Send()

    def personalise(self, model: Model, support: int, steps: int) -> Program:
        """See Strategy."""
        tune = (Train("support", rate=self.global_rate, steps=steps),) if steps else ()
        return *self.reconstruct(model), *tune
