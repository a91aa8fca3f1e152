"""An experiment file (TOML) checked into typed settings."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .errors import TinyMetaFedError
from .model import Model, ModelSettings
from .strategies import StrategySettings
from .tasks import TaskSettings


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NodeSettings(_Settings):
    """[nodes]: how many, and what runs them."""

    backend: Literal["qemu", "host"] = "qemu"
    count: Annotated[int, Field(ge=1, le=10_000)] = 4
    per_round: Annotated[int, Field(ge=1, le=10_000)] | None = None  # M; all where not given
    timeout: Annotated[float, Field(gt=0, le=3600)] = 20.0  # seconds until a request is repeated


class DeviceSettings(_Settings):
    """[devices]: the population whose tasks are learnt; a node plays one of them in a round."""

    seen: Annotated[int, Field(ge=1, le=1_000_000)] = 1000


class EvaluationSettings(_Settings):
    """[evaluation]: few-shot adaptation on devices that training never saw."""

    devices: Annotated[int, Field(ge=1, le=100_000)] = 50
    every: Annotated[int, Field(ge=1, le=1_000_000)] = (
        50  # rounds; also before the first, after the last
    )
    support: Annotated[int, Field(ge=1, le=100_000)] = 10  # samples to adapt on
    steps: Annotated[int, Field(ge=0, le=100_000)] = 10  # inner steps of adaptation
    query: Annotated[int, Field(ge=1, le=100_000)] = 50  # samples to judge by


class Experiment(_Settings):
    """A whole experiment; the same settings and seed give the same run, bit for bit."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 1
    rounds: Annotated[int, Field(ge=1, le=10_000_000)]
    nodes: NodeSettings = NodeSettings()
    devices: DeviceSettings = DeviceSettings()
    task: TaskSettings
    model: ModelSettings
    strategy: StrategySettings
    evaluation: EvaluationSettings = EvaluationSettings()

    @property
    def per_round(self) -> int:
        """M: nodes that take part in a round."""
        return self.nodes.per_round or self.nodes.count

    @property
    def built_model(self) -> Model:
        """The model on the task's samples, its local parts as the strategy uses them."""
        return Model.build(self.model, self.task.inputs, local=self.strategy.uses_local)

    @model_validator(mode="after")
    def _fits_together(self) -> "Experiment":
        if self.per_round > self.nodes.count:
            raise ValueError(
                f"nodes.per_round: {self.per_round} nodes take part but nodes.count is "
                f"{self.nodes.count}"
            )
        if self.per_round > self.devices.seen:
            raise ValueError(
                f"devices.seen: {self.devices.seen} devices are too few for {self.per_round} nodes "
                "in a round"
            )
        if self.model.layers[-1].units != self.task.outputs:
            raise ValueError(
                f"model.layers.{len(self.model.layers) - 1}.units: the task has "
                f"{self.task.outputs} outputs, the last layer {self.model.layers[-1].units}"
            )
        if (self.model.loss == "softmax_cross_entropy") != self.task.target_is_class:
            raise ValueError(f"model.loss: {self.model.loss} does not judge the task's targets")
        if self.strategy.uses_local and all(layer.local for layer in self.model.layers):
            raise ValueError("model.layers: every layer is local, so there is nothing to exchange")
        return self


def parse(text: str, origin: str, overrides: tuple[str, ...] = ()) -> Experiment:
    """Settings from TOML and KEY=VALUE overrides with dotted keys.

    Raises TinyMetaFedError that names `origin`, the key and what it may be, a line for each error.
    """
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TinyMetaFedError(f"{origin}: not TOML: {error}") from None
    for override in overrides:
        _override(tree, override)
    try:
        return Experiment.model_validate(tree)
    except ValidationError as error:
        lines = [_describe(detail) for detail in error.errors()]
        raise TinyMetaFedError("\n".join(f"{origin}: {line}" for line in lines)) from None


def read(path: Path, overrides: tuple[str, ...] = ()) -> Experiment:
    """The experiment in a file. Raises TinyMetaFedError."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise TinyMetaFedError(f"{path}: cannot be read: {reason}") from None
    return parse(text, str(path), overrides)


def _override(tree: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    *path, last = key.strip().split(".")
    if not equals or not last:
        raise TinyMetaFedError(f"--set {override}: expected KEY=VALUE, e.g. nodes.count=8")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()  # a string may be given without quotes
    for step in path:
        tree = tree.setdefault(step, {})
        if not isinstance(tree, dict):
            raise TinyMetaFedError(f"--set {override}: {step} is not a table")
    tree[last] = parsed


def _describe(detail: Any) -> str:
    """One line: key, what is wrong with its value, and what is allowed."""
    location = detail["loc"]
    # A union's tag stands in the location and is no key of the file.
    keys = [str(step) for i, step in enumerate(location) if not (i == 1 and location[0] in _UNIONS)]
    key = ".".join(keys)
    context = detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            known = ", ".join(_schema(location[:-1]).get("properties", {}))
            return f"{key}: unknown key; known are: {known}"
        case "missing":
            return f"{key}: missing"
        case "literal_error":
            return f"{key}: {detail['input']!r} is not allowed; use {context['expected']}"
        case "union_tag_invalid":
            return f"{key}.name: {context['tag']!r} is unknown; use {context['expected_tags']}"
        case "union_tag_not_found":
            return f"{key}.name: missing"
        case "value_error" if not key:
            return str(context["error"])
        case "value_error":
            return f"{key}.{context['error']}"
        case _:
            allowed = _range(_schema(location))
            return f"{key}: {detail['input']!r} is not allowed; {allowed or detail['msg']}"


_UNIONS = {"strategy"}


def _schema(location: tuple[str | int, ...]) -> dict[str, Any]:
    """The JSON schema of what lies at `location`; empty where there is none."""
    root = Experiment.model_json_schema()
    schema: dict[str, Any] = root
    for step in (None, *location):
        if isinstance(step, int):
            schema = schema.get("items", {})
        elif "discriminator" in schema:
            schema = {"$ref": schema["discriminator"]["mapping"].get(step, "")}
        elif step is not None:
            schema = schema.get("properties", {}).get(step, {})
        if "$ref" in schema:
            schema = root["$defs"].get(schema["$ref"].rpartition("/")[2], {})
    return next((s for s in schema.get("anyOf", []) if s.get("type") != "null"), schema)


def _range(schema: dict[str, Any]) -> str:
    words = {
        "minimum": "at least", "exclusiveMinimum": "more than", "maximum": "at most",
        "exclusiveMaximum": "less than", "minItems": "at least", "maxItems": "at most",
        "pattern": "matching",
    }  # fmt: skip
    limits = " and ".join(f"{words[key]} {schema[key]}" for key in words if key in schema)
    kind = {"integer": "a whole number", "number": "a number", "array": "a list of values"}.get(
        schema.get("type", ""), f"a {schema.get('type')}"
    )
    return f"use {kind} {limits}".rstrip() if schema else ""
