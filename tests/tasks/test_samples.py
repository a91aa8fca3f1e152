"""Samples of any type that has the same numbers are what a node takes; all else is refused, by
whoever would send it."""

import asyncio
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as arrays

from conftest import MakeExperiment
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.federation.client import Client, FitInstructions
from tinymetafed.federation.engines import HostEngine, LinkEngine, RoundOrder
from tinymetafed.federation.federation import Federation
from tinymetafed.models.model import Model, ModelSettings
from tinymetafed.nodes.host import open_host
from tinymetafed.nodes.node import Node
from tinymetafed.strategies import Round
from tinymetafed.tasks import Sine, Task
from tinymetafed.tasks.base import Part
from tinymetafed.tasks.samples import Samples, SamplesError, check


def model(inputs: int, outputs: int, loss: str = "mse") -> Model:
    settings = ModelSettings.model_validate({"layers": [{"units": outputs}], "loss": loss})
    return Model.build(settings, inputs)


LINE, CLASSIFIER = model(12, 2), model(12, 3, "softmax_cross_entropy")


def made(inputs: Any, targets: Any) -> Samples:
    """Of anything."""
    return Samples(inputs, targets)


SMALL = np.arange(-12, 12).reshape(2, 12)
TYPES = ["<f4", ">f4", "<f8", ">f8", "<f2", "<i8", ">i4", "i2", "i1", "<i4", np.longdouble]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    "laid", [lambda a: a, np.asfortranarray, lambda a: np.repeat(a, 2, axis=1)[:, ::2]]
)
def test_numbers_are_the_same_whatever_their_type_and_order(dtype: Any, laid: Callable[[Any], Any]):
    targets = SMALL[:, :2]
    found = made(laid(SMALL.astype(dtype)), laid(targets.astype(dtype)))
    assert (found.inputs.dtype, found.targets.dtype) == (np.float32, np.float32)
    assert found.packed == np.hstack([SMALL, targets]).astype("<f4").tobytes()
    check([found], LINE)


@pytest.mark.parametrize("dtype", [*TYPES, "u1", "<u4", ">u8", bool])
def test_classes_are_the_same_whatever_their_type(dtype: Any):
    found = made(SMALL, np.array([1, 0]).astype(dtype))
    assert found.targets.dtype == np.uint32
    assert found.packed[48::52][:1] == b"\1"
    assert found.targets.tolist() == [1, 0]
    check([found], CLASSIFIER)


@given(arrays.arrays(np.float64, (3, 2), elements=st.floats(width=64, allow_nan=False)))
def test_a_double_is_rounded_and_never_becomes_infinite(values: np.ndarray):
    largest = float(np.finfo(np.float32).max)
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float32)
    if (np.isinf(rounded) & np.isfinite(values)).any():
        assert np.abs(values[np.isfinite(values)]).max() > largest
        with pytest.raises(SamplesError, match=r"inputs are float64 \[3, 2\]: float32 has no"):
            made(values, values)
    else:
        assert made(values, values).inputs.tobytes() == rounded.tobytes()


@given(arrays.arrays(np.int64, (2, 2)))
def test_an_integer_is_exact_or_refused(values: np.ndarray):
    exact = all(int(np.float32(one)) == one for one in values.ravel().tolist())
    if exact:
        assert made(values, values).inputs.tolist() == values.tolist()
    else:
        with pytest.raises(SamplesError, match=r"inputs are int64 \[2, 2\]: float32 has no "):
            made(values, values)


def test_images_are_rows_of_their_values_as_they_lie():
    images = np.arange(2 * 3 * 2 * 2, dtype=np.uint8).reshape(2, 3, 2, 2)
    turned = images.transpose(0, 3, 1, 2).copy().transpose(0, 2, 3, 1)  # [n, h, w, c], not in order
    assert made(turned, [0, 1]).inputs.tolist() == images.reshape(2, 12).tolist()
    assert made(images[:0], np.zeros(0, int)).inputs.shape == (0, 12)


