"""The wall: thousands of jobs behind one scrollbar, filters in the address, tiles of every kind."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Final

import pytest
from playwright.sync_api import expect

from browser.tabs import FAST, SMALL, Open, Start, Tab
from service_process import Service, running

MANY: Final = 10_000
STEPS: Final = 30
CLONE: Final = """WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
INSERT INTO {table} ({names}) SELECT {values} FROM n, {table} WHERE {table}.{key} = '{job}'"""
DAYS: Final = "strftime('%Y-%m-%d %H:%M:%f000', '2026-01-01', (i * 120) || ' seconds')"


def _clone(path: str, job_id: str, rows: int) -> None:
    """Copy a completed job as many times, with ids in the order of their times."""
    job = job_id.replace("-", "")
    with closing(sqlite3.connect(path)) as connection, connection:
        for table, key in (("jobs", "id"), ("media", "job_id")):
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            changed = {
                key: "printf('018f0000%024x', i)",
                "created_at": DAYS,
                "completed_at": DAYS,
                "prompt": "'number ' || i",
            }
            values = ", ".join(changed.get(name, f'{table}."{name}"') for name in columns)
            names = ", ".join(f'"{name}"' for name in columns)
            connection.execute(
                CLONE.format(rows=rows, table=table, names=names, values=values, key=key, job=job)
            )


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run a service with thousands of completed jobs."""
    with running(tmp_path_factory.mktemp("crowded"), **FAST) as made:
        process = made.serve()
        job_id = made.submit("the original", parameters=SMALL)
        made.settle(seconds=30)
        process.stop()
        _clone(str(made.folder / "fleek.db"), job_id, MANY)
        made.serve()
        yield made


def test_20_ten_thousand_jobs_stay_smooth(open_tab: Open, crowded: Service) -> None:
    """Few tiles are in the document, the end is near, and the heap stays small."""
    tab = open_tab(crowded)
    page = tab.go("#/gallery")
    expect(page.locator(".gallery .sub")).to_have_text("10,000+")
    expect(page.locator('.tile img[alt="the original"]')).to_be_visible()
    before = tab.cpu_seconds()

    page.keyboard.press("End")
    tab.until(
        "(() => { const all = [...document.querySelectorAll('.wall .tile')].filter((one) => one.getBoundingClientRect().top < innerHeight);"
        " return scrollY > 20000 && all.length > 0 && all.every((one) => one.dataset.job); })()"
    )
    to_the_end = tab.cpu_seconds() - before
    for _ in range(STEPS):
        page.mouse.wheel(0, -700)
        page.wait_for_timeout(16)
    each = (tab.cpu_seconds() - before - to_the_end) / STEPS

    assert page.locator(".wall .tile").count() <= 150
    assert page.evaluate("performance.memory.usedJSHeapSize") < 100e6
    assert to_the_end < 1
    assert each < 0.1
    page.keyboard.press("Home")
    expect(page.locator('.tile img[alt="the original"]')).to_be_visible()


def test_22_nothing_moves_while_it_loads(tab: Tab) -> None:
    """The sizes of pictures are known before they come."""
    page = tab.page
    page.add_init_script(
        "window.shift = 0; new PerformanceObserver((list) => { for (const one of list.getEntries()) "
        "if (!one.hadRecentInput) window.shift += one.value; }).observe({type: 'layout-shift', buffered: true});"
    )
    tab.go("#/gallery")
    tab.until("document.querySelectorAll('.tile img').length >= 12")
    tab.until("[...document.querySelectorAll('.tile img')].every((one) => one.naturalWidth > 0)")

    assert page.evaluate("window.shift") < 0.02


def test_23_the_wall_loads_thumbnails_and_no_originals(tab: Tab) -> None:
    """Each picture is small; once one was made, a placeholder shows first."""
    page = tab.go("#/gallery")
    tab.until("document.querySelectorAll('.tile img').length >= 12")
    tab.until(
        "[...document.querySelectorAll('.tile img')].every((one) => one.naturalWidth > 0)",
        seconds=60,
    )

    loaded = [url for url in tab.sent if "/media/" in url]

    assert len(loaded) >= 12
    assert [url for url in loaded if "size=320" not in url] == []
    page.reload()
    tab.until("document.querySelector('.tile a[style*=\"data:image/webp\"]') !== null")


def test_24_filters_are_in_the_address(tab: Tab) -> None:
    """A reload and Back restore them."""
    page = tab.go("#/gallery")
    page.select_option('[aria-label="Status"]', "all")
    page.select_option('[aria-label="Kind"]', "image")
    expect(page).to_have_url(f"{tab.base}/#/gallery?status=all&kind=image")

    page.reload()

    expect(page.locator('[aria-label="Kind"]')).to_have_value("image")
    page.click("text=System")
    page.go_back()
    expect(page).to_have_url(f"{tab.base}/#/gallery?status=all&kind=image")
    expect(page.locator('[aria-label="Status"]')).to_have_value("all")
    page.goto(f"{tab.base}/#/gallery?tag=nothing-has-it")
    expect(page.locator(".empty")).to_contain_text("No job matches")
    page.click("text=Clear filters")
    expect(page.locator(".tile img").first).to_be_visible()


