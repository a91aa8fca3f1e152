"""What a node may answer to its requests, and what anything else means."""

import math
from collections.abc import Sequence
from pathlib import Path

from ..errors import TinyMetaFedError
from ..link import Answers, Error, Fault, Hello, Response, messages
from . import fault
from .events import NodeEvent
from .transport import NodeFaulted, NodeLost

DIVERGED = 10
"""The code of an error that says that a value is not finite: enum tmf_error of the firmware."""

EXPECTED: dict[str, type[Response]] = {
    "hello": Hello, "load": messages.Loaded, "weights": messages.Done, "store": messages.Done,
    "train": messages.Trained, "evaluate": messages.Evaluated, "predict": messages.Outputs,
    "select": messages.Selected, "update": messages.Updated, "residual": messages.Updated,
    "restore": messages.Done, "mark": messages.Done, "variate": messages.Done,
    "renew": messages.Done, "part": messages.Done, "backbone": messages.Done,
    "cycles": messages.Outputs,
}  # fmt: skip
"""The answer to a request, by the request's name."""


class NodeRefused(TinyMetaFedError):
    """A node's error response."""

    def __init__(self, node: str, request: str, error: Error) -> None:
        memory = f" ({error.needed} bytes needed, {error.available} available)"
        super().__init__(
            f"{node} refused '{request}': {error.message}{memory if error.needed else ''}"
        )
        self.request = request
        self.error = error

    @property
    def diverged(self) -> bool:
        """A loss or an update on the node is not finite."""
        return self.error.code == DIVERGED


def not_finite(node: str, request: str) -> NodeRefused:
    """For a node that sends a number that is not finite, where it should have said that it
    diverged: it is treated as if it had."""
    return NodeRefused(node, request, Error(DIVERGED, "it sent a number that is not finite", 0, 0))


def checked(
    node: str, names: Sequence[str], answers: Answers, image: Path | None = None
) -> tuple[Response, ...]:
    """The responses. image: what the node runs, where that is known, for the places of a fault.
    Raises TinyMetaFedError where they are no answers to the requests."""
    for name, response in zip(names, answers.responses, strict=False):
        if not isinstance(response, EXPECTED[name]):
            raise _unexpected(node, response, name, image)
        if isinstance(response, messages.Trained | messages.Evaluated) and not math.isfinite(
            response.loss
        ):
            raise not_finite(node, name)
    if len(answers.responses) != len(names):
        raise NodeLost(f"{node} answered {len(answers.responses)} of {len(names)} requests")
    return answers.responses


def _unexpected(node: str, event: Response, name: str, image: Path | None) -> TinyMetaFedError:
    match event:
        case Error():
            return NodeRefused(node, name, event)
        case Fault():
            found = fault.of_message(event, image)
            return NodeFaulted(f"{node}: {found.text}", found)
        case Hello():
            text = f"{node} has restarted by itself"
            return NodeFaulted(text, NodeEvent("reset", text))
        case _:
            answer = type(event).__name__.lower()
            return NodeLost(f"{node} answered '{name}' with {answer}")
