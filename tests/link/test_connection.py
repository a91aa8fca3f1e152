"""One frame at a time: which answers count, and how long a request may be."""

from collections.abc import Sequence
from itertools import pairwise

import cbor2
import hypothesis.strategies as st
import pytest
from cobs import cobs
from hypothesis import given, settings

from learning import frame_of, responses
from tinymetafed.link import Answers, Connection, frame, messages
from tinymetafed.link.connection import COUNTED, UNCOUNTED
from tinymetafed.link.messages import Done, Hello, HelloRequest, Predict, Select, Selected

EXAMPLES = settings(deadline=None, derandomize=True)
DONE = [2]
NO_SEQUENCE = 0


def response(sequence: int, *items: Sequence[object]) -> bytes:
    return frame.encode(cbor2.dumps([sequence, *items]))


def hello(sequence: int, receive_buffer: int = 8192) -> bytes:
    return response(sequence, [0, 2, "1.0", bytes(20), receive_buffer, 1000, 0, 0])


def sequence_of(sent: bytes) -> int:
    return cbor2.loads(cobs.decode(sent[:-1])[: -frame.CRC_SIZE])[0]


def ready(receive_buffer: int = 8192) -> Connection:
    connection = Connection()
    connection.receive(hello(NO_SEQUENCE, receive_buffer))
    return connection


@EXAMPLES
@given(st.lists(st.integers(0, 2**32 - 1), max_size=5), st.integers(1, 9))
def test_only_the_answer_to_the_last_request_counts(others, requests):
    connection = ready()
    sequences = [sequence_of(frame_of(connection, Select(1))) for _ in range(requests)]
    stale = [number for number in sequences + others if number not in (sequences[-1], NO_SEQUENCE)]
    assert connection.receive(b"".join(response(number, DONE) for number in stale)) == []
    assert responses(connection.receive(response(sequences[-1], [7, 3]))) == [Selected(3)]


def test_a_sequence_number_is_never_zero_nor_that_of_one_of_the_last_twenty():
    connection = ready()
    sequences = [sequence_of(frame_of(connection, Select(1))) for _ in range(100)]
    assert NO_SEQUENCE not in sequences
    assert all(number not in sequences[i - 20 : i] for i, number in enumerate(sequences) if i >= 20)


def test_the_size_of_a_request_says_nothing_of_how_many_came_before():
    connection = ready()
    assert len({len(frame_of(connection, Predict(bytes(9)))) for _ in range(300)}) == 1


def test_sequence_numbers_go_on_from_one_after_the_last():
    connection = ready()
    last = COUNTED[-1]
    connection.sequence = last - 1
    assert [sequence_of(frame_of(connection, Select(1))) for _ in range(2)] == [last, 1]
    assert connection.receive(response(last, DONE)) == []
    assert responses(connection.receive(response(1, DONE))) == [Done()]


def test_what_a_node_sends_unasked_is_told():
    connection = Connection()
    fault = messages.Fault(3, 0, bytes(range(52)))
    sequence = sequence_of(frame_of(connection, HelloRequest()))
    unasked = hello(NO_SEQUENCE) + response(NO_SEQUENCE, [10, 3, 0, bytes(range(52))])
    booted, stopped, answer = responses(connection.receive(unasked + response(sequence, DONE)))
    assert isinstance(booted, Hello)
    assert (stopped, answer) == (fault, Done())


@EXAMPLES
@given(st.lists(st.integers(64, 2**32 - 1), min_size=1, max_size=4))
def test_every_hello_sets_the_receive_buffer(sizes):
    connection = Connection()
    assert connection.hello is None
    for size in sizes:
        connection.receive(hello(NO_SEQUENCE, size))
        assert connection.hello is not None
        assert connection.hello.receive_buffer == connection.receive_buffer == size
        assert connection.capacity == frame.capacity(size)


def test_a_stale_hello_changes_nothing():
    connection = ready(receive_buffer=500)
    known = connection.hello
    connection.receive(hello(77, receive_buffer=9000))
    assert (connection.hello, connection.receive_buffer) == (known, 500)


