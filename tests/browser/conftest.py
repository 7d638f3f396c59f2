"""The web page in a real browser: the Chromium of the system, driven by Playwright, and the service as a process.

Every page is watched: an error on its console, a report of its policy, or a request to another origin
fails the test that has opened it.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright
from scripts.chromium import ADVICE, find

from browser.tabs import FAST, PATIENCE_MS, SMALL, Open, Start, Tab
from service_process import Service, running

expect.set_options(timeout=PATIENCE_MS)
OPTIONS: Final = (
    *("--no-sandbox", "--disable-dev-shm-usage", "--enable-precise-memory-info"),
    *("--disable-gpu", "--disable-software-rasterizer"),  # a CPU that plays the GPU takes longer
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is in this folder: it needs a browser, see `make test-browser`."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Start Chromium once for all tests of a process."""
    path = find()
    assert path is not None, ADVICE
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=[*OPTIONS])
        yield opened
        opened.close()


@pytest.fixture
def open_tab(browser: Browser, own_service: Start) -> Iterator[Open]:  # noqa: ARG001 - it ends later
    """Return a function that opens a page of a service; what it did wrong fails the test at its end.

    Pages are closed before the services of the test's own end: otherwise they would miss them.
    """
    tabs: list[Tab] = []
    with ExitStack() as stack:

        def opened(
            service: Service, *, base: str = "", forgiving: bool = False, **options: Any
        ) -> Tab:
            options.setdefault("viewport", {"width": 1280, "height": 900})
            context: BrowserContext = browser.new_context(**options)
            context.set_default_timeout(PATIENCE_MS)
            stack.callback(context.close)
            address = base or f"http://127.0.0.1:{service.port}"
            tab = Tab(context.new_page(), service, address, forgiving=forgiving)
            tab.watch()
            tabs.append(tab)
            return tab

        yield opened
    assert [one.failures for one in tabs if one.failures] == []
    assert [one.elsewhere for one in tabs if one.elsewhere] == []


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run a service with fast stand-in models; tests share it, so each looks for its own prompts."""
    with running(tmp_path_factory.mktemp("shared"), **FAST) as shared:
        shared.serve()
        for number, shape in enumerate([(96, 64), (64, 64), (64, 96), (128, 64)] * 3):
            shared.submit(
                f"study {number}", parameters={**SMALL, "width": shape[0], "height": shape[1]}
            )
        shared.settle(seconds=60)
        yield shared


@pytest.fixture
def own_service(tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts a service of the test's own."""
    with ExitStack() as stack:

        def started(**settings: str) -> Service:
            made = stack.enter_context(running(tmp_path, **{**FAST, **settings}))
            made.serve()
            return made

        yield started


@pytest.fixture
def tab(open_tab: Open, service: Service) -> Tab:
    """Open a page of the shared service."""
    return open_tab(service)
