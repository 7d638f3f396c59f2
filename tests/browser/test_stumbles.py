"""What people stumbled over who used the page for the first time."""

from datetime import UTC, datetime, timedelta
from typing import Final

from playwright.sync_api import Route, expect

from browser.tabs import Open, Start, Tab
from service_process import Service, delay

CLIPPED: Final = """[...document.querySelectorAll('.option')].some((row) =>
  [...row.children].some((el) => el.getBoundingClientRect().top < row.getBoundingClientRect().top))"""
BOX: Final = "(el) => el.getBoundingClientRect().toJSON()"


def test_the_models_to_choose_from_do_not_overlap(tab: Tab) -> None:
    """However long their descriptions are."""
    page = tab.go()
    page.wait_for_selector(".model b")

    page.click(".model")

    page.wait_for_selector(".option")
    assert not page.evaluate(CLIPPED)
    page.click("dialog .close")
    expect(page.locator("dialog")).to_have_count(0)


def test_more_settings_are_in_view_once_they_are_opened(tab: Tab) -> None:
    """They are at the end of what scrolls: opened below it, nothing would seem to happen."""
    page = tab.go()
    page.wait_for_selector(".model b")

    page.click(".more")

    first = page.locator("details .full > div >> nth=1")
    tab.until(
        "document.querySelector('details .full > :nth-child(2)').getBoundingClientRect().bottom"
        " < document.querySelector('.go').getBoundingClientRect().top"
    )
    expect(first).to_be_visible()
    switch = page.locator("details .inline").first.evaluate(BOX)
    name = page.locator("details .inline .switch").first.evaluate(BOX)
    assert name["top"] - switch["top"] < 12  # pixels: no empty line above it


def test_models_are_readable_on_a_phone(open_tab: Open, service: Service) -> None:
    """Titles stay in one piece, and descriptions have the whole width."""
    tab = open_tab(service, viewport={"width": 375, "height": 812}, has_touch=True)
    page = tab.go("#/models")
    page.wait_for_selector(".lines b")

    assert page.locator("h1").evaluate(BOX)["height"] < 40
    assert page.locator(".lines .stack-0").first.evaluate(BOX)["width"] > 240


def test_a_small_picture_is_large_enough_to_paint_on(tab: Tab) -> None:
    """A mask is painted on the width of the dialog, whatever the picture measures."""
    page = tab.go()
    page.wait_for_selector(".ref")
    page.click(".ref")
    job_id = tab.service.http.get("/api/v1/jobs?limit=1&status=completed").json()[0]["id"]
    page.locator('[data-field="image"] input[type=text]').fill(f"job:{job_id}")
    page.locator('[data-field="image"] input[type=text]').press("Enter")

    page.click("text=Paint a mask")

    tab.until("document.querySelector('canvas.paint')?.getBoundingClientRect().width > 400")


def test_a_tag_leads_to_all_jobs_with_it(open_tab: Open, service: Service) -> None:
    """It is removed by its cross alone."""
    job_id = service.submit("stumbled, tagged", parameters={"width": 96, "height": 64})
    service.settle(seconds=60)
    tab = open_tab(service)
    page = tab.go(f"#/jobs/{job_id}")
    page.fill(".tags input", "first walk")
    page.press(".tags input", "Enter")

    page.click('.tags a:has-text("first walk")')

    expect(page.get_by_label("Remove the filter tag first walk")).to_be_visible()
    expect(page.locator(".tile[data-job]")).to_have_count(1)
    assert service.job(job_id)["tags"] == ["first walk"]


def test_a_late_answer_does_not_set_the_clock_back(open_tab: Open, own_service: Start) -> None:
    """Its date is that of the server when it was made; what runs would otherwise seem to begin now."""
    service = own_service(**delay("600"))
    job_id = service.submit("stumbled, late")
    tab = open_tab(service)
    page = tab.page
    early = {"date": "Sun, 01 Nov 2020 00:00:00 GMT", "content-type": "application/json"}

    def late(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, headers={**answer.headers, **early})

    page.route("**/api/v1/stats", late)
    tab.go("#/queue").wait_for_selector(".fact")

    row = page.locator(f'.live li[data-job="{job_id}"] time')
    expect(row).not_to_have_text("0.0 s")
    expect(row).not_to_have_text("")
    page.unroute_all(behavior="wait")  # it is asked for again and again


def test_cancelling_is_tried_again_while_the_service_is_busy(
    open_tab: Open, own_service: Start
) -> None:
    """A second cancellation of a job does nothing, so it may be asked for again."""
    service = own_service(**delay("600"))
    job_id = service.submit("stumbled, busy")
    tab = open_tab(service, forgiving=True)
    page = tab.page
    refused: list[str] = []

    def busy(route: Route) -> None:
        if refused:
            route.continue_()
        else:
            refused.append(route.request.url)
            route.fulfill(status=503, json={"detail": "busy", "code": "overloaded"})

    page.route("**/cancel", busy)
    tab.go("#/queue")
    page.get_by_label("Cancel this job").click()

    expect(page.locator(".live li")).to_have_count(0)
    assert len(refused) == 1
    assert service.job(job_id)["status"] == "cancelled"


def test_what_is_selected_hides_no_words(open_tab: Open, service: Service) -> None:
    """The boxes of all tiles are shown then, over the first line of those without a picture."""
    job_id = service.submit(
        "stumbled, cancelled",
        run_at=f"{datetime.now(UTC) + timedelta(days=300):%Y-%m-%dT%H:%M:%SZ}",
    )
    service.http.post(f"/api/v1/jobs/{job_id}/cancel").raise_for_status()
    tab = open_tab(service)
    page = tab.go("#/gallery?status=all")
    tile = page.locator(f'.tile[data-job="{job_id}"]')
    expect(tile.locator(".kind")).to_be_visible()

    page.locator(".tile .pick input").last.check()
    page.mouse.move(0, 0)

    expect(page.locator(".select-bar")).to_contain_text("1 selected")
    expect(tile.locator(".kind")).to_be_hidden()


def test_a_module_that_cannot_be_loaded_is_reported(open_tab: Open, service: Service) -> None:
    """As while the service is replaced: the rest of the page works on."""
    tab = open_tab(service, forgiving=True)
    page = tab.page
    page.route("**/static/view/queue.js", lambda route: route.abort())
    tab.go().wait_for_selector(".model b")

    page.click('.tabs a:has-text("Queue")')

    expect(page.locator(".toast")).to_contain_text("queue.js")
    page.click('.tabs a:has-text("Create")')
    expect(page.locator("#prompt")).to_be_visible()
    assert [one for one in tab.failures if "dynamically imported" not in one] == []
    tab.failures.clear()  # what the test has made fail
