"""IPv4 and IPv6: what each is called where iptables and bridges name them."""

from __future__ import annotations

from enum import StrEnum


class Family(StrEnum):
    """Diverted by rules of its own; the queue holds packets of both."""

    IPV4 = "ipv4"
    IPV6 = "ipv6"

    @property
    def command(self) -> str:
        """The command that lists this family's rules; a bridge's hook is named after it too."""
        return "ip6tables" if self is Family.IPV6 else "iptables"
