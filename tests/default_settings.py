"""The default settings, cached because reading them takes longer than most tests."""

import os
from functools import cache
from pathlib import Path
from typing import Any, Final

from fleek.settings import Settings

PASSING: Final = {"PYTEST_CURRENT_TEST", "PWD", "STORAGE_PATH"}
"""They change, but are no settings that are read here."""


def defaults(**overrides: Any) -> Settings:
    """Return the settings of this environment with some replaced, which are not validated."""
    if Path(".env").exists():
        return Settings(**overrides)
    known = os.environ.items()  # noqa: TID251 - only part of the cache's key
    environment = frozenset((name, value) for name, value in known if name not in PASSING)
    return _read(environment).model_copy(update=overrides)


@cache
def _read(_environment: frozenset[tuple[str, str]]) -> Settings:
    return Settings()
