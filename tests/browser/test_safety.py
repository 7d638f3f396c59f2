"""What strangers wrote stays text, and nothing is asked of another origin."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import expect

from backing_services import Services
from browser.samples_of_models import HOSTILE
from browser.tabs import FAST, SMALL, Open, Start
from s3server import shared_s3
from service_process import Service, running

ROUTES = ("#/", "#/gallery?status=all", "#/queue", "#/models", "#/system", "#/access")


def test_17_hostile_text_is_inert(
    open_tab: Open, own_service: Start, subtests: pytest.Subtests
) -> None:
    """In prompts, tags, names of models and of files: shown, never interpreted."""
    service = own_service(REPLICATE_MOCK_FAILURE_RATE="0")
    ids = [
        service.submit(
            prompt,
            parameters={**SMALL, "style": "<b>x</b>"},
            tags=[prompt[:60]] if prompt.isprintable() else [],
        )
        for prompt in HOSTILE
    ]
    service.settle(seconds=30)
    models = service.http.get("/api/v1/models").json()
    models.append(
        {
            **models[0],
            "name": "<img src=x onerror=window.owned=1>/x",
            "description": HOSTILE[0],
            "default": False,
        }
    )
    tab = open_tab(service)
    page = tab.page
    page.route("**/api/v1/models*", lambda route: route.fulfill(json=models))

    for route in (*ROUTES, *(f"#/jobs/{job_id}" for job_id in ids)):
        with subtests.test(route=route):
            tab.go(route)
            page.wait_for_timeout(150)
            assert page.evaluate("window.owned") is None
            assert page.locator("main script, main img[src=x]").count() == 0
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    expect(page.locator(".side .prompt")).to_have_text(HOSTILE[-1])


def test_18_19_no_error_and_no_other_origin(open_tab: Open, service: Service) -> None:
    """On all routes; every other test of this folder watches the same."""
    tab = open_tab(service)
    job_id = service.http.get("/api/v1/jobs?limit=1").json()[0]["id"]

    for route in (*ROUTES, f"#/jobs/{job_id}"):
        tab.go(route)
        tab.page.wait_for_timeout(200)

    assert len(tab.sent) > 30
    policy = service.http.get("/", headers={"Accept": "text/html"}).headers[
        "content-security-policy"
    ]
    for part in (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "require-trusted-types-for 'script'",
        "frame-ancestors 'none'",
    ):
        assert part in policy
    assert "unsafe" not in policy


@contextmanager
def under_a_prefix(port: int, prefix: str) -> Iterator[int]:
    """Forward what is below a prefix, as a reverse proxy does."""

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._forward()

        def do_POST(self) -> None:
            self._forward()

        def _forward(self) -> None:
            if not self.path.startswith(prefix):
                self.send_error(404)
                return
            length = int(self.headers.get("content-length") or 0)
            data = self.rfile.read(length) if length else None
            kept = {
                name: value
                for name, value in self.headers.items()
                if name.lower() not in {"host", "connection", "origin"}
            }
            asked = Request(
                f"http://127.0.0.1:{port}{self.path[len(prefix) - 1 :]}",
                data=data,
                headers=kept,
                method=self.command,
            )
            with urlopen(asked) as answer:  # noqa: S310 - ours
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    if name.lower() not in {"transfer-encoding", "connection", "date"}:
                        self.send_header(name, value)
                self.end_headers()
                while part := answer.read1(65536):
                    self.wfile.write(part)
                    self.wfile.flush()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def test_47_the_page_works_below_a_prefix(open_tab: Open, own_service: Start) -> None:
    """All of its addresses are relative."""
    service = own_service(PUBLIC_URL="http://127.0.0.1/tools/fleek")
    with under_a_prefix(service.port, "/tools/fleek/") as port:
        tab = open_tab(service, base=f"http://127.0.0.1:{port}/tools/fleek", forgiving=True)
        page = tab.go()
        page.wait_for_selector(".model b")

        tab.generate("forty-seven")

        expect(page.locator('.tile img[alt="forty-seven"]')).to_be_visible()
        tab.until("document.querySelector('.tile img').naturalWidth > 0")
        page.click(".tile a")
        expect(page.locator("dialog.lightbox .prompt")).to_have_text("forty-seven")
        page.goto("about:blank")
        assert not [
            url for url in tab.sent if "/tools/fleek/" not in url and url.startswith("http")
        ]


def test_48_files_of_a_bucket_are_shown(
    open_tab: Open, services: Services, tmp_path: Path
) -> None:
    """The API redirects to the storage, whose origin is the only exception of the policy."""
    s3 = shared_s3(services)
    with running(tmp_path, **FAST, **s3.settings(s3.make_bucket(), tmp_path)) as service:
        service.serve()
        tab = open_tab(service)
        page = tab.go()
        page.wait_for_selector(".model b")

        tab.generate("forty-eight")

        expect(page.locator('.tile img[alt="forty-eight"]')).to_be_visible()
        tab.until("document.querySelector('.tile img').naturalWidth > 0")
        assert tab.elsewhere == []  # the service itself serves the small pictures
        page.click(".tile > a")
        tab.until("document.querySelector('.lightbox .canvas img')?.naturalWidth > 0")
        assert {url.split("/")[2] for url in tab.elsewhere} == {s3.url.split("/")[2]}
        tab.elsewhere.clear()
        page.goto("about:blank")  # before the service ends
