"""Backend `serial`: nodes on boards, each at a serial port of this machine.

The link is the emulators' UART: the same frames, byte for byte. A board may start again when its
port is opened (DTR resets many), may be in the middle of what it was asked before, and may say
other things first; so it is asked who it is until it answers.
"""

import asyncio
import errno
import grp
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import serial

from ..errors import TinyMetaFedError
from ..link import Fault, Hello, frame, messages
from ..link.connection import UNCOUNTED
from . import descriptor
from .transport import NodeLost

ASK_TIME = 0.5  # seconds between the first two questions; then twice as long each time
ANSWER_TIME = 10.0  # seconds for an answer, at most; boot loaders wait a while before they start it
LOOK_TIME = 0.1  # seconds between two looks for a port that is gone
RETURN_TIME = 60.0  # seconds for a port to come back
HEARD = 60
"""Bytes that a message repeats of what was heard."""


def question(number: int) -> bytes:
    """Who is there? The zero before it ends whatever the node has received before."""
    return b"\0" + frame.encode(messages.encode(number, messages.HelloRequest()))


class NotThere(TinyMetaFedError):
    """A port that cannot be opened, and may be plugged in."""


def open_port(port: str, baud: int) -> serial.Serial:
    """The port, for this process alone. Raises TinyMetaFedError that says what to do, NotThere
    where there is none."""
    try:
        # Nothing waits in it: the loop does.
        return serial.Serial(port, baud, timeout=0, exclusive=True)
    except ValueError as error:
        raise TinyMetaFedError(f"{port}: nodes.baud: {baud} is no speed of it: {error}") from None
    except serial.SerialException as error:
        number, text = error.errno, str(error)
    if number in (errno.EACCES, errno.EPERM):
        raise NotThere(f"{port}: permission denied; {_group(port)}")
    if number in (errno.EBUSY, errno.EAGAIN):
        raise TinyMetaFedError(
            f"{port}: another process has it open; end that one ('fuser -v {port}' names it)"
        )
    if number in (errno.ENOENT, errno.ENXIO, errno.ENODEV, errno.EIO):
        raise NotThere(
            f"{port}: {os.strerror(number)}; plug the board in, or name another port "
            "('tinymetafed boards' lists them)"
        )
    raise TinyMetaFedError(f"{port}: cannot be opened as a serial port: {text}")


def _group(port: str) -> str:
    """What gives a user the right to a port."""
    try:
        status = Path(port).stat()
        group = grp.getgrgid(status.st_gid).gr_name
    except (OSError, KeyError):
        return "ask for the right to open it"
    if not status.st_mode & 0o060:
        return "its mode allows no group to open it"
    return f"it is for the group {group}: 'sudo usermod -aG {group} $USER', then log in again"


def escaped(heard: bytes) -> str:
    """What was heard, for a message: the first bytes, those that are not printable as \\x…"""
    if not heard:
        return "nothing was heard"
    more = "…" if len(heard) > HEARD else ""
    count = f"{len(heard)} byte{'s' if len(heard) > 1 else ''}"
    return f"{count} were heard that are no frame: {repr(heard[:HEARD])[1:]}{more}"