@pytest.mark.parametrize(
    ("inputs", "targets", "says"),
    [
        (SMALL.astype(complex), [0, 1], "inputs are complex128 [2, 12]: numbers are needed"),
        (SMALL.astype(str), [0, 1], "inputs are <U21 [2, 12]: numbers are needed"),
        (SMALL.astype(object), [0, 1], "inputs are object [2, 12]: numbers are needed"),
        (SMALL.astype("m8[s]"), [0, 1], "inputs are timedelta64[s] [2, 12]: numbers are needed"),
        (SMALL[0], [0, 1], "inputs are int64 [12]: a row for each sample is needed, [n, values]"),
        (SMALL, np.array(["a", "b"]), "targets are <U1 [2]: numbers are needed"),
        (SMALL, 1, "targets are int64 []: a row for each sample is needed, [n, values]"),
        (SMALL, [0, -1], "targets are int64 [2]: -1 is no number of a class"),
        (SMALL, [0.5, 1], "targets are float64 [2]: 0.5 is no number of a class"),
        (SMALL, [np.nan, 1], "targets are float64 [2]: nan is no number of a class"),
        (SMALL, [0, 2**32], "targets are int64 [2]: 4294967296 is no number of a class"),
        (SMALL, [0], "there are 2 inputs and 1 targets"),
        (np.ma.masked_equal(SMALL, 3), [0, 1], "inputs are int64 [2, 12]: some are masked"),
    ],
)  # fmt: skip
def test_what_is_no_sample_is_refused(inputs: Any, targets: Any, says: str):
    with pytest.raises(SamplesError) as caught:
        made(inputs, targets)
    assert str(caught.value).startswith(says)


# ---- for a model --------------------------------------------------------------------------------

FEW = np.ones((3, 12), np.float32)


def spoilt(shape: tuple[int, ...], value: float) -> np.ndarray:
    """Ones, but the second row's last value."""
    array = np.ones(shape, np.float32)
    array[1, -1] = value
    return array


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("samples", "to", "where"),
    [
        (lambda v: made(spoilt((3, 12), v), np.ones((3, 2))), LINE, "row 1, column 11"),
        (lambda v: made(FEW, spoilt((3, 2), v)), LINE, "row 1, target 1"),
        (lambda v: made(spoilt((3, 12), v), [0, 1, 2]), CLASSIFIER, "row 1, column 11"),
        (lambda v: made(spoilt((3, 12), v), [0, 1, 2])[1:], CLASSIFIER, "row 0, column 11"),
    ],
)
def test_what_is_not_finite_is_found(samples: Any, to: Model, where: str, value: float):
    good = made(FEW, np.ones((3, 2)) if to is LINE else [0, 1, 2])
    with pytest.raises(SamplesError) as caught:
        check([good, good[:0], samples(value), good], to)
    assert str(caught.value) == f"{where} (from 0): {value} is not finite"


@pytest.mark.parametrize("number", [3, 4, 0x7FC00000, 2**32 - 1])
def test_a_class_that_is_no_output_is_found(number: int):
    with pytest.raises(SamplesError) as caught:
        check([made(FEW, [0, 1, number])], CLASSIFIER)
    assert str(caught.value) == f"row 2: {number} is no class; they are numbered 0 to 2"


@pytest.mark.parametrize(
    ("inputs", "targets", "to"),
    [
        (FEW[:, :11], np.ones((3, 2)), LINE), (FEW, np.ones((3, 3)), LINE), (FEW, [0, 1, 2], LINE),
        (FEW, np.ones((3, 1)), CLASSIFIER), (FEW.reshape(3, 3, 4)[:, 1:], [0, 1, 2], CLASSIFIER),
    ],
)  # fmt: skip
def test_sizes_are_the_model_s(inputs: Any, targets: Any, to: Model):
    with pytest.raises(SamplesError, match=r"the model takes float32 \[n, 12\] and (f|u)"):
        check([made(inputs, targets)], to)


def test_what_was_good_for_one_model_may_not_be_for_another():
    found = made(FEW, [0, 1, 2])
    check([found], CLASSIFIER)
    with pytest.raises(SamplesError, match="2 is no class"):
        check([found], model(12, 2, "softmax_cross_entropy"))


def test_one_output_tells_two_classes_apart():
    binary = model(12, 1, "binary_cross_entropy")
    check([made(FEW[:2], [0, 1])], binary)
    with pytest.raises(SamplesError, match="2 is no class; they are numbered 0 to 1"):
        check([made(FEW, [0, 1, 2])], binary)


