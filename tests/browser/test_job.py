"""The page of a job, alone and over the gallery."""

import re

import pytest
from playwright.sync_api import expect

from browser.tabs import SMALL, Open, Tab
from service_process import Service


def test_28_the_lightbox_moves_and_closes_to_its_tile(tab: Tab) -> None:
    """Arrows go through the list, Escape and Back close, and the focus returns."""
    page = tab.go("#/gallery")
    tile = page.locator('.tile:has(img[alt="study 5"]) > a')
    expect(tile).to_be_visible()
    first = str(tile.get_attribute("href"))
    tile.click()
    expect(page.locator("dialog.lightbox .prompt")).to_have_text("study 5")

    page.keyboard.press("ArrowRight")
    expect(page.locator("dialog.lightbox .prompt")).to_have_text("study 4")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("dialog.lightbox .prompt")).to_have_text("study 5")
    page.keyboard.press("Escape")

    expect(page.locator("dialog.lightbox")).to_have_count(0)
    expect(page).to_have_url(f"{tab.base}/#/gallery")
    expect(page.locator(f'.tile > a[href="{first}"]')).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("dialog.lightbox .prompt")).to_have_text("study 5")
    page.go_back()
    expect(page.locator("dialog.lightbox")).to_have_count(0)


def test_28_the_outputs_of_a_job_are_turned_over(tab: Tab) -> None:
    """By the strip and by the arrows up and down."""
    job_id = tab.service.submit("four outputs", parameters={**SMALL, "num_outputs": 4})
    tab.service.settle(seconds=30)
    page = tab.go(f"#/jobs/{job_id}")
    expect(page.locator(".strip button")).to_have_count(4)

    page.keyboard.press("ArrowDown")

    expect(page.locator(".strip button").nth(1)).to_have_attribute("aria-current", "true")
    assert "-1.png" in str(page.locator(".canvas img").get_attribute("src"))
    page.click(".strip button >> nth=3")
    assert "-3.png" in str(page.locator(".canvas img").get_attribute("src"))


def test_29_every_shortcut_works_and_none_in_a_text_field(
    open_tab: Open, service: Service, subtests: pytest.Subtests
) -> None:
    """The list that `?` shows is complete; single letters can be switched off."""
    tab = open_tab(service)
    page = tab.go()
    page.wait_for_selector(".model b")

    for key, route in {
        "2": "#/gallery",
        "3": "#/queue",
        "4": "#/models",
        "5": "#/system",
        "1": "#/",
    }.items():
        with subtests.test(key=key):
            page.keyboard.press(key)
            expect(page).to_have_url(f"{tab.base}/{route}")
    with subtests.test(key="/ and letters in a field"):
        page.keyboard.press("/")
        expect(page.locator("#search")).to_be_focused()
        page.keyboard.type("2 t n ?")
        expect(page.locator("#search")).to_have_value("2 t n ?")
        page.locator("#search").fill("")
        page.locator("#search").blur()
    with subtests.test(key="n"):
        page.keyboard.press("n")
        expect(page.locator("#prompt")).to_be_focused()
        page.locator("#prompt").blur()
    with subtests.test(key="t"):
        page.keyboard.press("t")
        expect(page.locator("html")).to_have_attribute("data-theme", "light")
    with subtests.test(key="?"):
        page.keyboard.press("?")
        expect(page.locator('dialog[aria-label="Shortcuts"] kbd')).to_have_count(16)
        page.keyboard.press("Escape")


def test_29_single_letters_can_be_switched_off(tab: Tab) -> None:
    """For speech input, and whoever presses them by mistake; `?` stays."""
    page = tab.go()
    page.wait_for_selector(".model b")
    page.locator("#prompt").blur()
    page.keyboard.press("?")
    page.click('dialog[aria-label="Shortcuts"] input')
    page.keyboard.press("Escape")
    page.keyboard.press("2")
    page.wait_for_timeout(200)
    expect(page).to_have_url(f"{tab.base}/")


def test_29_every_shortcut_of_a_job_works(
    open_tab: Open, service: Service, subtests: pytest.Subtests
) -> None:
    """On its page; over the gallery they are the same."""
    tab = open_tab(service, permissions=["clipboard-read", "clipboard-write"])
    job_id = service.submit("twenty-nine", parameters={**SMALL, "seed": 29})
    service.settle(seconds=30)
    page = tab.go(f"#/jobs/{job_id}")
    expect(page.locator(".side .prompt")).to_have_text("twenty-nine")
    with subtests.test(key="f"):
        page.keyboard.press("f")
        expect(page.locator('.side button:has-text("Favourite")')).to_have_attribute(
            "aria-pressed", "true"
        )
    with subtests.test(key="c"):
        page.keyboard.press("c")
        tab.until("navigator.clipboard.readText()", wanted="twenty-nine")
    with subtests.test(key="i"):
        page.keyboard.press("i")
        expect(page.locator(".job")).to_have_class(re.compile("alone"))
        page.keyboard.press("i")
    with subtests.test(key="d"), page.expect_download() as download:
        page.keyboard.press("d")
    assert download.value.suggested_filename.endswith(".png")
    with subtests.test(key="Delete"):
        page.keyboard.press("Delete")
        expect(page.locator("dialog h2")).to_contain_text("Delete the files of this job?")
        page.click("dialog >> text=Keep")
        expect(page.locator("dialog")).to_have_count(0)  # it takes the keys
    with subtests.test(key="a"):
        page.keyboard.press("a")
        expect(page.locator("#prompt")).to_have_value("twenty-nine")
        expect(page.locator("#f-seed")).to_have_value("29")


def test_40_the_whole_way_by_keyboard(tab: Tab) -> None:
    """From the prompt to the downloaded file, without the mouse."""
    page = tab.go()
    page.wait_for_selector(".model b")
    page.keyboard.press("n")
    expect(page.locator("#prompt")).to_be_focused()
    page.keyboard.type("forty, by keyboard")
    page.keyboard.press("Control+Enter")
    expect(page.locator('.tile img[alt="forty, by keyboard"]')).to_be_visible()
    page.locator("#prompt").blur()

    for _ in range(80):
        page.keyboard.press("Tab")
        if (
            page.evaluate("document.activeElement.querySelector?.('img')?.alt")
            == "forty, by keyboard"
        ):
            break
    page.keyboard.press("Enter")
    expect(page.locator("dialog.lightbox .prompt")).to_have_text("forty, by keyboard")
    with page.expect_download() as download:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent") == "Download":
                break
        page.keyboard.press("Enter")

    assert download.value.suggested_filename.endswith(".png")
