"""A receiver of webhooks that fails, hangs, loses its responses, and has outages."""

import random
import threading
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

MANNERS: Final = {  # weights at the first try; half as many faults at the second
    "refused": 0.05,  # 500
    "throttled": 0.03,  # 429 with Retry-After
    "redirected": 0.02,
    "cut": 0.04,  # a disconnect without a response, counted as not received
    "lost": 0.05,  # the same, counted as received
    "endless": 0.02,  # received, with a response too long to be read
    "hung": 0.01,  # no response until the time-out
}
TRIES: Final = 2  # the third and later ones are received
ANSWERS: Final = {
    "refused": (500, {}),
    "throttled": (429, {"Retry-After": "1"}),
    "redirected": (302, {"Location": "http://127.0.0.1:1/"}),
}
ENDLESS_BYTES: Final = 1_000_000
HANGS_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes
    manner: str  # the response: one of `MANNERS`, or ``well``

    @property
    def id(self) -> str:
        """The id of the message."""
        return self.headers["webhook-id"]

    @property
    def taken(self) -> bool:
        """Whether the receiver has it, even if the sender has no response."""
        return self.manner in {"well", "lost", "endless"}


class Receiver:
    """Receives webhooks on any path, in the order of their arrival."""

    def __init__(self, seed: int) -> None:
        self.received: list[Arrival] = []
        self.manners = dict(MANNERS)
        self.over = threading.Event()
        self._seed = seed
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._server, self._thread = self._serve(0)
        self.port: int = self._server.server_port

    def url(self, name: str) -> str:
        """Return an address."""
        return f"http://127.0.0.1:{self.port}/{name}"

    def calm(self) -> None:
        """Receive everything from now on."""
        self.manners.clear()

    @contextmanager
    def away(self) -> Generator[None]:
        """Refuse connections until the block ends."""
        self._stop()
        try:
            yield
        finally:
            self._server, self._thread = self._serve(self.port)

    def close(self) -> None:
        """Stop, and end hanging requests."""
        self.over.set()
        self._stop()

    def take(self, path: str, headers: dict[str, str], body: bytes) -> str:
        """Record a request, and return the response to it."""
        known = headers["webhook-id"]
        with self._lock:
            self._seen[known] += 1
            manner = self._manner(known, self._seen[known])
            self.received.append(Arrival(path, headers, body, manner))
        return manner

    def _manner(self, known: str, times: int) -> str:
        chance = random.Random(f"{self._seed}:{known}:{times}").random()  # noqa: S311 - repeatable
        if times > TRIES:
            return "well"
        for manner, rate in self.manners.items():
            chance -= rate / times
            if chance < 0:
                return manner
        return "well"

    def _serve(self, port: int) -> tuple[ThreadingHTTPServer, threading.Thread]:
        server = ThreadingHTTPServer(("127.0.0.1", port), partial(_Handler, self))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        return server, thread

    def _stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, receiver: Receiver, *args: object) -> None:
        self._receiver = receiver
        super().__init__(*args)  # type: ignore[arg-type]  # request, address and server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        manner = self._receiver.take(self.path.strip("/"), headers, body)
        if manner == "hung":
            self._receiver.over.wait(HANGS_SECONDS)
        if manner in {"cut", "lost", "hung"}:
            return
        status, further = ANSWERS.get(manner, (204, {}))
        endless = manner == "endless"
        self.send_response(200 if endless else status)
        for name, value in further.items():
            self.send_header(name, value)
        self.end_headers()
        if endless:
            self._send_endless()

    def _send_endless(self) -> None:
        try:
            self.wfile.write(bytes(ENDLESS_BYTES))
        except OSError:  # the sender has disconnected
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass
