"""The pages for those who run the service: its workers, and its queue."""

import re

from playwright.sync_api import expect

from browser.tabs import Open, Start
from service_process import delay

KEY = "a-secret-of-this-test-0123456789abcdef"
WORKERS = 'section:has(h2:text-is("Workers")) li'


def test_workers_are_listed_until_they_are_dead(open_tab: Open, own_service: Start) -> None:
    """Each says what it is and does; one that was killed leaves the list once its lease has expired."""
    service = own_service(**delay("600"), WORKER_CONCURRENCY="3")
    other = service.worker()
    tab = open_tab(service)
    page = tab.go("#/system")
    rows = page.locator(WORKERS)
    expect(rows).to_have_count(2)
    own = rows.filter(has_text="API and worker")
    expect(own).to_contain_text(re.compile(r"Fleek \d+\.\d+.*, since "))
    expect(own).to_contain_text("of 3 slots in use")
    expect(own).to_contain_text(re.compile(r"seen [\d.]+ s ago"))
    expect(rows.filter(has_text="coordinator")).to_have_count(1)
    listed = service.http.get("/health/detailed").json()["workers"]
    separate = next(one["id"] for one in listed if not one["here"])
    expect(page.locator(f'{WORKERS} [title="Worker {separate}"]')).to_be_visible()

    other.kill()

    expect(page.locator(f'{WORKERS} [title="Worker {separate}"]')).to_have_count(0)
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("API and worker, coordinator")


def test_the_queue_is_paused_and_resumed_on_its_page(open_tab: Open, own_service: Start) -> None:
    """By an operator: what waits stays, and the page says why."""
    service = own_service(API_KEYS=f"page:{KEY}")
    service.http.headers["Authorization"] = f"Bearer {KEY}"
    tab = open_tab(service, forgiving=True)
    page = tab.go("#/queue")
    page.fill("#key", KEY)
    page.click('dialog button:has-text("Continue")')

    page.click("text=Pause the queue")

    expect(page.locator(".note.warn")).to_contain_text("All jobs: paused by an operator since")
    assert service.http.get("/api/v1/queue").json()["paused"]
    page.click("text=Resume the queue")
    expect(page.locator(".note.warn")).to_have_count(0)
    assert service.http.get("/api/v1/queue").json()["paused"] == []
    expect(page.get_by_text("Pause the queue")).to_be_visible()
