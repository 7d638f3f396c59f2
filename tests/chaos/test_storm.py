"""Half a minute of storm; ``make chaos`` runs long ones."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from backing_services import SLOW_LOCKS, both_databases
from chaos.host import Host
from chaos.money import Money
from chaos.rig import rigged
from chaos.sightings import must_see
from chaos.storm import SETTINGS, Outcome, Storm, run

PATIENT: Final = {"HEARTBEAT_SECONDS": "2"}  # leases must not expire on a busy machine
LONG: Final = Storm(seed=1, jobs=2000, kills=100, minutes=10, wild=True, split=True)
NOTHING: Final = Money(billed=0, completed=0, failed=0, cancelled=0, unused=0, lost=0, twice=0)


@both_databases
def test_a_short_storm_costs_nothing(
    host: Host, database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """After kills and lost responses every job completes with its true bytes, paid for once."""
    settings = {**SETTINGS, **PATIENT}
    if database == "postgresql":
        url: str = request.getfixturevalue("database_url")
        settings["DATABASE_URL"] = url.removesuffix(SLOW_LOCKS)
    split = database == "postgresql"
    storm = Storm(seed=7, jobs=40, kills=4, minutes=0.25, wild=split, split=split)

    with rigged(tmp_path, host, **settings) as rig:
        outcome = run(rig, storm)

    assert not outcome.complaints, "\n".join(outcome.complaints)
    assert (outcome.paid.twice, outcome.paid.lost) == (0, 0)


def outcome(storm: Storm, seen: dict[str, int]) -> Outcome:
    """Return the result of a storm without violations."""
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
def test_a_long_run_without_a_required_state_fails(state: str) -> None:
    """It proves nothing about that state."""
    seen = dict.fromkeys(must_see(kills=LONG.kills, wild=True, split=True), 1)

    complete, partial = outcome(LONG, seen), outcome(LONG, {**seen, state: 0})

    assert complete.complaints == []
    assert partial.complaints == [f"never seen: {state}"]


def test_a_short_run_needs_certain_states_only() -> None:
    """Half a minute is too short for some; those caused by a marker are required."""
    short = replace(LONG, jobs=60, kills=5, wild=False)
    seen = {
        **dict.fromkeys(must_see(kills=LONG.kills, wild=True, split=True), 0),
        "adopted after a lost response": 1,
        "request repeated without an answer": 1,
    }

    assert outcome(short, {**seen, "not created after all": 1}).complaints == []
    assert outcome(short, seen).complaints == ["never seen: not created after all"]


def test_a_run_with_too_few_faults_fails() -> None:
    """Its results would be those of a quiet service."""
    seen = dict.fromkeys(must_see(kills=LONG.kills, wild=True, split=True), 1)
    lazy = replace(outcome(LONG, seen), deeds={"killed": 3})

    assert lazy.complaints == ["in 10 minutes only 2000 jobs and 3 kills"]
