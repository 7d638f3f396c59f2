"""What is in progress: rows that follow events, and that can be acted upon."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any

import pytest
from playwright.sync_api import Route, expect

from browser.tabs import FAST, Open, Start, Tab
from service_process import Service, delay, running

HELLO = "event: hello\ndata: {}\n\n"
LATER = (datetime.now(UTC) + timedelta(hours=1)).isoformat()


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run a service whose predictions take minutes."""
    with running(tmp_path_factory.mktemp("slow"), **{**FAST, **delay("300")}) as made:
        made.serve()
        yield made


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run a service whose predictions fail."""
    settings = {
        **FAST,
        "REPLICATE_MOCK_FAILURE_RATE": "1",
        "MAX_RETRY_ATTEMPTS": "1",
        "RETRY_BACKOFF_BASE": "0.1",
    }
    with running(tmp_path_factory.mktemp("failing"), **settings) as made:
        made.serve()
        yield made


def row(tab: Tab, prompt: str) -> Any:
    """Return the row of a job."""
    return tab.page.locator(f'.live li:has-text("{prompt}")')


@pytest.mark.parametrize(
    ("prompt", "fields"), [("four, waiting", {"run_at": LATER}), ("five, running", {})]
)
def test_4_5_a_job_is_cancelled(
    open_tab: Open, slow: Service, prompt: str, fields: dict[str, str]
) -> None:
    """Waiting or running: the row goes, and the job is cancelled."""
    job_id = slow.submit(prompt, **fields)
    tab = open_tab(slow)
    tab.go("#/queue")
    expect(row(tab, prompt)).to_be_visible()
    space = (
        "(li, button) => li.getBoundingClientRect().right - button.getBoundingClientRect().right"
    )
    button = row(tab, prompt).get_by_label("Cancel this job").element_handle()
    assert row(tab, prompt).evaluate(space, button) < 20  # pixels: no empty column behind it
    if fields:
        expect(row(tab, prompt)).to_contain_text("starts at")

    row(tab, prompt).get_by_label("Cancel this job").click()

    expect(row(tab, prompt)).to_have_count(0)
    assert slow.job(job_id)["status"] == "cancelled"


def test_a_cancelled_job_goes_under_the_pointer_that_cancels_it(
    open_tab: Open, slow: Service
) -> None:
    """Otherwise nothing moves there: the others stay where they are."""
    for prompt in ("under it, stays", "under it, goes"):
        slow.submit(prompt, run_at=LATER)
    tab = open_tab(slow)
    tab.go("#/queue")
    expect(row(tab, "under it, stays")).to_be_visible()

    row(tab, "under it, goes").get_by_label("Cancel this job").click()

    expect(row(tab, "under it, goes")).to_have_count(0)
    expect(row(tab, "under it, stays")).to_be_visible()
    row(tab, "under it, stays").get_by_label("Cancel this job").click()
    expect(row(tab, "under it, stays")).to_have_count(0)  # others count what waits


def test_6_a_failed_job_stays_and_is_tried_again(open_tab: Open, failing: Service) -> None:
    """Until it is dismissed; a retry is a new job with the same request."""
    tab = open_tab(failing)
    page = tab.go()
    page.wait_for_selector(".model b")
    tab.generate("six fails")
    failed = row(tab, "six fails")
    expect(failed.get_by_text("Retry")).to_be_visible()
    first = str(failed.get_attribute("data-job"))

    failed.get_by_text("Retry").click()

    expect(page.locator(f'.live [data-job="{first}"]')).to_have_count(0)
    expect(failed.get_by_text("Retry")).to_be_visible()
    assert failed.get_attribute("data-job") != first
    failed.get_by_label("Dismiss").click()
    expect(row(tab, "six fails")).to_have_count(0)


def test_6_a_failed_job_goes_under_the_pointer_that_dismisses_it(
    open_tab: Open, failing: Service
) -> None:
    """Otherwise nothing moves there: the others stay where they are."""
    tab = open_tab(failing)
    tab.go().wait_for_selector(".model b")
    for prompt in ("six stays", "six goes"):
        tab.generate(prompt)
        expect(row(tab, prompt).get_by_text("Retry")).to_be_visible()

    row(tab, "six goes").get_by_label("Dismiss").click()

    expect(row(tab, "six goes")).to_have_count(0)
    expect(row(tab, "six stays")).to_be_visible()


def test_6_a_dismissed_job_stays_away(open_tab: Open, failing: Service) -> None:
    """Also when it changes later, as by a favourite that is set elsewhere."""
    tab = open_tab(failing)
    tab.go().wait_for_selector(".model b")
    tab.generate("six dismissed")
    dismissed = row(tab, "six dismissed")
    expect(dismissed.get_by_text("Retry")).to_be_visible()
    job_id = str(dismissed.get_attribute("data-job"))
    dismissed.get_by_label("Dismiss").click()

    failing.http.patch(f"/api/v1/jobs/{job_id}", json={"favourite": True}).raise_for_status()
    tab.generate("six after it")

    expect(row(tab, "six after it").get_by_text("Retry")).to_be_visible()  # its events come later
    expect(dismissed).to_have_count(0)


def test_31_each_attempt_of_a_failed_job_is_shown_with_its_error(
    open_tab: Open, failing: Service
) -> None:
    """In the provider's words."""
    job_id = failing.submit("thirty-one")
    failing.settle(seconds=30)
    attempts = failing.http.get(f"/api/v1/jobs/{job_id}/history").json()["attempts"]
    tab = open_tab(failing)

    page = tab.go(f"#/jobs/{job_id}")

    expect(page.locator(".timeline")).to_be_visible()
    text = page.inner_text(".timeline")
    assert len(attempts) > 1
    for attempt in attempts:
        assert f"attempt {attempt['n']} " in text
    assert text.count(attempts[0]["error_message"]) >= len(attempts)
    expect(page.locator(".side .status")).to_have_text("Failed")


