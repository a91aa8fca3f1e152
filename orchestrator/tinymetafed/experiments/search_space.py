"""Which settings of a strategy are searched, and over which range: for every strategy that has a
setting the same, where a comparison file says nothing else."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import model_validator

from ..errors import TinyMetaFedError
from ..settings import Settings
from ..strategies import Strategy

Value = bool | int | float | str


class Range(Settings):
    """Of a setting: numbers from `low` to `high`, uniformly or by their logarithm; or one of some
    choices; or not searched."""

    low: float | None = None
    """The least value."""
    high: float | None = None
    """The greatest value."""
    log: bool = False
    """Whether values are drawn uniformly by their logarithm."""
    choices: tuple[Any, ...] = ()
    """The values, in place of `low` and `high`."""
    searched: bool = True
    """Whether the setting is searched; otherwise it stays as it is in the file."""

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> "Range":
        bounds = self.low is not None, self.high is not None
        if not self.searched:
            if any(bounds) or self.choices or self.log:
                raise ValueError("searched: what is not searched has neither range nor choices")
        elif self.choices:
            if any(bounds) or self.log:
                raise ValueError("choices: give either these, or low and high")
            if not all(isinstance(one, Value) for one in self.choices):
                raise ValueError("choices: use numbers, texts, true or false")
            if len(set(self.choices)) < len(self.choices):
                raise ValueError("choices: one is there twice")
        elif self.low is None or self.high is None:
            raise ValueError("low: give low and high, or choices, or searched = false")
        elif self.low >= self.high:
            raise ValueError(f"high: {self.high:g} is not above low, which is {self.low:g}")
        elif self.log and self.low <= 0:
            raise ValueError(f"low: {self.low:g} has no logarithm; use more than 0")
        return self

    def __str__(self) -> str:
        if self.choices:
            return f"one of {', '.join(map(repr, self.choices))}"
        return f"{self.low:g} to {self.high:g}"

    def has(self, value: Value) -> bool:
        """Whether it is one of those that are searched."""
        if self.choices:
            return value in self.choices
        assert self.low is not None
        assert self.high is not None
        return not isinstance(value, str) and self.low <= value <= self.high


Space = dict[str, Range]
"""By the name of a setting, or by its path where it is of the client of another strategy
("client.rate"); the path is what holds where both are there."""

_RATE = Range(low=0.001, high=0.3, log=True)
_EPOCHS = Range(low=1, high=16, log=True)

DEFAULT: Mapping[str, Range] = {
    # Of the nodes' steps; `rate` is also the server's in FedAdam and FedYogi.
    "rate": _RATE,
    "local_rate": _RATE,
    "global_rate": _RATE,
    "meta_rate": _RATE,
    "outer_rate": Range(low=0.05, high=5.0, log=True),
    "client.outer_rate": Range(searched=False),  # the server that has the client has its own rate
    "batch": Range(low=1, high=32, log=True),
    "epochs": _EPOCHS,
    "head_epochs": _EPOCHS,
    "proximal": Range(low=0.001, high=10.0, log=True),
}
"""Rates, and what a node does with its samples. What is sent (P, the type of its values) and how
many samples a device has are no means to learn better, but what is compared."""


@dataclass(frozen=True)
class Parameter:
    """A setting that is searched.

    path: in the strategy, with dots. value: as the file has it. key: of the file, that says so.
    """

    path: str
    value: Value
    range: Range
    key: str

    @property
    def ends(self) -> tuple[Value, ...]:
        """The choices, or the bounds: where all of these are allowed, all between are."""
        low, high = self.range.low, self.range.high
        if low is None or high is None:
            return self.range.choices
        ends: tuple[float, ...] = low, high
        return tuple(map(int, ends)) if isinstance(self.value, int) else ends


@dataclass(frozen=True)
class Level:
    """What a table of the comparison file says of the space. key: of the table."""

    key: str
    space: Space


def parameters(strategy: Strategy, levels: Iterable[Level], origin: str) -> list[Parameter]:
    """The settings of a strategy that are searched; a later level holds before an earlier one.

    Raises TinyMetaFedError that names `origin` and the key, where a range does not suit the
    setting, or does not have the value that the setting has.
    """
    keys = dict.fromkeys(DEFAULT, "the default space")
    merged: Space = dict(DEFAULT)
    for level in levels:
        merged |= level.space
        keys |= {name: f"{level.key}.{name}" for name in level.space}
    found: list[Parameter] = []
    for path, value in _settings(strategy):
        name = path if path in merged else path.rpartition(".")[2]
        if name not in merged or not (span := merged[name]).searched:
            continue
        _check(value, span, f"{origin}: {keys[name]}", path)
        found.append(Parameter(path, value, span, keys[name]))
    return found


def unknown(strategies: Iterable[Strategy], space: Space) -> str | None:
    """What is wrong with the first key that is no setting of any of the strategies."""
    paths = {path for one in strategies for path, _ in _settings(one)}
    names = paths | {path.rpartition(".")[2] for path in paths}
    for key in space:
        if key not in names:
            return f"{key}: is no setting of its strategies; there are: {', '.join(sorted(names))}"
    return None


def tree(values: Mapping[str, Value]) -> dict[str, Any]:
    """Settings by path as the tables of a file."""
    found: dict[str, Any] = {}
    for path, value in values.items():
        *tables, name = path.split(".")
        place = found
        for table in tables:
            place = place.setdefault(table, {})
        place[name] = value
    return found


def with_values(strategy: Strategy, values: Mapping[str, Value]) -> Strategy:
    """The strategy with other settings, by path. Raises pydantic's ValidationError."""
    return type(strategy).model_validate(_merged(strategy.model_dump(), tree(values)))


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    return below | {
        key: _merged(below[key], value) if isinstance(value, dict) else value
        for key, value in above.items()
    }


def _settings(strategy: Settings, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Path and value of each, but for names."""
    for name in type(strategy).model_fields:
        value = getattr(strategy, name)
        if isinstance(value, Strategy):
            yield from _settings(value, f"{prefix}{name}.")
        elif name != "name":
            yield f"{prefix}{name}", value


def _check(value: Any, span: Range, origin: str, path: str) -> None:
    if not isinstance(value, bool | int | float | str):
        raise TinyMetaFedError(
            f"{origin}: {path} is a table here, or not set; use searched = false"
        )
    if not span.choices and isinstance(value, bool | str):
        raise TinyMetaFedError(f"{origin}: {path} is {value!r}, which is no number; give choices")
    if type(value) is int and any(end != round(end) for end in (span.low or 0, span.high or 0)):
        raise TinyMetaFedError(f"{origin}: {path} is a whole number; give whole ones")
    if not span.has(value):
        raise TinyMetaFedError(
            f"{origin}: {path} = {value!r} is outside of what is searched, {span}; the first trial "
            "has it, so give a range with it"
        )
