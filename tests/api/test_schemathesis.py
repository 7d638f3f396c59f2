"""Requests made from the description of the API: every answer is one that it describes."""

import json
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    ignored_auth,
    positive_data_acceptance,
    unsupported_method,
)

from service_process import PATIENCE

DESCRIPTION = Path(__file__).parent.parent / "docs" / "openapi.json"  # see tests/docs
SCHEMA = schemathesis.openapi.from_dict(json.loads(DESCRIPTION.read_text())).exclude(
    operation_id="stream_events"  # it does not end
)

WORDS = {f"/api/v1/jobs/{word}" for word in ("cancel", "retry", "purge", "days")}
"""Paths that are, for other methods, those of a job with an invalid id: 422 instead of 405."""


@pytest.mark.usefixtures("_full_suite")
@SCHEMA.parametrize()
@settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
def test_every_answer_is_a_described_one(case: Any, server: str) -> None:
    """Status, content type, form, headers; and no request whatever brings a 500.

    That everything which fits the description is accepted cannot be asked for: it does not hold
    which providers are configured, which parameters a model takes, which cursors were given out.
    The service has no keys, so that it asks nobody for one: tests/api/test_access.py does.
    """
    case.headers.pop("Prefer", None)  # no worker would end the wait; see test_waiting.py
    excluded = [positive_data_acceptance, ignored_auth]
    if case.path in WORDS:
        excluded += [unsupported_method, allow_header_conformance]
    case.call_and_validate(base_url=server, excluded_checks=excluded, timeout=PATIENCE)
