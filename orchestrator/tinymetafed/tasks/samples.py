"""Samples: what a device's sensor delivers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import TinyMetaFedError
from ..models.model import Model

VALUES, CLASSES = np.dtype(np.float32), np.dtype(np.uint32)


class SamplesError(TinyMetaFedError):
    """Samples that no node can learn from."""

    def of(self, device: int) -> "SamplesError":
        """Says whose they are."""
        return SamplesError(f"device {device}: {self}")


@dataclass(frozen=True)
class Samples:
    """Inputs with their targets.

    inputs: float32 [n, values per sample]. targets: float32 [n, outputs] for a loss on values,
    uint32 [n] for one on classes: an array with one axis is always the numbers of classes.

    Other arrays are converted. Values of another float type or byte order become the nearest
    float32, integers and booleans the same number in float32. Axes behind the first are one, as
    those of images [n, height, width, channels]. Numbers of classes may be of any integer type, or
    floats without a fraction. Raises SamplesError, with dtype and shape, where an array is none of
    these or a number has no counterpart.
    """

    inputs: NDArray[np.float32]
    targets: NDArray[np.float32] | NDArray[np.uint32]

    def __post_init__(self) -> None:
        inputs, targets = self.inputs, self.targets
        if not (type(inputs) is np.ndarray and inputs.dtype == VALUES and inputs.ndim == 2):
            inputs = as_values(inputs, "inputs")
            object.__setattr__(self, "inputs", inputs)
        kind = VALUES if np.ndim(targets) == 2 else CLASSES
        if not (type(targets) is np.ndarray and targets.dtype == kind and targets.ndim <= 2):
            targets = _as_targets(targets)
            object.__setattr__(self, "targets", targets)
        if len(inputs) != len(targets):
            raise SamplesError(f"there are {len(inputs)} inputs and {len(targets)} targets")

    @classmethod
    def of(
        cls, inputs: NDArray[np.float32], targets: NDArray[np.float32], packed: bytes
    ) -> "Samples":
        """Samples that were packed already."""
        samples = cls.__new__(cls)  # a round makes many, and a frozen dataclass takes its time
        vars(samples).update(inputs=inputs, targets=targets, packed=packed)
        return samples

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, part: slice) -> "Samples":
        return Samples(self.inputs[part], self.targets[part])

    @property
    def size(self) -> int:
        """Bytes of one packed sample."""
        targets = self.targets.shape[1] if self.targets.ndim == 2 else 1
        return 4 * (self.inputs.shape[1] + targets)

    @cached_property
    def packed(self) -> bytes:
        """The samples one behind the other as the node takes them: inputs, then target."""
        if not len(self):
            return b""
        parts = self.inputs, self.targets.reshape(len(self), -1)
        words = [part.view("u4").astype("<u4", copy=False) for part in parts]
        return np.concatenate(words, axis=1).tobytes()


# ---- arrays of other types ----------------------------------------------------------------------


def as_values(array: ArrayLike, name: str) -> NDArray[np.float32]:
    """float32 [n, values] of an array [n, …], see Samples. Raises SamplesError."""
    found = _as_array(array, name)
    if found.ndim < 2:
        raise _wrong(found, name, "a row for each sample is needed, [n, values]")
    with np.errstate(over="ignore"):
        values = found.astype(VALUES)
    if found.dtype.kind in "iu":
        lost = values.astype(np.longdouble) != found.astype(np.longdouble)
    else:
        lost = np.isinf(values) & np.isfinite(found)
    if lost.any():
        raise _wrong(found, name, f"float32 has no {found[lost][0]}; scale them")
    return values.reshape(len(values), math.prod(found.shape[1:]))


def _as_targets(array: ArrayLike) -> NDArray[np.float32] | NDArray[np.uint32]:
    found = _as_array(array, "targets")
    if found.ndim != 1:
        return as_values(found, "targets")
    with np.errstate(invalid="ignore", over="ignore"):
        wrong = (found < 0) | (found >= 2**32) | (found != np.trunc(found))
    if wrong.any():
        what = f"{found[wrong][0]} is no number of a class; values are [n, outputs]"
        raise _wrong(found, "targets", what)
    return found.astype(CLASSES)


def _as_array(array: ArrayLike, name: str) -> NDArray[Any]:
    found = np.asarray(array)
    if found.dtype.kind not in "biuf":
        raise _wrong(found, name, "numbers are needed")
    if np.ma.is_masked(array):
        raise _wrong(found, name, "some are masked")
    return found


def _wrong(array: NDArray[Any], name: str, what: str) -> SamplesError:
    return SamplesError(f"{name} are {array.dtype} {list(array.shape)}: {what}")


# ---- for a model --------------------------------------------------------------------------------


def as_inputs(array: ArrayLike, model: Model) -> NDArray[np.float32]:
    """float32 [n, inputs] for a node with this model, see Samples. Raises SamplesError."""
    values = as_values(array, "inputs")
    if model.target_is_class:
        check([Samples(values, np.zeros(len(values), CLASSES))], model)
    else:
        check([Samples(values, np.zeros((len(values), model.outputs), VALUES))], model)
    return values


def check(every: Sequence[Samples], model: Model) -> None:
    """That a node with this model can learn from all of them: sizes are the model's, numbers are
    finite, classes are outputs.

    What was found good once is not looked at again. Raises SamplesError, an attribute `samples` of
    which has the set that is wrong.
    """
    fits = model.inputs, model.outputs, model.loss
    fresh = [one for one in every if vars(one).get("_fits") != fits]
    if not fresh:
        return
    is_class = model.target_is_class
    behind, width = ((), 1) if is_class else ((model.outputs,), model.outputs)
    for one in fresh:
        if one.inputs.shape[1] != model.inputs or one.targets.shape[1:] != behind:
            raise BadSamples(one, _sizes(one, model))
    packed = b"".join([one.packed for one in fresh])
    words = np.frombuffer(packed, "<u4").reshape(-1, model.inputs + width)
    good = np.isfinite(words.view("<f4"))
    if is_class:
        good[:, -1] &= words[:, -1] < model.classes
    if not good.all():
        row, column = np.argwhere(~good)[0].tolist()
        for one in fresh:
            if row < len(one):
                raise BadSamples(one, _number(one, row, column, model))
            row -= len(one)
    for one in fresh:
        vars(one)["_fits"] = fits


class BadSamples(SamplesError):
    """Of several sets of samples, the one that is wrong, and how."""

    def __init__(self, samples: Samples, what: str) -> None:
        super().__init__(what)
        self.samples = samples


def _sizes(samples: Samples, model: Model) -> str:
    inputs, targets = samples.inputs, samples.targets
    wanted = "uint32 [n]" if model.target_is_class else f"float32 [n, {model.outputs}]"
    return (
        f"inputs are {inputs.dtype} {list(inputs.shape)} and targets {targets.dtype} "
        f"{list(targets.shape)}; the model takes float32 [n, {model.inputs}] and {wanted}"
    )


def _number(samples: Samples, row: int, column: int, model: Model) -> str:
    """Rows and columns are counted from 0."""
    if column >= model.inputs and model.target_is_class:
        last = model.classes - 1
        return f"row {row}: {samples.targets[row]} is no class; they are numbered 0 to {last}"
    kind = "column"
    array = samples.inputs
    if column >= model.inputs:
        kind, array, column = "target", samples.targets, column - model.inputs
    return f"row {row}, {kind} {column} (from 0): {array[row, column]} is not finite"
