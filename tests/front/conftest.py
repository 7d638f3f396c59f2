"""The service on a socket."""

from functools import partial

import pytest

from fleek.engine.runtime import Runtime
from in_process_service import Serving, serving_on


@pytest.fixture
def serving(rt: Runtime) -> Serving:
    """Return a function that serves the application on a free port with the test's settings."""
    return partial(serving_on, rt)
