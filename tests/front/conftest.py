"""The service on a socket."""

from functools import partial

import pytest

from fleek.engine.runtime import Runtime
from in_process_service import Serving, serving_on


@pytest.fixture
def serving(rt: Runtime) -> Serving:
    """Return what serves the application on a free port, with settings of the test's choice."""
    return partial(serving_on, rt)
