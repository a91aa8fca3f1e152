"""The learning primitives and the strategies in plain float64: what the firmware is tested against.

Written the obvious way from the papers, not from the firmware: Reptile (arXiv:1803.02999),
Federated Reconstruction (arXiv:2102.03448), TinyReptile (arXiv:2304.05201), TinyMetaFed
(arXiv:2307.06822), FedAvg (arXiv:1602.05629), FedProx (arXiv:1812.06127), FedAdam and FedYogi
(arXiv:2003.00295), Per-FedAvg (arXiv:2002.07948), FedPer (arXiv:1912.00818), FedRep
(arXiv:2102.07078), SCAFFOLD (arXiv:1910.06378), Deep Gradient Compression (arXiv:1712.01887);
backpropagation from Goodfellow et al. 2016, Deep Learning, section 6.5.

Throughout, `theta` is a float64 vector, shape (parameters,): for each layer that has some in order,
its weights row-major from shape (outputs, inputs), then its bias, shape (outputs,). Masks are bool
and shaped like `theta`. No function changes its arguments. A window's weights are filters × (rows,
columns, channels), in a depthwise convolution channels × (rows, columns).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Vector, Mask, Indices = NDArray[np.float64], NDArray[np.bool_], NDArray[np.intp]
Float = TypeVar("Float", np.float32, np.float64)
Target = Vector | int
Sample = tuple[Vector, Target]
Samples = Sequence[Sample]
Task = tuple[Samples, Samples]  # one device's support set and query set
Trained = tuple[Vector, float]  # the new parameters, and the mean loss
Correction = Callable[[Vector], Vector]  # what a step adds to the gradient, by the parameters


@dataclass(frozen=True)
class Window:
    """A window over an image, whose values lie row by row, the channels of a pixel together.

    Attributes:
        shape: of the image: height, width, channels.
        size, stride: height and width.
        padding: above and below, left and right of the image.
    """

    shape: tuple[int, int, int]
    size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))

    @cached_property
    def reach(self) -> Indices:
        """Of the values under it, shape (places, taps, channels); -1 in the padding."""
        image = np.arange(np.prod(self.shape)).reshape(self.shape)
        padded = np.pad(image, (*self.padding, (0, 0)), constant_values=-1)
        every = np.lib.stride_tricks.sliding_window_view(padded, self.size, (0, 1))
        places = np.moveaxis(every[:: self.stride[0], :: self.stride[1]], 2, -1)
        return places.reshape(-1, math.prod(self.size), self.shape[2])


@dataclass(frozen=True)
class Layer:
    """One layer; `kind` is a name in the firmware's protocol. `local` parameters never leave the
    node.

    Attributes:
        source: of `add` and `route`: the number of the layer, from 1 on, whose outputs are added,
            or taken instead; 0 is the sample.
        slope: of `leaky_relu`, below zero.
        count_padding: of `average_pool2d`: the mean is of the padding's zeros too.
    """

    kind: str
    inputs: int
    outputs: int
    local: bool = False
    window: Window | None = None
    source: int = 0
    slope: float = 0.0
    count_padding: bool = False

    @property
    def reach(self) -> Indices:
        """Of its window."""
        assert self.window is not None
        return self.window.reach

    @property
    def weights(self) -> tuple[int, int]:
        """Shape of its weights; each output has a bias as well."""
        match self.kind:
            case "dense":
                return self.outputs, self.inputs
            case "conv2d":
                places, taps, channels = self.reach.shape
                return self.outputs // places, taps * channels
            case "depthwise_conv2d":
                _, taps, channels = self.reach.shape
                return channels, taps
            case _:
                return 0, 0

    @cached_property
    def counted(self) -> NDArray[np.intp]:
        """How many values a window's mean is of, shape (places, channels)."""
        inside = np.ones_like(self.reach) if self.count_padding else self.reach >= 0
        return inside.sum(axis=1)


Layers = Sequence[Layer]


def layer_slices(layers: Layers) -> list[slice]:
    """Each layer's part of the flat parameter vector; empty where it has no parameters."""
    sizes = [outputs * (inputs + 1) for outputs, inputs in (layer.weights for layer in layers)]
    ends = np.cumsum(sizes, dtype=int).tolist()
    return [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]


