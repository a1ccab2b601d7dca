"""Tests of the kernel boundary."""