def test_25_prompts_are_searched(tab: Tab) -> None:
    """All words must occur."""
    tab.service.submit("a heron in the reeds", parameters=SMALL)
    tab.service.settle(seconds=30)
    page = tab.go("#/gallery")
    expect(page.locator('.tile img[alt="a heron in the reeds"]')).to_be_visible()

    page.keyboard.press("/")
    page.keyboard.type("heron reeds")

    expect(page.locator(".tile")).to_have_count(1)
    expect(page.locator(".gallery .sub")).to_have_text("1")
    expect(page).to_have_url(f"{tab.base}/#/gallery?q=heron+reeds")


def test_26_a_favourite_keeps_the_place(open_tab: Open, crowded: Service) -> None:
    """The list does not scroll, and the API has it."""
    tab = open_tab(crowded)
    page = tab.go("#/gallery")
    expect(page.locator(".gallery .sub")).to_have_text("10,000+")
    page.mouse.wheel(0, 3000)
    tab.until(
        "scrollY > 2000 && [...document.querySelectorAll('.tile')].every((one) => one.dataset.job)"
    )
    page.wait_for_timeout(300)
    place = page.evaluate("scrollY")
    box_of = "[...document.querySelectorAll('.tile')].find((one) => one.getBoundingClientRect().top > 200)"
    job_id = page.evaluate(f"{box_of}.dataset.job")
    tile = page.locator(f'[data-job="{job_id}"]')
    tile.hover()

    tile.get_by_label("Favourite").click()

    expect(tile.get_by_label("Favourite")).to_have_attribute("aria-pressed", "true")
    assert abs(page.evaluate("scrollY") - place) < 2
    tab.until(
        f"fetch('api/v1/jobs/{job_id}').then((answer) => answer.json()).then((job) => job.favourite)"
    )


def test_27_new_jobs_are_announced_while_scrolled_down(open_tab: Open, crowded: Service) -> None:
    """A pill, and no jump; pressing it shows them."""
    tab = open_tab(crowded)
    page = tab.go("#/gallery")
    expect(page.locator(".gallery .sub")).to_have_text("10,000+")
    page.mouse.wheel(0, 3000)
    tab.until(
        "scrollY > 2000 && [...document.querySelectorAll('.tile')].every((one) => one.dataset.job)"
    )
    page.wait_for_timeout(300)
    place = page.evaluate("scrollY")

    crowded.submit("twenty-seven", parameters=SMALL)

    pill = page.locator(".pill")
    expect(pill).to_have_text("1 new")
    assert abs(page.evaluate("scrollY") - place) < 2
    pill.click()
    expect(page.locator('.tile img[alt="twenty-seven"]')).to_be_visible()


def test_30_there_is_a_tile_for_every_kind(open_tab: Open, own_service: Start) -> None:
    """Pictures, animations, sound, text, failed and purged jobs; films by a row that is arranged."""
    service = own_service()
    picture = service.submit("a picture", parameters=SMALL)
    service.submit("a melody", model_name="fleek/placeholder-audio")
    service.submit("some verses", model_name="fleek/placeholder-text")
    service.submit(
        "a loop", model_name="fleek/placeholder-animation", parameters={"width": 64, "height": 64}
    )
    film = service.submit("a film", parameters=SMALL)
    gone = service.submit("gone", parameters={**SMALL, "seed": 3})
    service.settle(seconds=60)
    service.http.delete(f"/api/v1/jobs/{gone}", params={"purge": "true"})
    with closing(sqlite3.connect(service.folder / "fleek.db", timeout=30)) as changed, changed:
        key = film.replace("-", "")
        changed.execute("UPDATE media SET content_type = 'video/mp4' WHERE job_id = ?", (key,))
        changed.execute("UPDATE jobs SET kind = 'video' WHERE id = ?", (key,))
    tab = open_tab(service, forgiving=True)

    page = tab.go("#/gallery")

    expect(page.locator('.tile img[alt="a picture"]')).to_be_visible()
    expect(page.locator('.tile img[alt="a loop"]')).to_be_visible()
    expect(page.locator('.tile:has-text("a melody") .play')).to_be_visible()
    expect(page.locator('.tile:has-text("some verses") .verse')).not_to_be_empty()
    expect(page.locator('.tile video[aria-label="a film"]')).to_be_attached()
    expect(page.locator('.tile:has-text("Files were removed on")')).to_contain_text("seed 3")
    assert service.job(picture)["status"] == "completed"
