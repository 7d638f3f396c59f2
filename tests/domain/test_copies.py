"""Copies of frozen values are those that `dataclasses.replace` makes."""

import dataclasses
from typing import Any

import pytest

from fleek.domain.copies import replace
from fleek.domain.job import Change, Job, Status
from fleek.store.updates import Intent, Update
from samples import a_job, an_attempt


@pytest.mark.parametrize(
    ("value", "changes"),
    [
        (a_job(), {}),
        (a_job(), {"status": Status.FAILED, "tags": ("sea",), "version": 7}),
        (Change(a_job(), "submitted"), {"event": "failed"}),
        (Intent(intent=an_attempt(a_job())), {"cancel_owed": True}),
        (Update(), {"drops_logs": True}),
    ],
)
def test_a_copy_differs_in_what_is_given(value: Any, changes: dict[str, Any]) -> None:
    """It is of the same class, and the original stays."""
    before = dataclasses.replace(value)

    copy = replace(value, **changes)

    assert copy == dataclasses.replace(value, **changes)
    assert type(copy) is type(value)
    assert value == before


def test_every_field_is_copied() -> None:
    """A job's fields are as many as its columns."""
    fields: dict[str, Any] = {field.name: object() for field in dataclasses.fields(Job)}

    copy = replace(a_job(), **fields)

    assert {name: getattr(copy, name) for name in fields} == fields


def test_a_field_that_is_not_there_is_refused() -> None:
    """A misspelt name would be lost else."""
    with pytest.raises(TypeError, match="Job has no field statsu"):
        replace(a_job(), statsu=Status.FAILED)  # type: ignore[call-arg] # what is tested
