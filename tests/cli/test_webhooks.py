"""`fleek webhooks`: requests, output and exit codes, against a fake server."""

import json
from typing import Any

import pytest

from fleek.cli import webhooks

ID = "0198f000-0000-7000-8000-000000000001"
MESSAGE = "msg_0198f000000070008000000000000002"
SECRET = "whsec_" + "A" * 43 + "="
ENDPOINTS = "/api/v1/webhooks/endpoints"
DELIVERIES = "/api/v1/webhooks/deliveries"
MOMENT = "2026-01-02T03:04:05Z"


def an_endpoint(**changes: Any) -> dict[str, Any]:
    """Return an endpoint as the API returns it."""
    return {
        "id": ID,
        "url": "https://example.com/hook",
        "events": ["job.completed", "job.failed"],
        "description": "shop",
        "enabled": True,
        "disabled_reason": None,
        "failing_since": None,
        "created_at": MOMENT,
        **changes,
    }


def a_delivery(state: str = "pending", **changes: Any) -> dict[str, Any]:
    """Return a delivery as the API returns it."""
    return {
        "id": MESSAGE,
        "type": "job.failed",
        "endpoint_id": ID,
        "receiver": None,
        "job_id": None,
        "state": state,
        "attempts": 0,
        "next_at": None,
        "last_status": None,
        "last_reason": None,
        "created_at": MOMENT,
        "ended_at": None,
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "enabled"),
        ({"failing_since": MOMENT}, "failing"),
        ({"enabled": False}, "disabled"),
        ({"enabled": False, "disabled_reason": "gone"}, "disabled: gone"),
    ],
)
def test_list_shows_the_state_of_each_endpoint(
    service: Any, fleek: Any, changes: dict[str, Any], state: str
) -> None:
    """One line each."""
    service.answers(f"GET {ENDPOINTS}", [an_endpoint(**changes)])

    ended = fleek("webhooks", "list")

    assert ended.code == 0
    assert ended.out == f"{ID}\t{state}\thttps://example.com/hook\tjob.completed,job.failed\n"


def test_an_empty_list_is_reported_on_stderr(service: Any, fleek: Any) -> None:
    """Nothing is written to stdout."""
    service.answers(f"GET {ENDPOINTS}", [])
    service.answers(f"GET {DELIVERIES}", [])

    assert fleek("webhooks", "list").err == "There are no endpoints.\n"
    assert fleek("webhooks", "deliveries").err == "No deliveries match.\n"


def test_create_writes_the_id_and_the_secret(service: Any, fleek: Any) -> None:
    """The secret is shown only once."""
    service.answers(f"POST {ENDPOINTS}", {**an_endpoint(), "secret": SECRET}, status=201)

    ended = fleek(
        *("webhooks", "create", "https://example.com/hook", "-e", "job.started"),
        *("-e", "job.failed", "--description", "shop"),
    )

    assert (ended.code, ended.out) == (0, f"{ID}\t{SECRET}\n")
    assert "not shown again" in ended.err
    assert json.loads(service.requests[0].body) == {
        "url": "https://example.com/hook",
        "events": ["job.started", "job.failed"],
        "description": "shop",
    }


def test_a_refused_url_is_reported_with_the_server_s_message(service: Any, fleek: Any) -> None:
    """The user sees the reason."""
    problem = {
        "detail": "the address must begin with https://",
        "code": "unsafe_url",
        "errors": [{"pointer": "/url", "code": "unsafe_url", "detail": "begin with https://"}],
    }
    service.answers(f"POST {ENDPOINTS}", problem, status=422, kind="application/problem+json")

    ended = fleek("webhooks", "create", "http://example.com/")

    assert ended.code == 2
    assert "must begin with https://" in ended.err


