"""Every test marked `namespace` runs in a child process inside a network namespace of its own."""

import pytest

from tests.kernel import rig


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "namespace: run in a child process in a private network namespace")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if pyfuncitem.get_closest_marker("namespace") is None:
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    rig.run_in_namespace(lambda: pyfuncitem.obj(**arguments))
    return True


@pytest.fixture(params=["legacy", "nft"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)
