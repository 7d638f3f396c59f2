"""`fleek keys` and `fleek queue` over HTTP, with an operator's key."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

import process_template
from process_template import inherited
from service_process import PATIENCE, running

SECRET = f"fleek_aaaaaaaaaaaa_{'b' * 49}"
MOMENT = "2026-01-02T03:04:05Z"
KEY: dict[str, Any] = {
    **dict.fromkeys(("created_by", "expires_at", "revoked_at", "last_used_at")),
    "id": "aaaaaaaaaaaa",
    "tenant": "acme",
    "name": "shop",
    "prefix": "fleek_aaaaaaaaaaaa",
    "scopes": ["jobs:read"],
    "created_at": MOMENT,
}
QUEUE: dict[str, Any] = {
    "pending": 3,
    "processing": 1,
    "paused": [{"provider": None, "model": "fleek/art", "since": MOMENT}],
}
REFUSED = {"title": "Forbidden", "detail": "this key may not", "code": "insufficient_scope"}
Commands = Callable[..., Any]


def test_a_key_is_created_at_the_server_that_is_named(service: Any, fleek: Commands) -> None:
    """The tenant is that of the operator's key, unless it is given."""
    service.answers("POST /api/v1/keys", {**KEY, "key": SECRET}, status=201)

    ended = fleek("keys", "create", "shop", "--scope", "jobs:read", "--api-key", "k" * 40)
    fleek("keys", "create", "shop", "--tenant", "acme", "--expires", "90d")

    assert (ended.code, ended.out) == (0, f"{SECRET}\n")
    first, second = service.requests
    assert json.loads(first.body) == {"name": "shop", "scopes": ["jobs:read"]}
    assert first.headers["authorization"] == f"Bearer {'k' * 40}"
    body = json.loads(second.body)
    assert body["tenant"] == "acme"
    assert "expires_at" in body


def test_keys_are_listed_with_their_state(service: Any, fleek: Commands) -> None:
    """As where the service runs."""
    expired = {**KEY, "expires_at": MOMENT}
    service.answers("GET /api/v1/keys", [KEY, {**KEY, "revoked_at": MOMENT}, expired])

    listed = fleek("keys", "list", "--tenant", "acme")
    documents = json.loads(fleek("keys", "list", "--json").out)

    states = [line.split("\t")[3] for line in listed.out.splitlines()]
    assert states == ["valid", "revoked", "expired"]
    assert service.requests[0].query == "tenant=acme"
    assert documents[0] == KEY


@pytest.mark.parametrize("shown", ["aaaaaaaaaaaa", "fleek_aaaaaaaaaaaa", SECRET])
def test_only_the_id_of_a_key_is_sent_to_revoke_it(
    service: Any, fleek: Commands, shown: str
) -> None:
    """Logs of servers and proxies keep addresses."""
    service.answers("DELETE /api/v1/keys/aaaaaaaaaaaa", {**KEY, "revoked_at": MOMENT})

    ended = fleek("keys", "revoke", shown)

    assert (ended.code, ended.out) == (0, "revoked fleek_aaaaaaaaaaaa (shop)\n")
    assert [request.line for request in service.requests] == ["DELETE /api/v1/keys/aaaaaaaaaaaa"]


def test_what_is_no_key_is_not_sent(service: Any, fleek: Commands) -> None:
    """It would become a part of the address."""
    ended = fleek("keys", "revoke", "../queue")

    assert ended.code == 2
    assert service.requests == []


def test_the_queue_is_shown_paused_and_resumed(service: Any, fleek: Commands) -> None:
    """Each command prints the new state of the queue."""
    service.answers("GET /api/v1/queue", QUEUE)
    service.answers("POST /api/v1/queue/pause", QUEUE)
    service.answers("POST /api/v1/queue/resume", {**QUEUE, "paused": []})

    shown = fleek("queue", "show")
    paused = fleek("queue", "pause", "-m", "fleek/art", "--json")
    resumed = fleek("queue", "resume", "--provider", "placeholder")

    assert shown.out.splitlines() == [
        "3 pending, 1 processing",
        "paused: fleek/art of every provider since 2026-01-02T03:04:05+00:00",
    ]
    assert json.loads(paused.out) == QUEUE
    assert resumed.out == "3 pending, 1 processing\n"
    bodies = [json.loads(request.body) for request in service.requests[1:]]
    assert bodies == [{"model": "fleek/art"}, {"provider": "placeholder"}]


@pytest.mark.parametrize("args", [("keys", "list"), ("queue", "pause")])
def test_a_key_that_is_no_operator_s_gets_advice(
    service: Any, fleek: Commands, args: tuple[str, ...]
) -> None:
    """The first operator's key can only be made where the service runs."""
    kind = "application/problem+json"
    service.answers("GET /api/v1/keys", REFUSED, status=403, kind=kind)
    service.answers("POST /api/v1/queue/pause", REFUSED, status=403, kind=kind)

    ended = fleek(*args)

    assert ended.code == 3
    assert "--local" in ended.err


def test_local_wins_over_the_environment(
    service: Any,
    fleek: Commands,
    migrated_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """FLEEK_URL may be set for all other commands."""
    shutil.copy(migrated_file, tmp_path / "fleek.db")
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/fleek.db")

    with capture_logs():
        ended = fleek("queue", "show", "--local")

    assert (ended.code, ended.out) == (0, "0 pending, 0 processing\n")
    assert service.requests == []


def test_local_and_a_server_exclude_each_other(service: Any, fleek: Commands) -> None:
    """One of them would be ignored."""
    ended = fleek("queue", "show", "--local", "--url", service.url)

    assert ended.code == 2
    assert service.requests == []


@pytest.mark.usefixtures("_full_suite")
def test_an_operator_works_from_elsewhere(tmp_path: Path) -> None:
    """The first key is made where the service runs; all else goes over HTTP."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    at_home = tmp_path / "service"
    at_home.mkdir()
    with running(at_home) as home:
        home.serve()

        def run(folder: Path, *args: str, **env: str) -> str:
            done = process_template.run(
                "fleek", *args, folder=folder, env={**inherited(), **env}, timeout=PATIENCE
            )
            assert done.returncode == 0, done.stderr
            return done.stdout.strip()

        admin = run(at_home, "keys", "create", "operator", "--scope", "admin")
        named = {"FLEEK_URL": f"http://127.0.0.1:{home.port}", "FLEEK_API_KEY": admin}
        shop = run(elsewhere, "keys", "create", "shop", "--tenant", "acme", **named)
        listed = run(elsewhere, "keys", "list", "--tenant", "acme", **named)
        run(elsewhere, "queue", "pause", "--provider", "placeholder", **named)
        shown = run(elsewhere, "queue", "show", **named)
        revoked = run(elsewhere, "keys", "revoke", shop, **named)

    assert listed.split("\t")[1:4] == ["acme", "shop", "valid"]
    assert "paused: every model of placeholder" in shown
    assert revoked.endswith("(shop)")
    assert list(elsewhere.iterdir()) == []  # no database was made there
