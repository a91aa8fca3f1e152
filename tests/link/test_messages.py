"""The messages and firmware/protocol.cddl say the same, and no bytes bring the decoder down."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import astuple, fields, replace
from typing import Any, get_args

import cbor2
import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings
from zcbor import DataTranslator

from learning import frame_of, responses
from tinymetafed.link import Answers, Connection, frame, messages, short
from tinymetafed.link.chunk import Chunk
from tinymetafed.nodes.host import HostTransport
from tinymetafed.places import FIRMWARE

EXAMPLES = settings(deadline=None, derandomize=True)
CDDL = (FIRMWARE / "protocol.cddl").read_text()
PROTOCOL = DataTranslator.from_cddl(CDDL, default_max_qty=32).my_types
NO_MODEL, NO_SUCH_MODEL, MEMORY = 2, 3, 4  # of enum tmf_error

U8, U16, U32, U64 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64))
BYTES = st.binary(max_size=40)
FLOAT32 = st.floats(width=32)
CHUNKS = st.builds(Chunk, U32, U32, U8, BYTES)
LAYERS = st.builds(messages.Layer, U8, st.integers(0, 2), st.lists(U32, max_size=4).map(tuple))
REQUESTS = st.one_of(
    st.just(messages.HelloRequest()),
    st.builds(
        messages.Load, U32, U8, st.booleans(), U32,
        st.lists(LAYERS, min_size=1, max_size=32).map(tuple), U8,
    ),
    st.builds(messages.Weights, U32, U32, st.booleans(), CHUNKS),
    st.builds(
        messages.Train, FLOAT32, U32, U16, U16, st.none() | BYTES, st.just(0.0) | FLOAT32, U8
    ),
    st.builds(messages.Store, st.booleans(), BYTES),
    st.builds(messages.Evaluate, BYTES),
    st.builds(messages.Predict, BYTES),
    st.builds(messages.Select, U32, U8),
    st.builds(messages.Update, U32, U32),
    st.builds(messages.Residual, U32, U32),
    st.builds(messages.Restore, CHUNKS),
    st.just(messages.Mark()),
    st.builds(messages.Variate, CHUNKS),
    st.builds(messages.Renew, FLOAT32),
    st.builds(messages.Part, U32, BYTES),
    st.builds(messages.Backbone, CHUNKS),
    st.just(messages.Cycles()),
)  # fmt: skip
PRINTABLE = st.text(max_size=20).filter(str.isprintable)
RESPONSES = st.one_of(
    st.builds(
        messages.Hello, U8, PRINTABLE, st.binary(min_size=20, max_size=20),
        U32, U32, U32, U32,
    ),
    st.builds(
        messages.Hello, U8, PRINTABLE, st.binary(min_size=20, max_size=20),
        U32, U32, U32, U32, U32, U32,
    ),
    st.builds(messages.Loaded, U32, U32, U32),
    st.just(messages.Done()),
    st.builds(messages.Trained, U32, FLOAT32),
    st.builds(messages.Evaluated, U32, FLOAT32, U32),
    st.builds(messages.Outputs, BYTES),
    st.builds(messages.Selected, U32),
    st.builds(messages.Updated, CHUNKS),
    st.builds(messages.Error, U8, PRINTABLE, U64, U64),
    st.builds(messages.Fault, U32, U32, st.binary(min_size=52, max_size=52)),
)  # fmt: skip


FRAMES = st.lists(REQUESTS, min_size=1, max_size=22)


def encoded(requests: Sequence[messages.Request]) -> list[bytes]:
    return [messages.encode_request(one) for one in requests]


def items(response: messages.Response) -> list[object]:
    """A response as the list that protocol.cddl makes of it."""
    if isinstance(response, messages.Updated):
        return [response.CODE, *astuple(response.chunk)]
    return [response.CODE, *(one for one in astuple(response) if one is not None)]


def same(one: object, other: object) -> bool:
    """Equality in which NaN equals NaN."""
    return repr(one) == repr(other)


def check_decoded(decoded: Answers | None, body: bytes) -> None:
    """Holds what was decoded to the types that the message's class declares, and the sizes to the
    body's: its head is one byte, the number that follows five at most unless it is written longer
    than it needs to be."""
    if decoded is None:
        return
    assert type(decoded.sequence) is int
    assert 1 <= len(decoded.responses) == len(decoded.sizes) <= messages.MOST_REQUESTS
    assert 2 <= len(body) - sum(decoded.sizes) <= 10
    for response in decoded.responses:
        leaves = response.chunk if isinstance(response, messages.Updated) else response
        for field in fields(leaves):
            assert type(getattr(leaves, field.name)) in (get_args(field.type) or [field.type])


@EXAMPLES
@given(U32, FRAMES)
def test_every_frame_of_requests_is_one_of_the_protocol(sequence, requests):
    assert PROTOCOL["request"].validate_str(messages.encode(sequence, *requests))


@EXAMPLES
@given(REQUESTS)
def test_the_codec_of_the_firmware_takes_every_request(request):
    async def exchange() -> messages.Response:
        node, connection = HostTransport(), Connection()
        connection.receive(await node.read())
        await node.write(frame_of(connection, request))  # on the host it has answered then
        async with asyncio.timeout(0):
            [response] = responses(connection.receive(await node.read()))
        return response

    response = asyncio.run(exchange())
    if isinstance(request, messages.HelloRequest):
        assert isinstance(response, messages.Hello)
    elif isinstance(request, messages.Cycles):
        assert response == messages.Outputs(b"")  # the host has no counter
    elif isinstance(request, messages.Load):
        assert getattr(response, "code", None) in (None, NO_SUCH_MODEL, MEMORY)
    else:
        assert isinstance(response, messages.Error)
        assert response.code == NO_MODEL


@EXAMPLES
@given(REQUESTS)
def test_a_request_has_its_fields_in_their_order(request):
    def flat(value: object) -> list[object]:
        if isinstance(value, tuple | list):
            return [leaf for entry in value for leaf in flat(entry)]
        return [value]

    encoded = cbor2.loads(messages.encode_request(request))
    expected = flat([request.CODE, astuple(request)])
    if isinstance(request, messages.Load) and request.in_flash is None:
        del expected[-1]
    has_last = isinstance(request, messages.Load) and request.in_flash is not None
    if isinstance(request, messages.Load | messages.Select) and not (has_last or expected[-1]):
        del expected[-1]  # it is as if it were there
    if isinstance(request, messages.Train):  # two of other types, each as if it were there
        expected[6:] = [value for value in expected[6:] if value]
    assert same(flat(encoded), expected)
    assert all(type(a) is type(b) for a, b in zip(flat(encoded), expected, strict=True))


@EXAMPLES
@given(U32, FRAMES)
def test_a_frame_is_its_requests_one_behind_the_other(sequence, requests):
    body = messages.encode(sequence, *requests)
    assert same(cbor2.loads(body), [sequence, *(cbor2.loads(one) for one in encoded(requests))])
    assert body == messages.body_head(sequence, len(requests)) + b"".join(encoded(requests))
    assert body[0] == 0x81 + len(requests)  # one byte, as the firmware takes it


@EXAMPLES
@given(
    st.one_of(
        st.builds(messages.Train, FLOAT32, U32, U16, U16, BYTES, st.just(0.0) | FLOAT32, U8),
        st.builds(messages.Store, st.booleans(), BYTES),
        st.builds(messages.Evaluate, BYTES),
    ),
    st.integers(0, 9000),
)
def test_what_lies_around_samples_is_the_request_without_them(request, size):
    samples = bytes(size)
    before, behind = messages.around_samples(request, size)
    assert before + samples + behind == messages.encode_request(replace(request, samples=samples))


@pytest.mark.parametrize("requests", [0, 23])
def test_no_frame_has_no_request_or_more_than_22(requests):
    with pytest.raises(ValueError, match=f"{requests} requests in a frame, which holds 1 to 22"):
        messages.encode(1, *requests * [messages.Mark()])


@EXAMPLES
@given(FLOAT32)
def test_a_float_is_on_the_wire_in_32_bits_at_most(rate):
    length = len(messages.encode(1, messages.Train(rate, 0, 1, 1, None)))
    without = len(cbor2.dumps([1, [3, 0, 1, 1, None]]))
    assert length - without <= 5


def test_a_rate_is_rounded_to_float32():
    rounded = float.fromhex("0x1.99999ap-4")
    request = messages.Train(0.1, 0, 1, 1, None, proximal=0.1)
    _, (_, rate, *_, proximal), (_, other) = cbor2.loads(
        messages.encode(1, request, messages.Renew(0.1))
    )
    assert rate == proximal == other == rounded


@EXAMPLES
@given(U32, st.lists(RESPONSES, min_size=1, max_size=22), st.booleans())
def test_every_response_of_the_protocol_decodes_to_its_message(sequence, found, canonical):
    parts = [cbor2.dumps(items(response), canonical=canonical) for response in found]
    body = messages.body_head(sequence, len(found)) + b"".join(parts)
    assert PROTOCOL["response"].validate_str(body)
    assert same(messages.decode(body), Answers(sequence, tuple(found), tuple(map(len, parts))))


@EXAMPLES
@given(st.lists(RESPONSES, min_size=1, max_size=22), st.data())
def test_one_answer_that_is_none_spoils_the_frame(found, data):
    """What the others say may be right, but nobody knows what they are answers to."""
    parts = list(map(items, found))
    place = data.draw(st.integers(0, len(parts) - 1))
    parts[place] = data.draw(st.sampled_from([[4], [], 7, None, [2, 0], [7], [99, 1]]))
    assert messages.decode(cbor2.dumps([1, *parts])) is None


@pytest.mark.parametrize("count", [0, 1, 2, 21, 22, 23, 24, 30])
def test_a_response_has_1_to_22_answers(count):
    decoded = messages.decode(cbor2.dumps([1, *count * [[2]]]))
    if 1 <= count <= 22:
        assert decoded == Answers(1, count * (messages.Done(),), count * (2,))
    else:
        assert decoded is None


@EXAMPLES
@given(st.lists(RESPONSES, min_size=2, max_size=22), st.integers(-2, 2), st.integers(0, 3))
def test_a_count_that_is_not_that_of_the_answers_and_bytes_cut_off_are_none(found, more, cut):
    body = bytearray(cbor2.dumps([1, *map(items, found)]))
    body[0] += more
    shorter = bytes(body[: len(body) - cut])
    counted = found[: len(found) + more]  # which the bytes may be just those of
    whole = more <= 0 and shorter == cbor2.dumps([1, *map(items, counted)])
    assert (messages.decode(shorter) is None) == (not counted or not whole)


@EXAMPLES
@given(RESPONSES.map(items), st.booleans())
def test_a_response_with_an_item_too_many_or_too_few_is_none(response, more):
    changed = [*response, 0] if more else response[:-1]
    assert messages.decode(cbor2.dumps([1, changed])) is None


@EXAMPLES
@given(RESPONSES.map(items), st.integers(0), st.sampled_from([None, True, -1.5, "text", b"bytes"]))
def test_a_response_with_an_item_of_another_type_is_none(response, place, other):
    place %= len(response)
    if type(response[place]) is type(other):
        other = {}
    response[place] = other
    assert messages.decode(cbor2.dumps([1, response])) is None


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(cbor2.dumps([1, [4]]), id="unknown code"),
        pytest.param(cbor2.dumps([1, [2]]) + b"\0", id="bytes after the end"),
        pytest.param(cbor2.dumps([1, [True, 1, 2, 3]]), id="code that is a truth value"),
        pytest.param(cbor2.dumps([1, [2.0]]), id="code that is a float"),
        pytest.param(b"\x9f\x01\x81\x02\xff", id="list of unknown length"),
        pytest.param(b"\x98\x02\x01\x81\x02", id="longer head than needed"),
        pytest.param(cbor2.dumps([True, [2]]), id="sequence number that is a truth value"),
        pytest.param(cbor2.dumps({1: 0, (2,): 0}), id="map"),
        pytest.param(cbor2.dumps([-1, [2]]), id="negative sequence number"),
        pytest.param(cbor2.dumps([2**32, [2]]), id="sequence number over 32 bits"),
        pytest.param(cbor2.dumps([1, [7, -1]]), id="negative number"),
        pytest.param(cbor2.dumps([1, [7, 2**32]]), id="number over 32 bits"),
        pytest.param(cbor2.dumps([1, [8, 0, -1, 0, b""]]), id="negative number in a chunk"),
        pytest.param(cbor2.dumps([1, [0, 1, "", b"", 0, 0, 0, 0]]), id="build of no bytes"),
    ],
)
def test_what_is_no_response_of_the_protocol_is_none(body):
    assert messages.decode(body) is None


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), BYTES, st.text(max_size=9)
)
TAGS = st.integers(0, 60) | st.sampled_from([100, 258, 260, 261, 1004, 43000, 55799])
ITEMS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=6),
        st.dictionaries(LEAVES, inner, max_size=3),
        st.builds(cbor2.CBORTag, TAGS, inner),
    ),
    max_leaves=12,
)


@EXAMPLES
@given(st.binary(max_size=100))
@example(b"\x81" * 8000)  # deeper than Python's stack
@example(b"\xd8\x1d\x00")  # a reference to what is not there
@example(b"\x5b" + b"\x7f" * 8)  # longer than memory
def test_arbitrary_bytes_are_none_or_a_well_typed_message(body):
    check_decoded(messages.decode(body), body)


@settings(EXAMPLES, max_examples=300)
@given(st.one_of(ITEMS, st.lists(ITEMS, min_size=2, max_size=2)))
def test_arbitrary_items_are_none_or_a_well_typed_message(item):
    body = cbor2.dumps(item)
    check_decoded(messages.decode(body), body)


@pytest.mark.parametrize(
    "item",
    [
        pytest.param("c4821b7fffffffffffffff01", id="decimal with too large an exponent"),
        pytest.param("c5821b800000000000000001", id="big float with too large an exponent"),
        pytest.param("d81e81f97c00", id="fraction of infinity"),
        pytest.param("d8643b7fffffffffffffff", id="date before all time"),
        pytest.param("a1d81cd863d81d0000", id="key that contains itself"),
    ],
)
def test_a_tag_on_what_it_cannot_tag_is_none(item):
    assert messages.decode(bytes.fromhex("8201" + item)) is None


@settings(EXAMPLES, max_examples=300)
@given(
    U32, st.lists(RESPONSES, min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0), U8), max_size=4), st.integers(0),
)  # fmt: skip
def test_a_changed_response_is_none_or_well_typed_messages(sequence, found, changes, end):
    body = bytearray(cbor2.dumps([sequence, *map(items, found)]))
    for place, byte in changes:
        body[place % len(body)] = byte
    changed = bytes(body[: len(body) - end % 3])
    check_decoded(messages.decode(changed), changed)


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("out of memory", "out of memory"), ("größer als 8 KiB", "größer als 8 KiB"),
        ("\x1b[2Jgone\a", r"\x1b[2Jgone\x07"), ("two\r\nlines", r"two\r\nlines"),
        ("\u202egnorw\u2028", r"\u202egnorw\u2028"), (9000 * "a", 200 * "a" + "…"),
    ],
)  # fmt: skip
def test_what_a_terminal_would_act_on_does_not_come_in(said: str, read: str):
    body = messages.body_head(1, 2) + b"".join(
        cbor2.dumps(one) for one in ([9, 1, said, 0, 0], [0, 2, said, bytes(20), 8192, 1, 0, 0])
    )
    decoded = messages.decode(body)
    assert decoded is not None
    error, hello = decoded.responses
    assert isinstance(error, messages.Error)
    assert isinstance(hello, messages.Hello)
    assert error.message == hello.version == read


@EXAMPLES
@given(U32, FRAMES, st.lists(RESPONSES, min_size=1, max_size=22))
def test_in_short_every_message_has_its_name_and_its_fields(sequence, requests, responses):
    answers = cbor2.dumps([sequence, *map(items, responses)])
    ways: tuple[tuple[short.Direction, Any, bytes], ...] = (
        ("down", requests, messages.encode(sequence, *requests)), ("up", responses, answers),
    )  # fmt: skip
    for direction, every, body in ways:
        number, found = short.contents(frame.encode(body), direction)
        assert number == sequence
        assert sum(one["size"] for one in found) < len(body)
        for one, message in zip(found, every, strict=True):
            assert one["kind"] == type(message).__name__.removesuffix("Request").lower()
            left = {**one}
            for name, value in vars(message).items():
                if isinstance(value, int):  # others are shown as text, and what is usual left out
                    assert left.get(name, 0) == value
        json.loads(json.dumps(found, allow_nan=False))


@EXAMPLES
@given(st.binary(max_size=60), st.binary(max_size=60).map(frame.encode))
def test_in_short_a_frame_is_refused_exactly_where_the_link_refuses_it(noise, framed):
    for data in (noise.replace(b"\0", b"\1") + b"\0", framed):
        connection = Connection()
        connection.receive(data)
        try:
            short.contents(data, "up")
            refused = False
        except short.RefusedError:
            refused = True
        assert refused == (connection.bad_frames == 1) or data == b"\0"