def local_mask(layers: Layers) -> Mask:
    """True, shape (parameters,), where an entry belongs to a local layer."""
    parts = layer_slices(layers)
    mask = np.zeros(parts[-1].stop, dtype=bool)
    for layer, part in zip(layers, parts, strict=True):
        mask[part] = layer.local
    return mask


def unpack(layer: Layer, part: NDArray[Float]) -> tuple[NDArray[Float], NDArray[Float]]:
    """A layer's weights, shape (outputs, inputs), and bias, shape (outputs,)."""
    outputs, _ = layer.weights
    return part[:-outputs].reshape(layer.weights), part[-outputs:]


def under(layer: Layer, x: NDArray[Float], padding: float = 0.0) -> NDArray[Float]:
    """What of x is under the layer's window, shape (places, taps, channels)."""
    return np.append(x, x.dtype.type(padding))[layer.reach]


def spread(layer: Layer, slopes: Vector) -> Vector:
    """The derivatives of `under`'s values gathered to those of x."""
    whole = np.zeros(layer.inputs + 1)
    np.add.at(whole, layer.reach, slopes.reshape(layer.reach.shape))
    return whole[:-1]


def activations(layers: Layers, theta: Vector, x: Vector) -> list[Vector]:
    """What enters each layer, then the network's output: len(layers) + 1 vectors."""
    values = [np.asarray(x, dtype=np.float64)]
    for layer, part in zip(layers, layer_slices(layers), strict=True):
        match layer.kind:
            case "add":
                values.append(values[-1] + values[layer.source])
            case "route":
                values.append(values[layer.source])
            case _:
                values.append(_leaving(layer, theta[part], values[-1]))
    return values


def _leaving(layer: Layer, part: Vector, x: Vector) -> Vector:
    match layer.kind:
        case "dense":
            weights, bias = unpack(layer, part)
            return weights @ x + bias
        case "conv2d":
            weights, bias = unpack(layer, part)
            return (under(layer, x).reshape(-1, layer.weights[1]) @ weights.T + bias).ravel()
        case "depthwise_conv2d":
            weights, bias = unpack(layer, part)
            return (np.einsum("ptc,ct->pc", under(layer, x), weights) + bias).ravel()
        case "max_pool2d":
            return under(layer, x, -np.inf).max(axis=1).ravel()
        case "average_pool2d":
            return (under(layer, x).sum(axis=1) / layer.counted).ravel()
        case "relu":
            return np.maximum(x, 0.0)
        case "relu6":
            return np.clip(x, 0.0, 6.0)
        case "leaky_relu":
            return np.where(x > 0.0, x, layer.slope * x)
        case "sigmoid":
            return 1.0 / (1.0 + np.exp(-x))
        case "tanh":
            return np.tanh(x)
        case _:
            raise ValueError(f"unknown layer kind: {layer.kind}")


def forward(layers: Layers, theta: Vector, x: Vector) -> Vector:
    """The network's output, shape (outputs,), for one input, shape (inputs,)."""
    return activations(layers, theta, x)[-1]


def loss_and_slope(kind: str, output: Vector, target: Target) -> tuple[float, Vector]:
    """One sample's loss and its derivative by `output`, shape (outputs,).

    'mse' is the mean over outputs of the squared difference; its target is shaped like `output`.
    'softmax_cross_entropy' takes an integer class as target, logits as output, and is in nats.
    'binary_cross_entropy' takes 0 or 1 as target, and the logit of 1 as the only output.
    """
    if kind == "mse":
        assert np.shape(target) == output.shape
        error = output - target
        return float(np.mean(error**2)), 2.0 * error / error.size
    if kind == "softmax_cross_entropy":
        assert isinstance(target, int | np.integer)
        assert 0 <= target < output.size
        shifted = output - np.max(output)  # exp cannot overflow, and softmax does not change
        log_probability = shifted - np.log(np.sum(np.exp(shifted)))
        one_hot = np.arange(output.size) == target
        return float(-log_probability[target]), np.exp(log_probability) - one_hot
    if kind == "binary_cross_entropy":
        assert target in (0, 1)
        [logit] = output.tolist()
        value = np.logaddexp(0.0, -logit if target == 1 else logit)
        return float(value), 1.0 / (1.0 + np.exp(-output)) - target
    raise ValueError(f"unknown loss kind: {kind}")


