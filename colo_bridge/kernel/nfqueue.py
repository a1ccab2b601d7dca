"""Packets that the kernel holds until we say accept or drop (NFQUEUE).

NetfilterQueue opens and binds the queue.  The messages themselves are read and
written here: its packet objects cost 15 % of the throughput (measured), it copies
at most 4,016 bytes of a packet and sets no queue flags.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from netfilterqueue import NetfilterQueue, Packet

from colo_bridge.config import QueueConfig
from colo_bridge.errors import ColoBridgeError, KernelError, OperatorError
from colo_bridge.kernel import nfqueue_messages as messages
from colo_bridge.kernel.nfqueue_messages import Shape, packet_header

_TABLE = Path("/proc/thread-self/net/netfilter/nfnetlink_queue")
_VERDICTS_PER_SEND = 1_024
_ACKNOWLEDGE_SECONDS = 5.0
_HARMLESS_BUFFER = 65_536
"""Bytes that NetfilterQueue may set without a warning; the real size is forced afterwards."""
_SHAPES = 6
_SO_RCVBUFFORCE = 33
_SOL_NETLINK, _NETLINK_NO_ENOBUFS = 270, 5


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of the kernel's table of queues."""

    port: int
    waiting: int
    copies_whole: bool
    queue_dropped: int
    socket_dropped: int


class PacketQueue:
    """One NFQUEUE of this network namespace, bound to this process."""

    def __init__(self, number: int, config: QueueConfig) -> None:
        """Bind and configure; OperatorError if taken or not permitted, KernelError if refused."""
        self.number = number
        self.buffer = bytearray(messages.COPY_RANGE + 4_096)
        self._config = config
        self._shapes: list[Shape] = []
        self._hardware_protocol = 0
        self._overruns = self._verdict_errors = self._garbled = 0
        self._accepted: list[int] = []
        self._dropped: list[int] = []
        self._accept_messages = bytearray(messages.verdict(number, True, 0) * _VERDICTS_PER_SEND)
        self._drop_messages = bytearray(messages.verdict(number, False, 0) * _VERDICTS_PER_SEND)
        # The lists' own methods: a function around each would triple their cost per packet.
        self.accept: Callable[[int], None] = self._accepted.append
        self.drop: Callable[[int], None] = self._dropped.append
        self._library = _bound_library(number)
        self._socket = socket.socket(fileno=os.dup(self._library.get_fd()))
        self._socket_id = self._socket.getsockname()[0]
        self._configure()

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def protocol(self) -> int:
        """Ethernet type of the packet received last."""
        return socket.ntohs(self._hardware_protocol)

    def receive(self) -> tuple[int, int, int, bool] | None:
        """The next packet: its id, where it begins and ends in `buffer`, whether it was cut.

        The id is opaque (the kernel's 32 bits in our byte order).  None when nothing
        waits.  The next call overwrites `buffer`.
        """
        buffer = self.buffer
        while True:
            try:
                size = self._socket.recv_into(buffer, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
            except OSError:
                # Not expected with NETLINK_NO_ENOBUFS; the packets themselves count as socket_dropped.
                self._overruns += 1
                return None
            for shape in self._shapes:
                if shape.constants(buffer) == shape.expected:
                    break
            else:
                learned = self._learn(size)
                if learned is None:
                    continue
                shape = learned
            packet_id, self._hardware_protocol = packet_header(buffer)
            return packet_id, shape.start, size, shape.truncated

    def replace(self, packet_id: int, payload: bytes) -> None:
        """Accept with another payload, whose checksums are finished; keeps the order with `accept`."""
        self.flush()
        self._send(messages.verdict(self.number, True, packet_id, payload), 1)

    def flush(self) -> None:
        """Send all verdicts collected so far, in order; one for a vanished packet is only counted."""
        if self._accepted:
            self._send_verdicts(self._accepted, self._accept_messages)
        if self._dropped:
            self._send_verdicts(self._dropped, self._drop_messages)

    def is_bound(self) -> bool:
        """Whether the kernel still delivers whole packets of this queue to our socket."""
        row = _row(self.number)
        return row is not None and row.port == self._socket_id and row.copies_whole

    def rebind(self) -> None:
        """Bind and configure again through the same socket; KernelError when that fails.

        Safe beside a thread that receives: nothing is acknowledged, success is read
        from the kernel's own table.
        """
        for message in (messages.command(self.number, bind=True), *self._settings(acknowledged=False)):
            self._socket.send(message)
        if not self.is_bound():
            raise _taken(self.number)

    def counters(self) -> dict[str, int]:
        """Packets waiting for a verdict, dropped by the kernel (queue full, socket full), our errors."""
        row = _row(self.number) or _Row(0, 0, False, 0, 0)
        return {
            "waiting": row.waiting,
            "queue_dropped": row.queue_dropped,
            "socket_dropped": row.socket_dropped,
            "socket_overruns": self._overruns,
            "verdict_errors": self._verdict_errors,
            "garbled_messages": self._garbled,
        }

    def close(self) -> None:
        """Unbind; the kernel drops what is still held."""
        if self._socket.fileno() < 0:
            return
        with contextlib.suppress(OSError):
            self._socket.send(messages.command(self.number, bind=False), socket.MSG_DONTWAIT)
        # What waits unread would reach the library's callback while it unbinds once more.
        with contextlib.suppress(OSError):
            while self._socket.recv_into(self.buffer, 0, socket.MSG_DONTWAIT):
                pass
        self._socket.close()
        del self._library

    def _configure(self) -> None:
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, self._config.socket_buffer)
            # With ENOBUFS on, one overflow makes the kernel drop everything until the socket was read
            # empty.  Without it only what does not fit is dropped, and counted exactly (user_dropped).
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_NO_ENOBUFS, 1)
            for message in self._settings(acknowledged=True):
                self._socket.send(message)
                self._await_acknowledgement()
        except OSError as error:
            self.close()
            raise _refused(self.number, error) from error
        except ColoBridgeError:
            self.close()
            raise

    def _settings(self, *, acknowledged: bool) -> tuple[bytes, ...]:
        full = self._config.accept_when_full
        return (
            messages.copy_whole_packets(self.number, acknowledged=acknowledged),
            messages.queue_length(self.number, self._config.length, acknowledged=acknowledged),
            messages.queue_flags(self.number, accept_when_full=full, acknowledged=acknowledged),
        )

    def _await_acknowledgement(self) -> None:
        deadline = time.monotonic() + _ACKNOWLEDGE_SECONDS
        while (remaining := deadline - time.monotonic()) > 0:
            if not select.select([self._socket], [], [], remaining)[0]:
                break
            message = memoryview(self.buffer)[: self._socket.recv_into(self.buffer)]
            if messages.message_type(message) == messages.MESSAGE_ERROR:
                if error := messages.error_number(message):
                    raise OSError(error, os.strerror(error))
                return
            self._drop_unconfigured(message)
        raise KernelError(f"the kernel does not answer about queue {self.number}", "try again")

    def _drop_unconfigured(self, message: memoryview) -> None:
        """A packet that came before the configuration may be cut at 4,016 bytes: it cannot be compared."""
        if messages.message_type(message) == messages.MESSAGE_PACKET:
            self._send(messages.verdict(self.number, False, messages.packet_id(message)), 1)

    def _learn(self, size: int) -> Shape | None:
        """The shape of a packet message not seen lately; None for any other message."""
        message = memoryview(self.buffer)[:size]
        kind = messages.message_type(message)
        if kind == messages.MESSAGE_ERROR:
            self._verdict_errors += messages.error_number(message) != 0
            return None
        try:
            shape = Shape(message)
        except struct.error:
            self._refuse_garbled(message)
            return None
        self._shapes = [shape, *self._shapes[: _SHAPES - 1]]
        return shape

    def _refuse_garbled(self, message: memoryview) -> None:
        self._garbled += 1
        self._drop_unconfigured(message)

    def _send_verdicts(self, packet_ids: list[int], template: bytearray) -> None:
        words = memoryview(template).cast("I")
        step = messages.VERDICT_BYTES // 4
        for first in range(0, len(packet_ids), _VERDICTS_PER_SEND):
            chunk = array("I", packet_ids[first : first + _VERDICTS_PER_SEND])
            count = len(chunk)
            words[messages.VERDICT_ID_WORD : count * step : step] = memoryview(chunk)
            self._send(memoryview(template)[: count * messages.VERDICT_BYTES], count)
        packet_ids.clear()

    def _send(self, message: bytes | memoryview, verdicts: int) -> None:
        try:
            self._socket.send(message)
        except OSError:
            self._verdict_errors += verdicts


