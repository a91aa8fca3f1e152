"""Programs in frames: few, none too long, and all that was asked for in its order."""

import asyncio
from collections.abc import Sequence
from itertools import chain, groupby, pairwise
from typing import Any

import cbor2
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given, settings

from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments.experiment import read
from tinymetafed.federation.client import Client
from tinymetafed.link import messages
from tinymetafed.link.chunk import Chunk
from tinymetafed.nodes.broadcast import Broadcast
from tinymetafed.nodes.host import open_host
from tinymetafed.nodes.node import Node
from tinymetafed.nodes.packing import HEAD_SIZE, WEIGHTS, Frame, Piece, Room, pack
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
from tinymetafed.places import PROJECT
from tinymetafed.strategies import Round

EXAMPLES = settings(deadline=None, derandomize=True)
RUNS = ((0, 10), (20, 3000))


def room_of(support: int, query: int, sample: int, capacity: int) -> Room:
    return Room(support, query, sample, RUNS, capacity)


def samples_of(room: Room) -> dict[str, bytes]:
    """Both sets; each sample is known by its bytes where it has more than one."""
    return {
        "support": b"".join(i.to_bytes(2).rjust(room.sample, b"s") for i in range(room.support)),
        "query": b"".join(i.to_bytes(2).rjust(room.sample, b"q") for i in range(room.query)),
    }


def request_of(piece: Piece, room: Room, sets: dict[str, bytes]) -> bytes:
    size = room.sample
    parts = (sets[source][a:b] for source, a, b in piece.ranges(size))
    return b"".join((piece.before, *parts, piece.behind))


def body_of(pieces: Frame, room: Room, sets: dict[str, bytes]) -> bytes:
    """With the longest number that a frame has."""
    requests = [request_of(piece, room, sets) for piece in pieces]
    return messages.body_head(255, len(requests)) + b"".join(requests)


SOURCES = st.sampled_from(["support", "query"])
RATES = st.sampled_from([0.1, 0.5])


@st.composite
def trains(draw: st.DrawFn) -> Train:
    source: Any = draw(st.sampled_from(["support", "query", "stored"]))
    more: dict[str, Any] = {}
    if source == "stored":
        more["epochs"] = draw(st.integers(1, 3))
    else:
        more |= draw(st.sampled_from([{}, {"steps": 7}, {"steps": 90}, {"part": (2, 9)}]))
    return Train(
        source, draw(RATES), batch=draw(st.integers(1, 4)), proximal=draw(st.floats(0, 1)),
        from_mark=draw(st.booleans()), corrected=draw(st.booleans()), **more,
    )  # fmt: skip


PRIMITIVES = st.one_of(
    st.builds(Store, SOURCES),
    trains(),
    st.builds(Evaluate, SOURCES),
    st.just(Mark()),
    st.just(Send()),
    st.builds(Renew, RATES),
    st.builds(Select, st.integers(0, 3000), st.sampled_from(["float32", "int8"])),
    st.builds(lambda n: Variate(np.arange(n, dtype=np.float32)), st.integers(1, 200)),
)
PROGRAMS = st.lists(PRIMITIVES, max_size=30).map(
    lambda some: tuple(some) if stores_first(tuple(some)) else (Store(), *some)
)
ROOMS = st.builds(
    room_of, st.integers(1, 80), st.integers(1, 80), st.integers(4, 40), st.integers(300, 1500)
)
WEIGHTS_SIZES = st.lists(st.integers(5, 250), max_size=3)


def weights_of(sizes: Sequence[int]) -> list[bytes]:
    """Requests, as they come from a broadcast, of such sizes."""
    return [
        messages.encode_request(messages.Weights(0, 1, i == len(sizes), Chunk(0, n, 0, bytes(n))))
        for i, n in enumerate(sizes, 1)
    ]


def stores_first(program: Program) -> bool:
    """What a program of a round has to do before it trains on stored samples."""
    kinds = [one.samples if isinstance(one, Train) else type(one) for one in program]
    return "stored" not in kinds[: kinds.index(Store) if Store in kinds else len(kinds)]