def test_7_again_with_changes_restores_every_parameter(open_tab: Open, service: Service) -> None:
    """The form holds the prompt, the model and all parameters, also those behind More."""
    given = {
        "aspect_ratio": "4:5",
        "seed": 7,
        "num_outputs": 2,
        "output_format": "webp",
        "style": "dusk",
        "caption": False,
        "megapixels": "0.25",
        "guidance_scale": 3.5,
    }
    job_id = service.submit("seven", parameters=given)
    service.settle(seconds=30)
    tab = open_tab(service)
    page = tab.go(f"#/jobs/{job_id}")

    page.click("text=Again with changes")

    expect(page.locator("#prompt")).to_have_value("seven")
    page.click("#tab-JSON")
    assert json.loads(page.inner_text("#code code"))["parameters"] == given


def event(number: int, job: dict[str, Any]) -> str:
    """Return an event of a stream."""
    return f"id: {number}\nevent: job.{job['status'].replace('processing', 'progress')}\ndata: {json.dumps(job)}\n\n"


def test_21_a_flood_of_events_leaves_the_page_smooth(open_tab: Open, service: Service) -> None:
    """500 events in one piece: drawn once for each frame, and the last state is what is shown."""
    sample = next(
        job
        for job in service.http.get("/api/v1/jobs?limit=100").json()
        if job["prompt"] == "study 1"
    )
    flood = HELLO
    for number in range(500):
        state = "processing" if number < 450 else "completed"
        fresh = {
            **sample,
            "id": f"{sample['id'][:-12]}{number % 50:012d}",
            "prompt": f"flood {number % 50}",
            "status": state,
            "progress": number / 500,
            "updated_at": f"2036-01-01T00:00:00.{number:06d}Z",
            "created_at": f"2036-01-01T00:00:00.{number % 50:06d}Z",
            "seq": number,
            "at": sample["created_at"],
        }
        flood += event(number, fresh)
    ready, sent = Event(), Event()

    def stream(route: Route) -> None:
        if sent.is_set():
            return  # it stays open, and silent
        if ready.is_set():
            sent.set()
        route.fulfill(content_type="text/event-stream", body=flood if ready.is_set() else HELLO)

    tab = open_tab(service)
    page = tab.page
    page.route(
        "**/api/v1/jobs?status=p*",
        lambda route: route.fulfill(json=[], headers={"x-total-count": "0"}),
    )
    page.route("**/api/v1/events", stream)
    tab.go("#/gallery")
    expect(page.locator('.tile img[alt="study 1"]')).to_be_visible()
    before = tab.cpu_seconds()
    ready.set()

    expect(page.locator('.tile img[alt="flood 49"]')).to_be_visible()
    expect(page.locator('.tile img[alt^="flood"]')).to_have_count(50)
    expect(page.locator(".tabs [data-unfinished]")).to_be_hidden()
    assert (
        tab.cpu_seconds() - before < 1.5
    )  # with all pictures decoded; a frame for each event takes ten


