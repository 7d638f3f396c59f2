"""The store on both databases."""

from collections.abc import AsyncGenerator

import pytest

from fleek.store.database import Database, open_database


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    """Return each kind of database in turn."""
    kind: str = request.param
    return kind


@pytest.fixture
async def db(database_url: str) -> AsyncGenerator[Database]:
    """Return an open, empty database with the schema."""
    async with open_database(database_url) as opened:
        yield opened
