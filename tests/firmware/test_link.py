"""The node's end of the link: the same frames as the orchestrator's, and in step after anything."""

import asyncio
import zlib

import hypothesis.strategies as st
from hypothesis import example, given, settings

from tinymetafed.link import Connection, Hello, Request, Response, frame
from tinymetafed.link.chunk import DENSE, Chunk
from tinymetafed.link.messages import HelloRequest, Layer, Load, Outputs, Predict, Train, Weights
from tinymetafed.nodes.host import HostTransport

EXAMPLES = settings(deadline=None, derandomize=True)
GUARD = b"\xa5" * 16
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
    [hello] = connection.receive(exchange(node))
    noise = b"".join(garbage) + b"\0"
    frames = len(receiver.receive(noise))  # a good frame that holds no request is answered too
    *errors, answer = connection.receive(exchange(node, noise + connection.send(HelloRequest())))
    assert isinstance(hello, Hello)
    assert isinstance(answer, Hello)
    assert len(errors) <= frames
    too_long = any(len(piece) > hello.receive_buffer for piece in garbage)
    assert answer.bad_frames == max(receiver.bad_frames, too_long)


def test_a_request_that_comes_twice_is_answered_twice_and_done_once():
    model = (Layer(1, False, (1,)),)
    requests: list[Request] = [
        Load(inputs=1, loss=0, accumulate=False, capacity=0, layers=model),
        Weights(base=0, to=1, last=True, chunk=Chunk(0, 2, DENSE, bytes(8))),
        Train(rate=0.1, frozen=0, batch=1, epochs=1, samples=b"\0\0\x80\x3f" * 2),
        Predict(b"\0\0\x80\x3f"),
    ]

    def run(times: int) -> list[Response]:
        node, connection = HostTransport(), Connection()
        connection.receive(exchange(node))
        responses: list[Response] = []
        for request in requests:
            data = connection.send(request)
            answers = {exchange(node, data) for _ in range(times)}
            assert len(answers) == 1
            responses += connection.receive(answers.pop())
        return responses

    once, twice = run(times=1), run(times=2)
    assert once == twice
    assert isinstance(once[-1], Outputs)
    assert once[-1].values != bytes(4)  # it has learnt something


def test_a_hello_that_comes_twice_is_answered_afresh():
    node, connection = HostTransport(), Connection()
    connection.receive(exchange(node))
    [first] = connection.receive(exchange(node, connection.send(HelloRequest())))
    [second] = connection.receive(exchange(node, b"\1\1\0" + connection.resend()))
    assert isinstance(first, Hello)
    assert isinstance(second, Hello)
    assert second.bad_frames == first.bad_frames + 1
