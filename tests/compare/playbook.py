"""Playbooks: packet traces with what each packet must cause.

    P a  SA 0     ack 0  =>            the primary sends SYN and ACK, token `a`: it is held
    S    SA 0     ack 0  => a          the secondary does too: `a` is released
    P b  1+10     ack 0  =>            ten octets from number 1
    S    1+10!4   ack 0  => !content   the octet numbered 4 is another one: a divergence

A line is `SIDE [TOKEN] [FORM…] [KIND] [FLAGS] [RANGE] [ack N] [win N] [OPTION…] [@PORT] ['TEXT'] => OUTCOME`.

- Numbers count from the ISN (of the client for `ack`), which `Playbook` is given, so that one
  playbook can be played anywhere in the number space.  The secondary's SYN has an ISN of its own.
- The octet at a number is the same on both sides unless `!` spoils it.
- KIND is one of udp, icmp, igmp, cut, arp, neighbour; TEXT is the content.
- FORM: `v6` IPv6 instead of IPv4; `routed` behind a source route; `vlan N` a tag, the outermost first; `[8:16]` only
  these bytes of what IP carries, as a fragment, the last one as `[8:]` or `[8:16.]`; `#N` the identification of the
  fragmented packet.
- OPTION is a TCP option: `mss N`, `scale N`, `sack` (permitted), `time N` or `stamps N N` (timestamps: the
  second is the echo), `block N N` (SACK) or `cookie N` (Fast Open).
- `checkpoint`, `checkpoint synchronised`, `forget`, `tick SECONDS`, `age SECONDS` and `cure SECONDS` are not packets;
  the last three move the clock to that second.
- OUTCOME lists, in order: `a` released, `-a` dropped, `~a` revised, `^1+10` octets forwarded (`^F1+10` with a FIN),
  `=a` replaced, `!reason` divergences.  Nothing else may happen.
"""

from __future__ import annotations

import re
import shlex
import struct
from dataclasses import dataclass, field

from colo_bridge.compare.comparator import Comparator
from colo_bridge.compare.decisions import Divergence, Forward
from colo_bridge.compare.settings import Settings
from colo_bridge.wire.frame import cut_short, parse_frame
from colo_bridge.wire.packet import ACK, FIN, MalformedPacket, Parsed, TcpPacket
from tests import forms, packets

_MASK = 0xFFFFFFFF
_RANGE = re.compile(r"(\d+)(?:\+(\d+))?(?:!(\d+))?")
_PART = re.compile(r"\[(\d+):(\d*)(\.?)\]")
_KINDS = ("udp", "icmp", "igmp", "cut", "arp", "neighbour")
_SOURCE_ROUTE = bytes((131, 7, 4, 10, 0, 0, 7, 0))
_ROUTE = (forms.ROUTING, forms.routing_header(1, "fd00::7"))
_OPTIONS = {
    "mss": packets.maximum_segment_size,
    "scale": packets.window_scale,
    "time": packets.timestamps,
    "cookie": lambda number: struct.pack("!BBI", 34, 6, number),
}
_ETHERNET = packets.ethernet(b"").__len__()


def octet(number: int) -> int:
    """The byte of the common stream at this number; the stream repeats itself after 65,536 octets."""
    return (number * 31 + (number >> 8) * 7 + 5) & 0xFF


def octets(start: int, count: int, spoiled: int | None = None) -> bytes:
    return bytes(octet(number) ^ (number == spoiled) for number in range(start, start + count))


@dataclass(slots=True)
class Line:
    """One packet line, taken apart."""

    side: str
    token: str = ""
    kind: str = "tcp"
    flags: str = ""
    start: int = 0
    count: int = 0
    spoiled: int | None = None
    ack: int | None = None
    window: int = 0xFFFF
    port: int = 5000
    text: bytes = b""
    options: bytes = b""
    blocks: list[tuple[int, int]] = field(default_factory=list)
    ipv6: bool = False
    routed: bool = False
    vlans: list[int] = field(default_factory=list)
    part: tuple[int, int | None, bool] | None = None
    """Start, end and whether it is the last of the fragment that is sent instead of the packet."""
    identification: int = 1


def read_line(words: list[str]) -> Line:
    line = Line(side=words.pop(0))
    if line.side == "P":
        line.token = words.pop(0)
    while words:
        _read_word(line, words.pop(0), words)
    return line


