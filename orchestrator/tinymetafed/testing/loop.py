"""Asynchronous work within a keyword."""

import asyncio
import signal
from collections.abc import Coroutine
from signal import SIGALRM, SIGINT, SIGTERM
from typing import Any, TypeVar

T = TypeVar("T")


class Loop:
    """The loop that all work of a suite is done on.

    Robot Framework ends a keyword with an exception out of a signal's handler: at the time-out of a
    test, at Ctrl+C. Amid the loop it might be lost. So the work is cancelled instead, and the
    handler is called when it has ended.
    """

    def __init__(self) -> None:
        self._runner = asyncio.Runner()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Its result. Raises what it raises, and what handlers of signals do."""
        loop = self._runner.get_loop()
        handlers = {number: signal.getsignal(number) for number in (SIGALRM, SIGINT, SIGTERM)}
        arrived: list[int] = []

        async def run() -> T:
            task = asyncio.current_task()
            assert task is not None

            def end(number: int, frame: object) -> None:
                arrived.append(number)
                loop.call_soon_threadsafe(task.cancel)

            for number in handlers:
                signal.signal(number, end)
            return await work

        try:
            return self._runner.run(run())
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            for number in arrived:
                signal.raise_signal(number)

    def close(self) -> None:
        """No more work is to be done."""
        self._runner.close()
