"""What a node says after its boot, decoded without any of the project's own code."""

import re
import zlib

HELLO = re.compile(
    rb"[\x80-\x9f]\x00"  # a list; a sequence number of 0: nobody asked
    rb"[\x80-\x9f]\x00"  # a list; a hello
    rb".[\x60-\x77](?P<version>.*?)"
    rb"\x54(?P<build>.{20})",
    re.DOTALL,
)  # see firmware/protocol.cddl


def decode_hello(frame: bytes) -> dict[str, str | bytes]:
    """Version and build in a hello's frame, with the zero that ends it."""
    data = _unstuffed(frame[:-1])
    body, crc = data[:-4], data[-4:]
    if zlib.crc32(body) != int.from_bytes(crc, "little"):
        raise AssertionError(f"the frame's CRC is wrong: {frame.hex(' ')}")
    hello = HELLO.match(body)
    if not hello:
        raise AssertionError(f"no hello: {body.hex(' ')}")
    return {"version": hello["version"].decode(), "build": hello["build"]}


def _unstuffed(data: bytes) -> bytes:
    """Cheshire & Baker 1999, Consistent Overhead Byte Stuffing, of less than 254 bytes."""
    pieces: list[bytes] = []
    while data:
        pieces.append(data[1 : data[0]])
        data = data[data[0] :]
    return b"\0".join(pieces)
