"""Keys: asked for, kept in one tab, and never in an address."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import expect

from browser.tabs import FAST, SMALL, Open, Tab
from service_process import Service, running

KEY = "a-key-for-the-tests-of-the-web-page-alone"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run a service that needs keys."""
    with running(tmp_path_factory.mktemp("guarded"), **FAST, API_KEYS=f"page:{KEY}") as made:
        made.serve()
        made.http.headers["Authorization"] = f"Bearer {KEY}"
        made.submit("thirty-four", parameters=SMALL)
        yield made


def enter(tab: Tab, key: str) -> None:
    """Type a key into the dialog."""
    tab.page.fill("#key", key)
    tab.page.click('dialog button:has-text("Continue")')


def test_34_a_key_stays_in_this_tab(open_tab: Open, guarded: Service) -> None:
    """It is in session storage alone; pictures have signed addresses; another tab asks again."""
    tab = open_tab(guarded, forgiving=True)
    page = tab.go()
    expect(page.locator("dialog h2")).to_have_text("This service needs a key")
    enter(tab, "not-the-key-of-anything")
    expect(page.locator("dialog [role=alert]")).to_contain_text("not accepted")

    enter(tab, KEY)

    expect(page.locator('.tile img[alt="thirty-four"]')).to_be_visible()
    tab.until("document.querySelector('.tile img').naturalWidth > 0")
    assert page.evaluate("sessionStorage.getItem('fleek.key')") == KEY
    assert page.evaluate("Object.keys(localStorage).length + document.cookie.length") == 0
    assert not [url for url in tab.sent if KEY in url]
    assert KEY not in page.content()
    page.click("#tab-curl")
    assert "$FLEEK_API_KEY" in page.inner_text("#code code")
    assert KEY not in guarded.processes[-1].log.read_text()
    other = page.context.new_page()
    other.goto(f"{tab.base}/")
    expect(other.locator("dialog h2")).to_have_text("This service needs a key")
    page.click('[aria-label="Forget key"]')
    expect(page.locator("dialog h2")).to_have_text("This service needs a key")


def test_34_a_missing_scope_is_named(open_tab: Open, guarded: Service) -> None:
    """The part that it may not see says which scope is missing."""
    made = guarded.http.post("/api/v1/keys", json={"name": "reader", "scopes": ["jobs:read"]})
    tab = open_tab(guarded, forgiving=True)
    page = tab.go("#/access")

    enter(tab, made.json()["key"])

    expect(page.locator("main")).to_contain_text("webhooks:read")


def test_35_a_revoked_key_is_asked_for_again(open_tab: Open, guarded: Service) -> None:
    """Also while the page only listens."""
    made = guarded.http.post("/api/v1/keys", json={"name": "short-lived"}).json()
    tab = open_tab(guarded, forgiving=True)
    page = tab.go()
    enter(tab, made["key"])
    expect(page.locator('.tile img[alt="thirty-four"]')).to_be_visible()

    guarded.http.delete(f"/api/v1/keys/{made['id']}")

    expect(page.locator("dialog h2")).to_have_text("This service needs a key", timeout=40_000)
    expect(page.locator("dialog [role=alert]")).to_contain_text("not accepted")


def test_a_key_is_created_and_revoked_on_the_page(open_tab: Open, guarded: Service) -> None:
    """Its secret is shown once."""
    tab = open_tab(guarded, forgiving=True)
    page = tab.go("#/access")
    enter(tab, KEY)
    page.locator('section:has(h2:text-is("Keys")) >> text=New').click()

    page.fill("#key-name", "from-the-page")
    page.click('dialog button:has-text("Create")')

    expect(page.locator("dialog pre")).to_contain_text("fleek_")
    page.keyboard.press("Escape")
    page.click('[aria-label="Revoke from-the-page"]')
    page.click('dialog button:has-text("Revoke")')
    expect(page.locator('li:has-text("from-the-page")')).to_contain_text("ended")


def test_the_system_page_tells_an_operator_what_is_paused(
    open_tab: Open, guarded: Service
) -> None:
    """A provider and for how long, the open circuit of a model, and what an operator has stopped."""
    now = datetime.now(UTC)
    later, wrote = (f"{one:%Y-%m-%d %H:%M:%S.%f}" for one in (now + timedelta(minutes=50), now))
    for model, reason in (("", "rate_limited"), ("acme/broken", "model_failed")):
        row = f"('elsewhere', '{model}', '{later}', '{reason}', 5, '{wrote}')"
        columns = "(provider, model, paused_until, reason, failures, updated_at)"
        guarded.change(f"INSERT INTO accounts {columns} VALUES {row}")  # noqa: S608 - of this test
    guarded.http.post("/api/v1/queue/pause", json={"model": "acme/stopped"})
    tab = open_tab(guarded, forgiving=True)
    page = tab.go("#/system")
    enter(tab, KEY)

    lines = page.locator('section:has(h2:text-is("Providers, last hour")) li')
    paused, stopped = lines.filter(has_text="elsewhere"), lines.filter(has_text="acme/stopped")

    expect(paused).to_contain_text("rate_limited")
    expect(paused).to_contain_text("circuit of acme/broken is open")
    expect(stopped).to_contain_text("paused by an operator")
    expect(lines.filter(has_text="placeholder")).to_contain_text("not paused")
