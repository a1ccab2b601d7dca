"""Two replicas with their own numbers and clocks, one client: the rewriter makes them one.

The model knows both replicas' numbers.  Whatever the secondary sends must come out as the
primary would have sent it, byte for byte; whatever the client sends must reach the secondary
as if the client had spoken to the secondary all along; in every form that packets can have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from colo_bridge.rewrite import RewriteLimits, Rewriter
from tests import packets
from tests.forms import DESTINATION, HOP_BY_HOP, options_header, over_ipv6, tagged
from tests.rewrite.trace import HEADER, TO_CLIENT, TO_GUEST, buffer

MODULUS = 1 << 32
# Near the wrap more often than not.
NUMBERS = st.one_of(
    st.integers(0, MODULUS - 1), st.integers(-2000, 2000).map(lambda n: n % MODULUS), st.sampled_from([0, MODULUS - 1])
)


@dataclass(frozen=True)
class Replica:
    initial: int
    clock: int

    def number(self, octet: int) -> int:
        """The sequence number of an octet; the SYN is octet 0."""
        return (self.initial + octet) % MODULUS

    def stamp(self, ticks: int) -> int:
        return (self.clock + ticks) % MODULUS


@dataclass(frozen=True)
class Event:
    """One segment after the handshake."""

    from_guest: bool
    payload: bytes
    flags: str
    gaps: tuple[int, ...]
    """Distances between SACK edges."""
    repeat_syn: bool
    ip_options: bytes
    lead: int
    """NOPs before the options."""


EVENTS = st.builds(
    Event,
    from_guest=st.booleans(),
    payload=st.binary(max_size=20),
    flags=st.sampled_from(["", "P", "P", "F", "E", "U"]),
    gaps=st.lists(st.integers(1, 3000), min_size=2, max_size=4).filter(lambda gaps: len(gaps) % 2 == 0).map(tuple)
    | st.just(()),
    repeat_syn=st.integers(0, 9).map(lambda number: number == 0),
    ip_options=st.sampled_from([b"", b"", packets.nop(4), packets.nop(40)]),
    lead=st.integers(0, 3),
)


@dataclass
class Model:
    primary: Replica
    secondary: Replica
    client: Replica
    stamped: bool
    partial: bool
    form: Callable[[bytes], bytes]
    """How the segments travel."""
    rewriter: Rewriter = field(default_factory=lambda: Rewriter(RewriteLimits(), HEADER))
    ticks: int = 0
    guest_octets: int = 1
    client_octets: int = 1
    echoed: int = 0
    """Ticks of the guest's stamp that the client echoes."""
    acknowledged: int = 0
    """The client's newest acknowledgement that reached the secondary, as an octet of the guest."""

    def options(self, value: int, echo: int, lead: int) -> bytes:
        if not self.stamped:
            return packets.nop(lead)
        return packets.nop(lead) + packets.bare_timestamps(value, echo)

    def frame(self, route: dict, **segment) -> bytes:
        return self.form(packets.tcp(**route, **segment, checksum="partial" if self.partial else "full"))

    def guest_frame(self, replica: Replica, octet: int, flags: str, event: Event, *, acknowledges: bool) -> bytes:
        """A guest's segment in the numbers of that replica."""
        echo = self.client.stamp(self.ticks) if acknowledges else 0
        return self.frame(
            TO_CLIENT,
            seq=replica.number(octet),
            ack=self.client.number(self.client_octets) if acknowledges else None,
            flags=flags,
            payload=event.payload,
            options=self.options(replica.stamp(self.ticks), echo, event.lead),
            ip_options=event.ip_options,
        )

    def client_frame(self, replica: Replica, octet: int, flags: str, event: Event, *, acknowledges: bool) -> bytes:
        """A client's segment as an answer to that replica."""
        edges, octet_acknowledged = [], self.guest_octets
        for gap in event.gaps:
            octet_acknowledged += gap
            edges.append(replica.number(octet_acknowledged))
        blocks = list(zip(edges[::2], edges[1::2], strict=True))
        echo = replica.stamp(self.echoed) if acknowledges else 0
        return self.frame(
            TO_GUEST,
            seq=self.client.number(octet),
            ack=replica.number(self.guest_octets) if acknowledges else None,
            flags=flags,
            payload=event.payload,
            options=self.options(self.client.stamp(self.ticks), echo, event.lead)
            + (packets.sack(*blocks) if blocks else b""),
            ip_options=event.ip_options,
        )

    def egress(self, frame: bytes) -> bytes:
        out = buffer(frame)
        self.rewriter.egress(out, HEADER, len(out), self.partial, float(self.ticks))
        return bytes(out[HEADER:])

    def ingress(self, frame: bytes) -> bytes | None:
        out = buffer(frame)
        delivered = self.rewriter.ingress(out, HEADER, len(out), self.partial, float(self.ticks))
        return bytes(out[HEADER:]) if delivered else None

    def ready(self) -> list[bytes]:
        frames = [bytes(frame[HEADER:]) for frame in self.rewriter.ready]
        self.rewriter.ready.clear()
        return frames

    def client_calls(self, quiet: Event) -> None:
        syn = self.client_frame(self.primary, 0, "S", quiet, acknowledges=False)
        assert self.ingress(syn) == syn
        own = self.guest_frame(self.secondary, 0, "S", quiet, acknowledges=True)
        assert self.egress(own) == own
        self.client_answers("A", 1, quiet)

    def client_calls_and_is_early(self, quiet: Event) -> None:
        self.ingress(self.client_frame(self.primary, 0, "S", quiet, acknowledges=False))
        assert self.ingress(self.client_frame(self.primary, 1, "A", quiet, acknowledges=True)) is None
        syn_ack = self.guest_frame(self.secondary, 0, "S", quiet, acknowledges=True)
        assert self.egress(syn_ack) == self.guest_frame(self.primary, 0, "S", quiet, acknowledges=True)
        assert self.ready() == [self.client_frame(self.secondary, 1, "A", quiet, acknowledges=True)]
        self.acknowledged = self.guest_octets

    def guest_calls(self, quiet: Event) -> None:
        own = self.guest_frame(self.secondary, 0, "S", quiet, acknowledges=False)
        assert self.egress(own) == own
        self.client_answers("S", 0, quiet)

    def both_call(self, quiet: Event) -> None:
        own = self.guest_frame(self.secondary, 0, "S", quiet, acknowledges=False)
        assert self.egress(own) == own
        syn = self.client_frame(self.primary, 0, "S", quiet, acknowledges=False)
        assert self.ingress(syn) == syn
        self.client_answers("S", 0, quiet)

    def client_answers(self, flags: str, octet: int, event: Event) -> None:
        into = self.ingress(self.client_frame(self.primary, octet, flags, event, acknowledges=True))
        assert into == self.client_frame(self.secondary, octet, flags, event, acknowledges=True)
        self.acknowledged = self.guest_octets

    def guest_answers(self, flags: str, octet: int, event: Event) -> None:
        out = self.egress(self.guest_frame(self.secondary, octet, flags, event, acknowledges=True))
        assert out == self.guest_frame(self.primary, octet, flags, event, acknowledges=True)

    def happens(self, event: Event) -> None:
        self.ticks += 1
        flags, length = "A" + event.flags, len(event.payload)
        if event.from_guest:
            self.guest_answers(flags, self.guest_octets, event)
            self.guest_octets += length
            self.echoed = self.ticks
        else:
            self.client_answers(flags, self.client_octets, event)
            self.client_octets += length
        if event.repeat_syn:
            self.guest_answers("S", 0, QUIET)
            self.repeated_syn_is_answered()

    def repeated_syn_is_answered(self) -> None:
        """By the client's newest acknowledgement, in the secondary's numbers and with its own stamp."""
        (frame,) = self.ready()
        expected = packets.tcp(
            **TO_GUEST,
            seq=self.client.number(self.client_octets),
            ack=self.secondary.number(self.acknowledged),
            options=packets.timestamps(self.client.stamp(self.ticks), self.secondary.stamp(self.ticks))
            if self.stamped
            else b"",
            fragment=0x4000,
            identification=0,
        )
        expected = ANSWERED_IN.get(self.form, self.form)(expected)
        assert frame == packets.GUEST_MAC + packets.CLIENT_MAC + expected[12:]