def loss(kind: str, output: Vector, target: Target) -> float:
    """One sample's loss, as `loss_and_slope` defines it."""
    return loss_and_slope(kind, output, target)[0]


def gradient(
    layers: Layers, theta: Vector, kind: str, x: Vector, target: Target
) -> tuple[float, Vector]:
    """One sample's loss and its gradient, shape (parameters,), by backpropagation.

    The derivatives of relu at 0 and of relu6 at 6 are taken to be 0; of equal values the first is a
    window's largest.
    """
    values = activations(layers, theta, x)
    value, slope = loss_and_slope(kind, values[-1], target)
    grad = np.zeros_like(theta)
    slopes = [np.zeros_like(one) for one in values[:-1]] + [slope]
    for i, part in reversed(list(enumerate(layer_slices(layers)))):
        layer, entering, leaving = layers[i], values[i], values[i + 1]
        if layer.kind in ("add", "route"):
            slopes[layer.source] += slopes[i + 1]
        if layer.kind == "add":
            slopes[i] += slopes[i + 1]
        elif layer.kind != "route":
            by_x, grad[part] = _backward(layer, theta[part], entering, leaving, slopes[i + 1])
            slopes[i] += by_x
    return value, grad


def _backward(
    layer: Layer, part: Vector, entering: Vector, leaving: Vector, slope: Vector
) -> tuple[Vector, Vector]:
    """The derivatives by what enters and by the parameters."""
    none = np.zeros(0)
    match layer.kind:
        case "dense":
            weights, _ = unpack(layer, part)
            return weights.T @ slope, np.append(np.outer(slope, entering), slope)
        case "conv2d":
            weights, bias = unpack(layer, part)
            slopes, patches = slope.reshape(-1, bias.size), under(layer, entering)
            by_weights = slopes.T @ patches.reshape(len(slopes), -1)
            return spread(layer, slopes @ weights), np.append(by_weights, slopes.sum(axis=0))
        case "depthwise_conv2d":
            weights, bias = unpack(layer, part)
            slopes, patches = slope.reshape(-1, bias.size), under(layer, entering)
            by_weights = np.einsum("pc,ptc->ct", slopes, patches)
            by_x = np.einsum("pc,ct->ptc", slopes, weights)
            return spread(layer, by_x), np.append(by_weights, slopes.sum(axis=0))
        case "max_pool2d":
            patches = under(layer, entering, -np.inf)
            first = np.arange(patches.shape[1])[:, None] == patches.argmax(axis=1)[:, None]
            return spread(layer, slope.reshape(first.shape[0], 1, -1) * first), none
        case "average_pool2d":
            places, taps, channels = layer.reach.shape
            shares = slope.reshape(places, 1, channels) / layer.counted[:, None]
            return spread(layer, np.repeat(shares, taps, axis=1)), none
        case "relu":
            return slope * (entering > 0.0), none
        case "relu6":
            return slope * ((entering > 0.0) & (entering < 6.0)), none
        case "leaky_relu":
            return slope * np.where(entering > 0.0, 1.0, layer.slope), none
        case "sigmoid":
            return slope * leaving * (1.0 - leaving), none
        case _:
            return slope * (1.0 - leaving**2), none


def mini_batches(samples: Samples, batch: int) -> list[Samples]:
    """The samples in their order, `batch` at a time; the last may be fewer."""
    return [samples[start : start + batch] for start in range(0, len(samples), batch)]


def mean_gradient(
    layers: Layers, theta: Vector, kind: str, samples: Samples
) -> tuple[list[float], Vector]:
    """Each sample's loss, and the mean of their gradients."""
    each = [gradient(layers, theta, kind, *sample) for sample in samples]
    return [value for value, _ in each], np.mean([grad for _, grad in each], axis=0)


