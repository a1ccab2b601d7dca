"""The configuration in the terms of the pure parts."""

from __future__ import annotations

from colo_bridge.compare.comparator import Comparator
from colo_bridge.compare.observer import Observer
from colo_bridge.compare.settings import Settings
from colo_bridge.config import Config
from colo_bridge.rewrite.limits import RewriteLimits

CURE = 0.01
"""Seconds after which, and between, looks for what two healthy stacks might wait for."""


def comparator_for(config: Config, forward: bool, checkpoints_copy_state: bool) -> Comparator:
    """`forward`: there is a way out for packets of our own."""
    kind = Observer if config.compare.mode == "observe" else Comparator
    return kind(_settings(config, forward, checkpoints_copy_state))


def rewrite_limits(config: Config) -> RewriteLimits:
    limits = config.limits
    return RewriteLimits(
        connections=limits.connections,
        established_idle=limits.established_idle,
        closing_idle=limits.closing_idle,
    )


def _settings(config: Config, forward: bool, checkpoints_copy_state: bool) -> Settings:
    compare, limits = config.compare, config.limits
    return Settings(
        timeout=compare.timeout,
        # Where a checkpoint makes old connections comparable they wait for it.
        pass_unsynchronised=compare.unsynchronised == "pass" and not checkpoints_copy_state,
        pass_uncompared=compare.tagged == "pass",
        evidence=config.evidence.enabled,
        cure_after=CURE,
        forward=forward,
        held_packets=limits.held_packets,
        held_bytes=limits.held_bytes,
        secondary_packets=limits.secondary_packets,
        secondary_bytes=limits.secondary_bytes,
        connections=limits.connections,
        established_idle=limits.established_idle,
        closing_idle=limits.closing_idle,
    )
