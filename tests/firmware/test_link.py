"""The node's end of the link: the same frames as the orchestrator's, and in step after anything."""

import asyncio
import zlib
from collections.abc import Sequence

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given, settings

from learning import BareNode, frame_of, responses
from tinymetafed.link import Connection, Error, Hello, Request, Response, frame, messages
from tinymetafed.link.chunk import DENSE, Chunk
from tinymetafed.link.messages import (
    GLOBAL,
    HelloRequest,
    Layer,
    Load,
    Outputs,
    Predict,
    Train,
    Weights,
)
from tinymetafed.nodes.host import HostTransport

EXAMPLES = settings(deadline=None, derandomize=True)
GUARD = b"\xa5" * 16
MALFORMED, WEIGHTS, RANGE, ENCODING = 1, 5, 6, 7  # enum tmf_error
BODIES = st.one_of(
    st.binary(max_size=600),
    # Around the borders of COBS blocks.
    st.builds(
        lambda fill, size: bytes([fill]) * size,
        st.integers(0, 255),
        st.sampled_from([*range(6), *range(248, 258), *range(502, 512), 8152]),
    ),
)


def exchange(node: HostTransport, data: bytes = b"") -> bytes:
    """What the node answers to the data. On the host it has done so when it is given them."""

    async def talk() -> bytes:
        await node.write(data)
        async with asyncio.timeout(0):
            return await node.read()

    return asyncio.run(talk())


@EXAMPLES
@given(BODIES, st.integers(0, 2**32 - 1), st.integers(0, 600))
def test_crc32_is_that_of_zlib_also_in_pieces(core, data, start, cut):
    assert core.lib.tmf_crc32(start, data, len(data)) == zlib.crc32(data, start)
    head = core.lib.tmf_crc32(start, data[:cut], len(data[:cut]))
    assert core.lib.tmf_crc32(head, data[cut:], len(data[cut:])) == zlib.crc32(data, start)


@EXAMPLES
@given(BODIES)
def test_frames_are_those_of_the_orchestrator_and_stay_within_their_buffer(core, data):
    room = len(data) + 4 + (len(data) + 4) // 254 + 2  # TMF_FRAME_SIZE
    body, out = bytearray(data) + bytes(4) + GUARD, bytearray(room) + GUARD
    buffers = [core.ffi.from_buffer("uint8_t[]", buffer) for buffer in (body, out)]
    size = core.lib.tmf_link_frame(buffers[0], len(data), buffers[1])
    assert out[:size] == frame.encode(data)
    assert out[room:] == GUARD
    assert body[len(data) + 4 :] == GUARD


@EXAMPLES
@given(st.lists(st.binary(max_size=40) | BODIES.map(frame.encode), max_size=5))
@example([b"\x07" * 9000])  # longer than any frame
@example([frame.encode(bytes(8200))])
def test_the_node_is_in_step_after_garbage_and_a_zero_and_has_counted_it(garbage):
    node, connection, receiver = HostTransport(), Connection(), frame.FrameReceiver()
    [hello] = responses(connection.receive(exchange(node)))
    noise = b"".join(garbage) + b"\0"
    frames = len(receiver.receive(noise))  # a good frame that holds no request is answered too
    asked = frame_of(connection, HelloRequest())
    *errors, answer = responses(connection.receive(exchange(node, noise + asked)))
    assert isinstance(hello, Hello)
    assert isinstance(answer, Hello)
    assert len(errors) <= frames
    too_long = any(len(piece) > hello.receive_buffer for piece in garbage)
    assert answer.bad_frames == max(receiver.bad_frames, too_long)


LOAD = Load(inputs=1, loss=0, accumulate=False, capacity=0, layers=(Layer(1, GLOBAL, (1,)),))
THETA = Weights(base=0, to=1, last=True, chunk=Chunk(0, 2, DENSE, bytes(8)))
ONE = b"\0\0\x80\x3f"


def converse(requests: Sequence[Request], times: int = 1) -> list[Response]:
    """What a node answers to the requests, of which each comes so many times."""
    node, connection = HostTransport(), Connection()
    connection.receive(exchange(node))
    found: list[Response] = []
    for request in requests:
        data = frame_of(connection, request)
        [answer] = {exchange(node, data) for _ in range(times)}
        found += responses(connection.receive(answer))
    return found


def test_a_request_that_comes_twice_is_answered_twice_and_done_once():
    train = Train(rate=0.1, frozen=0, batch=1, epochs=1, samples=ONE + ONE)
    requests = [LOAD, THETA, train, Predict(ONE)]
    found = converse(requests)
    assert converse(requests, times=2) == found
    assert isinstance(found[-1], Outputs)
    assert found[-1].values != bytes(4)  # it has learnt something


