"""Why a checkpoint is wanted though nothing was found to differ: the replicas are not known to be equal."""

from __future__ import annotations

import enum


class Cause(enum.StrEnum):
    """Its value is the reason of the checkpoint."""

    LINK = "link"
    """It has come up."""
    START = "start"
    """The replicas are in COLO, and nobody knows since when they are equal."""
    SPOILED = "spoiled"
    """A checkpoint cannot be used."""
    CONTINUED = "continued"
    """The primary has gone on without one."""
    LOST = "lost"
    """The primary's hypervisor was out of reach, or not in COLO."""
    FAILED = "failed"
    """A checkpoint came to nothing."""
    SECONDARY = "secondary"
    """The secondary asks for one."""
    LEFT = "left"
    """The secondary's hypervisor was not in COLO."""
