"""The default settings, read once: reading them takes longer than most tests."""

import os
from functools import cache
from pathlib import Path
from typing import Any, Final

from fleek.settings import Settings

PASSING: Final = {"PYTEST_CURRENT_TEST", "PWD"}  # they change, and are no settings


def defaults(**overrides: Any) -> Settings:
    """Return the settings of this environment with some replaced, which are not checked."""
    if Path(".env").exists():
        return Settings(**overrides)
    known = os.environ.items()  # noqa: TID251 - no value of it is used here
    environment = frozenset((name, value) for name, value in known if name not in PASSING)
    return _read(environment).model_copy(update=overrides)


@cache
def _read(_environment: frozenset[tuple[str, str]]) -> Settings:
    return Settings()
