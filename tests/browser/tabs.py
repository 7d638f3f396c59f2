"""A page of a service, and what was seen on it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from playwright.sync_api import CDPSession, ConsoleMessage, Page

from service_process import Service, delay

PATIENCE_MS: Final = 60_000
FAST: Final = {**delay("0.05"), "HEARTBEAT_SECONDS": "1"}
SMALL: Final = {"width": 96, "height": 64, "caption": False}
STREAM_ENDS: Final = "net::ERR_INCOMPLETE_CHUNKED_ENCODING"  # when its service stops
UNAVAILABLE: Final = "Failed to load resource: the server responded with a status of 503"
HARMLESS: Final = ("net::ERR_", "Failed to load resource")  # of requests that a test makes fail


@dataclass
class Tab:
    """A page and what was seen on it."""

    page: Page
    service: Service
    base: str
    failures: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)
    forgiving: bool = False  # requests may fail: the test makes them
    session: CDPSession | None = None

    def watch(self) -> None:
        """Note what must not happen."""
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.failures.append(str(error)))
        self.page.on("request", lambda request: self._request(request.url))

    def _console(self, message: ConsoleMessage) -> None:
        url = message.location.get("url", "")
        if message.type == "error" and not self._allowed(message.text):
            self.failures.append(f"{message.text} {url}")

    def _allowed(self, text: str) -> bool:
        """Whether it is a line of the browser itself about an answer that the page has words for."""
        if self.forgiving and any(words in text for words in HARMLESS):
            return True
        # Of readiness this is an answer like others. A service without time to spare gives it, too: the page
        # asks again, or says so, and then it does not show what the test waits for.
        return text.startswith(UNAVAILABLE) or STREAM_ENDS in text

    def _request(self, url: str) -> None:
        self.sent.append(url)
        if not url.startswith((self.base, "blob:", "data:")):
            self.elsewhere.append(url)

    def go(self, route: str = "") -> Page:
        """Open a route of the page."""
        self.page.goto(f"{self.base}/{route}")
        return self.page

    def generate(self, prompt: str) -> None:
        """Type a prompt and send it."""
        self.page.fill("#prompt", prompt)
        self.page.click(".primary")

    def cpu_seconds(self) -> float:
        """Return how long the page's main thread has computed: it does not matter how busy the machine is."""
        if self.session is None:
            self.session = self.page.context.new_cdp_session(self.page)
            self.session.send("Performance.enable", {"timeDomain": "threadTicks"})
        found = self.session.send("Performance.getMetrics")["metrics"]
        return next(float(one["value"]) for one in found if one["name"] == "TaskDuration")

    def until(self, script: str, *, wanted: Any = True, seconds: float = 60) -> None:
        """Wait until an expression in the page has a value; the page's policy forbids to evaluate there."""
        deadline = time.monotonic() + seconds
        while (found := self.page.evaluate(script)) != wanted:
            assert time.monotonic() < deadline, f"{script}: {found!r}, not {wanted!r}"
            self.page.wait_for_timeout(20)


Open = Callable[..., Tab]
Start = Callable[..., Service]
