"""A link with faults: bytes are spoiled on their way, the node loses its power."""

import numpy as np

from ..energy.profile import Counts
from .fault import Stand
from .transport import NodeLost, OpenTransport, Transport


class FaultyLink:
    """Stands between a node and the transports that are opened to it, one after the other.

    Attributes:
        rate: probability of a byte to be spoiled, either way: half of these are lost, in the
            others a bit is flipped. Which bytes, is a function of the seed and the bytes before.
        spoiled: bytes that were.
    """

    immediate = False

    def __init__(self, name: str, open_transport: OpenTransport, seed: tuple[int, ...]) -> None:
        self.rate = 0.0
        self.spoiled = 0
        self._name = name
        self._open_transport = open_transport
        self._down, self._up = np.random.default_rng(seed).spawn(2)
        self._transport: Transport | None = None

    async def open(self) -> Transport:
        """See OpenTransport."""
        self._transport = await self._open_transport()
        return self

    async def write(self, data: bytes) -> None:
        """See Transport."""
        await self._powered().write(self._spoil(data, self._down))

    async def read(self) -> bytes:
        """See Transport."""
        while True:
            data = self._spoil(await self._powered().read(), self._up)
            if data:
                return data

    async def computing(self) -> bool:
        """See Transport."""
        return self._transport is not None and await self._transport.computing()

    async def executed(self) -> int | None:
        """See Transport."""
        return None if self._transport is None else await self._transport.executed()

    async def stand(self) -> Stand | None:
        """See Transport."""
        return None if self._transport is None else await self._transport.stand()

    def counts(self) -> Counts | None:
        """See Transport."""
        return None if self._transport is None else self._transport.counts()

    def said(self) -> str:
        """See Transport."""
        return "it lost its power" if self._transport is None else self._transport.said()

    async def close(self) -> None:
        """See Transport. Whoever uses the link after that finds the node lost."""
        if self._transport is not None:
            transport, self._transport = self._transport, None
            await transport.close()

    def _powered(self) -> Transport:
        if self._transport is None:
            raise NodeLost(f"{self._name}: it lost its power")
        return self._transport

    def _spoil(self, data: bytes, rng: np.random.Generator) -> bytes:
        if not self.rate:
            return data
        values = np.frombuffer(data, np.uint8)
        # Of sixteen faults, eight flip a bit and eight lose the byte; a larger number is none.
        fault = np.floor(rng.random(len(values)) / self.rate * 16)
        flipped = values ^ np.where(fault < 8, 1 << np.minimum(fault, 7).astype(np.uint8), 0)
        self.spoiled += int(np.count_nonzero(fault < 16))
        return flipped[(fault < 8) | (fault >= 16)].astype(np.uint8).tobytes()