# ---- whoever would send it ----------------------------------------------------------------------


def test_a_node_is_sent_nothing_of_it():
    async def session() -> None:
        node = Node("node", open_host)
        await node.start()
        await node.load(LINE, LINE.description(accumulate=False, capacity=0))
        sent = node.take_usage().bytes_down
        assert sent > 0
        with pytest.raises(SamplesError, match="row 1, column 11"):
            await node.evaluate(made(spoilt((3, 12), np.nan), np.ones((3, 2))))
        with pytest.raises(SamplesError, match="row 1, column 11"):
            await node.predict(spoilt((3, 12), np.inf))
        with pytest.raises(SamplesError, match="inputs are"):
            await node.predict(FEW[:, :5])
        assert node.take_usage().bytes_down == 0
        await node.close()

    asyncio.run(session())


def spoil(monkeypatch: pytest.MonkeyPatch, change: Callable[[Samples], Samples]) -> None:
    """Has the query samples of the sine's device 3, and of unseen device 12, changed."""
    device = Sine.device

    def other(self: Sine, seed: int, number: int, *counts: int, part: Part = "seen") -> Any:
        support, query = device(self, seed, number, *counts, part=part)
        return support, change(query) if number in (3, 12) else query

    monkeypatch.setattr(Sine, "device", other)
    monkeypatch.setattr(Sine, "population", Task.population)


CHANGES: list[tuple[Callable[[Samples], Samples], str]] = [
    (lambda one: made(np.where(one.inputs > 0, np.nan, one.inputs), one.targets),
     r"query row \d, column 0 \(from 0\): nan is not finite"),
    (lambda one: made(one.inputs, one.targets * np.inf),
     r"query row 0, target 0 \(from 0\): -?inf is not finite"),
    (lambda one: made(one.inputs, one.targets[:, 0] > 0),
     r"query inputs are float32 \[6, 1\] and targets uint32 \[6\]; the model takes float32 "
     r"\[n, 1\] and float32 \[n, 1\]"),
    (lambda one: made(one.inputs.astype(complex), one.targets),
     r"inputs are complex128 \[6, 1\]: numbers are needed"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "says"), CHANGES)
def test_a_task_is_told_whose_they_are(
    experiment: MakeExperiment, monkeypatch: pytest.MonkeyPatch, change: Any, says: str
):
    spoil(monkeypatch, change)
    settings = experiment("devices.seen=10", "evaluation.query=6")
    client = Client(settings)
    client.population([0, 1, 2, 4])
    with pytest.raises(TinyMetaFedError, match=f"^task sine, device 3: {says}"):
        client.population([1, 3, 4])
    client.never_seen(11)
    with pytest.raises(TinyMetaFedError, match=f"^task sine, device 12: {says}"):
        client.never_seen(12)


@pytest.mark.parametrize("kind", ["host", "links"])
def test_no_engine_sends_them(
    experiment: MakeExperiment, monkeypatch: pytest.MonkeyPatch, kind: str
):
    spoil(monkeypatch, CHANGES[0][0])
    settings = experiment("devices.seen=10", "nodes.count=2")
    client = Client(settings)
    nodes = [Node(f"node-{i}", open_host) for i in range(2)]
    engine = HostEngine(client, 1) if kind == "host" else LinkEngine(client, nodes)

    async def session() -> None:
        federation = Federation(settings, engine)
        state = await federation.start()
        program = settings.strategy.program(state.server, client.model, Round(0, 1))
        orders = [FitInstructions(3), FitInstructions(1)]
        with pytest.raises(TinyMetaFedError, match="^task sine, device 3: query row"):
            await engine.fit(RoundOrder([0, 1], program, state.broadcast, orders))
        with pytest.raises(TinyMetaFedError, match="^task sine, device 12: query row"):
            await engine.evaluate(state.broadcast, 0, {0: [11, 12]})
        await federation.close()

    asyncio.run(session())


def test_a_task_makes_as_many_as_it_is_asked_for(
    experiment: MakeExperiment, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Sine, "population", lambda *_: [])
    with pytest.raises(TinyMetaFedError, match="sine, samples of 0 devices, where 2 were asked"):
        Client(experiment()).population([0, 1])