def unchanged(frame: bytes) -> bytes:
    return frame


def with_extension_headers(frame: bytes) -> bytes:
    return over_ipv6(frame, (HOP_BY_HOP, options_header()), (DESTINATION, options_header(20)))


def in_a_vlan(frame: bytes) -> bytes:
    return tagged(frame, 5)


def over_ipv6_in_two_vlans(frame: bytes) -> bytes:
    return tagged(over_ipv6(frame), 7, 8, outer=0x88A8)


WAYS = st.sampled_from([unchanged, unchanged, over_ipv6, with_extension_headers, in_a_vlan, over_ipv6_in_two_vlans])
ANSWERED_IN = {with_extension_headers: over_ipv6}
QUIET = Event(from_guest=True, payload=b"", flags="", gaps=(), repeat_syn=False, ip_options=b"", lead=2)
REPLICAS = st.builds(Replica, NUMBERS, NUMBERS)
OPENINGS = st.sampled_from([Model.client_calls, Model.client_calls_and_is_early, Model.guest_calls, Model.both_call])


@settings(max_examples=600, deadline=None)
@given(
    st.builds(Model, REPLICAS, REPLICAS, REPLICAS, st.booleans(), st.booleans(), WAYS),
    st.lists(st.tuples(OPENINGS, st.lists(EVENTS, max_size=12)), min_size=1, max_size=2),
    REPLICAS,
    REPLICAS,
    st.integers(1, 1 << 31),
)
def test_the_secondary_looks_like_the_primary(model, uses, primary, secondary, distance):
    for opening, events in uses:
        opening(model, QUIET)
        for event in events:
            model.happens(event)
        # The port is used again: new numbers on all sides, the same rewriter.
        again = {"primary": primary, "secondary": _distinct(secondary, model.secondary)}
        model = Model(
            **again,
            client=Replica((model.client.initial + distance) % MODULUS, model.client.clock),
            stamped=model.stamped,
            partial=model.partial,
            form=model.form,
            rewriter=model.rewriter,
            ticks=model.ticks + 1,
            echoed=model.ticks + 1,
        )


def _distinct(replica: Replica, other: Replica) -> Replica:
    """A new connection has a new initial number, or its SYN would be a repetition."""
    return replica if replica.initial != other.initial else Replica((replica.initial + 1) % MODULUS, replica.clock)
