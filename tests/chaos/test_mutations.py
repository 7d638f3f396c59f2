"""Each mutation fits the current code; ``make chaos`` runs the tests on them."""

from pathlib import Path

import pytest

import fleek
from chaos.mutations import MUTATIONS, ROOT, Mutation

SOURCE = Path(fleek.__file__).parent


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: one.name)
def test_a_mutation_fits_in_one_place(mutation: Mutation) -> None:
    """When code moves, its mutation must move, too, or the long run proves nothing."""
    code = (SOURCE / mutation.path).read_text()

    assert code.count(mutation.before) == 1


def test_every_mutation_is_in_the_guarantees() -> None:
    """GUARANTEES.md lists all mistakes that the tests detect."""
    guarantees = (ROOT / "GUARANTEES.md").read_text()

    assert [
        one.name for one in MUTATIONS if f"| {one.name} | `{one.tests}::" not in guarantees
    ] == []
