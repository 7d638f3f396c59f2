"""A receiver of webhooks in a thread, for services in their own processes."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from receivers import Received
from service_process import until


class Collector:
    """The received webhooks, in their order."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.received: list[Received] = []

    def wait_for(self, number: int) -> None:
        """Wait until this many have arrived."""
        until(lambda: len(self.received) >= number, why=lambda: f"{self.received}")


@contextmanager
def collecting() -> Generator[Collector]:
    """Accept and record every webhook."""
    collector = Collector("")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, collector))
    collector.url = f"http://127.0.0.1:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, collector: Collector, *args: Any) -> None:
        self._collector = collector
        super().__init__(*args)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self._collector.received.append(Received(headers, body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass
