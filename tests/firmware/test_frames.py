"""Several requests in a frame: they are done in their order, as if each had come alone, none behind
one that fails; and they are answered in one frame, whatever the answers are."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import cbor2
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from learning import BareNode, Problem, frame_of, problems
from tinymetafed.link import Connection, Error, Hello, Request, Response, frame, messages
from tinymetafed.link.chunk import DENSE, Chunk, decode
from tinymetafed.link.messages import (
    CORRECTED,
    FROM_MARK,
    GLOBAL,
    LOCAL,
    MARK,
    MOST_REQUESTS,
    RESIDUAL,
    VARIATE,
    Evaluate,
    Evaluated,
    HelloRequest,
    Layer,
    Load,
    Mark,
    Outputs,
    Predict,
    Renew,
    Residual,
    Restore,
    Select,
    Selected,
    Store,
    Train,
    Trained,
    Update,
    Updated,
    Variate,
    Weights,
    encode_request,
)

EXAMPLES = settings(deadline=None, derandomize=True)
RECEIVE = 8192  # bytes of the node's receive buffer
MALFORMED, NO_MODEL, MEMORY, RANGE, ARGUMENT = 1, 2, 4, 6, 9  # enum tmf_error


@contextmanager
def nodes(count: int) -> Iterator[list[BareNode]]:
    found = [BareNode() for _ in range(count)]
    yield found
    for node in found:
        node.close()


def dense(values: Sequence[float] | np.ndarray, first: int = 0) -> Chunk:
    data = np.asarray(values, "<f4")
    return Chunk(first, len(data), DENSE, data.tobytes())


# ---- as if each had come alone -------------------------------------------------------------------


@st.composite
def work(draw: st.DrawFn, problem: Problem) -> list[Request]:
    """Requests, most of which can be done where they are. It begins with a model and weights."""
    model, samples = problem.model, problem.samples
    n, count = model.parameters, len(samples)
    room = draw(st.sampled_from([RESIDUAL, VARIATE | MARK, MARK, VARIATE]))
    load = model.description(accumulate=draw(st.booleans()), capacity=count, room=room)
    version = 0
    requests: list[Request] = [load]
    rates = st.sampled_from([0.0, 2.0**-9, 2.0**-7])

    def data() -> bytes:
        first = draw(st.integers(0, count - 1))
        return samples[first : draw(st.integers(first + 1, count))].packed

    def values() -> Chunk:
        first = draw(st.integers(0, n - 1))
        end = draw(st.integers(first + 1, n))
        rng = np.random.default_rng(draw(st.integers(0, 99)))
        return dense(rng.normal(0, 0.1, end - first), first)

    kinds = st.sampled_from(
        [Weights, Store, Train, Train, Evaluate, Predict, Select, Update, Residual, Restore, Mark,
         Variate, Renew, HelloRequest, Load]
    )  # fmt: skip
    for kind in [Weights, *draw(st.lists(kinds, max_size=24))]:
        if kind is Weights:
            version += 1
            requests.append(Weights(0, version, True, dense(problem.theta)))
        elif kind is Store:
            requests.append(Store(draw(st.booleans()), data()))
        elif kind is Train:
            used = data() if draw(st.booleans()) else None
            proximal = draw(st.sampled_from([0.0, 0.0, 0.5]))
            options = draw(st.sampled_from([0, 0, FROM_MARK, CORRECTED, FROM_MARK | CORRECTED, 4]))
            batch, epochs = draw(st.integers(1, 2)), draw(st.integers(1, 2))
            frozen = draw(st.integers(0, 3))
            requests.append(Train(draw(rates), frozen, batch, epochs, used, proximal, options))
        elif kind is Evaluate:
            requests.append(Evaluate(data()))
        elif kind is Predict:
            requests.append(Predict(samples.inputs[: draw(st.integers(1, 3))].tobytes()))
        elif kind is Select:
            requests.append(Select(draw(st.integers(0, n)), draw(st.integers(0, 2))))
            first = draw(st.integers(0, n - 1))
            requests += [Update(0, n), Update(first, draw(st.integers(first, n)))]
        elif kind is Residual:
            requests.append(Residual(draw(st.integers(0, n - 1)), n))
        elif kind in (Restore, Variate):
            requests.append(kind(values()))
        elif kind is Renew:
            requests.append(Renew(draw(rates)))
        elif kind is Load:
            requests += [load, Weights(0, version := version + 1, True, dense(problem.theta))]
        elif kind is not Update:
            requests.append(kind())
    return requests


@settings(EXAMPLES, max_examples=250)
@given(problems(samples=st.integers(1, 4)), st.data())
def test_requests_in_a_frame_do_what_they_do_one_by_one(problem: Problem, data: st.DataObject):
    requests = data.draw(work(problem))
    n, x = problem.model.parameters, problem.samples.inputs.tobytes()
    with nodes(2) as (together, apart):
        left = list(requests)
        while left:
            count = data.draw(st.integers(1, min(len(left), MOST_REQUESTS)))
            some, left = left[:count], left[count:]
            answers = together.ask(*some)
            # Those behind an error are not done, and there is one at the end of too few answers.
            errors = [isinstance(one, Error) for one in answers]
            assert True not in errors[:-1]
            assert len(answers) == count or errors[-1]
            assert list(answers) == apart.ask_each(some[: len(answers)])
        ends = [Predict(x), Residual(0, n), Select(n), Update(0, n)]
        assert together.ask_each(ends) == apart.ask_each(ends)


LINE = Load(1, 0, True, 9, (Layer(1, GLOBAL, (1,)),))
THETA = Weights(0, 1, True, dense([0.5, -0.25]))
SAMPLE = np.array([1, 3], "<f4").tobytes()
X = SAMPLE[:4]
TRAIN = Train(0.125, 0, 1, 1, SAMPLE)


def test_what_is_behind_an_error_is_not_done_and_has_no_answer():
    with nodes(2) as (node, other):
        node.ask(LINE, THETA)
        trained, refused = node.ask(TRAIN, Train(-1, 0, 1, 1, SAMPLE), TRAIN, Predict(X))
        assert isinstance(trained, Trained)
        assert isinstance(refused, Error)
        assert refused.code == ARGUMENT
        other.ask(LINE, THETA, TRAIN)
        assert node.ask(Predict(X)) == other.ask(Predict(X))


def test_an_answer_says_what_was_when_it_was_asked():
    """And not what a request behind it has made of it."""
    load = Load(1, 0, False, 0, (Layer(1, GLOBAL, (1,)),), RESIDUAL)
    before, after = dense([1, 2]), dense([3, 4])
    with nodes(1) as (node,):
        node.ask(load)
        _, first, _, second = node.ask(
            Restore(before), Residual(0, 2), Restore(after), Residual(0, 2)
        )
        assert (first, second) == (Updated(before), Updated(after))
        node.ask(THETA, TRAIN, Restore(before))
        selected, update, _, kept = node.ask(
            Select(2), Update(0, 2), Restore(after), Residual(0, 2)
        )
        assert selected == Selected(2)
        assert isinstance(update, Updated)
        assert update.chunk.data != after.data
        assert kept == Updated(after)


def test_a_frame_that_comes_twice_is_answered_twice_and_done_once():
    samples = SAMPLE + SAMPLE[::-1]
    with nodes(2) as (node, once):
        for one in (node, once):
            one.ask(LINE, THETA)
        for times in (2, 3):
            requests = [TRAIN, Store(True, samples[:8]), Train(0.0625, 0, 1, 2, None), Predict(X)]
            data = frame_of(node.connection, *requests)
            answers = {node.exchange(data) for _ in range(times)}
            answers.add(once.exchange(frame_of(once.connection, *requests)))
            assert len(answers) == 1
        last = [Train(0.5, 0, 9, 1, None), Predict(X), Select(2), Update(0, 2)]
        assert node.ask(*last) == once.ask(*last)
        assert len(node.ask(THETA, Evaluate(SAMPLE))) == 2


def test_a_frame_with_an_error_that_comes_twice_is_done_once():
    with nodes(1) as (node,):
        node.ask(LINE, THETA)
        data = frame_of(node.connection, TRAIN, Mark(), TRAIN)
        assert node.exchange(data) == node.exchange(data)
        found = node.ask(Predict(X))
        node.ask(LINE, THETA, TRAIN)
        assert node.ask(Predict(X)) == found


def test_hellos_among_others_are_answered_but_not_afresh():
    with nodes(1) as (node,):
        data = frame_of(node.connection, *MOST_REQUESTS * [HelloRequest()])
        first = node.exchange(data)
        [answers] = node.connection.receive(first)
        assert answers.responses == MOST_REQUESTS * (node.hello,)
        node.exchange(b"noise\0")
        assert node.exchange(data) == first
        [hello] = node.ask(HelloRequest())
        assert isinstance(hello, Hello)
        assert hello.bad_frames == 1


# ---- answers that fill the response --------------------------------------------------------------


def striped(units: int, layers: int = 5) -> Load:
    """Of dense layers that are by turns global and local, but the first, which is all of the
    size."""
    widths = [units, *(layers - 1) * [3]]
    return Load(
        40,
        0,
        False,
        0,
        tuple(Layer(1, (GLOBAL, LOCAL)[i % 2], (n,)) for i, n in enumerate(widths)),
        RESIDUAL,
    )


def parameters(load: Load) -> int:
    widths = [load.inputs, *(layer.arguments[0] for layer in load.layers)]
    return sum(b * (a + 1) for a, b in itertools.pairwise(widths))


def ready(node: BareNode, load: Load, seed: int, keep: int, values: int = 0) -> np.ndarray:
    """A node with an update of `keep` entries, which are returned, float32 [parameters]; of whole
    numbers, which have a code in each format."""
    n = parameters(load)
    rng = np.random.default_rng(seed)
    kept = rng.integers(1, 100, n) * rng.choice([-1, 1], n) * (rng.permutation(n) < keep)
    node.ask(load)
    for first in range(0, n, 2000):
        node.ask(Restore(dense(kept[first : first + 2000], first)))
    zeros = np.zeros(n)
    for first in range(0, n, 2000):
        piece = dense(zeros[first : first + 2000], first)
        node.ask(Weights(0, 1, first + 2000 >= n, piece))
    [selected] = node.ask(Select(n, values))
    position, local = 0, np.zeros(n, bool)
    widths = [load.inputs, *(layer.arguments[0] for layer in load.layers)]
    for layer, (a, b) in zip(load.layers, itertools.pairwise(widths), strict=True):
        local[position : position + b * (a + 1)] = layer.part == LOCAL
        position += b * (a + 1)
    delta = np.where(local, 0, kept).astype(np.float32)
    assert selected == Selected(int(np.count_nonzero(delta)))
    return delta


def collect(node: BareNode, ranges: Sequence[tuple[int, int]]) -> tuple[dict[int, float], int]:
    """What frames of updates for these ranges, again and again, come to, and how many they are."""
    found: dict[int, float] = {}
    left, frames = list(ranges), 0
    while left:
        frames += 1
        some, behind = left[:MOST_REQUESTS], left[MOST_REQUESTS:]
        answers = node.ask(*(Update(*one) for one in some))
        assert len(answers) == len(some)
        moved, rest = 0, list[tuple[int, int]]()
        for i, ((first, end), answer) in enumerate(zip(some, answers, strict=True)):
            assert isinstance(answer, Updated)
            piece = answer.chunk
            assert piece.first == first
            assert 0 <= piece.count <= end - first
            assert piece.count > 0 or i > 0  # the first has room
            moved += piece.count
            where, what = decode(piece)
            found |= {int(k): float(v) for k, v in zip(where, what, strict=True) if v}
            if first + piece.count < end:
                rest.append((first + piece.count, end))
        assert moved > 0
        left = rest + behind
    return found, frames


@EXAMPLES
@given(
    st.integers(0, 99), st.sampled_from([49, 50, 51, 200, 400]), st.integers(1, MOST_REQUESTS),
    st.floats(0, 1), st.integers(0, 2),
)  # fmt: skip
def test_nothing_of_an_update_is_lost_whatever_fits_into_a_response(
    seed: int, units: int, requests: int, share: float, values: int
):
    load = striped(units)
    n = parameters(load)
    with nodes(1) as (node,):
        delta = ready(node, load, seed, round(share * n), values)
        rng = np.random.default_rng(seed)
        ends = sorted({n, *rng.integers(1, n, requests - 1).tolist()})
        found, frames = collect(node, list(itertools.pairwise([0, *ends])))
        assert found == {int(i): float(delta[i]) for i in np.flatnonzero(delta)}
        # Full: no more frames than the values, and what finds and frames them, take.
        assert frames <= 1 + -(-(6 * len(found) + n // 8) // (RECEIVE - 1700))


@pytest.mark.parametrize("requests", range(1, MOST_REQUESTS + 1))
def test_a_full_update_leaves_room_for_the_answers_to_all_others(requests: int):
    """Whatever they are: none at all would come if they were one byte too long."""
    load = striped(60)
    n = parameters(load)
    others: dict[str, Request] = {
        "update": Update(n - 1, n),
        "residual": Residual(n - 1, n),
        "hello": HelloRequest(),
        "weights": Weights(1, 1, False, dense([])),
    }
    refused: list[tuple[int, Request]] = [
        (MEMORY, Load(2**20, 0, False, 2**32 - 1, load.layers)),
        (RANGE, Update(1, 1)),
        (RANGE, Restore(dense([1, 2], n - 1))),
        (ARGUMENT + 2, TRAIN),
    ]
    with nodes(1) as (node,):
        for asked, behind in itertools.product((Update(0, n), Residual(0, n)), others):
            ready(node, load, 1, n)
            first, *answers = node.ask(asked, *(requests - 1) * [others[behind]])
            assert isinstance(first, Updated)
            assert 4 * first.chunk.count >= RECEIVE - 80 - 64 * requests
            assert len(answers) == requests - 1
            if behind == "hello":
                assert answers == (requests - 1) * [node.hello]
            for code, wrong in refused if requests > 1 and behind == "update" else ():
                *_, error = node.ask(asked, *(requests - 2) * [others[behind]], wrong)
                assert isinstance(error, Error)
                assert error.code == code
                if code == MEMORY:
                    assert error.needed > 2**32
                    ready(node, load, 1, n)


def test_outputs_beside_outputs_fill_a_response_and_are_refused_past_it():
    load = Load(1, 0, False, 0, (Layer(1, GLOBAL, (97,)),))
    inputs = np.arange(10, dtype="<f4")
    with nodes(1) as (node,):
        node.ask(load, Weights(0, 1, True, dense(np.arange(194))))
        expected = node.ask(Predict(inputs.tobytes()))
        assert node.ask(Predict(inputs.tobytes()), Predict(inputs.tobytes())) == 2 * expected
        *answers, refused = node.ask(*3 * [Predict(inputs.tobytes())])
        assert tuple(answers) == 2 * expected
        assert isinstance(refused, Error)


# ---- borders and what is malformed ---------------------------------------------------------------


def test_a_frame_has_22_requests_at_most():
    with nodes(1) as (node,):
        node.ask(LINE, THETA)
        for count in (MOST_REQUESTS - 1, MOST_REQUESTS):
            answers = node.ask(*count * [TRAIN])
            assert len(answers) == count
            assert all(isinstance(one, Trained) for one in answers)
        [before] = node.ask(Predict(X))
        for head in (b"\x98\x18", bytes([0x80 + 24]), b"\x99\0\x18"):
            body = head + b"\x07" + (MOST_REQUESTS + 1) * encode_request(TRAIN)
            assert errors_of(node, body, sequence=0) == (0, MALFORMED)
            node.ask(Evaluate(SAMPLE))  # or the next is answered as one that comes again
        assert node.ask(Predict(X)) == (before,)


@pytest.mark.parametrize("fill", [b"\x55", b"\0"])
def test_a_frame_of_the_receive_buffer_s_length_is_taken_and_a_longer_one_dropped(fill: bytes):
    """The zero at its end is not kept."""
    with nodes(1) as (node,):
        node.ask(Load(1, 0, False, 9000, LINE.layers), THETA)
        other = encode_request(Evaluate(SAMPLE))
        for more in (0, 1):
            for size in range(RECEIVE - 200, RECEIVE + 1):
                # A text is no samples: the request is malformed, but may have any length.
                body = b"\x83\x18\x40" + other + b"\x82\x05\x79" + size.to_bytes(2) + size * fill
                length = len(frame.encode(body))
                if length == RECEIVE + 1 + more:
                    break
            else:
                pytest.fail("no frame of that length")
            bad = node.ask(HelloRequest())[0]
            answer = node.body(body)
            assert (answer is None) == bool(more)
            if answer is not None:
                [_, evaluated, error] = cbor2.loads(answer)
                assert (evaluated[:2], error[:2]) == ([5, 1], [9, MALFORMED])
            now = node.ask(HelloRequest())[0]
            assert isinstance(bad, Hello)
            assert isinstance(now, Hello)
            assert now.bad_frames - bad.bad_frames == more


def test_requests_that_fill_a_frame_are_done():
    """Samples of the last request end with the frame's last byte but the checksum."""
    with nodes(2) as (node, other):
        for one in (node, other):
            one.ask(Load(1, 0, False, 2000, LINE.layers), THETA)
        capacity = node.connection.capacity
        some = [Store(False, 300 * SAMPLE), TRAIN, TRAIN]
        used = 3 + sum(len(encode_request(one)) for one in some)
        rest = (capacity - used - len(messages.around_samples(Store(True, b""), 9000)[0])) // 8
        some.append(Store(True, rest * SAMPLE))
        some.insert(2, Evaluate(SAMPLE))
        assert 0 <= capacity - len(messages.encode(24, *some)) + len(encode_request(some[2])) < 20
        del some[2]
        answers = node.ask(*some)
        assert list(answers) == other.ask_each(some)
        assert node.ask(Train(0.0, 0, 1, 1, None)) == other.ask(Train(0.0, 0, 1, 1, None))


