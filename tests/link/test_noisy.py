"""A connection to a node over a link with noise: an answer is that to the request, or none."""

from collections.abc import Iterator

import cbor2
import hypothesis.strategies as st
from hypothesis import given, settings

from learning import frame_of
from tinymetafed.link import Answers, Connection, frame, messages
from tinymetafed.link.messages import UNASKED, Hello, Select, Selected
from tinymetafed.nodes.noise import Noise
from tinymetafed.nodes.settings import LinkNoise

RATE = st.sampled_from([0.0, 0.0, 0.02, 0.3])
RATES = st.fixed_dictionaries(
    {
        "flipped_bytes": st.sampled_from([0.0, 0.01, 0.1]),
        "lost_bytes": st.sampled_from([0.0, 0.01, 0.1]),
        "lost_frames": RATE,
        "doubled_frames": RATE,
        "reordered_frames": RATE,
    }
)


class Peer:
    """A node as the protocol has it: it does a request once, and answers a repeated frame from its
    last response. It selects as many entries as it is told to keep.

    Attributes:
        done: what it was told.
    """

    def __init__(self) -> None:
        self.done: list[int] = []
        self._receiver = frame.FrameReceiver()
        self._last = UNASKED
        self._response = b""

    def answer(self, data: bytes) -> bytes:
        """What it sends of these bytes."""
        sent = b""
        for body in self._receiver.receive(data):
            sequence, request = cbor2.loads(body)
            if sequence != self._last:
                assert request[0] == Select.CODE
                self.done.append(request[1])
                self._last = sequence
                self._response = frame.encode(cbor2.dumps([sequence, [Selected.CODE, request[1]]]))
            sent += self._response
        return sent


def _exchange(connection: Connection, peer: Peer, noise: Noise, keep: int) -> Iterator[Answers]:
    """What is heard of a request, until nothing more comes of what was sent."""
    data = frame_of(connection, Select(keep))
    for _ in range(400):
        heard = False
        for piece in noise.down(data):
            for answers in connection.receive(noise.up(peer.answer(piece))):
                heard = True
                yield answers
        if heard:
            return
        data = connection.resend()


@settings(max_examples=40)
@given(RATES, st.integers(0, 2**32), st.lists(st.integers(0, 50), min_size=1, max_size=60))
def test_noise_never_makes_a_wrong_message_nor_has_work_done_twice(
    rates: dict[str, float], seed: int, keep: list[int]
):
    connection, peer = Connection(), Peer()
    noise = Noise([LinkNoise.model_validate(rates)], 0, seed)
    noise.begin(1)
    for i, number in enumerate(keep):
        found = list(_exchange(connection, peer, noise, number))
        assert all(one.responses == (Selected(number),) for one in found)
        assert found or max(rates.values()) >= 0.1  # 400 attempts in vain
        if not found:
            return
        assert peer.done == keep[: i + 1]


@given(st.lists(st.binary(max_size=200) | st.just(b"\0"), max_size=20))
def test_arbitrary_bytes_are_no_answer(pieces: list[bytes]):
    """A CRC and the protocol's types stand before it."""
    connection = Connection()
    frame_of(connection, Select(1))
    assert [event for piece in pieces for event in connection.receive(piece)] == []
    assert connection.hello is None


BODIES = st.recursive(
    st.integers(-(2**64), 2**64) | st.binary(max_size=24) | st.text(max_size=8) | st.booleans(),
    lambda inner: st.lists(inner, max_size=8),
    max_leaves=20,
)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 3), BODIES), max_size=8))
def test_what_a_whole_frame_may_have_is_a_message_or_a_bad_frame(bodies: list[tuple[int, object]]):
    """Whatever CBOR comes behind a right checksum."""
    connection = Connection()
    frame_of(connection, Select(1))
    for sequence, body in bodies:
        before = connection.bad_frames
        events = connection.receive(frame.encode(cbor2.dumps([sequence, body])))
        late = sequence not in (UNASKED, connection.sequence)
        decoded = messages.decode(cbor2.dumps([sequence, body]))
        assert connection.bad_frames - before == (decoded is None)
        assert events == ([] if late or decoded is None else [decoded])
        assert all(
            isinstance(one, messages.Response) for event in events for one in event.responses
        )
    hello = connection.hello
    assert hello is None or isinstance(hello, Hello)
