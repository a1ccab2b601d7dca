"""The secondary's end of the link: it dials, and dials again whenever the link is down."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time

from colo_bridge.errors import ColoBridgeError
from colo_bridge.link import address
from colo_bridge.link.address import Address, Resolved
from colo_bridge.link.connection import dial
from colo_bridge.link.end import LinkEnd
from colo_bridge.link.failure import explained
from colo_bridge.link.protocol.actions import Closed, Ending
from colo_bridge.link.protocol.backoff import Backoff
from colo_bridge.link.protocol.conversation import CONTROL, Conversation
from colo_bridge.link.protocol.messages import Hello
from colo_bridge.link.session import LinkOwner, LinkSettings, Session
from colo_bridge.link.stream import Stream
from colo_bridge.link.tls import Credentials


class LinkClient(LinkEnd):
    """Dials from `start` to `close`."""

    def __init__(
        self,
        peer: Address,
        settings: LinkSettings,
        owner: LinkOwner,
        credentials: Credentials | None = None,
        insecure: bool = False,
        backoff: Backoff | None = None,
    ) -> None:
        super().__init__(settings, owner, credentials)
        self._where = f"to {peer}"
        self._peer = peer
        self._insecure = insecure
        self._backoff = backoff or Backoff()

    def start(self) -> None:
        super().start()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self, reason: str = "the daemon was stopped") -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await super().close(reason)

    async def _run(self) -> None:
        while True:
            closed = await self._try()
            if closed is not None and closed.ending is Ending.REFUSED:
                self._backoff.refused()
            await asyncio.sleep(self._backoff.delay(random.random()))

    async def _try(self) -> Closed | None:
        """One session, from dialling to its end; None if nobody answered."""
        try:
            resolved = await asyncio.get_running_loop().run_in_executor(None, address.resolve, self._peer)
            if self.credentials is None:
                address.check_plain(resolved.host, self._insecure)
            session = self._new("", resolved.host)
            await self._dial(resolved, session, CONTROL)
        except (OSError, ColoBridgeError) as error:
            self._complain(error)
            return None
        nics = asyncio.get_running_loop().create_task(self._dial_nics(resolved, session))
        try:
            # Shielded: a session ends when its owner has heard of it, and not because nobody waits for that any more.
            return await asyncio.shield(session.ended)
        finally:
            nics.cancel()

    async def _dial_nics(self, resolved: Resolved, session: Session) -> None:
        """Once the control stream has greeted."""
        # Shielded: a session that greets while this end is closed must find it as it is.
        await asyncio.shield(session.greeted)
        for nic in self._settings.nics:
            try:
                await self._dial(resolved, session, nic)
            except (OSError, ColoBridgeError) as error:
                self.disconnect(f"the stream of {nic} could not be connected: {explained(error)}")

    async def _dial(self, resolved: Resolved, session: Session, name: str) -> None:
        timing = self._settings.timing
        async with asyncio.timeout(timing.greeting):
            connection = await dial(resolved, self.credentials)
        if session.ended.done():
            connection.close()
            return
        stream = Stream(connection, Conversation(timing, time.monotonic()), self, self._settings.queue_bytes)
        self._watch(stream, session)
        self._session = session
        session.streams[name] = stream
        stream.begin(session.hello(name))

    def greeted(self, stream: Stream, peer: Hello) -> None:
        """Only who listens is asked."""

    def established(self, stream: Stream, peer: Hello) -> None:
        super().established(stream, peer)
        if self.up:
            self._backoff.succeeded()
