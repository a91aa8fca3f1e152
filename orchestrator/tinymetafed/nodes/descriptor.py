"""A terminal's file descriptor, read and written without holding up the loop."""

import asyncio
import os


async def write(descriptor: int, data: bytes) -> None:
    """All of `data`. Raises OSError."""
    loop = asyncio.get_running_loop()
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:
            ready = loop.create_future()
            loop.add_writer(descriptor, _settle, ready)
            try:
                await ready
            finally:
                loop.remove_writer(descriptor)


async def read(descriptor: int) -> bytes:
    """At least one byte. Raises OSError, EOFError where its other end is closed."""
    loop = asyncio.get_running_loop()
    while True:
        ready = loop.create_future()
        loop.add_reader(descriptor, _settle, ready)
        try:
            await ready
        finally:
            loop.remove_reader(descriptor)
        try:
            data = os.read(descriptor, 65536)
        except BlockingIOError:  # a driver may wake a reader for nothing
            continue
        if not data:
            raise EOFError
        return data


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
