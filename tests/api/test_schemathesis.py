"""Requests generated from the OpenAPI description get responses that it describes."""

import json
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.config import SchemathesisConfig
from schemathesis.generation.hypothesis.builder import (
    HypothesisTestConfig,
    HypothesisTestMode,
    create_test,
)
from schemathesis.specs.openapi.checks import (
    ignored_auth,
    negative_data_rejection,
    positive_data_acceptance,
)

from api.conftest import ADMIN_KEY
from fleek.domain.access import Scope
from service_process import PATIENCE

DESCRIPTION = Path(__file__).parent.parent / "docs" / "openapi.json"  # see tests/docs
REFUSALS: Final = (
    "400",
    "401",
    "403",
    "404",
    "405",
    "406",
    "409",
    "413",
    "415",
    "422",
    "428",
    "429",
    "5xx",
)
"""What invalid requests may be answered with: the library's own list, and that they are too large."""

RULES: Final = SchemathesisConfig.from_dict(
    {"checks": {"negative_data_rejection": {"expected-statuses": [*REFUSALS]}}}
)
DESCRIBED: Final[dict[str, Any]] = json.loads(DESCRIPTION.read_text())
SCHEMA = schemathesis.openapi.from_dict(DESCRIBED, config=RULES)
ENDLESS: Final = "stream_events"
LABELS: Final = [
    f"{method.upper()} {path}"
    for path, operations in DESCRIBED["paths"].items()
    for method, operation in operations.items()
    if operation["operationId"] != ENDLESS
]
LENIENT: Final = {
    "POST /api/v1/uploads": [negative_data_rejection]  # the only part of a form may have any name
}
SOME: Final = settings(
    max_examples=8,  # in each mode, besides those of the description
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
OPEN: Final = {
    "/",
    "/health",
    "/health-check",
    "/livez",
    "/readyz",
    "/webhooks/{provider}/{token}",
}
UNKNOWN: Final = "fleek_aaaaaaaaaaaa_" + "0" * 49

UNKNOWN_ID: Final = UUID(int=0)

_callers = count(1)


@pytest.mark.usefixtures("_full_suite")
@pytest.mark.parametrize("label", LABELS)
def test_every_response_is_described(label: str, guarded: str) -> None:
    """Status, content type, schema, headers; and no request causes a 500.

    That every valid request is accepted cannot be checked: the description does not contain the
    configured providers, the parameters of models, or valid cursors. The requests are made here and not
    by `SCHEMA.parametrize`, which makes those of all operations in each process that collects tests.
    """

    def check(case: Any) -> None:
        case.headers.pop("Prefer", None)  # there is no worker to end the wait; see test_waiting.py
        case.headers["Authorization"] = f"Bearer {ADMIN_KEY}"
        case.headers.pop("X-API-Key", None)
        case.call_and_validate(
            base_url=guarded,
            excluded_checks=[positive_data_acceptance, ignored_auth, *LENIENT.get(label, ())],
            timeout=PATIENCE,
        )

    operation = SCHEMA.find_operation_by_label(label)
    assert operation is not None
    modes = HypothesisTestConfig(project=SCHEMA.config, modes=[*HypothesisTestMode], settings=SOME)
    requests = create_test(operation=operation, test_func=check, config=modes)

    requests()


@pytest.fixture(scope="session")
def narrow(guarded: str) -> Mapping[str, str]:
    """Return a key for each scope, with all scopes but this one and `admin`."""
    keys = {}
    with httpx2.Client(base_url=guarded, headers={"X-API-Key": ADMIN_KEY}, timeout=60) as http:
        for scope in Scope:
            others = [other for other in Scope if other not in {scope, Scope.ADMIN}]
            body = {"name": "narrow", "tenant": "narrow", "scopes": others}
            keys[str(scope)] = http.post("/api/v1/keys", json=body).json()["key"]
    return keys


@pytest.mark.usefixtures("_full_suite")
def test_every_operation_requires_a_key_with_its_scope(
    guarded: str, narrow: Mapping[str, str]
) -> None:
    """Before any validation: 401 without a valid key, 403 without the scope."""
    described = SCHEMA.exclude(operation_id=ENDLESS)
    operations: Iterator[Any] = described.get_all_operations()
    for operation in (found.ok() for found in operations):
        declared = operation.definition.raw.get("security")
        if declared is None:
            assert operation.path in OPEN
            continue
        (scopes,) = {tuple(scopes) for way in declared for scopes in way.values()}
        refused = {None: 401, UNKNOWN: 401} | {narrow[scope]: 403 for scope in scopes}
        for key, status in refused.items():
            response = _call(operation, guarded, key)

            assert response.status_code == status, (operation.label, key, response.content)
            assert response.headers["content-type"] == ["application/problem+json"]
            operation.validate_response(response)


def _call(operation: Any, base_url: str, key: str | None) -> Any:
    """Call an operation with a key from an own address, because wrong keys are rate limited."""
    names = [parameter.name for parameter in operation.path_parameters]
    headers = {"X-Forwarded-For": f"198.51.100.{next(_callers) % 250}"}
    case = operation.Case(
        path_parameters=dict.fromkeys(names, str(UNKNOWN_ID)),
        headers=headers if key is None else {**headers, "X-API-Key": key},
    )
    return case.call(base_url=base_url, timeout=PATIENCE)
