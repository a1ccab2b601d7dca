"""A TAP whose frames carry a virtio-net header and come in segments of up to 64 KB.

It vanishes with this process, other than a guest port that is made here.  Numbers: linux/if_tun.h,
linux/virtio_net.h (struct virtio_net_hdr_mrg_rxbuf, 12 bytes, host byte order).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from colo_bridge.errors import ColoBridgeError, KernelError, OperatorError
from colo_bridge.kernel import links

VNET_HEADER_BYTES = 12
LARGEST_MTU = 65_521
"""Of a TAP (65,535 less an Ethernet header)."""

_DEVICE = "/dev/net/tun"
_TUNSETIFF, _TUNSETOFFLOAD, _TUNSETVNETHDRSZ = 0x400454CA, 0x400454D0, 0x400454D8
_TUNSETPERSIST, _TUNSETOWNER = 0x400454CB, 0x400454CC
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR, _IFF_TUN_EXCL = 0x0002, 0x1000, 0x4000, 0x8000
_OFFLOADS = 0x01 | 0x02 | 0x04
"""TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6."""
_UDP_OFFLOADS = 0x20 | 0x40
"""TUN_F_USO4, TUN_F_USO6: Linux 6.2 and later."""
_REQUEST = struct.Struct("16sH22x")
_LARGEST_FRAME = 65_536 + 256
_STATISTICS = Path("/proc/thread-self/net/dev")


def name_for(guest: str, nic: str, purpose: str) -> str:
    """A device name of at most 15 characters that begins with `cb` and differs for every NIC."""
    digest = hashlib.blake2s(f"{guest}/{nic}".encode(), digest_size=4).hexdigest()
    return f"cb{purpose}{digest}"


class Tap:
    """One TAP of this network namespace, attached to this process; down until `links.set_up`."""

    def __init__(self, name: str, *, queue_length: int) -> None:
        """`queue_length` frames wait for `receive` at most; OperatorError if it cannot be created."""
        self.name = name
        self.buffer = bytearray(VNET_HEADER_BYTES + _LARGEST_FRAME)
        self._buffers = [self.buffer]
        self._receive_errors = self._send_full = self._send_refused = 0
        self._queue_length = queue_length
        self._descriptor = open_device()
        try:
            self.create()
        except ColoBridgeError:
            self.close()
            raise

    def create(self) -> None:
        """Make the device, also after somebody deleted it: down, and behind the same descriptor.

        An event loop that watched the descriptor has to be told to watch it again.
        """
        name_device(self._descriptor, self.name, _IFF_VNET_HDR)
        try:
            _set_offloads(self._descriptor)
            links.quiet(self.name)
            links.change(self.name, address=_address(self.name), txqlen=self._queue_length)
            self.index = links.get(self.name).index
        except OSError as error:
            links.delete(self.name)
            raise _refused(self.name, error) from error
        except ColoBridgeError:
            links.delete(self.name)
            raise

    def restore(self) -> None:
        """Make the device anew if somebody deleted it."""
        if links.find(self.name) is None:
            self.create()

    def problem(self) -> str:
        """What is wrong with the device; empty: nothing."""
        link = links.find(self.name)
        if link is None:
            return f"{self.name} is gone"
        if link.index != self.index:
            return f"{self.name} is somebody else's: delete it"
        return "" if link.up else f"{self.name} is down"

    def fileno(self) -> int:
        return self._descriptor

    def receive(self) -> int:
        """Length in `buffer` of the next frame with its virtio-net header; 0 when nothing waits."""
        try:
            return os.readv(self._descriptor, self._buffers)
        except BlockingIOError:
            return 0
        except OSError:
            self._receive_errors += 1
            return 0

    def send(self, frame: bytes | bytearray | memoryview) -> bool:
        """Hand one frame with its virtio-net header to the kernel; False, and counted, if it refuses."""
        try:
            os.write(self._descriptor, frame)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ENOBUFS):
                self._send_full += 1
            else:
                self._send_refused += 1
            return False
        return True

    def counters(self) -> dict[str, int]:
        """Frames lost: unread because the queue was full, dropped or refused by the kernel."""
        unread, undelivered = _device_drops(self.name)
        return {
            "unread_dropped": unread,
            "undelivered_dropped": undelivered,
            "receive_errors": self._receive_errors,
            "send_full": self._send_full,
            "send_refused": self._send_refused,
        }

    def close(self) -> None:
        """The device vanishes."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def open_device() -> int:
    """A descriptor that `name_device` makes a TAP of."""
    try:
        return os.open(_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise OperatorError(f"cannot open {_DEVICE}: {error.strerror}", "run as root; load the module tun") from error


def name_device(descriptor: int, name: str, flags: int = 0) -> None:
    """Create the device, down; OperatorError if there is one of this name."""
    try:
        fcntl.ioctl(descriptor, _TUNSETIFF, _REQUEST.pack(name.encode(), _IFF_TAP | _IFF_NO_PI | _IFF_TUN_EXCL | flags))
    except OSError as error:
        raise _refused(name, error) from error


@contextlib.contextmanager
def transit(name: str) -> Iterator[str]:
    """A device that exists inside only and is never up: what is pointed at it leads nowhere afterwards."""
    descriptor = open_device()
    try:
        name_device(descriptor, name)
        yield name
    finally:
        os.close(descriptor)


def persist(descriptor: int, name: str, owner: int | None) -> None:
    """The device stays when the descriptor is closed; `owner` is the user that may use it without privileges."""
    try:
        if owner is not None:
            fcntl.ioctl(descriptor, _TUNSETOWNER, owner)
        fcntl.ioctl(descriptor, _TUNSETPERSIST, 1)
    except OSError as error:
        raise _refused(name, error) from error


def _set_offloads(descriptor: int) -> None:
    fcntl.ioctl(descriptor, _TUNSETVNETHDRSZ, struct.pack("i", VNET_HEADER_BYTES))
    try:
        fcntl.ioctl(descriptor, _TUNSETOFFLOAD, _OFFLOADS | _UDP_OFFLOADS)
    except OSError:
        fcntl.ioctl(descriptor, _TUNSETOFFLOAD, _OFFLOADS)


def _refused(name: str, error: OSError) -> ColoBridgeError:
    if error.errno == errno.EBUSY:
        return OperatorError(f"the device {name} exists already", "is another daemon running for this guest?")
    if error.errno in (errno.EPERM, errno.EACCES):
        return OperatorError(f"no permission to create the device {name}", "run as root or with CAP_NET_ADMIN")
    return KernelError(f"cannot create the device {name}: {error.strerror}", "Linux 3.10 or later is needed")


def _address(name: str) -> str:
    """Begins with fe:ff: a bridge takes the lowest address of its ports, never this one."""
    return ":".join(["fe:ff", *(f"{octet:02x}" for octet in hashlib.blake2s(name.encode(), digest_size=4).digest())])


def _device_drops(name: str) -> tuple[int, int]:
    """Drops on the way to us (the device's transmit side) and from us (its receive side)."""
    for line in _STATISTICS.read_text(encoding="ascii").splitlines()[2:]:
        device, _, figures = line.partition(":")
        if device.strip() == name:
            columns = [int(column) for column in figures.split()]
            return columns[11], columns[3]
    return 0, 0
