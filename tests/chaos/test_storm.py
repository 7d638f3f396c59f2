"""A minute of storm; ``make chaos`` runs long ones."""

from pathlib import Path

import pytest

from chaos.host import Host
from chaos.rig import rigged
from chaos.storm import SETTINGS, Storm, run
from services import both_databases

pytestmark = pytest.mark.storm


@both_databases
def test_a_minute_of_storm_costs_nothing(
    host: Host, database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Kills and lost answers: every job completes, with its true bytes, and is paid for once."""
    settings = dict(SETTINGS)
    if database == "postgresql":
        settings["DATABASE_URL"] = request.getfixturevalue("database_url")
    split = database == "postgresql"
    storm = Storm(seed=7, jobs=80, kills=6, minutes=0.5, wild=split, split=split)

    with rigged(tmp_path, host, **settings) as rig:
        outcome = run(rig, storm)

    assert outcome.complaints == []
    assert outcome.paid.twice == 0
