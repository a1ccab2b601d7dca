"""Errors: one root, whose fault, what to do."""

import pytest

from colo_bridge import errors
from colo_bridge.errors import ColoBridgeError, OperatorError


def test_the_hint_follows_the_problem():
    assert str(OperatorError("no such device", "create it first")) == "no such device (create it first)"


def test_without_a_hint_there_are_no_parentheses():
    assert str(OperatorError("no such device")) == "no such device"


def test_the_operators_faults_end_a_command_with_2():
    assert OperatorError.exit_status == 2


@pytest.mark.parametrize("name", ["GuestError", "PeerError", "KernelError", "InternalError"])
def test_all_others_end_it_with_1(name):
    error = getattr(errors, name)
    assert issubclass(error, ColoBridgeError)
    assert error.exit_status == 1
