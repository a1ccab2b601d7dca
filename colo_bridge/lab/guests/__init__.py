"""Guests of the lab that are virtual machines: QEMU, a small Linux in each, and how the two get into COLO."""
