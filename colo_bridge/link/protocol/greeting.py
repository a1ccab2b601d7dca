"""May these two sides work together? What both are told if not is the same sentence."""

from __future__ import annotations

from colo_bridge.errors import OperatorError
from colo_bridge.link.protocol.messages import Hello, Role


def judge(one: Hello, other: Hello) -> None:
    """Raises OperatorError if they may not."""
    if one.role == other.role:
        raise OperatorError(f"both sides of the link are the {one.role}", "set `role` on one of the hosts")
    primary, secondary = (one, other) if one.role is Role.PRIMARY else (other, one)
    if primary.version.major != secondary.version.major:
        raise OperatorError(
            f"the primary speaks version {primary.version} of the link's protocol, the secondary {secondary.version}",
            "install the same version of colo-bridge on both hosts",
        )
    if primary.guest != secondary.guest:
        raise OperatorError(
            f"the primary is for guest {primary.guest}, the secondary for {secondary.guest}",
            "does the link lead to the right port?",
        )
    if primary.configuration != secondary.configuration:
        raise OperatorError(
            f"the configurations differ: the primary's digest is {primary.configuration}, "
            f"the secondary's {secondary.configuration}",
            "compare what `colo-bridge check` prints on both hosts",
        )
    if one.identity == other.identity:
        # The arbiter tells the two sides apart by it: it would say to both that they may go on alone.
        raise OperatorError(
            f"both sides of the link have the identity {one.identity}", "set `link.identity` on one of the hosts"
        )