def errors_of(node: BareNode, body: bytes, sequence: int) -> tuple[int, int]:
    """How many answers there were before the last, which is an error, and its code."""
    answer = node.body(body)
    assert answer is not None
    decoded = messages.decode(answer)
    assert decoded is not None
    assert decoded.sequence == sequence
    *before, error = decoded.responses
    assert not any(isinstance(one, Error) for one in before)
    assert isinstance(error, Error)
    return len(before), error.code


BEHIND: dict[str, tuple[bytes, int]] = {
    "a byte": (b"\0", -1),
    "an item that is no request": (b"\x81\x18\x63", -1),
    "a whole request": (encode_request(TRAIN), -1),
    "the head of one": (encode_request(TRAIN)[:4], -1),
}


@pytest.mark.parametrize("what", BEHIND)
@pytest.mark.parametrize("requests", [1, 2, MOST_REQUESTS])
def test_what_is_behind_the_last_request_spoils_it_and_no_other(requests: int, what: str):
    with nodes(2) as (node, other):
        for one in (node, other):
            one.ask(LINE, THETA)
        body = messages.encode(77, *requests * [TRAIN]) + BEHIND[what][0]
        assert errors_of(node, body, 77) == (requests - 1, MALFORMED)
        other.ask_each((requests - 1) * [TRAIN])
        assert node.ask(Predict(X)) == other.ask(Predict(X))


@pytest.mark.parametrize("counted", range(1, MOST_REQUESTS + 2))
@pytest.mark.parametrize("there", [1, 2, 5, MOST_REQUESTS])
def test_a_count_that_is_wrong_is_malformed_from_there_on(there: int, counted: int):
    with nodes(2) as (node, other):
        for one in (node, other):
            one.ask(LINE, THETA)
        body = bytearray(messages.encode(77, *there * [TRAIN]))
        body[0] = 0x81 + counted
        if counted == there:
            assert len(node.ask(*there * [TRAIN])) == there
            done = there
        elif counted > MOST_REQUESTS:
            assert errors_of(node, bytes(body), 0) == (0, MALFORMED)
            done = 0
        else:
            done = min(there, counted - 1)
            assert errors_of(node, bytes(body), 77) == (done, MALFORMED)
        other.ask_each(done * [TRAIN])
        assert node.ask(Predict(X)) == other.ask(Predict(X))


def test_a_frame_that_is_cut_anywhere_does_what_is_whole():
    requests = [TRAIN, Store(False, SAMPLE), Mark(), TRAIN]
    load = Load(1, 0, True, 9, LINE.layers, MARK)
    ends = np.cumsum([2, *(len(encode_request(one)) for one in requests)]).tolist()
    body = messages.encode(23, *requests)
    assert ends[-1] == len(body)
    for cut in range(1, len(body)):
        with nodes(2) as (node, other):
            for one in (node, other):
                one.ask(load, THETA)
            done = sum(end <= cut for end in ends[1:])
            sequence = 23 if cut > 2 else 0
            assert errors_of(node, body[:cut], sequence) == (done, MALFORMED)
            other.ask_each(requests[:done])
            ends_ = [Predict(X), Train(0.25, 0, 1, 1, SAMPLE, 0.0, FROM_MARK), Predict(X)]
            assert node.ask_each(ends_) == other.ask_each(ends_)


@EXAMPLES
@given(st.integers(1, 5), st.integers(0, 200), st.integers(1, 255), st.data())
def test_a_changed_frame_is_answered_in_one_and_does_no_more_than_it_says(
    requests: int, place: int, change: int, data: st.DataObject
):
    """An answer each, none behind an error; and the node works on as any other does."""
    kinds: list[Any] = [TRAIN, Mark(), Store(True, SAMPLE), Evaluate(SAMPLE), Predict(X)]
    some = data.draw(st.lists(st.sampled_from(kinds), min_size=requests, max_size=requests))
    body = bytearray(messages.encode(77, *some))
    body[3 + place % (len(body) - 3)] ^= change
    with nodes(1) as (node,):
        node.ask(LINE, THETA)
        answer = node.body(bytes(body))
        assert answer is not None
        decoded = messages.decode(answer)
        assert decoded is not None
        assert decoded.sequence == 77
        errors = [isinstance(one, Error) for one in decoded.responses]
        assert True not in errors[:-1]
        assert len(errors) == len(some) or errors[-1]
        node.ask(LINE, THETA)
        evaluated, outputs = node.ask(Evaluate(SAMPLE), Predict(X))
        assert isinstance(evaluated, Evaluated)
        assert outputs == Outputs(np.array([0.25], "<f4").tobytes())


def test_each_frame_has_a_number_by_which_it_is_known():
    """Whatever its length in CBOR; and a frame without a readable one has 0."""
    with nodes(1) as (node,):
        node.ask(LINE, THETA)
        for head, number in (
            (b"\x05", 5), (b"\x18\x05", 5 + 2**32), (b"\x18\xff", 255), (b"\x19\x12\x34", 0x1234),
            (b"\x1a\xff\xfe\xfd\xfc", 0xFFFEFDFC),
        ):  # fmt: skip
            answer = node.body(b"\x83" + head + 2 * encode_request(Evaluate(SAMPLE)))
            assert answer is not None
            decoded = messages.decode(answer)
            assert decoded is not None
            assert decoded.sequence == number % 2**32
            assert len(decoded.responses) == 2
        for head in (b"\x1b" + bytes(8), b"\x20", b"\x41\1", b"\xf6", b"\x1c"):
            assert errors_of(node, b"\x82" + head + encode_request(TRAIN), 0) == (0, MALFORMED)
        for body in (
            b"\x80",
            b"\x81\x05",
            b"\x80\x05" + encode_request(TRAIN),
            b"\xa2\x01\x02\x03",
        ):
            assert errors_of(node, body, 0) == (0, MALFORMED)


def test_a_response_takes_the_shortest_number():
    for number in (1, 23, 24, 255, 256, 65535, 65536, 2**32 - 1):
        with nodes(1) as (node,):
            answer = node.body(messages.encode(number, HelloRequest(), Evaluate(SAMPLE)))
            assert answer is not None
            assert answer.startswith(messages.body_head(number, 2))
            assert errors_of(node, messages.encode(number - 1, Evaluate(b"")), number - 1) == (
                0, NO_MODEL,
            )  # fmt: skip


def test_connections_and_nodes_agree_on_the_longest_frame():
    """What a connection calls its capacity a node takes, whatever the requests."""
    connection = Connection()
    with nodes(1) as (node,):
        connection.receive(node.exchange(frame_of(connection, HelloRequest())))
        around = 3 * len(encode_request(Predict(bytes(3000)))) - 3 * 3000
        rest = connection.capacity - 3 - around - 6000
        requests: list[Request] = [
            Predict(b"\1" * 3000),
            Predict(b"\1" * 3000),
            Predict(b"\1" * rest),
        ]
        answers: list[Response] = []
        for one in connection.receive(node.exchange(frame_of(connection, *requests))):
            answers += one.responses
        [error] = answers
        assert isinstance(error, Error)
        assert error.code == NO_MODEL
