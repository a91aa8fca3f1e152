"""Gradient inversion: the samples by which a node's update is explained best.

Deep Leakage from Gradients (Zhu, Liu, Han 2019, arXiv:1906.08935) looks for samples whose update is
the one that was sent; Inverting Gradients (Geiping, Bauermeister, Dröge, Moeller 2020,
arXiv:2003.14053) for those whose update has its direction, by the cosine, with total variation as
the prior of an image and Adam on the signs of the gradient. This is the latter, over all inner
steps of the program, and with soft labels that are looked for as well, as in the former.

Of a dense first layer, a step on one sample tells the sample itself: ΔW and Δb of a unit are in the
ratio of the inputs to 1 (Phong, Aono, Hayashi, Wang, Moriai 2018, doi:10.1109/TIFS.2017.2787987,
section III).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..models.layers import OPERATIONS, Shape
from ..models.model import Model
from ..nodes.program import Program, Train
from .differentiable import Array, Differentiable, Learnt, grad, np_

LENGTH = 0.1
"""Weight of the squared logarithm of the ratio of the updates' lengths, where targets are values:
the direction does not tell how far from its target an output is."""
TINY = 1e-60
STEP = 0.05
"""At first, in parts of the range; it falls to 0 by half a cosine."""
KEPT = 0.9
"""Of the mean of the gradient's signs, with each step, Adam's β1; their mean square is 1."""


@dataclass(frozen=True)
class Observed:
    """What the server sees of nodes' updates.

    values: Δ [nodes, parameters], 0 where nothing was sent. sent: bool, the same shape.
    """

    values: Array
    sent: NDArray[np.bool_]


@dataclass(frozen=True)
class Prior:
    """What is known of samples without any update.

    mean, deviation: [inputs]. low, high: of any value. shape: of a sample. target: mean and
    standard deviation, where it is no class.
    """

    mean: Array
    deviation: Array
    low: float
    high: float
    shape: Shape
    target: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class Attack:
    """How hard it is tried. variation: weight of the total variation, for samples that are images.
    restarts: from other first guesses, of which the one counts that explains the update best."""

    iterations: int = 400
    restarts: int = 4
    variation: float = 0.05
    seed: int = 1


class Inversion:
    """An attack on the updates of nodes that had the same weights and program."""

    def __init__(
        self, model: Model, program: Program, theta: NDArray[np.float32], observed: Observed
    ) -> None:
        """theta: that the nodes were sent. Raises TinyMetaFedError, see differentiable.learn."""
        self._model = model
        self._node = Differentiable(model)
        self._program = program
        self._uses_support = any(getattr(one, "samples", "") == "support" for one in program)
        self._theta, self._observed = theta, observed
        nodes = len(observed.values)
        self._start = np.repeat(theta[None].astype(np.float64), nodes, axis=0)
        self._values = observed.values
        # What was not sent is smaller than what was, so it counts as 0; of the local part nothing
        # is known.
        self._mask = np.broadcast_to(model.global_mask, observed.values.shape)

    def learnt(self, samples: list[Array]) -> tuple[Learnt | None, Learnt]:
        """Support and query samples of inputs and targets, as they are looked for: the query's,
        then the support's."""
        pairs = [
            Learnt(inputs, _probabilities(self._model, targets))
            for inputs, targets in zip(samples[::2], samples[1::2], strict=True)
        ]
        return (pairs[1] if len(pairs) > 1 else None), pairs[0]

    def distances(self, samples: list[Array]) -> Array:
        """How far the update of the samples is from each node's, by the cosine: [nodes]."""
        weights = self._node.weights(self._start)
        after = self._node.learn(self._program, weights, *self.learnt(samples))
        delta = (self._node.vector(after) - self._start) * self._mask
        inner = np_.sum(delta * self._values, axis=1)
        squares = np_.sum(delta**2, axis=1) * np.sum(self._values**2, axis=1)
        found = 1 - inner / np_.sqrt(squares + TINY)
        if not self._model.target_is_class:
            ratio = (np_.sum(delta**2, axis=1) + TINY) / (np.sum(self._values**2, axis=1) + TINY)
            found = found + LENGTH * (np_.log(ratio) / 2) ** 2
        return found

    def guess(self, count: int, prior: Prior, attack: Attack) -> Learnt:
        """The query samples of each node, `count` of each, in no order."""
        every = self._repeated(attack.restarts)
        rng = np.random.default_rng(attack.seed)
        samples = every._descend(every._first(rng, count, prior), prior, attack)
        reached = every._objectives(samples, prior, attack).reshape(attack.restarts, -1)
        best = np.argmin(reached, axis=0) * reached.shape[1] + np.arange(reached.shape[1])
        return self.learnt([one[best] for one in samples])[1]

    def _repeated(self, times: int) -> "Inversion":
        """The same attack on all nodes so many times."""
        values = np.tile(self._observed.values, (times, 1))
        sent = np.tile(self._observed.sent, (times, 1))
        return Inversion(self._model, self._program, self._theta, Observed(values, sent))

    def _first(self, rng: np.random.Generator, count: int, prior: Prior) -> list[Array]:
        samples: list[Array] = []
        for _ in range(1 + self._uses_support):
            shape = len(self._values), count
            noise = prior.deviation * rng.normal(size=(*shape, len(prior.mean)))
            samples.append(np.clip(prior.mean + noise, prior.low, prior.high))
            targets = rng.normal(size=(*shape, self._model.outputs))
            if not self._model.target_is_class:
                targets = prior.target[0] + targets * prior.target[1]
            samples.append(targets)
        return samples

    def _objectives(self, samples: list[Array], prior: Prior, attack: Attack) -> Array:
        """[nodes]"""
        each = self.distances(samples)
        if min(prior.shape[:2]) > 1 and attack.variation:
            for inputs in samples[::2]:
                image = inputs.reshape(*inputs.shape[:2], *prior.shape)
                size = (prior.high - prior.low) * inputs.shape[1] * inputs.shape[2]
                down = np_.sum(np_.abs(image[:, :, 1:] - image[:, :, :-1]), axis=(1, 2, 3, 4))
                right = image[:, :, :, 1:] - image[:, :, :, :-1]
                across = np_.sum(np_.abs(right), axis=(1, 2, 3, 4))
                each = each + attack.variation * (down + across) / size
        return each

    def _descend(self, samples: list[Array], prior: Prior, attack: Attack) -> list[Array]:
        span = prior.high - prior.low
        scales = [span, 1.0 if self._model.target_is_class else prior.target[1]]
        slope = grad(lambda at: np_.sum(self._objectives(at, prior, attack)))
        samples, ways = list(samples), [np.zeros_like(one) for one in samples]
        for i in range(attack.iterations):
            slopes = slope(samples)
            step = STEP * (1 + np.cos(np.pi * i / attack.iterations)) / 2
            step /= 1 - KEPT ** (i + 1)  # the mean began at zero
            for k, gradient in enumerate(slopes):
                ways[k] = KEPT * ways[k] + (1 - KEPT) * np.sign(gradient)
                samples[k] = samples[k] - step * scales[k % 2] * ways[k]
                if k % 2 == 0:
                    samples[k] = np.clip(samples[k], prior.low, prior.high)
        return samples


