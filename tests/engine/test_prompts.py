"""Models that need no prompt, and those that do."""

from collections.abc import Mapping
from typing import Any, Final

import pytest

from backing_services import both_databases
from fakes import FakeProvider, a_request
from fleek.domain.errors import InvalidInput
from fleek.domain.job import Status
from fleek.engine.runtime import Runtime
from fleek.engine.start import start
from fleek.engine.submit import submit
from fleek.providers.base import needs_prompt, prompt_note
from fleek.store import jobs

FORM: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {"image": {"type": "string"}},
    "additionalProperties": False,
}


def test_a_schema_says_whether_a_prompt_is_needed() -> None:
    """One that says nothing, such as that of an older plugin, is of a model that needs one."""
    notes = {
        (exists, required): prompt_note(exists=exists, required=required)
        for exists in (True, False)
        for required in (True, False)
    }

    assert [needs_prompt({**FORM, **note}) for note in notes.values()] == [
        True,
        False,
        False,
        False,
    ]
    assert needs_prompt(FORM)
    assert not needs_prompt(None)  # the provider checks it itself


@both_databases
@pytest.mark.parametrize("note", ["none", "optional"])
async def test_a_model_without_a_prompt_runs_without_one(
    rt: Runtime, provider: FakeProvider, note: str
) -> None:
    """It is an ordinary job; two of them are two."""
    provider.parameters = {**FORM, "x-prompt": note}
    first, second = [await submit(rt, a_request("")) for _ in range(2)]
    await start(rt, first.id)

    stored = await jobs.get_any_tenant(rt.db, first.id)
    assert (stored.prompt, stored.status) == ("", Status.PROCESSING)
    assert first.id != second.id
    assert len(provider.created) == 1


async def test_a_model_that_needs_a_prompt_gets_none_without(
    rt: Runtime, provider: FakeProvider
) -> None:
    """Nothing is stored, and the error names the field."""
    provider.parameters = FORM

    with pytest.raises(InvalidInput) as refusal:
        await submit(rt, a_request(""))

    assert [(field.pointer, field.code) for field in refusal.value.errors] == [
        ("/prompt", "missing")
    ]