def inner_step(
    layers: Layers, theta: Vector, kind: str, sample: Sample, rate: float, mask: Mask
) -> Trained:
    """One SGD step on one sample: the new parameters, and the loss before the step."""
    return train(layers, theta, kind, [sample], rate, mask)


def train(
    layers: Layers, theta: Vector, kind: str, samples: Samples, rate: float, mask: Mask,
    batch: int = 1, epochs: int = 1, correction: Correction = np.zeros_like,
) -> Trained:  # fmt: skip
    """SGD over mini-batches taken in order: the new parameters, and the mean loss.

    A step follows the mean gradient of its mini-batch plus the `correction` at the parameters
    before the step; an epoch's last may be smaller and is averaged over its own size. Every sample
    of every epoch counts once in the mean loss, taken before the step it enters; what a correction
    would add to a loss does not count. Entries where `mask` is False keep their value. Needs a
    sample.
    """
    losses: list[float] = []
    for _ in range(epochs):
        for chunk in mini_batches(samples, batch):
            values, grad = mean_gradient(layers, theta, kind, chunk)
            losses += values
            theta = np.where(mask, theta - rate * (grad + correction(theta)), theta)
    return theta, float(np.mean(losses))


def train_all(
    layers: Layers, theta: Vector, kind: str, samples: Samples, rate: float, batch: int,
    epochs: int, correction: Correction = np.zeros_like,
) -> Vector:  # fmt: skip
    """`train` where all parameters move: the new ones."""
    everything = np.ones(theta.size, dtype=bool)
    return train(layers, theta, kind, samples, rate, everything, batch, epochs, correction)[0]


def reconstruct(layers: Layers, theta: Vector, kind: str, support: Samples, rate: float) -> Trained:
    """One pass of inner steps that moves only the local part, from its shared initialisation.

    Returns as `train`. Federated Reconstruction, algorithm 1: the reconstruction.
    """
    return train(layers, theta, kind, support, rate, local_mask(layers))


def learn(layers: Layers, theta: Vector, kind: str, query: Samples, rate: float) -> Trained:
    """One pass of inner steps that moves only the global part; returns as `train`.

    Federated Reconstruction, algorithm 1: the client update.
    """
    return train(layers, theta, kind, query, rate, ~local_mask(layers))


def select_top(delta: Vector, keep: int) -> Indices:
    """Ascending indices of the `keep` >= 0 entries of largest |delta|; `delta` must be finite.

    Equal magnitudes: the lower index wins. Zeros are never selected, so there may be fewer than
    `keep`. TinyMetaFed: top-P% selective communication.
    """
    order = np.argsort(-np.abs(delta), kind="stable")[:keep]
    return np.sort(order[delta[order] != 0.0])


def aggregate(theta: Vector, deltas: Sequence[Vector], rate: float) -> Vector:
    """theta + rate * mean(deltas): Reptile, algorithm 2 (batched version), one delta or more.

    Each delta is shaped like `theta`; an entry that was not sent is zero and counts in the mean.
    """
    return theta + rate * np.mean(deltas, axis=0)


def tinymetafed_round(
    layers: Layers, theta: Vector, kind: str, tasks: Sequence[Task], local_rate: float,
    global_rate: float, outer_rate: float, keep_ratio: float,
) -> tuple[Vector, list[Indices]]:  # fmt: skip
    """One TinyMetaFed round: the new parameters, and the indices that each device sent.

    `keep_ratio` is P / 100, of the global entries, rounded to the nearest count (ties to even).
    The local part of `theta`, the shared initialisation, is returned as it came.
    """
    is_global = ~local_mask(layers)
    keep = round(keep_ratio * int(np.sum(is_global)))
    sent: list[Indices] = []
    deltas: list[Vector] = []
    for support, query in tasks:
        reconstructed, _ = reconstruct(layers, theta, kind, support, local_rate)
        learned, _ = learn(layers, reconstructed, kind, query, global_rate)
        delta = np.where(is_global, learned - theta, 0.0)
        sent.append(select_top(delta, keep))
        deltas.append(np.where(np.isin(np.arange(delta.size), sent[-1]), delta, 0.0))
    return aggregate(theta, deltas, outer_rate), sent


