"""A host that has died comes back as the secondary of the one that took over."""

from __future__ import annotations

import subprocess
from typing import Any

from colo_bridge.daemon.client import ask
from colo_bridge.lab import configuration, daemon, process, records, topology, workload
from colo_bridge.lab.layout import LINK_PORT, UPLINK_PORT, Role
from colo_bridge.lab.options import Options
from colo_bridge.lab.process import ProcessId
from colo_bridge.lab.shape import FIRST_HOST_AS_SECONDARY, Host, Shape

_PROTECT_SECONDS = 30.0


def rebuild(options: Options) -> ProcessId:
    """Start the first host anew, with a new guest and a daemon that is the secondary's."""
    host = FIRST_HOST_AS_SECONDARY
    for record in records.processes():
        if record.role is Role.PRIMARY:
            process.end(record.process)
    topology.exchange_guest(next(cable for cable in Shape.TWO_HOSTS.cables if cable[0].device == host.guest_port))
    light = "".join(f"link set {device} up\n" for device in (UPLINK_PORT, LINK_PORT))
    subprocess.run(["ip", "-netns", host.role.namespace, "-batch", "-"], input=light, text=True, check=True)
    host.config_file.write_text(configuration.make(options, host), encoding="utf-8")
    started = daemon.start(host)
    workload.serve_in_guests({Role.PRIMARY: [*workload.SERVICE, "http"]}, workload.HTTP_PORT)
    return started


def protect(host: Host) -> dict[str, Any]:
    """What `colo-bridge protect` asks of the host's daemon; its answer."""
    return ask(configuration.current(host).control_socket, "protect", _PROTECT_SECONDS)
