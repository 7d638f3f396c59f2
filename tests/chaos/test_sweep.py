"""A sample of the sweep over all failpoints; ``make chaos`` runs the whole sweep."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import fleek
from chaos.points import NOT_SWEPT, POINTS
from chaos.rig import Rig
from chaos.sweep import Leg, plan, run_legs, sample

SOURCE = Path(fleek.__file__).parent
WRITES = {"apply", "apply_until_stored"}


def calls() -> Iterator[ast.Call]:
    """Yield each call in the code."""
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                yield node


def hits() -> Iterator[str]:
    """Yield the name of each failpoint in the code."""
    for call in calls():
        name = ast.unparse(call.func)
        if name == "failpoints.hit" and isinstance(call.args[0], ast.Constant):
            yield ast.literal_eval(call.args[0])
        if name in WRITES:
            yield from points_of(call)


def points_of(write: ast.Call) -> Iterator[str]:
    """Yield the failpoints of a write, which are named after its event."""
    (event,) = (keyword.value for keyword in write.keywords if keyword.arg == "event")
    if isinstance(event, ast.Constant) and event.value not in NOT_SWEPT:
        yield from (f"{event.value!s}.write", f"{event.value!s}.written")


@pytest.mark.usefixtures("_full_suite")
def test_every_failpoint_is_swept() -> None:
    """New, moved and missing failpoints are detected; storages share their names."""
    assert sorted(set(hits())) == sorted(point.name for point in POINTS)


@pytest.mark.parametrize(
    ("database", "seed"), [("sqlite", 1), ("postgresql", 2)], indirect=["database"]
)
def test_jobs_survive_faults_at_any_failpoint(rig: Rig, seed: int) -> None:
    """Killed at some places, then with errors at all others: jobs, money and files are right."""
    plan(rig.host, seed=seed)

    assert run_legs(rig, sample(seed, kills=2)) == []


def test_a_worker_frozen_before_a_start_costs_one_prediction(rig: Rig) -> None:
    """The known limit: another worker gives the attempt up, then the frozen one starts it."""
    plan(rig.host, seed=1)

    assert run_legs(rig, [Leg.of("start.send", "freeze")]) == []
