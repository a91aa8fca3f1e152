# pyright: reportMissingImports=false
"""What Flower sees: a ClientApp whose clients are nodes."""

from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from ..api import AnyPath, read_experiment
from ..api.result import Result
from ..errors import TinyMetaFedError
from ..experiments.experiment import Experiment
from ..models.model import Model
from ..nodes.library import node_floats
from ..places import STORE
from .door import Door
from .nodes import Answer, Nodes

THETA = "theta"
"""The name of the one array that goes to and fro: float32 [parameters], as nodes have it."""


def initial_arrays(experiment: Experiment | AnyPath) -> ArrayRecord:
    """The first weights, for Strategy.start(initial_arrays=…): one array "theta", float32
    [parameters]. Raises TinyMetaFedError."""
    found = _experiment(experiment)
    model: Model = found.built_model
    with node_floats():
        return ArrayRecord({THETA: Array(model.initial(found.seed))})


def client_app(
    experiment: Experiment | AnyPath, *, store: AnyPath | None = None
) -> "NodesClientApp":
    """A ClientApp whose clients are the experiment's nodes: the client of partition i is node i.

    The experiment's strategy says what a node does in a round; Flower's which nodes take part, and
    what becomes of their weights. Bytes, joules, evaluations and weights are in the store, whose
    folder is `store`, else $TMF_RUNS or `runs`. Raises TinyMetaFedError where the experiment has
    what Flower decides, or what a node would have to keep from round to round.
    """
    folder = STORE if store is None else Path(store)
    return NodesClientApp(Door(Nodes(_experiment(experiment), folder)))


class NodesClientApp(ClientApp):
    """See client_app. The nodes run in the process that has made it, until its last round or
    close(); a copy in another process, as of Flower's simulation, talks to it through a Unix
    socket in a private folder."""

    def __init__(self, door: Door) -> None:
        super().__init__()
        self._door = door
        self.train()(self._train)
        self.evaluate()(self._evaluate)

    def __reduce__(self) -> Any:
        return NodesClientApp, (self._door,)

    @property
    def result(self) -> Result:
        """The run in the store, as far as it is done. Raises TinyMetaFedError."""
        return self._door.nodes.result

    def close(self) -> None:
        """Ends the nodes. A round whose weights after it nobody has sent is not stored."""
        self._door.close()

    def __enter__(self) -> "NodesClientApp":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _train(self, message: Message, context: Context) -> Message:
        answer, theta = self._ask("train", message, context)
        arrays = ArrayRecord({THETA: Array(theta + answer.delta)})
        return _reply(message, answer, arrays)

    def _evaluate(self, message: Message, context: Context) -> Message:
        return _reply(message, self._ask("evaluate", message, context)[0])

    def _ask(
        self, what: str, message: Message, context: Context
    ) -> tuple[Answer, NDArray[np.float32]]:
        theta = _theta(message)
        node = context.node_config.get("partition-id")
        if not isinstance(node, int):
            raise TinyMetaFedError("Flower gives no partition-id, by which a client is a node")
        return self._door.ask(what, node, _round(message), theta), theta


def _reply(message: Message, answer: Answer, arrays: ArrayRecord | None = None) -> Message:
    content = RecordDict({"metrics": MetricRecord(answer.metrics)})
    if arrays is not None:
        content["arrays"] = arrays
    return Message(content=content, reply_to=message)


def _theta(message: Message) -> NDArray[np.float32]:
    arrays = [one for record in message.content.array_records.values() for one in record.items()]
    if [name for name, _ in arrays] != [THETA]:
        raise TinyMetaFedError(
            "Flower sends other arrays than one of the name 'theta'; start its strategy with "
            "tinymetafed.flower.initial_arrays()"
        )
    return arrays[0][1].numpy().astype(np.float32)


def _round(message: Message) -> int:
    for record in message.content.config_records.values():
        if isinstance(number := record.get("server-round"), int):
            return number
    raise TinyMetaFedError("Flower's message has no 'server-round' in its configuration")


def _experiment(given: Experiment | AnyPath) -> Experiment:
    return given if isinstance(given, Experiment) else read_experiment(given)
