"""Capture files, read packet by packet: pcap and pcapng, of either byte order, also compressed by gzip.

Memory: one packet.  Nothing is sought in the file, so a pipe will do.

Formats: draft-ietf-opsawg-pcap §4 and §5; draft-ietf-opsawg-pcapng §3.1, §3.5, §4.1 to §4.4.
"""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from colo_bridge.errors import OperatorError
from colo_bridge.wire import pcapng
from colo_bridge.wire.linktype import as_ethernet

_PCAP = {0xA1B2C3D4: 1_000, 0xA1B23C4D: 1}
"""Magic numbers, and the nanoseconds that the fraction of a second counts in."""
_GZIP = b"\x1f\x8b"
_LONGEST_PACKET = 1 << 18
"""What libpcap allows at most; more is a broken file."""
_LONGEST_BLOCK = 1 << 24
_BUFFER = 1 << 20
_MICROSECONDS = 1_000_000


class Record(NamedTuple):
    """One captured packet as an Ethernet frame; `time` in nanoseconds since 1970."""

    time: int
    number: int
    """Counted from 1, as Wireshark does."""
    frame: bytearray
    is_cut: bool
    """The capture does not hold all of it."""


class _Interface(NamedTuple):
    name: str
    form: Callable[[bytes], bytearray] | None
    link_type: int
    units: int
    """Units of time in a second."""
    offset: int
    """Seconds that its times lack."""


class _Broken(Exception):
    """What is wrong with the file."""


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Capture:
    """The packets of one file, in its order; with `interface` only those of the interface of that name.

    Raises OperatorError where the file is no capture, or breaks off.
    """

    def __init__(self, path: Path, interface: str | None = None) -> None:
        self._path = path
        self._interface = interface
        try:
            self._file = io.BufferedReader(io.FileIO(path), _BUFFER)
        except OSError as error:
            raise OperatorError(f"cannot read {path}: {error.strerror}") from error
        self.size = path.stat().st_size
        """Bytes; 0 for a pipe."""

    @property
    def position(self) -> int:
        """Bytes read so far."""
        return self._file.tell() if self.size else 0

    def close(self) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[Record]:
        try:
            yield from self._records()
        except _Broken as error:
            raise OperatorError(f"{self._path}: {error}", "is it a whole pcap or pcapng file?") from error
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise OperatorError(f"{self._path}: broken gzip data") from error
        except OSError as error:
            raise OperatorError(f"cannot read {self._path}: {error.strerror}") from error

    def _records(self) -> Iterator[Record]:
        stream: _Stream = self._file
        if self._file.peek(2)[:2] == _GZIP:
            stream = gzip.GzipFile(fileobj=self._file)
        magic = stream.read(4)
        if magic == struct.pack("<I", pcapng.SECTION_HEADER):
            yield from _Blocks(stream, self._interface).records()
            return
        for order in ("<", ">"):
            fraction = _PCAP.get(struct.unpack(f"{order}I", magic)[0]) if len(magic) == 4 else None
            if fraction is not None:
                if self._interface is not None:
                    raise _Broken("a pcap file has no names of interfaces that tell the replicas apart")
                yield from _pcap(stream, order, fraction)
                return
        raise _Broken("not a capture file" if magic else "empty")


def _pcap(stream: _Stream, order: str, fraction: int) -> Iterator[Record]:
    link_type = struct.unpack(f"{order}I", _exactly(stream, 20)[16:])[0] & 0xFFFF
    form = _form(link_type)
    header = struct.Struct(f"{order}IIII")
    number = 0
    while head := stream.read(16):
        if len(head) < 16:
            raise _Broken(f"breaks off behind packet {number}")
        seconds, part, captured, length = header.unpack(head)
        number += 1
        if captured > _LONGEST_PACKET:
            raise _Broken(f"packet {number} claims {captured} bytes")
        data = _exactly(stream, captured, f"in packet {number}")
        yield Record(seconds * 1_000_000_000 + part * fraction, number, form(data), captured < length)


class _Blocks:
    """A pcapng file behind its first four bytes."""

    def __init__(self, stream: _Stream, interface: str | None) -> None:
        self._stream = stream
        self._wanted = interface
        self._order = "<"
        self._interfaces: list[_Interface] = []
        self._number = 0
        self._last = 0

    def records(self) -> Iterator[Record]:
        self._section(_exactly(self._stream, 8))
        while head := self._stream.read(8):
            if len(head) < 8:
                raise _Broken(f"breaks off behind packet {self._number}")
            kind, length = struct.unpack(f"{self._order}II", head)
            if kind == pcapng.SECTION_HEADER:
                self._section(head[4:] + _exactly(self._stream, 4))
                continue
            body = self._body(length, 8)
            if kind == pcapng.INTERFACE:
                self._interfaces.append(_interface(body, self._order))
            elif kind in (pcapng.ENHANCED_PACKET, pcapng.PACKET, pcapng.SIMPLE_PACKET):
                self._number += 1
                record = self._record(kind, body)
                if record is not None:
                    yield record

    def _section(self, head: bytes) -> None:
        """Length and byte order of a new section; it has interfaces of its own."""
        for order in ("<", ">"):
            length, mark = struct.unpack(f"{order}II", head)
            if mark == pcapng.BYTE_ORDER:
                self._order = order
                self._interfaces = []
                self._body(length, 12)
                return
        raise _Broken("a section of unknown byte order")

    def _body(self, length: int, read: int) -> bytes:
        if length % 4 or not read + 4 <= length <= _LONGEST_BLOCK:
            raise _Broken(f"behind packet {self._number} a block claims {length} bytes")
        body = _exactly(self._stream, length - read, f"behind packet {self._number}")
        if struct.unpack(f"{self._order}I", body[-4:])[0] != length:
            raise _Broken(f"behind packet {self._number} a block does not end where it says")
        return body[:-4]

    def _record(self, kind: int, body: bytes) -> Record | None:
        """The packet; None: of another interface."""
        order = self._order
        if kind == pcapng.SIMPLE_PACKET:
            # It has no time: it keeps its place.
            _need(body, 4)
            (length,) = struct.unpack_from(f"{order}I", body)
            captured, at, index, ticks = min(length, len(body) - 4), 4, 0, None
        else:
            _need(body, 20)
            at = 20
            index, high, low, captured, length = struct.unpack_from(f"{order}IIIII", body)
            if kind == pcapng.PACKET:
                (index,) = struct.unpack_from(f"{order}H", body)
            ticks = high << 32 | low
        if index >= len(self._interfaces) or at + captured > len(body):
            raise _Broken(f"packet {self._number} does not fit its block or has no interface")
        interface = self._interfaces[index]
        if ticks is not None:
            self._last = interface.offset * 1_000_000_000 + ticks * 1_000_000_000 // interface.units
        if self._wanted is not None and interface.name != self._wanted:
            return None
        form = interface.form or _form(interface.link_type)
        return Record(self._last, self._number, form(body[at : at + captured]), captured < length)


def _interface(body: bytes, order: str) -> _Interface:
    _need(body, 8)
    (link_type,) = struct.unpack_from(f"{order}H", body)
    options = dict(_options(body[8:], order))
    resolution = (options.get(pcapng.TIME_RESOLUTION) or b"\x06")[0]
    units = 1 << (resolution & 0x7F) if resolution & 0x80 else 10**resolution
    offset = options.get(pcapng.TIME_OFFSET, b"")
    seconds = struct.unpack(f"{order}q", offset)[0] if len(offset) == 8 else 0
    name = options.get(pcapng.INTERFACE_NAME, b"").decode(errors="replace").rstrip("\0")
    return _Interface(name, as_ethernet(link_type), link_type, units, seconds)


def _options(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        code, length = struct.unpack_from(f"{order}HH", data)
        if code == 0:
            return
        yield code, data[4 : 4 + length]
        data = data[4 + length + -length % 4 :]


def _form(link_type: int) -> Callable[[bytes], bytearray]:
    form = as_ethernet(link_type)
    if form is None:
        raise _Broken(f"link type {link_type} is not supported (Ethernet, raw IP, Linux cooked and loopback are)")
    return form


def _need(body: bytes, length: int) -> None:
    if len(body) < length:
        raise _Broken("a block is too short for what it is")


def _exactly(stream: _Stream, length: int, where: str = "in its header") -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise _Broken(f"breaks off {where}")
    return data