def reptile_round(
    layers: Layers, theta: Vector, kind: str, tasks: Sequence[Task], rate: float,
    outer_rate: float, batch: int, epochs: int,
) -> Vector:  # fmt: skip
    """One round of Reptile, algorithm 2, on the support sets: all parameters move, all are sent."""
    ends = [train_all(layers, theta, kind, s, rate, batch, epochs) for s, _ in tasks]
    return aggregate(theta, [end - theta for end in ends], outer_rate)


def tiny_reptile(
    layers: Layers, theta: Vector, kind: str, streams: Sequence[Samples], rate: float,
    outer_rate: float,
) -> Vector:  # fmt: skip
    """All of TinyReptile: one device after the other, each with its stream of samples, which are
    used once; the outer rate falls linearly from round to round, to 0 after the last."""
    for t, samples in enumerate(streams):
        found = theta
        for x, target in samples:
            _, grad = gradient(layers, found, kind, x, target)
            found = found - rate * grad
        theta = theta + outer_rate * (1 - t / len(streams)) * (found - theta)
    return theta


def fedavg_round(
    layers: Layers, theta: Vector, kind: str, tasks: Sequence[Samples], rate: float, batch: int,
    epochs: int,
) -> Vector:  # fmt: skip
    """One round of FedAvg, algorithm 1: Σ nₖ wₖ / Σ nₖ over the devices."""
    ends = [train_all(layers, theta, kind, s, rate, batch, epochs) for s in tasks]
    return mean_by_samples(ends, tasks)


def mean_by_samples(ends: Sequence[Vector], tasks: Sequence[Samples]) -> Vector:
    """The mean of where the devices end, each weighted by the number of its samples."""
    return np.average(ends, axis=0, weights=[len(samples) for samples in tasks])


def fedprox_round(
    layers: Layers, theta: Vector, kind: str, tasks: Sequence[Samples], rate: float, batch: int,
    epochs: int, proximal: float,
) -> Vector:  # fmt: skip
    """One round of FedProx, algorithm 2, with SGD as its inexact minimiser of
    f(w) + proximal / 2 · ‖w − theta‖².

    The paper draws devices in proportion to their samples and takes a plain mean. Here the draw is
    not part of the round, and the mean is weighted as in FedAvg.
    """

    def pull(w: Vector) -> Vector:
        return proximal * (w - theta)

    ends = [train_all(layers, theta, kind, s, rate, batch, epochs, pull) for s in tasks]
    return mean_by_samples(ends, tasks)


def adaptive_step(
    kind: str, theta: Vector, m: Vector, v: Vector, delta: Vector, rate: float, beta1: float,
    beta2: float, tau: float,
) -> tuple[Vector, Vector, Vector]:  # fmt: skip
    """The server's step in a round of FedAdam ('adam') or FedYogi ('yogi'), algorithm 2 of Adaptive
    Federated Optimization: the new theta, m and v.

    `delta` is the mean of the devices' changes of theta. Before the first round m is 0 and v is
    tau² in every entry; unlike Adam itself, this does not correct m and v for where they start.
    """
    square = delta**2
    m = beta1 * m + (1 - beta1) * delta
    match kind:
        case "adam":
            v = beta2 * v + (1 - beta2) * square
        case "yogi":
            v = v - (1 - beta2) * square * np.sign(v - square)
        case _:
            raise ValueError(f"unknown optimiser: {kind}")
    return theta + rate * m / (np.sqrt(v) + tau), m, v