def test_32_a_killed_service_comes_back_and_nothing_is_missing_or_twice(
    open_tab: Open, own_service: Start
) -> None:
    """The page says so, keeps what it has, and goes on where it was."""
    service = own_service(**delay("10"))
    tab = open_tab(service, forgiving=True)
    page = tab.go()
    page.wait_for_selector(".model b")
    tab.generate("thirty-two, before")
    expect(row(tab, "thirty-two, before")).to_be_visible()

    service.processes[-1].kill()

    expect(page.locator("#lost")).to_contain_text("Connection lost")
    page.fill("#prompt", "typed meanwhile")
    service.serve()
    service.submit("thirty-two, from elsewhere")
    expect(page.locator("#lost")).to_be_hidden(timeout=40_000)
    for prompt in ("thirty-two, before", "thirty-two, from elsewhere"):
        expect(page.locator(f'.tile img[alt="{prompt}"]')).to_have_count(1, timeout=40_000)
    expect(page.locator(".live li")).to_have_count(0)
    expect(page.locator("#prompt")).to_have_value("typed meanwhile")


def test_33_offline_a_draft_is_kept_and_sending_says_why_not(
    open_tab: Open, service: Service
) -> None:
    """Once the connection is back, the same press works."""
    tab = open_tab(service, forgiving=True)
    page = tab.go()
    page.wait_for_selector("[data-drop]", state="attached")  # the parts of the page that come late
    page.fill("#prompt", "thirty-three")
    page.context.set_offline(True)

    expect(page.locator("#lost")).to_contain_text("offline")
    page.click(".primary")

    expect(page.locator(".go [role=alert]")).to_contain_text("Nothing you typed is lost")
    expect(page.locator("#prompt")).to_have_value("thirty-three")
    page.context.set_offline(False)
    page.click(".go [role=alert] button")
    expect(page.locator('.tile img[alt="thirty-three"]')).to_be_visible()


def test_45_cancelling_all_waiting_jobs_names_their_number_and_asks(
    open_tab: Open, slow: Service
) -> None:
    """Nothing happens before the second answer."""
    waiting = [slow.submit(f"forty-five {number}", run_at=LATER) for number in range(9)]
    tab = open_tab(slow)
    page = tab.go("#/queue")
    button = page.locator(".head .danger")
    expect(button).to_have_text("Cancel all waiting (9)")

    button.click()
    expect(page.locator("dialog h2")).to_have_text("Cancel 9 waiting jobs? This cannot be undone.")
    page.click("dialog >> text=Keep")
    assert {slow.job(job_id)["status"] for job_id in waiting} == {"pending"}
    button.click()
    page.click('dialog button:has-text("Cancel 9 waiting jobs")')

    expect(page.locator('.live li:has-text("forty-five")')).to_have_count(0)
    assert {slow.job(job_id)["status"] for job_id in waiting} == {"cancelled"}
