"""Taking one NIC's protection out of the kernel: after a clean stop, or after a killed daemon.

Rules are known by their tag, filters by their pref, what must be restored by the state file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from colo_bridge.config import Config, NicConfig
from colo_bridge.errors import OperatorError
from colo_bridge.kernel import bridge, firewall, links, traffic
from colo_bridge.kernel.firewall import Tables
from colo_bridge.kernel.state import NicState, StateFile
from colo_bridge.kernel.tap import name_for


@dataclass(frozen=True, slots=True)
class Names:
    """What this NIC's things in the kernel are called."""

    guest: str
    nic: str

    @property
    def tag(self) -> str:
        return firewall.tag_of(self.guest, self.nic)

    @property
    def mirror(self) -> str:
        return name_for(self.guest, self.nic, "m")

    @property
    def secondary(self) -> str:
        return name_for(self.guest, self.nic, "s")

    @property
    def forward(self) -> str:
        return name_for(self.guest, self.nic, "f")

    @property
    def uplink(self) -> str:
        return name_for(self.guest, self.nic, "u")

    @property
    def transit(self) -> str:
        """Exists for an instant only: where filters point that drop."""
        return name_for(self.guest, self.nic, "x")


def cleanup(config: Config, *, force: bool = False) -> list[str]:
    """Remove what a killed daemon of this configuration left; says what, one line each.

    OperatorError while its daemon runs, for the protection would be taken from under it; and, unless `force`, where the
    secondary is alone on its host: nothing else keeps in what it sends.
    """
    names = [Names(config.guest, nic.name) for nic in config.nic]
    if running := [tap for name in names for tap in (name.mirror, name.secondary) if links.find(tap)]:
        raise OperatorError(f"the daemon of {config.guest} still runs: {running[0]} exists", "stop it first")
    if config.role == "secondary" and not force:
        _refuse_to_free(config)
    tables = firewall.present_tables()
    return [
        line
        for name, nic in zip(names, config.nic, strict=True)
        for line in withdraw(name, nic, StateFile(config.state_file, nic.name), tables)
    ]


def withdraw(names: Names, nic: NicConfig, state: StateFile, tables: list[Tables]) -> Iterator[str]:
    """Remove everything of one NIC, in the order that never opens a way for the secondary."""
    recorded = state.read() or NicState()
    yield from _remove_rules(names, tables)
    yield from _restore_hooks(recorded, state)
    yield from _remove_detours(nic, recorded)
    state.forget()


def _refuse_to_free(config: Config) -> None:
    for nic in config.nic:
        if traffic.has_filters(nic.secondary_port):
            raise OperatorError(
                f"the redirect of {nic.secondary_port} keeps in what the secondary sends",
                "it goes with the port; `--force` puts the port down and removes it",
            )


def _remove_rules(names: Names, tables: list[Tables]) -> Iterator[str]:
    for one in tables:
        if firewall.open_firewall(one).remove(names.tag):
            yield f"rule {names.tag} ({one})"


def _restore_hooks(recorded: NicState, state: StateFile) -> Iterator[str]:
    for hook, was_on in recorded.hooks.items():
        if not was_on and not state.users_before(hook) and bridge.hook_is_on(hook):
            bridge.set_hook(hook, False)
            yield str(hook)


def _remove_detours(nic: NicConfig, recorded: NicState) -> Iterator[str]:
    """The secondary's port goes down first, unless it is barred: without its detour it must not reach any network."""
    secondary = nic.secondary_port
    if secondary and traffic.has_filters(secondary) and not traffic.is_barred(secondary):
        links.set_down(secondary)
    for port in filter(None, (secondary, nic.primary_port)):
        yield from traffic.remove(port)
        if port in recorded.qdiscs and traffic.remove_qdisc(port):
            yield f"qdisc clsact of {port}"
    if secondary in recorded.quieted and links.find(secondary):
        links.allow_ipv6(secondary)
        yield f"IPv6 switch of {secondary}"
