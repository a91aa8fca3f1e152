"""Programs that the shared library plays come to what they come to over a link, byte for byte: the
update, what a node keeps, its error, the number of its last frame, and what passed the link."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from numpy.typing import NDArray

import sanitizing
from conftest import MakeExperiment
from learning import seeded
from running import STRATEGIES
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.link import Error, chunk
from tinymetafed.link.messages import MARK, RESIDUAL, VARIATE, Load
from tinymetafed.models.model import Model, ModelSettings
from tinymetafed.nodes import native
from tinymetafed.nodes.answers import DIVERGED
from tinymetafed.nodes.broadcast import Broadcast
from tinymetafed.nodes.host import open_host
from tinymetafed.nodes.native import Client, NativeNodes, Played
from tinymetafed.nodes.node import Evaluation, Node, NodeRefused, evaluation
from tinymetafed.nodes.program import (
    Evaluate,
    Mark,
    Program,
    Renew,
    Select,
    Send,
    Store,
    Train,
    Variate,
)
from tinymetafed.nodes.usage import UNUSED, Usage
from tinymetafed.strategies import Round
from tinymetafed.tasks.samples import Samples

EXAMPLES = settings(
    deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def busy() -> Iterator[None]:
    """Threads are used for however little."""
    worth, native.WORTH_A_THREAD = native.WORTH_A_THREAD, 0
    yield
    native.WORTH_A_THREAD = worth


# ---- both ways -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """What a program comes to on a node, whichever way."""

    refused: tuple[str, Error] | None
    indices: bytes
    values: bytes
    evaluations: Sequence[Evaluation]
    kept: bytes | None
    sequence: int
    usage: Usage


@dataclass
class Device:
    """What a node plays in a round."""

    support: Samples
    query: Samples


@dataclass
class Case:
    """Rounds of nodes. sequences: of each node, the number of its last frame before the first."""

    model: Model
    load: Load
    programs: list[Program]
    broadcasts: list[Broadcast]
    devices: list[list[Device | None]]  # by round and node; None: it does not take part
    sequences: list[int] = field(default_factory=list)


async def over_links(case: Case) -> list[list[Found | None]]:
    """By round and node."""
    nodes = [Node(f"node-{i}", open_host, timeout=0) for i in range(len(case.devices[0]))]
    kept: list[Any] = [None] * len(nodes)
    for node, sequence in zip(nodes, case.sequences, strict=True):
        await node.start()
        await node.load(case.model, case.load)
        node.sequence = sequence
        node.take_usage()
    found: list[list[Found | None]] = []
    for program, broadcast, devices in zip(
        case.programs, case.broadcasts, case.devices, strict=True
    ):
        found.append([])
        for i, (node, device) in enumerate(zip(nodes, devices, strict=True)):
            one = None
            if device is not None:
                one, kept[i] = await _over_link(node, program, broadcast, device, kept[i], case)
            found[-1].append(one)
    for node in nodes:
        await node.close()
    return found


async def _over_link(
    node: Node, program: Program, broadcast: Broadcast, device: Device, kept: Any, case: Case
) -> tuple[Found, Any]:
    keeps = case.load.room & (RESIDUAL | VARIATE)
    if keeps:
        await node.set_kept(kept)
    refused, judged = None, list[Evaluation]()
    indices, values = np.empty(0, np.int32), np.empty(0, np.float32)
    try:
        outcome = await node.run(program, device.support, device.query, broadcast)
        indices, values = outcome.indices, outcome.values
        places = [i for i, one in enumerate(program) if isinstance(one, Evaluate)]
        judged = [evaluation(outcome, place) for place in places]
    except NodeRefused as error:
        refused = error.request, error.error
    assert node.version == broadcast.version
    usage = node.take_usage()
    kept = await node.get_kept() if keeps else None
    return Found(
        refused, indices.tobytes(), values.tobytes(), judged,
        None if kept is None else kept.tobytes(), node.sequence, usage,
    ), kept  # fmt: skip


def capacity() -> int:
    """Bytes of a body that nodes take."""

    async def ask() -> int:
        node = Node("node", open_host)
        await node.start()
        await node.close()
        return node.capacity

    return asyncio.run(ask())


CAPACITY = capacity()


def natively(case: Case, threads: int) -> list[list[Found | None]]:
    """The same."""
    played = NativeNodes(case.model, case.load, CAPACITY, threads)
    count = len(case.devices[0])
    keeps = case.load.room & (RESIDUAL | VARIATE)
    held, sequences = [0] * count, list(case.sequences)
    kept = [np.zeros(case.model.parameters, np.float32) if keeps else None for _ in range(count)]
    found: list[list[Found | None]] = []
    for program, broadcast, devices in zip(
        case.programs, case.broadcasts, case.devices, strict=True
    ):
        there = [(i, device) for i, device in enumerate(devices) if device is not None]
        clients = [
            Client(held[i], sequences[i], device.support, device.query, kept[i])
            for i, device in there
        ]
        found.append([None] * count)
        for (i, _), one in zip(there, played.run(program, broadcast, clients), strict=True):
            held[i], sequences[i] = broadcast.version, one.sequence
            found[-1][i] = as_found(one, kept[i])
    played.close()
    return found


def as_found(one: Played, kept: NDArray[np.float32] | None) -> Found:
    return Found(
        one.refused, one.indices.tobytes(), one.values.tobytes(), list(one.evaluations),
        None if kept is None else kept.tobytes(), one.sequence, one.usage,
    )  # fmt: skip


def check(case: Case, threads: int = 1) -> list[list[Found | None]]:
    """That both ways are the same; returns what they are."""
    expected = asyncio.run(over_links(case))
    found = natively(case, threads)
    for ours, theirs in zip(found, expected, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert one == other
    return expected


# ---- whatever the program ------------------------------------------------------------------------


WIDTHS = st.sampled_from([1, 2, 3, 5]) | st.sampled_from([20, 45, 70])


LARGE = st.sampled_from([2028, 2030, 2031, 2032, 2035, 2040, 2116, 4100])
"""Values of a sample that is about as long as a frame, or longer."""


@st.composite
def models(draw: st.DrawFn, inputs: st.SearchStrategy[int] = WIDTHS) -> Model:
    """Of few parameters or several frames of them, of which some are local, also in between."""
    loss = draw(st.sampled_from(["mse", "softmax_cross_entropy"]))
    layers: list[dict[str, Any]] = [
        {
            "units": units,
            "activation": draw(st.sampled_from(["relu", "tanh", "linear"])),
            "local": draw(st.booleans()),
        }
        for units in draw(st.lists(st.integers(1, 2) if inputs is LARGE else WIDTHS, max_size=4))
    ]
    layers.append({"units": draw(st.integers(2, 4)), "local": draw(st.booleans())})
    if all(layer["local"] for layer in layers):
        layers[0]["local"] = False
    described = {"layers": layers, "loss": loss}
    model = Model.build(ModelSettings.model_validate(described), draw(inputs))
    assume(model.parameters <= 9000)  # five vectors of which fit onto a node
    return model


@st.composite
def programs(draw: st.DrawFn, model: Model, load: Load, seed: int) -> Program:
    """What a strategy may ask for, and some of what is refused."""
    rates = st.sampled_from([2.0**-8, 2.0**-6, 0.1, 0.0])
    sources: st.SearchStrategy[Any] = st.sampled_from(["support", "query"])
    program: list[Any] = []
    if load.room & VARIATE and draw(st.integers(0, 3)):
        rng = np.random.default_rng(seed)
        program.append(Variate(rng.normal(0, 0.01, model.parameters).astype(np.float32)))
    stored = marked = False
    kinds = st.sampled_from(["train", "train", "train", "store", "mark", "judge"])
    for kind in draw(st.lists(kinds, max_size=6)):
        if kind == "store":
            program.append(Store(draw(sources)))
            stored = True
        elif kind == "judge":
            program.append(Evaluate(draw(sources)))
        elif kind == "mark" and load.room & MARK:
            program.append(Mark())
            marked = True
        elif kind == "train":
            source: Any = draw(st.sampled_from(["support", "query", *["stored"] * 2 * stored]))
            more: dict[str, Any] = {"batch": draw(st.integers(1, 3 if load.accumulate else 1))}
            if source == "stored":
                more["epochs"] = draw(st.integers(1, 2))
            elif draw(st.booleans()):
                more["steps"] = draw(st.sampled_from([1, 3, 40]))
            elif draw(st.booleans()):
                first = draw(st.integers(0, 3))
                more["part"] = (first, first + draw(st.integers(1, 3)))
            if load.accumulate and draw(st.booleans()):
                more["proximal"] = draw(st.sampled_from([0.0, 0.5]))
                more["from_mark"] = marked and draw(st.booleans())
            more["corrected"] = load.room & VARIATE != 0 and draw(st.booleans())
            more["frozen"] = draw(
                st.sampled_from([0, model.frozen(local=True), model.frozen(local=False)])
            )
            program.append(Train(source, draw(rates), **more))
    if load.room & VARIATE and draw(st.booleans()):
        program.append(Renew(0.1))  # which is refused where nothing was trained
    if draw(st.sampled_from([True, True, True, False])):
        keep = draw(st.sampled_from([model.parameters, model.parameters // 2, 7, 1, 0]))
        program += [Select(keep, draw(st.sampled_from(list(chunk.VALUES)))), Send()]
    return tuple(program)


@st.composite
def cases(draw: st.DrawFn, *, large: bool = False) -> Case:
    """large: samples that do not fit into a frame, or just so."""
    model, seed = draw(models(LARGE if large else WIDTHS)), draw(st.integers(0, 2**32 - 1))
    accumulate, store = draw(st.booleans()), draw(st.sampled_from([60, 60, 3]))
    if large:  # in mini-batches they do not fit into a frame, and of 60 the node has no memory
        accumulate, store = False, 3
    room = draw(st.sampled_from([0, RESIDUAL, MARK, RESIDUAL | MARK, VARIATE, VARIATE | MARK]))
    load = model.description(accumulate=accumulate, capacity=store, room=room)
    rounds, count = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    rng = np.random.default_rng(seed)
    problem = seeded(model, seed, samples=3 if large else draw(st.sampled_from([6, 6, 60])))
    theta, changed = problem.theta, np.ones(model.parameters, np.int64)
    sizes = st.integers(1, len(problem.samples))
    case = Case(model, load, [], [], [])
    version = 1
    for t in range(rounds):
        case.programs.append(draw(programs(model, load, seed + t)))
        case.broadcasts.append(Broadcast(theta, changed, version))
        version += draw(st.integers(1, 2))
        moved = rng.random(model.parameters) < draw(st.sampled_from([0.0, 0.01, 0.5, 1.0]))
        theta = np.where(moved, theta + rng.normal(0, 0.02, len(theta)), theta).astype(np.float32)
        changed = np.where(moved, version, changed)
        present = [draw(st.integers(0, 3)) > 0 for _ in range(count)]
        pool = problem.samples
        case.devices.append([
            Device(pool[: draw(sizes)], pool[: draw(sizes)]) if there else None
            for there in present
        ])  # fmt: skip
    case.sequences += [draw(st.integers(0, 23)) for _ in range(count)]
    return case


@settings(EXAMPLES, max_examples=300)
@given(cases(), st.integers(1, 3))
def test_a_program_comes_to_the_same_as_over_a_link(case: Case, threads: int):
    check(case, threads)


@settings(EXAMPLES, max_examples=80)
@given(cases(large=True), st.integers(1, 2))
def test_samples_longer_than_a_frame_come_to_the_same(case: Case, threads: int):
    check(case, threads)


@settings(EXAMPLES, max_examples=60)
@given(cases(), st.integers(1, 3))
def test_without_counts_it_comes_to_the_same_from_whatever_a_node_holds(case: Case, threads: int):
    """As in an evaluation, in which nodes are not counted."""
    program, broadcast = case.programs[0], case.broadcasts[0]
    devices = [one for one in case.devices[0] if one is not None]

    async def over_link() -> list[Found]:
        found: list[Found] = []
        for device in devices:
            node = Node("node", open_host, timeout=0)
            await node.start()
            await node.load(case.model, case.load)
            with node.not_counted():
                one, _ = await _over_link(node, program, broadcast, device, None, case)
            await node.close()
            found.append(replace(one, usage=UNUSED, sequence=0))
        return found

    nodes = NativeNodes(case.model, case.load, CAPACITY, threads)
    keeps = case.load.room & (RESIDUAL | VARIATE)
    clients = [
        Client(
            held, 0, one.support, one.query,
            np.zeros(case.model.parameters, np.float32) if keeps else None,
        )
        for held, one in enumerate(devices)
    ]  # fmt: skip
    played = nodes.run(program, broadcast, clients, counts=False)
    nodes.close()
    found = [as_found(one, client.kept) for one, client in zip(played, clients, strict=True)]
    assert all(one.usage == UNUSED for one in found)
    assert [replace(one, sequence=0) for one in found] == asyncio.run(over_link())


# ---- what takes several frames -------------------------------------------------------------------


def alternating(units: int, layers: int, inputs: int = 6) -> Model:
    """Global and local layers by turns: as many runs as half of the layers."""
    described = [{"units": units, "local": i % 2 == 1} for i in range(layers)]
    return Model.build(ModelSettings.model_validate({"layers": described}), inputs)


def simple(
    model: Model, program: Program, *, samples: int = 4, room: int = 0, rounds: int = 2,
    nodes: int = 2, change: float = 1.0, accumulate: bool = False, capacity: int = 0, seed: int = 5,
) -> Case:  # fmt: skip
    """The same program in each round."""
    rng = np.random.default_rng(seed)
    load = model.description(accumulate=accumulate, capacity=capacity, room=room)
    pool = seeded(model, seed, samples).samples
    case = Case(model, load, [], [], [], [0] * nodes)
    theta, changed = model.initial(seed), np.ones(model.parameters, np.int64)
    for t in range(rounds):
        case.programs.append(program)
        case.broadcasts.append(Broadcast(theta, changed, t + 1))
        moved = rng.random(len(theta)) < change
        theta = np.where(moved, theta + np.float32(0.01), theta)
        changed = np.where(moved, t + 2, changed)
        case.devices.append([Device(pool, pool) for _ in range(nodes)])
    return case


def learn(keep: int, values: str = "float32") -> Program:
    return Train("query", 2.0**-6), Select(keep, values), Send()


@pytest.mark.parametrize("values", chunk.VALUES)
@pytest.mark.parametrize("keep", [1, 100, 3000, 100_000])
@pytest.mark.parametrize("model", [
    pytest.param(alternating(90, 1, inputs=200), id="one run"),
    pytest.param(alternating(60, 7), id="four runs"),
    pytest.param(alternating(30, 15), id="eight runs"),
])  # fmt: skip
def test_broadcasts_and_updates_of_several_frames(model: Model, keep: int, values: str):
    case = simple(model, learn(keep, values))
    for found in check(case):
        for one in found:
            assert one is not None
            assert one.refused is None
            kept = min(keep, model.global_parameters)
            assert len(one.indices) <= 4 * kept
            assert len(one.usage.frames_down) == len(one.usage.frames_up)
            weights = 4 * model.parameters / CAPACITY
            assert len(one.usage.frames_down) >= weights
            if keep > 3000 and values == "float32":
                least = weights + 4 * model.global_parameters / CAPACITY - 1
                assert len(one.usage.frames_down) >= least
                assert len(one.indices) > 4 * 0.9 * model.global_parameters


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_many_clients_in_threads(threads: int):
    """More than there are threads, and slices of them that are not alike."""
    case = simple(alternating(5, 3), learn(20, "int8"), nodes=23, room=RESIDUAL, rounds=3)
    for t, devices in enumerate(case.devices):
        for i, device in enumerate(devices):
            assert device is not None
            devices[i] = Device(device.support[: 1 + i % 3], device.query[: 1 + (i + t) % 4])
    case.sequences = list(range(23))
    check(case, threads)


def test_samples_of_several_frames():
    """Streamed, stored, again and again, judged."""
    model = Model.build(
        ModelSettings.model_validate({"layers": [{"units": 3}], "loss": "softmax_cross_entropy"}),
        50,
    )
    program: Program = (
        Evaluate("support"), Store("support"), Train("stored", 2.0**-9, batch=7, epochs=2),
        Train("support", 2.0**-9, batch=3), Train("query", 2.0**-9, steps=170),
        Train("query", 2.0**-9, batch=2, part=(10, 90)), Evaluate("query"), *learn(20),
    )  # fmt: skip
    case = simple(model, program, samples=100, accumulate=True, capacity=100)
    for found in check(case):
        for one in found:
            assert one is not None
            assert one.refused is None
            assert one.usage.bytes_sensor == 4 * 51 * (100 + 100 + 100 + 170 + 80 + 100 + 100)
            assert len(one.evaluations) == 2


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_a_program_may_judge_as_often_as_it_likes(count: int):
    program = (*count * (Evaluate("query"), Train("query", 2.0**-6)), *learn(3))
    case = simple(alternating(4, 2), program, nodes=3)
    for found in check(case):
        for one in found:
            assert one is not None
            losses = [judged.loss for judged in one.evaluations]
            assert len(losses) == count == len(set(losses))


# ---- what goes wrong, or is little ---------------------------------------------------------------


@pytest.mark.parametrize("room", [0, RESIDUAL, VARIATE])
@pytest.mark.parametrize("others", [(), (Evaluate("query"),), 30 * (Evaluate("query"),)])
def test_what_diverges_is_the_same(others: Program, room: int):
    """And what a node keeps stays, and the next round goes on from there."""
    model = alternating(5, 3)
    wild = (*others, Train("query", 1e30), *others, *learn(9))
    case = simple(model, wild, room=room, rounds=3)
    case.programs[1] = learn(9)
    first, second, third = check(case)
    for found in (first, third):
        for one in found:
            assert one is not None
            assert one.refused is not None
            assert one.refused[1].code == DIVERGED
            assert (one.indices, one.values, len(one.evaluations)) == (b"", b"", 0)
    assert all(one is not None and one.refused is None for one in second)


@pytest.mark.parametrize(
    ("program", "request_", "code"),
    [
        ((Store("query"), *learn(3)), "store", 6),
        ((Train("query", 0.1, batch=2), *learn(3)), "train", 9),
        ((Train("query", -1.0), *learn(3)), "train", 9),
        ((Mark(), *learn(3)), "mark", 9),
        ((Renew(0.1), *learn(3)), "renew", 9),
        ((Variate(np.zeros(9999, np.float32)), *learn(3)), "variate", 9),
        ((Evaluate("query"), Send()), "update", 11),
        ((*learn(3), Train("query", 0.1)), "train", 11),
        ((Select(1), Select(1)), "select", 11),
    ],
)
def test_what_is_refused_is_the_same(program: Program, request_: str, code: int):
    for found in check(simple(alternating(3, 2), program)):
        for one in found:
            assert one is not None
            assert one.refused is not None
            assert (one.refused[0], one.refused[1].code) == (request_, code)


@pytest.mark.parametrize("program", [(), (Train("query", 0.1, part=(90, 95)),), (Send(),)])
@pytest.mark.parametrize("counts", [True, False])
def test_a_program_of_little_or_nothing(program: Program, counts: bool):
    case = simple(alternating(3, 2), program)
    check(case)
    nodes = NativeNodes(case.model, case.load, CAPACITY, 1)
    device = case.devices[0][0]
    assert device is not None
    client = Client(0, 0, device.support, device.query)
    [one] = nodes.run(program, case.broadcasts[0], [client], counts=counts)
    assert (one.refused is not None) == (Send() in program)
    assert len(one.usage.frames_down) == counts
    assert nodes.run(program, case.broadcasts[0], []) == []


def test_a_program_that_cannot_be_packed_is_the_same_mistake():
    """Before anything is done."""
    case = simple(alternating(3, 2), (Train("support", 0.1),))
    for devices in case.devices:
        for device in devices:
            assert device is not None
            device.support = device.support[:0]
    with pytest.raises(ValueError, match="0 samples in mini-batches of 1") as expected:
        asyncio.run(over_links(case))
    with pytest.raises(ValueError, match="0 samples in mini-batches of 1") as found:
        natively(case, 1)
    assert str(found.value) == str(expected.value)


def test_what_was_stored_in_another_round_is_the_same_mistake():
    """It is of the device that the node played then."""
    case = simple(alternating(3, 2), (Store("query"), Train("stored", 0.1)), capacity=9)
    case.programs[1] = case.programs[1][1:]
    for way in (lambda: asyncio.run(over_links(case)), lambda: natively(case, 1)):
        with pytest.raises(ValueError, match="stored samples that the program has not stored"):
            way()


def test_a_mini_batch_longer_than_a_frame_is_the_same_mistake():
    model = Model.build(ModelSettings.model_validate({"layers": [{"units": 2}]}), 600)
    case = simple(model, (Train("query", 0.1, batch=4),), accumulate=True, samples=6)
    with pytest.raises(TinyMetaFedError, match="4 samples of 2408 bytes do not fit") as expected:
        asyncio.run(over_links(case))
    with pytest.raises(TinyMetaFedError, match="4 samples of 2408 bytes do not fit") as found:
        natively(case, 1)
    assert str(found.value) == str(expected.value)


def test_nodes_of_a_model_that_does_not_fit_are_none():
    """They have never booted."""
    model = Model.build(ModelSettings.model_validate({"layers": [{"units": 300}]}), 300)
    nodes = NativeNodes(model, model.description(accumulate=False, capacity=0), CAPACITY, 1)
    broadcast = Broadcast(model.initial(1), np.ones(model.parameters, np.int64), 1)
    samples = Samples(np.zeros((1, 300), np.float32), np.zeros((1, 300), np.float32))
    with pytest.raises(TinyMetaFedError, match="did what no node does"):
        nodes.run((Evaluate(),), broadcast, [Client(0, 0, samples, samples)])


def test_nodes_that_hold_different_versions_get_what_each_lacks():
    """Also one that is ahead, as after a server went back."""
    model = alternating(40, 2, inputs=40)
    case = simple(model, learn(9), rounds=4, nodes=5, change=0.02)
    for t, there in enumerate(((0, 2, 3), (0, 3), (0, 1))):
        case.devices[t] = [one if i in there else None for i, one in enumerate(case.devices[t])]
    back = replace(case.broadcasts[1], _requests={})
    case.programs.append(learn(9))
    case.broadcasts.append(back)
    case.devices.append(case.devices[3])
    found = check(case)
    sizes = [one.usage.down["weights"] for one in found[3] if one is not None]
    assert sizes[0] == sizes[1] < sizes[3] < sizes[2] < sizes[4]  # of versions 3, 3, 2, 1, none
    assert max(sizes) > 4 * model.parameters > 10 * min(sizes)
    assert all(one is not None and one.usage.down["weights"] == max(sizes) for one in found[4])


def test_the_numbers_of_frames_go_round():
    """Whatever came before, a frame of a round has the same length."""
    case = simple(alternating(60, 3), learn(5000), rounds=1, nodes=24)
    case.sequences = list(range(24))
    [found] = check(case)
    ends = {one.sequence for one in found if one is not None}
    assert ends == set(range(1, 24))
    assert len({one.usage.frames_down for one in found if one is not None}) == 1


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_strategies_programs(experiment: MakeExperiment, name: str):
    one = experiment(*STRATEGIES[name])
    model, strategy = one.built_model, one.strategy
    program = strategy.program(strategy.start(model.initial(1), 1000), model, Round(0, 3))
    case = simple(
        model, program, capacity=strategy.capacity, accumulate=strategy.accumulates, samples=8,
        room=RESIDUAL if strategy.keeps else 0,
    )  # fmt: skip
    for found in check(case):
        for played in found:
            assert played is not None
            assert len(played.usage.frames_down) == len(played.usage.frames_up) == 1


# ---- memory ------------------------------------------------------------------------------------


def test_none_of_this_reads_or_writes_what_is_not_its_own():
    """The tests above with worked examples, under AddressSanitizer and UBSan."""
    names = "several_frames or threads or judge or diverges or refused or little or numbers"
    sanitizing.check(__file__, names)


# ---- lengths of frames ---------------------------------------------------------------------------


@settings(EXAMPLES, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(225, 285), st.integers(0, 2))
def test_bytes_are_counted_where_cobs_adds_one(seed: int, size: int, blocks: int):
    """Bodies whose last bytes without a zero are about a block of COBS, so that the checksum
    decides how long the frame is. A program with no byte of zero but in its head."""
    model = alternating(1, 1, inputs=1)
    rng = np.random.default_rng(seed)
    count = (size + 254 * blocks) // 8
    numbers = rng.integers(1, 255, (count, 8), dtype=np.uint8)
    numbers[:, [3, 7]] = 0x3D  # of ordinary size
    values = numbers.reshape(count, 8).view("<f4")
    samples = Samples(values[:, :1].copy(), values[:, 1:].copy())
    program: Program = (Train("query", 2.0**-7), Evaluate("support"), Select(2), Send())
    case = simple(model, program, rounds=1, nodes=1, seed=seed % 1000)
    short = samples[: 1 + seed % (count - 1)]
    case.devices = [[Device(short, samples)]]
    check(case)