@settings(EXAMPLES, max_examples=300)
@given(PROGRAMS, ROOMS, WEIGHTS_SIZES)
def test_no_frame_is_longer_than_a_node_takes(program: Program, room: Room, sizes: list[int]):
    sets = samples_of(room)
    for pieces in pack(program, room, weights_of(sizes)):
        assert 1 <= len(pieces) <= messages.MOST_REQUESTS
        assert len(body_of(pieces, room, sets)) <= room.capacity


@settings(EXAMPLES, max_examples=300)
@given(PROGRAMS, ROOMS, WEIGHTS_SIZES)
def test_all_that_was_asked_for_is_there_in_its_order(
    program: Program, room: Room, sizes: list[int]
):
    """First the weights; then of each primitive its requests, which have all of its samples, in
    mini-batches that are whole but for the last, or all of its entries."""
    weights, sets = weights_of(sizes), samples_of(room)
    pieces = list(chain(*pack(program, room, weights)))
    assert [one.before for one in pieces if one.place == WEIGHTS] == weights
    assert all(one.place == WEIGHTS for one in pieces[: len(weights)])
    rest = pieces[len(weights) :]
    places = [one.place for one in rest]
    assert places == sorted(places)
    for place, group in groupby(rest, key=lambda one: one.place):
        primitive, some = program[place], list(group)
        requests = [cbor2.loads(request_of(one, room, sets)) for one in some]
        names = {one.name for one in some}
        match primitive:
            case Send():
                assert names == {"update"}
                assert requests == [[8, *run] for run in RUNS]
                assert [one.run for one in some] == list(range(len(RUNS)))
            case Variate(values=values):
                assert names == {"variate"}
                ends = [(r[1], r[1] + r[2]) for r in requests]
                assert all(a[1] == b[0] for a, b in pairwise([(0, 0), *ends]))
                assert b"".join(r[4] for r in requests) == values.tobytes()
            case Store() | Evaluate():
                found = b"".join(r[-1] for r in requests)
                assert found == sets[primitive.samples]
                if isinstance(primitive, Store):
                    assert [r[1] for r in requests] == [i > 0 for i in range(len(requests))]
            case Train(samples="stored"):
                assert [r[5] for r in requests] == [None]
                assert requests[0][2:5] == [0, primitive.batch, primitive.epochs]
            case Train():
                assert b"".join(r[5] for r in requests) == used_by(primitive, sets, room)
                for one in requests[:-1]:
                    assert len(one[5]) % (primitive.batch * room.sample) == 0
                assert all(one[2:5] == [0, primitive.batch, 1] for one in requests)
            case _:
                assert len(requests) == 1
    missing = set(range(len(program))) - set(places)
    for primitive in (program[place] for place in missing):
        assert isinstance(primitive, Train)  # of samples that are not there
        assert primitive.part is not None
        assert not used_by(primitive, sets, room)


def used_by(train: Train, sets: dict[str, bytes], room: Room) -> bytes:
    """The samples that it uses, by what its attributes say."""
    every, size = sets[train.samples], room.sample
    if train.part is not None:
        return every[train.part[0] * size : train.part[1] * size]
    if train.steps is None:
        return every
    return (every * train.steps)[: train.steps * size]


@settings(EXAMPLES, max_examples=300)
@given(PROGRAMS, ROOMS, WEIGHTS_SIZES)
def test_what_fits_into_a_frame_is_in_one(program: Program, room: Room, sizes: list[int]):
    """A program; and each of its primitives, whatever else the program has."""
    sets = samples_of(room)
    whole = pack(program, room, weights_of(sizes))
    pieces = list(chain(*whole))
    alone = pack(program, room)
    large = Room(room.support, room.query, room.sample, room.runs, 10**6)
    requests = list(chain(*pack(program, large)))
    size = sum(len(request_of(one, room, sets)) for one in requests)
    if len(requests) <= messages.MOST_REQUESTS and size <= room.capacity - HEAD_SIZE and requests:
        assert len(alone) == 1
        assert alone[0] == tuple(requests)
    by_place = {
        place: [len(request_of(one, room, sets)) for one in group]
        for place, group in groupby(requests, key=lambda one: one.place)
    }
    for place, lengths in by_place.items():
        if not isinstance(program[place], Send | Variate):
            assert len(lengths) == 1
            found = sum(one.place == place for one in pieces)
            assert found == 1 or sum(lengths) > room.capacity - HEAD_SIZE - 8


