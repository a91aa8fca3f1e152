"""What a strategy and a task return, looked at before anything is made of it."""

import math
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import Diverged, TinyMetaFedError, printable
from ..link.chunk import VALUES
from ..nodes import program as primitives
from ..nodes.program import Primitive, Program
from ..plugins import short
from ..strategies import ServerState
from ..tasks.samples import Samples, SamplesError

SOURCES = get_args(primitives.Source)


def program(found: object, where: str, parameters: int) -> Program:
    """The program, where it is one. where: whose it is, for a message. parameters: of the model.
    Raises TinyMetaFedError."""
    if not isinstance(found, tuple | list):
        raise TinyMetaFedError(f"{where} is {_kind(found)}, no tuple of primitives")
    for i, one in enumerate(found):
        if not isinstance(one, Primitive):
            raise TinyMetaFedError(f"{where}: {i} is {_kind(one)}, no primitive such as Train()")
        if wrong := _wrong(one, parameters):
            raise TinyMetaFedError(f"{where}: {i}, {type(one).__name__}: {wrong}")
    return tuple(found)


def _wrong(one: Primitive, parameters: int) -> str | None:
    """What is wrong with a primitive, by the first of its fields that is."""
    match one:
        case primitives.Store(samples) | primitives.Evaluate(samples):
            return _one_of("samples", samples, SOURCES)
        case primitives.Train():
            whole = {"batch": one.batch, "epochs": one.epochs}
            whole |= {} if one.steps is None else {"steps": one.steps}
            part = () if one.part is None else one.part
            return (
                _one_of("samples", one.samples, (*SOURCES, "stored"))
                or _finite("rate", one.rate)
                or _finite("proximal", one.proximal)
                or next((text for key, n in whole.items() if (text := _whole(key, n, 1))), None)
                or _whole("frozen", one.frozen, 0)
                or next((text for n in part if (text := _whole("part", n, 0))), None)
                or (None if len(part) in (0, 2) else "part: is not (first, end)")
            )
        case primitives.Variate(values):
            return _array("values", values, (parameters,))
        case primitives.Renew(rate):
            return _finite("rate", rate)
        case primitives.Select(keep, values):
            return _whole("keep", keep, 1) or _one_of("values", values, tuple(VALUES))
        case _:
            return None


def state(found: object, where: str, parameters: int) -> ServerState:
    """The state, where it is one of so many parameters. Raises TinyMetaFedError, which is Diverged
    where the weights are not finite."""
    if not isinstance(found, ServerState):
        raise TinyMetaFedError(f"{where} returned {_kind(found)}, no ServerState")
    if wrong := _array("theta", found.theta, (parameters,)):
        kind = Diverged if "is not finite" in wrong else TinyMetaFedError
        raise kind(f"{where}: {wrong}")
    for name, one in found.kept.items():
        if type(name) is not str or not _numbers(one):
            raise TinyMetaFedError(f"{where}: kept[{name!r:.40}] is {_kind(one)}, no numbers")
    return found


def samples(found: object, devices: Sequence[int], wanted: Sequence[tuple[int, int]]) -> None:
    """Raises SamplesError where these are not the support and query samples of the devices. wanted:
    how many of each."""
    if not isinstance(found, Sequence) or len(found) != len(wanted):
        text = f"{len(found)} devices" if isinstance(found, Sequence) else _kind(found)
        raise SamplesError(f"samples of {text}, where {len(wanted)} were asked for")
    for device, pair, counts in zip(devices, found, wanted, strict=True):
        if not (isinstance(pair, tuple) and [type(one) for one in pair] == [Samples, Samples]):
            raise SamplesError(f"{_kind(pair)} is no pair of support and query Samples").of(device)
        if (there := (len(pair[0]), len(pair[1]))) != counts:
            raise SamplesError(
                f"{there[0]} support and {there[1]} query samples, where {counts[0]} and "
                f"{counts[1]} were asked for"
            ).of(device)


def class_names(found: object, count: int) -> list[str]:
    """The names, where they are those of so many classes. Raises SamplesError."""
    if not isinstance(found, list | tuple) or not all(isinstance(name, str) for name in found):
        raise SamplesError(f"class_names() returned {_kind(found)}, no list of texts")
    names = [str(name) for name in found]
    if len(names) != count:
        raise SamplesError(f"class_names() returned {len(names)} names of {count} classes")
    for i, name in enumerate(names):
        if name in names[:i]:
            raise SamplesError(f"class_names() returned {printable(repr(name))} twice")
        try:
            name.encode()
        except UnicodeEncodeError:
            raise SamplesError(f"class_names() returned {name!a}, which is no text") from None
    return names


def _numbers(one: object) -> bool:
    """Whether it is an array of numbers, or numpy's scalar, which is one without axes."""
    return isinstance(one, np.ndarray | np.generic) and one.dtype.kind in "biufc"


def of(strategy: Any, method: str) -> str:
    """Whose it is, for a message."""
    return f"{short(strategy.name)}: {method}()"


def _kind(one: object) -> str:
    if isinstance(one, np.ndarray):
        return f"an array {one.dtype} {list(one.shape)}"
    return f"{type(one).__name__} {printable(repr(one)[:60])}" if one is not None else "None"


def _array(name: str, found: object, shape: tuple[int, ...]) -> str | None:
    if not isinstance(found, np.ndarray):
        return f"{name} is {_kind(found)}, no array"
    array: NDArray[Any] = found
    if (array.dtype, array.shape) != (np.float32, shape):
        return f"{name} is {array.dtype} {list(array.shape)}, not float32 {list(shape)}"
    if not np.isfinite(array).all():
        first = int(np.argmin(np.isfinite(array)))
        return f"{name} is not finite: entry {first} is {array[first]}"
    return None


def _finite(name: str, found: object) -> str | None:
    is_number = isinstance(found, int | float | np.floating) and not isinstance(found, bool)
    if is_number and math.isfinite(found):  # pyright: ignore[reportArgumentType]
        return None
    return f"{name}: {_kind(found)} is no finite number"


def _whole(name: str, found: object, least: int) -> str | None:
    if isinstance(found, int) and not isinstance(found, bool) and found >= least:
        return None
    return f"{name}: {_kind(found)} is no whole number of at least {least}"


def _one_of(name: str, found: object, known: Sequence[str]) -> str | None:
    return None if found in known else f"{name}: {_kind(found)} is not in {', '.join(known)}"