def per_fedavg_round(
    layers: Layers, theta: Vector, kind: str, tasks: Sequence[Task], inner_rate: float,
    rate: float, batch: int,
) -> Vector:  # fmt: skip
    """One round of Per-FedAvg, algorithm 1, with the first-order approximation (FO): an iteration
    for each mini-batch of the query set, with the mini-batch of the support set at the same place.

    `inner_rate` is α, of the step ahead on the support set; `rate` is β. A support set needs at
    least as many mini-batches as the query set.
    """
    ends: list[Vector] = []
    for support, query in tasks:
        w, ahead_on = theta, mini_batches(support, batch)
        for k, chunk in enumerate(mini_batches(query, batch)):
            _, grad = mean_gradient(layers, w, kind, ahead_on[k])
            _, grad = mean_gradient(layers, w - inner_rate * grad, kind, chunk)
            w = w - rate * grad
        ends.append(w)
    return np.mean(ends, axis=0)


def fedper_round(
    layers: Layers, theta: Vector, kind: str, tasks: Sequence[Samples], rate: float, batch: int,
    epochs: int,
) -> Vector:  # fmt: skip
    """One round of FedPer, algorithms 1 and 2: all parameters move, and the global part is averaged
    as in FedAvg.

    The local part of `theta`, the shared initialisation, is returned as it came: devices begin at
    it in each round, where in the paper each goes on with its own.
    """
    averaged = fedavg_round(layers, theta, kind, tasks, rate, batch, epochs)
    return np.where(local_mask(layers), theta, averaged)


def fedrep_round(
    layers: Layers, theta: Vector, kind: str, tasks: Sequence[Samples], rate: float, batch: int,
    head_epochs: int, epochs: int,
) -> Vector:  # fmt: skip
    """One round of FedRep, algorithm 1: first only the local part moves, the head, then only the
    global part, the representation, of which the plain mean is taken.

    The local part of `theta` is returned as it came, as by `fedper_round`.
    """
    is_local = local_mask(layers)
    ends: list[Vector] = []
    for samples in tasks:
        headed, _ = train(layers, theta, kind, samples, rate, is_local, batch, head_epochs)
        end, _ = train(layers, headed, kind, samples, rate, ~is_local, batch, epochs)
        ends.append(end)
    return np.where(is_local, theta, np.mean(ends, axis=0))


def scaffold_device(
    layers: Layers, theta: Vector, kind: str, samples: Samples, control: Vector, own: Vector,
    rate: float, batch: int, epochs: int,
) -> tuple[Vector, Vector]:  # fmt: skip
    """A device's part in SCAFFOLD, algorithm 1 with option II: where its parameters end, and its
    new control variate.

    `control` is the server's control variate, c, and `own` is the device's, c_i.
    """

    def corrected(_: Vector) -> Vector:
        return control - own

    end = train_all(layers, theta, kind, samples, rate, batch, epochs, corrected)
    steps = epochs * math.ceil(len(samples) / batch)
    return end, own - control + (theta - end) / (steps * rate)


def scaffold_round(
    layers: Layers, theta: Vector, kind: str, tasks: Mapping[int, Samples], control: Vector,
    controls: Mapping[int, Vector], rate: float, outer_rate: float, batch: int, epochs: int,
) -> tuple[Vector, Vector, dict[int, Vector]]:  # fmt: skip
    """One round of SCAFFOLD, algorithm 1 with option II: the new parameters, the server's new
    control variate, and the control variates of all devices.

    `tasks` has the samples of the devices in the round, `controls` the control variates of all
    devices, both by a device's number. Before the first round all control variates are 0.
    """
    deltas: list[Vector] = []
    renewed = dict(controls)
    for i, samples in tasks.items():
        end, renewed[i] = scaffold_device(
            layers, theta, kind, samples, control, controls[i], rate, batch, epochs
        )
        deltas.append(end - theta)
    changes = [renewed[i] - controls[i] for i in tasks]
    share = len(tasks) / len(controls)
    return aggregate(theta, deltas, outer_rate), aggregate(control, changes, share), renewed


def with_feedback(delta: Vector, left: Vector, keep: int) -> tuple[Vector, Vector]:
    """What of an update is sent, and what is left of it for the next: Deep Gradient Compression,
    algorithm 1, on the changes of weights in place of gradients."""
    whole = delta + left
    sent = np.zeros_like(whole)
    chosen = select_top(whole, keep)
    sent[chosen] = whole[chosen]
    return sent, whole - sent
