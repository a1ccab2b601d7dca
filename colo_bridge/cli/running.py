"""Refuses what must not happen beside a running daemon of the same guest."""

from __future__ import annotations

from colo_bridge.config import Config
from colo_bridge.daemon import client
from colo_bridge.errors import OperatorError, PeerError


def refuse_another(config: Config) -> None:
    """Raise OperatorError if a daemon of this guest answers, or hangs, on its control socket."""
    try:
        client.ask(config.control_socket, "status")
    except OperatorError:
        return
    except PeerError as error:
        raise OperatorError(f"a daemon of guest {config.guest} hangs", "kill it first") from error
    raise OperatorError(f"a daemon is already running for guest {config.guest}", "stop it first")