@pytest.mark.parametrize(
    ("pieces", "code"),
    [
        pytest.param([Weights(0, 1, True, Chunk(0, 1, DENSE, ONE))], RANGE, id="too few"),
        pytest.param([Weights(0, 1, True, Chunk(1, 1, DENSE, ONE))], RANGE, id="not the first"),
        pytest.param([Weights(0, 1, True, Chunk(0, 3, DENSE, 3 * ONE))], RANGE, id="too many"),
        pytest.param([Weights(0, 0, True, Chunk(0, 2, DENSE, 2 * ONE))], WEIGHTS, id="no version"),
        pytest.param([Weights(1, 2, True, Chunk(0, 2, DENSE, 2 * ONE))], WEIGHTS, id="no base"),
        pytest.param([Weights(0, 1, True, Chunk(0, 2, DENSE, ONE))], ENCODING, id="too short"),
        pytest.param(
            [
                THETA,
                Weights(1, 2, False, Chunk(0, 1, DENSE, ONE)),
                Weights(1, 2, True, Chunk(0, 1, DENSE, ONE)),
            ],
            RANGE,
            id="the same twice",
        ),
    ],
)
def test_a_broadcast_that_cannot_be_is_refused_and_leaves_no_weights(pieces, code):
    *_, refused, judged = converse([LOAD, *pieces, Predict(ONE)])
    assert isinstance(refused, Error)
    assert refused.code == code
    assert isinstance(judged, Error)
    assert judged.code == WEIGHTS


@EXAMPLES
@given(st.binary(min_size=1, max_size=9))
def test_bytes_after_a_request_are_malformed(more):
    node, connection = HostTransport(), Connection()
    connection.receive(exchange(node))
    frame_of(connection, HelloRequest())
    request = messages.encode(1, HelloRequest()) + more
    [answer] = responses(connection.receive(exchange(node, frame.encode(request))))
    assert isinstance(answer, Error)
    assert answer.code == MALFORMED


@pytest.mark.parametrize("cut", [8193, 8200, 12_000])
def test_the_rest_of_a_frame_that_is_too_long_is_no_frame(cut):
    """Not even where it is one by itself, however the stream is cut."""
    node = BareNode()
    [before] = node.ask(HelloRequest())
    rest = frame_of(node.connection, HelloRequest())
    for data in (b"\1" * cut, rest, b"\0"):
        assert node.exchange(data) == b""
    [after] = node.ask(HelloRequest())
    assert isinstance(before, Hello)
    assert isinstance(after, Hello)
    assert after.bad_frames == before.bad_frames + 1


def test_a_hello_that_comes_twice_is_answered_afresh():
    node, connection = HostTransport(), Connection()
    connection.receive(exchange(node))
    asked = frame_of(connection, HelloRequest())
    [first] = responses(connection.receive(exchange(node, asked)))
    [second] = responses(connection.receive(exchange(node, b"\1\1\0" + connection.resend())))
    assert isinstance(first, Hello)
    assert isinstance(second, Hello)
    assert second.bad_frames == first.bad_frames + 1


SIZES = [*range(1, 12), *range(235, 275), *range(489, 529), *range(750, 775), 2000, 8152]


@settings(EXAMPLES, max_examples=400)
@given(
    st.sampled_from(SIZES) | st.integers(1, 8152), st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 0.001, 0.004, 0.02, 0.5]),
)  # fmt: skip
def test_the_length_of_a_frame_is_known_without_making_it(core, size, seed, zeros):
    rng = np.random.default_rng(seed)
    for _ in range(20):
        body = rng.integers(1, 256, size, np.uint8)
        body[rng.random(size) < zeros] = 0
        expected = len(frame.encode(body.tobytes()))
        assert core.lib.tmf_probe_frame_size(body.tobytes(), size) == expected


@pytest.mark.parametrize("last", range(247, 259))
def test_the_length_of_a_frame_whose_checksum_ends_a_block(core, last):
    """Its last block without a zero is as long as one can be with some bytes of the checksum, which
    may have a zero in any of its places, and none."""
    seen: set[tuple[int, ...]] = set()
    for number in range(30_000):
        body = number.to_bytes(3, "big") + b"\0" + bytes([1 + number % 255]) * last
        crc = zlib.crc32(body).to_bytes(4, "little")
        places = tuple(i for i, byte in enumerate(crc) if byte == 0)
        if places not in seen or number < 500:
            seen.add(places)
            assert core.lib.tmf_probe_frame_size(body, len(body)) == len(frame.encode(body))
    assert {(), (0,), (1,), (2,), (3,)} <= seen
