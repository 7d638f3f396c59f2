"""A caller that constantly exceeds the rate of its key."""

import math
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import httpx2

from authorities import trusted
from service_process import Service

PATH: Final = "/api/v1/me"
PAUSE_SECONDS: Final = 0.05
ANSWER_SECONDS: Final = 10.0
SERVED: Final = 200
REFUSED: Final = 429


@dataclass(frozen=True, slots=True)
class Answered:
    """A request with its response; times are steady."""

    status: int
    sent_at: float
    at: float


class Flood:
    """Sends requests with one key until the block ends."""

    def __init__(self, service: Service, key: str) -> None:
        self.answered: list[Answered] = []
        self._over = threading.Event()
        self._http = httpx2.Client(
            base_url=f"http://127.0.0.1:{service.port}",
            verify=trusted(),
            timeout=ANSWER_SECONDS,
            trust_env=False,
            headers={"X-API-Key": key},
        )

    @contextmanager
    def running(self) -> Generator[None]:
        """Send until the block ends."""
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()
            self._http.close()

    def _run(self) -> None:
        while not self._over.wait(PAUSE_SECONDS):
            sent_at = time.monotonic()
            try:
                answer = self._http.get(PATH)
            except httpx2.HTTPError:
                continue
            self.answered.append(Answered(answer.status_code, sent_at, time.monotonic()))


def excess(answered: Sequence[Answered], *, per_second: float) -> float:
    """Return how far the busiest interval exceeds the allowed number of requests."""
    most, begin = 0.0, -math.inf
    for number, one in enumerate(one for one in answered if one.status == SERVED):
        begin = max(begin, per_second * one.sent_at - number)
        most = max(most, number + 1 - per_second * one.at + begin)
    return most
