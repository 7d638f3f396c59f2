"""A sample of the sweep over all failpoints; ``make chaos`` runs all of it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import fleek
from chaos.points import POINTS
from chaos.rig import Rig
from chaos.sweep import Leg, plan, run_legs, sample
from services import both_databases

SOURCE = Path(fleek.__file__).parent


def hits() -> Iterator[str]:
    """Yield the name at each call of `failpoints.hit` in the code."""
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "failpoints.hit":
                (name,) = node.args
                yield ast.literal_eval(name)


def test_every_failpoint_is_swept() -> None:
    """A place that somebody adds, moves or forgets shows here; storages share the names of theirs."""
    assert sorted(set(hits())) == sorted(point.name for point in POINTS)


@both_databases
@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_breaks_wherever_all_comes_out_right(rig: Rig, seed: int) -> None:
    """Killed at some places, then hit by errors at all others: jobs, money and files are right."""
    plan(rig.host, seed=seed)

    assert run_legs(rig, sample(seed, kills=3)) == []


def test_a_worker_frozen_before_it_buys_costs_one_prediction_that_is_stopped(rig: Rig) -> None:
    """The honest limit: another worker gives the purchase up, the frozen one wakes and makes it."""
    plan(rig.host, seed=1)

    assert run_legs(rig, [Leg.of("buy.send", "freeze")]) == []