class SerialTransport:
    """A node at a port that is open."""

    immediate = False

    def __init__(self, name: str, port: serial.Serial) -> None:
        self.name = name
        self._port = port
        self._answer = b""  # that was heard while it was asked
        self.hello: Hello | None = None

    @classmethod
    async def open(cls, name: str, port: str, baud: int, seconds: float) -> "SerialTransport":
        """Opens the port and asks who is there, until there is an answer, which is what `read`
        returns first. Raises TinyMetaFedError; NodeLost where nobody answers in so many seconds."""
        transport = cls(name, open_port(port, baud))
        try:
            await transport._ask(seconds)
        except BaseException:
            await transport.close()
            raise
        return transport

    async def _ask(self, seconds: float) -> None:
        """Only the answer to the last question counts: with another one under way the node would
        lose what it is sent next. Their numbers are of none of the frames that follow soon, so that
        late answers to others are passed over."""
        heard, receiver = b"", frame.FrameReceiver()
        wait = ASK_TIME
        try:
            async with asyncio.timeout(seconds):
                for number in reversed(UNCOUNTED):
                    with suppress(TimeoutError):
                        async with asyncio.timeout(wait):
                            await self.write(question(number))
                            while True:
                                data = await self.read()
                                heard += data
                                for body in receiver.receive(data):
                                    if self._is_answer(body, number):
                                        return
                    wait *= 2
        except TimeoutError:
            what = escaped(heard)
            if self.hello is not None:
                what = "it says hello but does not hear: is the wire to its receiver in place?"
            raise NodeLost(
                f"{self.name}: {self._port.port}: no node answers at {self._port.baudrate} baud "
                f"within {seconds:g} s; {what}; check the port, nodes.baud, and that the board has "
                "the firmware"
            ) from None

    def _is_answer(self, body: bytes, number: int) -> bool:
        """Whether it is the node's word on itself, or its fault, which is kept as if it had come
        unasked."""
        answers = messages.decode(body)
        if answers is None:
            return False
        (first, *_) = answers.responses
        if isinstance(first, Hello):
            self.hello = first
            if answers.sequence != number:
                return False
            body = (
                messages.body_head(messages.UNASKED, 1) + body[len(messages.body_head(number, 1)) :]
            )
        elif not isinstance(first, Fault):
            return False
        self._answer = frame.encode(body)
        return True

    async def write(self, data: bytes) -> None:
        """See Transport."""
        try:
            await descriptor.write(self._port.fileno(), data)
        except (OSError, serial.SerialException) as error:
            raise self._gone() from error

    async def read(self) -> bytes:
        """See Transport."""
        if self._answer:
            data, self._answer = self._answer, b""
            return data
        try:
            return await descriptor.read(self._port.fileno())
        except (OSError, EOFError, serial.SerialException) as error:
            raise self._gone() from error

    async def computing(self) -> bool:
        """See Transport; nobody knows. A frame that is repeated to a node that computes is lost
        there, and does no harm."""
        return False

    async def executed(self) -> None:
        """See Transport."""

    async def stand(self) -> None:
        """See Transport."""

    def counts(self) -> None:
        """None: nothing counts what a board executes."""
        return None

    def said(self) -> str:
        """See Transport."""
        return (
            f"{self._port.port}: the board is silent; if it computes for longer, raise "
            "nodes.timeout"
        )

    async def close(self) -> None:
        """See Transport. What has not left yet is of no use."""
        with suppress(OSError, serial.SerialException):
            self._port.close()

    def _gone(self) -> NodeLost:
        return NodeLost(f"{self.name}: {self._port.port}: the port is gone; was it unplugged?")


class SerialNode:
    """Where one node is: the port, which is found once, and opened each time that it starts."""

    def __init__(
        self, name: str, find: Callable[[], Awaitable[str]], baud: int, seconds: float
    ) -> None:
        """find: the port. seconds: for an answer, at most."""
        self._name, self._find, self._baud = name, find, baud
        self._seconds = min(seconds, ANSWER_TIME)
        self._known: str | None = None  # the port, once the node has answered there

    async def open(self) -> SerialTransport:
        """See OpenTransport. Where the node was there before, its port may take a while to come
        back, and NodeLost says that it does not answer any more."""
        if self._known is None:
            port = await self._find()
            try:
                transport = await SerialTransport.open(self._name, port, self._baud, self._seconds)
            except NodeLost as error:  # another try would hear as little
                raise TinyMetaFedError(str(error)) from None
            self._known = port
            return transport
        await self._returned(self._known)
        return await SerialTransport.open(self._name, self._known, self._baud, self._seconds)

    async def _returned(self, port: str) -> None:
        """Waits for the port. Raises TinyMetaFedError."""
        problem = ""
        try:
            async with asyncio.timeout(RETURN_TIME):
                while True:
                    try:
                        open_port(port, self._baud).close()
                        return
                    except NotThere as error:  # the rights come a moment after the port
                        problem = str(error)
                    await asyncio.sleep(LOOK_TIME)
        except TimeoutError:
            raise TinyMetaFedError(
                f"{self._name}: it did not come back within {RETURN_TIME:g} s: {problem}; plug it "
                "in, then 'tinymetafed run --resume last' goes on"
            ) from None