def test_a_hello_request_fits_before_the_node_has_said_its_size():
    assert frame_of(Connection(), HelloRequest())
    with pytest.raises(ValueError, match="receive buffer of 256"):
        frame_of(Connection(), Predict(bytes(256)))


@EXAMPLES
@given(st.integers(32, 9000), st.binary(min_size=1, max_size=3))
def test_a_request_is_sent_if_its_frame_fits_and_is_a_value_error_if_not(receive_buffer, fill):
    for size in range(receive_buffer - 24, receive_buffer + 2):
        connection = ready(receive_buffer)
        request = Predict((fill * size)[:size])
        expected = frame.encode(messages.encode(1, request))
        if len(expected) <= receive_buffer:
            assert frame_of(connection, request) == expected
        else:
            with pytest.raises(ValueError, match=f"receive buffer of {receive_buffer}"):
                frame_of(connection, request)


@EXAMPLES
@given(st.integers(32, 9000))
def test_a_body_of_the_connections_capacity_is_never_too_long(receive_buffer):
    connection = ready(receive_buffer)
    overhead = len(messages.encode(1, Predict(bytes(connection.capacity)))) - connection.capacity
    frame_of(connection, Predict(b"\1" * (connection.capacity - overhead)))


def test_resending_gives_the_same_bytes_even_after_a_request_that_was_too_long():
    connection = ready()
    sent = frame_of(connection, Select(5))
    with pytest.raises(ValueError, match="a frame of 90.. bytes is longer than the node's"):
        frame_of(connection, Predict(bytes(9000)))
    assert connection.resend() == connection.resend() == sent
    assert responses(connection.receive(response(sequence_of(sent), DONE))) == [Done()]
    assert sequence_of(frame_of(connection, Select(6))) == sequence_of(sent) + 1


def test_a_body_that_is_no_response_counts_as_a_bad_frame():
    connection = ready()
    sequence = sequence_of(frame_of(connection, Select(5)))
    events = connection.receive(frame.encode(b"no CBOR") + b"\3no" + response(sequence, DONE))
    assert connection.bad_frames == 2
    assert events == []
    assert responses(connection.receive(response(sequence, DONE))) == [Done()]


def test_a_measurement_leaves_the_numbers_of_a_round_as_they_are():
    """Its own are others, so that none is taken for an answer of a round, and go round as well."""
    connection = ready()
    assert sequence_of(frame_of(connection, Select(1))) == COUNTED[0]
    measured = [sequence_of(frame_of(connection, Select(1), counted=False)) for _ in range(2 * 300)]
    assert set(measured) == set(UNCOUNTED)
    assert all(a != b for a, b in pairwise(measured))
    assert connection.sequence == COUNTED[0]
    assert connection.receive(response(COUNTED[0], DONE)) == []
    assert responses(connection.receive(response(measured[-1], DONE))) == [Done()]
    assert sequence_of(frame_of(connection, Select(1))) == COUNTED[1]


@EXAMPLES
@given(st.integers(1, 23), st.integers(0, 3))
def test_a_number_of_a_round_is_one_byte_of_cbor(sequence, requests):
    """So that the size of a frame says nothing of how many came before it."""
    connection = ready()
    connection.sequence = sequence
    sent = frame_of(connection, *(requests + 1) * [Select(1)])
    body = cobs.decode(sent[:-1])[: -frame.CRC_SIZE]
    assert body[0] == 0x82 + requests
    assert body[1] == sequence % 23 + 1


def test_answers_to_several_requests_come_together():
    connection = ready()
    sequence = sequence_of(frame_of(connection, Select(1), Select(2), Select(3)))
    [answers] = connection.receive(response(sequence, [7, 1], DONE, [7, 300]))
    assert answers == Answers(sequence, (Selected(1), Done(), Selected(300)), (3, 2, 5))


@pytest.mark.parametrize("requests", [0, messages.MOST_REQUESTS + 1])
def test_a_frame_without_or_with_too_many_requests_is_a_value_error(requests):
    connection = ready()
    with pytest.raises(ValueError, match=f"{requests} requests in a frame, which holds 1 to 22"):
        frame_of(connection, *requests * [Select(1)])
    assert connection.sequence == NO_SEQUENCE
    assert frame_of(connection, *messages.MOST_REQUESTS * [Select(1)])