@settings(EXAMPLES, max_examples=300)
@given(PROGRAMS, ROOMS)
def test_a_frame_ends_where_the_next_request_does_not_fit(program: Program, room: Room):
    """Or where it would be cut though it fits into one."""
    sets = samples_of(room)
    for one, other in pairwise(pack(program, room)):
        left = room.capacity - len(body_of(one, room, sets))
        following = other[0]
        if len(one) == messages.MOST_REQUESTS:
            continue
        if following.samples:
            primitive = program[following.place]
            batch = primitive.batch if isinstance(primitive, Train) else 1
            rest = [piece for piece in other if piece.place == following.place]
            total = sum(b - a for piece in rest for _, a, b in piece.samples)
            least = min(batch, total) * room.sample + following.size
            cut = total * room.sample + following.size > left
            assert least > left - 8 or (cut and following.place not in {p.place for p in one})
        elif following.name != "variate":
            assert following.size > left


@given(st.integers(1, 3), st.integers(1, 60))
def test_the_last_weights_share_a_frame_with_what_follows(pieces: int, size: int):
    weights = weights_of(pieces * [size])
    frames = pack((Mark(), Select(3), Send()), room_of(1, 1, 8, 400), weights)
    assert [len(one) for one in frames] == [*(pieces - 1) * [1], 5]
    assert [one.name for one in frames[-1]] == ["weights", "mark", "select", "update", "update"]


def test_weights_that_fill_a_frame_have_it_alone():
    [first, second] = pack((Mark(),), room_of(1, 1, 8, 300), weights_of([250 + 33]))
    assert [one.name for one in first + second] == ["weights", "mark"]


def test_nothing_is_no_frame():
    room = room_of(3, 3, 8, 300)
    beyond = Train("query", 0.1, part=(5, 9))
    assert pack((), room) == pack((beyond,), room) == ()
    assert [len(one) for one in pack((), room, weights_of([5]))] == [1]
    assert [len(one) for one in pack((beyond,), room, weights_of([5, 5]))] == [1, 1]


@pytest.mark.parametrize("primitive", [
    Train("support", 0.1), Train("support", 0.1, steps=5), Store("support"), Evaluate("support"),
    Train("query", 0.1, batch=0), Train("query", 0.1, steps=0),
])  # fmt: skip
def test_no_samples_are_a_mistake(primitive: Any):
    with pytest.raises(ValueError, match="samples in mini-batches of"):
        pack((primitive,), room_of(0, 3, 8, 300))


@given(PROGRAMS)
def test_samples_of_another_round_are_a_mistake(program: Program):
    """Where weights come, a round begins; a node by itself may be asked in turns."""
    room, step = room_of(5, 5, 8, 9000), Train("stored", 0.1)
    pack((step, *program), room)
    pack((Store(), step, *program), room, weights_of([5]))
    with pytest.raises(ValueError, match="stored samples that the program has not stored"):
        pack((Evaluate(), step, *program), room, weights_of([5]))


def test_samples_that_are_dropped_make_one_epoch():
    with pytest.raises(ValueError, match="one epoch: store them first"):
        pack((Train("query", 0.1, epochs=2),), room_of(3, 3, 8, 300))


