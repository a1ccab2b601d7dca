"""The connections known, bounded in number and in age.

Two queues, half-open or closed connections and established ones, each in the order in
which its members were last looked at.  Traffic writes only a connection's `last_seen`;
a queue notices when it comes to that member and gives it another turn (the CLOCK
algorithm), so that a packet costs nothing here and a new connection a few steps at most.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from colo_bridge.rewrite.connection import Connection
from colo_bridge.rewrite.limits import RewriteLimits
from colo_bridge.wire.flow import reversed_connection

_SECOND_CHANCES = 8
_EXPIRY_STEPS = 1_024
_LOOKS_PER_LIFETIME = 4

# Not a plain dict: finding the first member of one that lost many is a scan over their places.
_Queue = OrderedDict[bytes, Connection]


class ConnectionTable:
    def __init__(self, limits: RewriteLimits) -> None:
        self._limits = limits
        self.by_egress: dict[bytes, Connection] = {}
        self.by_ingress: dict[bytes, Connection] = {}
        self._fleeting: _Queue = OrderedDict()
        self._lasting: _Queue = OrderedDict()

    def __len__(self) -> int:
        return len(self.by_egress)

    def __iter__(self) -> Iterator[Connection]:
        return iter(self.by_egress.values())

    def add(self, egress_key: bytes, now: float) -> tuple[Connection, Connection | None]:
        """A new connection, and the one that had to go for it."""
        evicted = self._evict(now) if len(self) >= self._limits.connections else None
        connection = Connection(egress_key, reversed_connection(egress_key), now, now)
        self.by_egress[egress_key] = self.by_ingress[connection.ingress_key] = connection
        self._fleeting[egress_key] = connection
        return connection, evicted

    def remove(self, connection: Connection) -> None:
        key = connection.egress_key
        del self.by_egress[key], self.by_ingress[connection.ingress_key]
        if self._fleeting.pop(key, None) is None:
            del self._lasting[key]

    def sort(self, connection: Connection) -> None:
        """Move a connection to the queue that it belongs to, after any change of its state."""
        lasting = connection.lasting
        connection.flowing = lasting and not (connection.awaiting_guest or connection.outrun)
        source, target = (self._fleeting, self._lasting) if lasting else (self._lasting, self._fleeting)
        if source.pop(connection.egress_key, None) is not None:
            target[connection.egress_key] = connection

    def expire(self, now: float) -> list[Connection]:
        """Remove what was silent for too long; looks at a bounded number of connections."""
        silent = [
            *_silent(self._fleeting, self._limits.closing_idle, now),
            *_silent(self._lasting, self._limits.established_idle, now),
        ]
        for connection in silent:
            self.remove(connection)
        return silent

    def _evict(self, now: float) -> Connection:
        queue = self._fleeting or self._lasting
        for _ in range(_SECOND_CHANCES):
            oldest = next(iter(queue.values()))
            if oldest.last_seen <= oldest.queued_at:
                break
            _requeue(queue, oldest, now)
        oldest = next(iter(queue.values()))
        self.remove(oldest)
        return oldest


def _silent(queue: _Queue, idle: float, now: float) -> list[Connection]:
    silent: list[Connection] = []
    for _ in range(min(_EXPIRY_STEPS, len(queue))):
        oldest = next(iter(queue.values()))
        if now - oldest.queued_at < idle / _LOOKS_PER_LIFETIME:
            break
        if now - oldest.last_seen >= idle:
            silent.append(oldest)
        _requeue(queue, oldest, now)
    return silent


def _requeue(queue: _Queue, connection: Connection, now: float) -> None:
    queue.move_to_end(connection.egress_key)
    connection.queued_at = now
