"""The power of a node, which somebody may cut."""

from ..energy.profile import Counts
from .fault import Stand
from .transport import NodeLost, OpenTransport, Transport


class Power:
    """Stands between a node and the transports that are opened to it, one after the other."""

    immediate = False

    def __init__(self, name: str, open_transport: OpenTransport) -> None:
        self._name = name
        self._open_transport = open_transport
        self._transport: Transport | None = None

    async def open(self) -> Transport:
        """See OpenTransport."""
        self._transport = await self._open_transport()
        return self

    async def write(self, data: bytes) -> None:
        """See Transport."""
        await self._powered().write(data)

    async def read(self) -> bytes:
        """See Transport."""
        return await self._powered().read()

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
        """Cuts it: whoever uses the link after that finds the node lost."""
        if self._transport is not None:
            transport, self._transport = self._transport, None
            await transport.close()

    def _powered(self) -> Transport:
        if self._transport is None:
            raise NodeLost(f"{self._name}: it lost its power")
        return self._transport
