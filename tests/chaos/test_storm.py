"""A minute of storm; ``make chaos`` runs long ones."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from backing_services import both_databases
from chaos.host import Host
from chaos.money import Money
from chaos.rig import rigged
from chaos.sightings import must_see
from chaos.storm import SETTINGS, Outcome, Storm, run

PATIENT: Final = {"HEARTBEAT_SECONDS": "2"}  # a busy machine must not make the living look dead
LONG: Final = Storm(seed=1, jobs=2000, kills=100, minutes=10, wild=True, split=True)
NOTHING: Final = Money(billed=0, completed=0, failed=0, cancelled=0, unused=0, lost=0, twice=0)


@both_databases
def test_a_minute_of_storm_costs_nothing(
    host: Host, database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Kills and lost answers: every job completes, with its true bytes, and is paid for once."""
    settings = {**SETTINGS, **PATIENT}
    if database == "postgresql":
        settings["DATABASE_URL"] = request.getfixturevalue("database_url")
    split = database == "postgresql"
    storm = Storm(seed=7, jobs=60, kills=5, minutes=0.4, wild=split, split=split)

    with rigged(tmp_path, host, **settings) as rig:
        outcome = run(rig, storm)

    assert not outcome.complaints, "\n".join(outcome.complaints)
    assert (outcome.paid.twice, outcome.paid.lost) == (0, 0)


def outcome(storm: Storm, seen: dict[str, int]) -> Outcome:
    """Return what came of a storm in which nothing went wrong."""
    return Outcome(
        storm=storm,
        violations=[],
        paid=NOTHING,
        jobs=storm.jobs,
        deeds={"killed": storm.kills},
        seen=seen,
        seconds=1,
    )


@pytest.mark.parametrize("state", sorted(must_see(kills=LONG.kills, wild=True, split=True)))
def test_a_long_run_that_never_saw_a_state_has_failed(state: str) -> None:
    """It would have shown nothing about that state, however green it is."""
    seen = dict.fromkeys(must_see(kills=LONG.kills, wild=True, split=True), 1)

    complete, partial = outcome(LONG, seen), outcome(LONG, {**seen, state: 0})

    assert complete.complaints == []
    assert partial.complaints == [f"never seen: {state}"]


def test_a_short_run_need_not_see_everything() -> None:
    """Half a minute is too short for some; what a marker makes happen for certain is wanted."""
    short = replace(LONG, jobs=60, kills=5, wild=False)
    seen = {
        **dict.fromkeys(must_see(kills=LONG.kills, wild=True, split=True), 0),
        "adopted by list": 1,
    }

    assert outcome(short, {**seen, "not bought after all": 1}).complaints == []
    assert outcome(short, seen).complaints == ["never seen: not bought after all"]


def test_a_run_that_hurt_too_little_has_failed() -> None:
    """Its figures would be those of a calm day."""
    seen = dict.fromkeys(must_see(kills=LONG.kills, wild=True, split=True), 1)
    lazy = replace(outcome(LONG, seen), deeds={"killed": 3})

    assert lazy.complaints == ["in 10 minutes only 2000 jobs and 3 kills"]
