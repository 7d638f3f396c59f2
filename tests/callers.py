"""Clients that submit and read jobs during an outage, and record the responses."""

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from typing import Final

import httpx2

from authorities import trusted
from service_process import PATIENCE, SMALL

CALLERS: Final = 4
PAUSE_SECONDS: Final = 0.05  # between two rounds of a client


@dataclass
class Seen:
    """The responses that clients have received."""

    accepted: list[str] = field(default_factory=list)
    refused: int = 0  # 503, as intended
    broken: list[str] = field(default_factory=list)  # any other response

    def note(self, ask: Callable[[], httpx2.Response]) -> None:
        """Send a request, and classify its response."""
        try:
            answer = ask()
        except httpx2.HTTPError as error:
            self.broken.append(repr(error))
            return
        if answer.status_code == 201:
            self.accepted.append(answer.json()["id"])
        elif answer.status_code == 503 and is_a_pause(answer):
            self.refused += 1
        elif answer.status_code != 200:
            self.broken.append(f"{answer.status_code} {answer.headers} {answer.text}")


def is_a_pause(answer: httpx2.Response) -> bool:
    """Return whether a response is a problem that asks to retry later."""
    return (
        answer.headers["content-type"] == "application/problem+json"
        and answer.json()["code"] in {"database_unavailable", "overloaded", "write_unknown"}
        and int(answer.headers["retry-after"]) > 0
    )


def connected(url: httpx2.URL | str) -> httpx2.Client:
    """Return a client of the service at this address."""
    return httpx2.Client(base_url=url, verify=trusted(), timeout=PATIENCE)


@contextmanager
def load(
    *urls: httpx2.URL | str,
    connect: Callable[[httpx2.URL | str], httpx2.Client] = connected,
    pause_seconds: float = PAUSE_SECONDS,
) -> Generator[Seen]:
    """Submit and read jobs in several threads, at these addresses in turn."""
    seen, over = Seen(), threading.Event()

    def call(mine: Sequence[httpx2.Client]) -> None:
        for http in cycle(mine):
            if over.wait(pause_seconds):
                return
            seen.note(lambda http=http: submitted(http))  # type: ignore[misc]  # bound now
            if seen.accepted:
                job = f"/api/v1/jobs/{seen.accepted[-1]}"
                seen.note(lambda http=http, job=job: http.get(job))  # type: ignore[misc]  # too
                seen.note(lambda http=http: http.get("/api/v1/jobs"))  # type: ignore[misc]  # too

    clients = [[connect(url) for url in urls] for _ in range(CALLERS)]
    callers = [threading.Thread(target=call, args=(mine,)) for mine in clients]
    for caller in callers:
        caller.start()
    try:
        yield seen
    finally:
        over.set()
        for caller in callers:
            caller.join()
        for mine in clients:
            for http in mine:
                http.close()


def submitted(http: httpx2.Client) -> httpx2.Response:
    """Submit a small job."""
    return http.post("/api/v1/generate", json={"prompt": "a storm", "parameters": SMALL})
