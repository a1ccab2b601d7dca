"""COLO packet comparison outside the hypervisor, at the kernel boundary."""

__version__ = "0.1.0"
