"""The OpenAPI description is complete, and does not change by accident.

After an intended change run ``python tests/docs/test_openapi.py``, and review the difference.
"""

import json
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fleek.api.errors import STATUS
from fleek.api.pages import describe
from fleek.app import create_app
from fleek.schemas import JobCreate, JobRead
from fleek.settings import Settings
from fleek.telemetry import Metrics

SNAPSHOT = Path(__file__).parent / "openapi.json"
METHODS = {"get", "patch", "post", "delete"}


@cache
def document() -> dict[str, Any]:
    """Return the description, which does not depend on the runtime."""
    rt: Any = SimpleNamespace(settings=Settings(), metrics=Metrics())
    return describe(create_app(rt))


def operations() -> list[Any]:
    """Return every operation."""
    return [
        operation for methods in document()["paths"].values() for operation in methods.values()
    ]


def written(value: Any) -> str:
    """Return the form of the snapshot."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def test_the_description_equals_its_snapshot() -> None:
    """Names never change within version 1, and additions are visible in the review."""
    assert written(document()) == SNAPSHOT.read_text()


def test_schemas_have_one_name_each() -> None:
    """Two classes of one name get the paths of their modules, which generated clients show."""
    names = document()["components"]["schemas"]

    assert [name for name in names if "__" in name] == []


def test_only_known_methods_are_described() -> None:
    """HEAD is implied."""
    found = {method for methods in document()["paths"].values() for method in methods}

    assert found == METHODS


def test_operation_names_are_explicit_and_unique() -> None:
    """Client generators create functions from them."""
    names = [operation["operationId"] for operation in operations()]

    assert len(names) == len(set(names))
    assert all(name.replace("_", "").isalpha() and name.islower() for name in names)


def test_an_operation_is_described(subtests: pytest.Subtests) -> None:
    """With a summary, a description and a tag."""
    for operation in operations():
        with subtests.test(operation=operation["operationId"]):
            assert operation["summary"]
            assert operation["description"]
            assert len(operation["tags"]) == 1
            assert all(one["description"] for one in operation.get("parameters", ()))
            assert all(one["description"] for one in operation["responses"].values())


def test_an_error_has_its_form_and_an_example(subtests: pytest.Subtests) -> None:
    """Client programs depend on it."""
    for operation in operations():
        with subtests.test(operation=operation["operationId"]):
            refusals = {
                status: response
                for status, response in operation["responses"].items()
                if status.startswith(("4", "5")) and "application/json" not in response["content"]
            }

            for status, response in refusals.items():
                form = response["content"]["application/problem+json"]
                assert form["schema"] == {"$ref": "#/components/schemas/Problem"}
                assert form["example"]["status"] == int(status)
            assert {int(status) for status in refusals} <= {*STATUS.values(), 416}


def test_every_reference_has_a_target(subtests: pytest.Subtests) -> None:
    """A dangling reference breaks every generator."""
    for operation in operations():
        with subtests.test(operation=operation["operationId"]):
            schemas = document()["components"]["schemas"]

            names = {
                name.split('"')[0]
                for name in json.dumps(operation).split("#/components/schemas/")[1:]
            }

            assert names <= set(schemas)


def test_examples_are_accepted() -> None:
    """Readers copy them."""
    schemas = document()["components"]["schemas"]

    requests = [JobCreate.model_validate(one) for one in schemas["JobCreate"]["examples"]]
    answers = [JobRead.model_validate(one) for one in schemas["JobRead"]["examples"]]

    assert len(requests) == 2
    assert len(answers) == 1


if __name__ == "__main__":
    SNAPSHOT.write_text(written(document()))