def _probabilities(model: Model, targets: Array) -> Array:
    """Of what is looked for in the place of targets: values themselves, of classes logarithms."""
    if not model.target_is_class:
        return targets
    if model.outputs == 1:
        return 0.5 * (np_.tanh(0.5 * targets) + 1.0)
    exponentials = np_.exp(targets - np_.max(targets, axis=2, keepdims=True))
    return exponentials / np_.sum(exponentials, axis=2, keepdims=True)


def solved(model: Model, program: Program, observed: Observed) -> Array | None:
    """The inputs of each node's only sample, by one step of a dense first layer: [nodes, inputs],
    not a number where no unit tells a value. None where the program or layer is another.

    Of an input j, the units count whose ΔW of j and Δb were both sent, by the squares of Δb.
    """
    part = model.parts[0]
    trains = [one for one in program if isinstance(one, Train)]
    moves = [one for one in trains if not one.frozen >> part.layer & 1]
    first = part.layer == 0 and model.layers[0].operation == OPERATIONS["dense"]
    once = len(moves) == 1 and moves[0].epochs == 1 and moves[0].steps in (None, 1)
    if not (first and once) or part.local:
        return None
    outputs, inputs = part.weights
    nodes, end = len(observed.values), part.first + outputs * inputs
    w = observed.values[:, part.first : end].reshape(nodes, outputs, inputs)
    b = observed.values[:, end : part.end, None]
    w_sent = observed.sent[:, part.first : end].reshape(nodes, outputs, inputs)
    both = w_sent & observed.sent[:, end : part.end, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sum(both * b * w, axis=1) / np.sum(both * b**2, axis=1)
