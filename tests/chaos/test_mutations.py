"""Each mutation still fits the code; ``make chaos`` tries what the tests make of them."""

from pathlib import Path

import pytest

import fleek
from chaos.mutations import MUTATIONS, ROOT, Mutation

SOURCE = Path(fleek.__file__).parent


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: one.name)
def test_a_mutation_fits_in_one_place(mutation: Mutation) -> None:
    """Code that moves takes its mutation along, or the long run ends with nothing shown."""
    code = (SOURCE / mutation.path).read_text()

    assert code.count(mutation.before) == 1


def test_every_mutation_is_in_the_guarantees() -> None:
    """Whoever asks what the tests would see is shown all that was tried."""
    told = (ROOT / "GUARANTEES.md").read_text()

    assert [one.name for one in MUTATIONS if f"| {one.name} | `{one.tests}::" not in told] == []