def test_endpoints_are_enabled_rotated_and_deleted(service: Any, fleek: Any) -> None:
    """Each command prints the new state."""
    service.answers(f"PATCH {ENDPOINTS}/{ID}", an_endpoint())
    service.answers(f"POST {ENDPOINTS}/{ID}/rotate", {"secret": SECRET})
    service.answers(f"DELETE {ENDPOINTS}/{ID}", an_endpoint())

    assert fleek("webhooks", "enable", ID).out == f"{ID}\tenabled\n"
    assert fleek("webhooks", "rotate", ID).out == f"{SECRET}\n"
    assert fleek("webhooks", "delete", ID).out == f"{ID}\tdeleted\n"
    assert json.loads(service.requests[0].body) == {"enabled": True}


@pytest.mark.parametrize(
    ("state", "status", "reason", "code"),
    [("delivered", 204, "delivered", 0), ("failed", None, "blocked: not public", 1)],
)
@pytest.mark.usefixtures("_full_suite")  # takes a second
def test_a_test_delivery_waits_for_its_result(
    service: Any, fleek: Any, state: str, status: int | None, reason: str, *, code: int
) -> None:
    """The exit code tells if it was accepted."""
    service.answers(f"POST {ENDPOINTS}/{ID}/test", a_delivery(), status=202)
    ended_so = a_delivery(state, last_status=status, last_reason=reason, attempts=1)
    service.answers(f"GET {DELIVERIES}/{MESSAGE}", a_delivery(), ended_so)

    ended = fleek("webhooks", "test", ID)

    shown = "-" if status is None else status
    assert ended.code == code
    assert ended.out == f"{MESSAGE}\t{state}\tjob.failed\t-\t1\t{shown}\t{reason}\n"


def test_a_test_delivery_without_a_worker_is_exit_5(
    service: Any, fleek: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would wait forever."""
    monkeypatch.setattr(webhooks, "TEST_SECONDS", 0.0)
    service.answers(f"POST {ENDPOINTS}/{ID}/test", a_delivery(), status=202)

    ended = fleek("webhooks", "test", ID)

    assert ended.code == 5
    assert "does a worker run?" in ended.err


def test_deliveries_can_be_filtered(service: Any, fleek: Any) -> None:
    """The API supports all filters."""
    service.answers(f"GET {DELIVERIES}", [a_delivery("failed", last_status=500)])

    ended = fleek(
        *("webhooks", "deliveries", "--endpoint", ID, "--job", ID, "--state", "failed"),
        *("-n", "5", "--json"),
    )

    assert [one["id"] for one in json.loads(ended.out)] == [MESSAGE]
    assert service.requests[0].query == f"limit=5&endpoint={ID}&job={ID}&state=failed"


def test_show_lists_the_attempts(service: Any, fleek: Any) -> None:
    """Below the delivery, oldest first."""
    attempt = {"number": 1, "at": MOMENT, "seconds": 0.2, "status": None, "reason": "timed_out"}
    detail = a_delivery("failed", attempts=1, last_reason="timed_out")
    service.answers(f"GET {DELIVERIES}/{MESSAGE}", {**detail, "body": "{}", "log": [attempt]})

    ended = fleek("webhooks", "show", MESSAGE)

    assert ended.out.splitlines() == [
        f"{MESSAGE}\tfailed\tjob.failed\t-\t1\t-\ttimed_out",
        "1\t2026-01-02T03:04:05+00:00\t-\ttimed_out",
    ]


def test_replay_accepts_several_ids(service: Any, fleek: Any) -> None:
    """Many deliveries fail during an outage."""
    service.answers(f"POST {DELIVERIES}/{MESSAGE}/replay", a_delivery(), status=202)

    ended = fleek("webhooks", "replay", MESSAGE, MESSAGE)

    assert ended.out == f"{MESSAGE}\tpending\n" * 2


@pytest.mark.parametrize("args", [("show", "msg_1"), ("replay", "../jobs"), ("test", "x")])
def test_an_invalid_id_is_exit_2_and_sends_nothing(
    service: Any, fleek: Any, args: tuple[str, str]
) -> None:
    """The id would become part of an address."""
    ended = fleek("webhooks", *args)

    assert ended.code == 2
    assert service.requests == []
