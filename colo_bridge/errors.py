"""Errors that say whose fault they are and what to do about them.

Every error that an operator can meet derives from `ColoBridgeError`; its class
is the side at fault, its `hint` the next step.  Nothing else may end a command
with a traceback.
"""

from __future__ import annotations


class ColoBridgeError(Exception):
    """Root of every expected error; `exit_status` is what the command returns."""

    exit_status = 1

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.problem} ({self.hint})" if self.hint else self.problem


class OperatorError(ColoBridgeError):
    """The configuration, the command line or the privileges are wrong."""

    exit_status = 2


class GuestError(ColoBridgeError):
    """A guest, or something that pretends to be one, misbehaves."""


class PeerError(ColoBridgeError):
    """The program at the other end of a socket of ours misbehaves."""


class KernelError(ColoBridgeError):
    """The kernel, or a tool that speaks to it, refused what we asked."""


class InternalError(ColoBridgeError):
    """A bug of colo-bridge itself."""