def _read_word(line: Line, word: str, rest: list[str]) -> None:
    if word == "ack":
        line.ack = int(rest.pop(0))
    elif word == "win":
        line.window = int(rest.pop(0))
    elif word in _OPTIONS:
        line.options += _OPTIONS[word](int(rest.pop(0)))
    elif word == "stamps":
        line.options += packets.timestamps(int(rest.pop(0)), int(rest.pop(0)))
    elif word == "block":
        line.blocks.append((int(rest.pop(0)), int(rest.pop(0))))
    elif word == "sack":
        line.options += packets.sack_permitted()
    elif word in _KINDS:
        line.kind = word
    elif word == "v6":
        line.ipv6 = True
    elif word == "routed":
        line.routed = True
    elif word == "vlan":
        line.vlans.append(int(rest.pop(0)))
    elif part := _PART.fullmatch(word):
        start, end, last = part.groups()
        line.part = int(start), int(end) if end else None, bool(last) or not end
    elif re.fullmatch(r"#\d+", word):
        line.identification = int(word[1:])
    elif word.startswith("@"):
        line.port = int(word[1:])
    elif found := _RANGE.fullmatch(word):
        start, count, spoiled = found.groups()
        line.start, line.count = int(start), int(count or 0)
        line.spoiled = None if spoiled is None else int(spoiled)
    elif re.fullmatch("[SFRPAU]+", word):
        line.flags = word
    else:
        line.text = word.encode()


@dataclass(slots=True)
class Playbook:
    """A comparator and where the streams begin; `run` plays lines and checks every outcome."""

    isn: int = 1_000
    secondary_isn: int = 77_000_000
    client_isn: int = 3_000_000
    scale: int | None = None
    """Window scale that both SYNs announce."""
    settings: Settings = field(default_factory=Settings)
    comparator: Comparator = field(init=False)
    now: float = 0.0
    step: float = 0.001
    """Seconds that pass before each line."""
    ipv6: bool = False
    """Whether every packet is one of IPv6, whatever the line says."""
    vlans: tuple[int, ...] = ()
    """The tags of packets for which the line says none."""
    seen: list[Divergence] = field(default_factory=list)
    """All divergences so far."""
    revised: dict[str, bytes] = field(default_factory=dict)
    forwarded: list[Forward] = field(default_factory=list)
    """All packets of our own so far."""

    def __post_init__(self) -> None:
        self.comparator = Comparator(self.settings)

    def run(self, trace: str) -> Playbook:
        for text in trace.strip().splitlines():
            if text.strip():
                self._step(text.strip())
        return self

    def feed(self, line: str) -> None:
        """One packet, whatever comes of it."""
        self.now += self.step
        self._feed(read_line(line.split()))

    def __getitem__(self, counter: str) -> int:
        return self.comparator.counters()[counter]

    def _step(self, text: str) -> None:
        action, arrow, wanted = text.partition("=>")
        assert arrow, f"no outcome in {text!r}"
        self.now += self.step
        self._act(shlex.split(action))
        assert self._outcome() == wanted.split(), text

    def _act(self, words: list[str]) -> None:
        match words:
            case ["checkpoint", *rest]:
                self.comparator.checkpoint_done(synchronised=rest == ["synchronised"])
            case ["forget"]:
                self.comparator.forget()
            case ["tick", seconds]:
                self.now = float(seconds)
                self.comparator.tick(self.now)
            case ["age", seconds]:
                self.now = float(seconds)
                self.comparator.age(self.now)
            case ["cure", seconds]:
                self.now = float(seconds)
                self.comparator.cure(self.now)
            case _:
                self._feed(read_line(words))

    def _feed(self, line: Line) -> None:
        buffer = bytearray(self.frame(line))
        packet = self._parsed(line, buffer)
        if line.side == "P":
            self.comparator.primary(packet, line.token, self.now)
        else:
            self.comparator.secondary(packet, self.now)
        buffer[:] = bytes(len(buffer))  # what has to wait must have been copied

    def _parsed(self, line: Line, buffer: bytearray) -> Parsed:
        if line.kind == "cut":
            return cut_short(buffer, _ETHERNET, len(buffer))
        return parse_frame(buffer, 0, len(buffer))

    def _outcome(self) -> list[str]:
        comparator = self.comparator
        self.seen += comparator.divergences
        self.revised |= dict(comparator.revised)
        outcome = [
            *comparator.released,
            *(f"-{token}" for token in comparator.dropped),
            *(f"~{token}" for token, _ in comparator.revised),
            *(self._octets_of(forward) for forward in comparator.forwarded),
            *(f"={token}" for token in comparator.replaced),
            *(f"!{divergence.reason.value.replace(' ', '-')}" for divergence in comparator.divergences),
        ]
        self.forwarded += comparator.forwarded
        for happened in (
            comparator.released,
            comparator.dropped,
            comparator.revised,
            comparator.forwarded,
            comparator.replaced,
            comparator.divergences,
        ):
            happened.clear()
        return outcome

    def _octets_of(self, forward: Forward) -> str:
        """Checks on the way what is equal of all packets of our own."""
        packet = self.read(forward)
        start, count = (packet.sequence - self.isn) & _MASK, packet.end - packet.payload
        assert forward.packet[forward.payload :] == octets(start, count)
        assert packet.flags & ACK
        return f"^{'F' if packet.flags & FIN else ''}{start}+{count}"

    def read(self, forward: Forward) -> TcpPacket:
        frame = forward.ethernet + forward.packet
        packet = parse_frame(frame, 0, len(frame))
        assert isinstance(packet, TcpPacket)
        assert (packet.tcp, packet.payload) == (packet.ip + forward.tcp, packet.ip + forward.payload)
        return packet

    def frame(self, line: Line) -> bytes:
        frame = self._untagged(line)
        if (line.ipv6 or self.ipv6) and line.kind not in ("arp", "neighbour"):
            frame = forms.over_ipv6(frame, *([_ROUTE] if line.routed else []))
        if line.part is not None:
            start, end, last = line.part
            frame = forms.fragment(frame, start, end, last=last, identification=line.identification)
        vlans = line.vlans or self.vlans
        return forms.tagged(frame, *vlans, outer=0x8100 if len(vlans) < 2 else 0x88A8)

    def _untagged(self, line: Line) -> bytes:
        match line.kind:
            case "tcp":
                return self._tcp(line)
            case "udp":
                return packets.udp(dport=line.port, payload=line.text)
            case "icmp":
                return packets.icmp(body=line.text)
            case "igmp" | "cut":
                return packets.ethernet(packets.ipv4("10.0.0.2", "10.0.0.9", 2, line.text))
            case "arp":
                return packets.arp()
        return forms.neighbour()

    def _tcp(self, line: Line) -> bytes:
        syn = "S" in line.flags
        if line.blocks:
            edges = [((first + self.client_isn) & _MASK, (end + self.client_isn) & _MASK) for first, end in line.blocks]
            line.options += packets.nop(2) + packets.sack(*edges)
        own = syn and line.side == "S"
        return packets.tcp(
            dport=line.port,
            seq=((self.secondary_isn if own else self.isn) + line.start) & _MASK,
            ack=None if line.ack is None else (self.client_isn + line.ack) & _MASK,
            flags=line.flags,
            payload=octets(line.start + syn, line.count, line.spoiled),
            options=line.options or (packets.window_scale(self.scale) if syn and self.scale is not None else b""),
            window=line.window,
            ip_options=_SOURCE_ROUTE if line.routed and not (line.ipv6 or self.ipv6) else b"",
        )


def play(trace: str, *, settings: Settings | None = None) -> Playbook:
    """Play a trace over IPv6 and in VLANs, where everything wraps, and in the ordinary way."""
    settings = settings or Settings()
    Playbook(ipv6=True, settings=settings).run(trace)
    Playbook(ipv6=True, vlans=(7,), settings=settings).run(trace)
    Playbook(vlans=(7, 8), settings=settings).run(trace)
    for isn, client_isn in ((0xFFFFFFFF, 0xFFFFFFFA), (0x7FFFFFFA, 0x80000000), (1_000, 3_000_000)):
        book = Playbook(isn=isn, client_isn=client_isn, settings=settings).run(trace)
    return book


def malformed(frame: bytes) -> str:
    """Why this frame is refused."""
    try:
        parse_frame(frame, 0, len(frame))
    except MalformedPacket as error:
        return error.problem
    raise AssertionError("the frame was accepted")
