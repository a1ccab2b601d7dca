"""A host that has died comes back as the secondary of the one that took over."""

from __future__ import annotations

import subprocess
from typing import Any

from colo_bridge.daemon.client import ask
from colo_bridge.lab import configuration, daemon, process, records, topology, workload
from colo_bridge.lab.guests import pair
from colo_bridge.lab.layout import LINK_PORT, UPLINK_PORT, Guests, Role
from colo_bridge.lab.options import Options
from colo_bridge.lab.process import ProcessId
from colo_bridge.lab.shape import FIRST_HOST_AS_SECONDARY, Host, Shape

_PROTECT_SECONDS = 60.0


def rebuild(options: Options) -> ProcessId:
    """Start the first host anew, with a new guest and a daemon that is the secondary's."""
    return _with_machine(options) if options.guests is Guests.QEMU else _with_namespace(options)


def protect(host: Host) -> dict[str, Any]:
    """What `colo-bridge protect` asks of the host's daemon; its answer."""
    return ask(configuration.current(host).control_socket, "protect", _PROTECT_SECONDS)


def _with_namespace(options: Options) -> ProcessId:
    host = FIRST_HOST_AS_SECONDARY
    _end_all_of(Role.PRIMARY)
    topology.exchange_guest(next(cable for cable in Shape.TWO_HOSTS.cables if cable[0].device == host.guest_port))
    started = _start(host, options)
    workload.serve_in_guests({Role.PRIMARY: [*workload.SERVICE, "http"]}, workload.HTTP_PORT)
    return started


def _with_machine(options: Options) -> ProcessId:
    """The guest that took over stands still while the new one becomes its copy, and until that one is watched."""
    shape, host = Shape.TWO_HOSTS, FIRST_HOST_AS_SECONDARY
    _end_all_of(host.role)
    topology.exchange_tap(shape.guest_ports[host.guest])
    pair.copy(shape, Role.SECONDARY, Role.PRIMARY)
    started = _start(host, options)
    pair.put_first(started)
    pair.enter_colo((host, shape.hosts[1]), Role.SECONDARY, Role.PRIMARY)
    return started


def _end_all_of(role: Role) -> None:
    for record in records.processes():
        if record.role is role:
            process.end(record.process)


def _start(host: Host, options: Options) -> ProcessId:
    """The host's cables, and its daemon."""
    light = "".join(f"link set {device} up\n" for device in (UPLINK_PORT, LINK_PORT))
    subprocess.run(["ip", "-netns", host.role.namespace, "-batch", "-"], input=light, text=True, check=True)
    host.config_file.write_text(configuration.make(options, host), encoding="utf-8")
    return daemon.start(host)