@settings(EXAMPLES)
@given(st.integers(1, 40), st.integers(4, 100), st.integers(300, 600))
def test_a_mini_batch_is_sent_in_one_piece_or_not_at_all(batch: int, sample: int, capacity: int):
    room = room_of(50, 50, sample, capacity)
    program = (Train("query", 0.1, batch=batch),)
    around = len(messages.encode_request(messages.Train(0.1, 0, batch, 1, bytes(batch * sample))))
    if around > capacity - HEAD_SIZE:
        with pytest.raises(TinyMetaFedError, match=f"{batch} samples of {sample} bytes do not fit"):
            pack(program, room)
    else:
        assume(around <= capacity - HEAD_SIZE - 2)  # a head for all samples may be longer
        assert pack(program, room)


LARGE = st.builds(
    room_of, st.integers(1, 9), st.integers(1, 9), st.integers(290, 2000), st.integers(300, 600)
)
"""Of which some samples are longer than a frame."""


@settings(EXAMPLES, max_examples=200)
@given(
    st.lists(
        st.sampled_from([
            Store("query"), Evaluate("support"), Train("query", 0.1), Mark(), Select(3), Send(),
            Train("support", 0.1, steps=12), Train("query", 0.1, part=(1, 4)),
        ]), max_size=6,
    ), LARGE, WEIGHTS_SIZES,
)  # fmt: skip
def test_a_sample_longer_than_a_frame_comes_in_parts(some: list[Any], room: Room, sizes: list[int]):
    """As whoever puts them together finds it: the parts of each sample one behind the other, and
    behind the last a request without samples, which is for this one. No frame is too long, and
    none that others follow has room for a part."""
    sets, program = samples_of(room), tuple(some)
    frames = pack(program, room, weights_of(sizes))
    found: dict[int, bytes] = {}
    arrived = b""
    for piece in chain(*frames):
        request = cbor2.loads(request_of(piece, room, sets))
        if piece.name == "part":
            assert request[1] in (0, len(arrived))
            arrived = arrived[: request[1]] + request[2]
        elif piece.samples:
            [given] = [one for one in request if isinstance(one, bytes)]
            assert (given == b"") == (len(arrived) == room.sample)
            found[piece.place] = found.get(piece.place, b"") + (given or arrived)
            if piece.name == "store":
                assert request[1] == (found[piece.place] != (given or arrived))
            arrived = b""
    assert arrived == b""
    for place, primitive in enumerate(program):
        match primitive:
            case Store() | Evaluate():
                assert found[place] == sets[primitive.samples]
            case Train():
                assert found.get(place, b"") == used_by(primitive, sets, room)
            case _:
                assert place not in found
    for one in frames:
        assert len(body_of(one, room, sets)) <= room.capacity
    for one, other in pairwise(frames):
        if other[0].name == "part" and len(one) < messages.MOST_REQUESTS:
            assert room.capacity - len(body_of(one, room, sets)) < 40


def test_the_same_packing_serves_all_that_stand_alike():
    """It is made once for samples as many, and broadcasts as long."""
    program: Program = (Train("query", 0.1), Select(3), Send())
    frames = [pack(program, room_of(4, 5, 8, 400), weights_of([20])) for _ in range(2)]
    assert all(a is b for a, b in zip(frames[0][0][1:], frames[1][0][1:], strict=True))


@pytest.mark.parametrize("name", ["demo", "smoke"])
def test_a_round_of_the_small_experiments_is_a_frame_down_and_one_up(name: str):
    settings_ = read(PROJECT / f"experiments/{name}.toml")
    model, strategy = settings_.built_model, settings_.strategy
    client = Client(settings_)
    state = strategy.start(model.initial(1), 1000)
    program = strategy.program(state, model, Round(0, 5))
    support, query = client.population([0])[0]

    async def session() -> None:
        node = Node("node", open_host)
        await client.boot(node)
        node.take_usage()
        for version in (1, 2):
            changed = np.full(model.parameters, version)
            await node.run(program, support, query, Broadcast(state.theta, changed, version))
            usage = node.take_usage()
            assert len(usage.frames_down) == len(usage.frames_up) == 1
            assert usage.bytes_sensor == len(support.packed) + len(query.packed)
            assert sum(usage.frames_down) == usage.bytes_down
            assert sum(usage.frames_up) == usage.bytes_up
        await node.close()

    asyncio.run(session())