def _bound_library(number: int) -> NetfilterQueue:
    try:
        library = NetfilterQueue()
    except OSError as error:
        raise _refused(number, error) from error
    try:
        library.bind(number, _drop_early_packet, sock_len=_HARMLESS_BUFFER)
    except OSError as error:
        raise (_taken(number) if _row(number) else _refused(number, error)) from error
    return library


def _drop_early_packet(packet: Packet) -> None:
    """Dropped, not forgotten: without a verdict it would stay in the queue for ever."""
    packet.drop()


def _taken(number: int) -> OperatorError:
    return OperatorError(
        f"queue {number} is taken by another process",
        "choose another `queue` number, or stop the process shown in /proc/net/netfilter/nfnetlink_queue",
    )


def _refused(number: int, error: OSError) -> ColoBridgeError:
    if os.geteuid() != 0 or error.errno in (errno.EPERM, errno.EACCES):
        return OperatorError(f"no permission to bind queue {number}", "run as root or with CAP_NET_ADMIN")
    return KernelError(
        f"the kernel refuses queue {number}: {error}",
        "Linux 3.10 or later with nfnetlink_queue is needed",
    )


def _row(number: int) -> _Row | None:
    """See seq_show in the kernel's nfnetlink_queue.c: ten columns, a queue a line."""
    try:
        lines = _TABLE.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        columns = [int(column) for column in line.split()]
        if columns[0] == number:
            return _Row(columns[1], columns[2], columns[3] == 2 and columns[4] > 65_000, columns[5], columns[6])
    return None
