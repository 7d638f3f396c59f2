"""What one sees, on every screen, in both themes, with any means of input."""

import gzip
import re
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import expect

import fleek
from browser.tabs import Open, Start, Tab
from service_process import Service

ROUTES: Final = ("#/", "#/gallery", "#/queue", "#/models", "#/system", "#/access", "#/jobs/{id}")
WEB: Final = Path(fleek.__file__).parent / "web"
OVERFLOWING: Final = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
SMALL_TARGETS: Final = """[...document.querySelectorAll('a, button, select, input:not([type=hidden])')].filter((el) => {
    const box = el.getBoundingClientRect(), shown = el.checkVisibility({opacityProperty: true, visibilityProperty: true});
    const inText = getComputedStyle(el).display === 'inline';
    const covered = el.matches('.vh, [type=range], [type=checkbox], [type=radio]') || el.closest('p, pre');
    return shown && box.width && !inText && !covered && Math.min(box.width, box.height) < 39.5;
}).map((el) => `${el.tagName} ${el.className} ${el.textContent.slice(0, 20)} ${Math.round(el.getBoundingClientRect().width)}x${Math.round(el.getBoundingClientRect().height)}`)"""


def routes(service: Service) -> list[str]:
    """Return all routes, that of a job with an id."""
    job = service.http.get("/api/v1/jobs?limit=1&status=completed").json()[0]
    return [route.format(id=job["id"]) for route in ROUTES]


def opened(tab: Tab, route: str) -> None:
    """Open a route and wait until it has content."""
    tab.go(route)
    tab.page.wait_for_selector("main > *")
    wanted = {
        "#/queue": ".fact",
        "#/system": ".lines li b",
        "#/models": ".lines b",
        "#/access": ".lines li",
    }
    tab.page.wait_for_selector(
        wanted.get(route, ".side .pairs" if "jobs" in route else ".tile img")
    )


@pytest.mark.parametrize(("width", "height"), [(375, 812), (320, 640), (1920, 1080), (2560, 1440)])
def test_36_37_41_nothing_overflows(
    open_tab: Open, service: Service, subtests: pytest.Subtests, width: int, height: int
) -> None:
    """On a phone, at 320 px (400 % zoom), and on large screens; targets on a phone are 40 px."""
    tab = open_tab(service, viewport={"width": width, "height": height}, has_touch=width < 400)

    for route in routes(service):
        with subtests.test(route=route):
            opened(tab, route)
            assert not tab.page.evaluate(OVERFLOWING)
            if width == 375:
                assert tab.page.evaluate(SMALL_TARGETS) == []
            if width > 1800:
                assert tab.page.evaluate("document.querySelector('.page').clientWidth") <= 1760


def test_36_settings_open_as_a_sheet_on_a_phone(open_tab: Open, service: Service) -> None:
    """What is chosen there is in the form afterwards."""
    tab = open_tab(service, viewport={"width": 375, "height": 812})
    page = tab.go()
    page.wait_for_selector(".quick .chip")

    page.click(".quick .chip >> nth=0")
    page.click('dialog label:has-text("16:9")')
    page.click('dialog [aria-label="Close"]')

    expect(page.locator(".quick .chip").first).to_have_text("16:9")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_38_accessible_on_every_route(
    open_tab: Open, service: Service, subtests: pytest.Subtests, theme: Any
) -> None:
    """Axe finds nothing serious, in both themes; dialogs too."""
    axe = (files("axe_playwright_python") / "axe.min.js").read_text()
    tab = open_tab(service, color_scheme=theme, bypass_csp=True)
    places = dict.fromkeys(routes(service)) | {
        "#/ ": ".model",
        "#/gallery ": ".tile a",
    }

    for route, pressed in places.items():
        with subtests.test(route=route):
            opened(tab, route.strip())
            if pressed:
                tab.page.click(f"{pressed} >> nth=0")
                tab.page.wait_for_selector("dialog[open]")
                tab.page.wait_for_timeout(300)
            tab.page.evaluate(f"{axe}; undefined")
            found = tab.page.evaluate(
                "axe.run({resultTypes: ['violations']}).then((all) => all.violations)"
            )
            serious = [one for one in found if one["impact"] in {"serious", "critical"}]
            assert [
                (one["id"], [node["target"] for node in one["nodes"]][:3]) for one in serious
            ] == []


def _luminance(color: str) -> float:
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, as WCAG defines it."""
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_39_the_tokens_have_enough_contrast(theme: int) -> None:
    """Text on all grounds 4.5, borders of fields 3."""
    pairs = re.findall(
        r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", (WEB / "style/tokens.css").read_text()
    )
    colors = {name: (light, dark)[theme] for name, light, dark in pairs}

    for text in ("ink", "ink-2", "ink-3", "accent", "good", "warn", "bad"):
        for ground in ("paper", "panel", "sunken"):
            assert contrast(colors[text], colors[ground]) >= 4.5, (text, ground)
    assert contrast(colors["accent"], colors["accent-soft"]) >= 4.5
    assert contrast(colors["ink"], colors["bad-soft"]) >= 4.5
    assert contrast(colors["bad"], colors["bad-soft"]) >= 4.5
    assert contrast(colors["on-solid"], colors["solid"]) >= 4.5
    assert contrast(colors["edge"], colors["panel"]) >= 3


def test_42_nothing_moves_with_reduced_motion(open_tab: Open, own_service: Start) -> None:
    """No animation runs, though a job does."""
    service = own_service(REPLICATE_MOCK_DELAY_MIN="60", REPLICATE_MOCK_DELAY_MAX="60")
    calm = open_tab(service, reduced_motion="reduce")
    service.submit("forty-two")
    calm.go()

    expect(calm.page.locator(".live li")).to_have_count(1)

    assert calm.page.evaluate("document.getAnimations().length") == 0


def test_43_the_theme_is_kept(open_tab: Open, service: Service) -> None:
    """System, light, dark; a reload keeps it."""
    tab = open_tab(service, color_scheme="dark")
    page = tab.go()
    ground = "getComputedStyle(document.body).backgroundColor"
    tab.until(ground, wanted="rgb(18, 18, 20)")

    page.click('[aria-label="Theme: system"]')

    assert page.evaluate(ground) == "rgb(248, 247, 244)"
    page.reload()
    tab.until(ground, wanted="rgb(248, 247, 244)")
    page.click('[aria-label="Theme: light"]')
    assert page.evaluate(ground) == "rgb(18, 18, 20)"
    page.click('[aria-label="Theme: dark"]')
    expect(page.locator('[aria-label="Theme: system"]')).to_be_visible()


def test_46_empty_loading_error_and_degraded_are_worded(
    open_tab: Open, own_service: Start, tmp_path: Path
) -> None:
    """Each state says what it is and what can be done; pictures of them are kept for a look."""
    service = own_service()
    tab = open_tab(service, forgiving=True)
    page = tab.go()
    expect(page.locator(".gallery .empty")).to_contain_text("Nothing here yet.")
    page.screenshot(path=tmp_path / "empty.png")
    page.click(".gallery .empty .chip >> nth=0")
    expect(page.locator("#prompt")).to_have_value(re.compile("lighthouse"))

    page.route("**/api/v1/jobs?*", lambda _: None)  # never answered
    page.goto(f"{tab.base}/#/gallery?tag=slow")
    expect(page.locator(".skeleton").first).to_be_visible()
    page.screenshot(path=tmp_path / "loading.png")
    page.unroute_all(behavior="ignoreErrors")
    broken = {
        "status": 500,
        "detail": "the disk is gone",
        "code": "x",
        "request_id": "abc",
        "errors": [],
    }
    page.route("**/api/v1/jobs?*", lambda route: route.fulfill(status=500, json=broken))
    page.goto(f"{tab.base}/#/gallery?tag=other")
    expect(page.locator(".gallery [role=alert]")).to_contain_text("the disk is gone")
    expect(page.locator(".gallery [role=alert]")).to_contain_text("abc")
    page.unroute_all(behavior="ignoreErrors")
    page.click(".gallery [role=alert] button")
    expect(page.locator(".gallery .empty")).to_contain_text("No job matches")

    checks = {
        "workers": {
            "status": "warning",
            "message": "none is alive",
            "advice": "start `fleek worker`",
        }
    }
    bad = {"status": "degraded", "version": "1", "checks": checks}
    page.route("**/health/detailed", lambda route: route.fulfill(json=bad))
    page.goto(f"{tab.base}/#/system")
    expect(page.locator("main")).to_contain_text("start `fleek worker`")
    expect(page.locator(".lines li:has-text('none is alive') .dot")).to_have_class("dot degraded")
    page.screenshot(path=tmp_path / "degraded.png")


def test_46_without_javascript_there_are_commands(service: Service) -> None:
    """The page says how to use the service without it. A controlled Chromium does not show it."""
    page = service.http.get("/", headers={"Accept": "text/html"}).text

    shown = page.partition("<noscript>")[2].partition("</noscript>")[0]

    assert "This page needs JavaScript" in shown
    assert "curl --json" in shown


def modules(folder: str = "") -> dict[str, str]:
    """Return our modules by their path."""
    return {
        path.relative_to(WEB).as_posix(): path.read_text()
        for path in sorted((WEB / folder).rglob("*.js"))
        if "vendor" not in path.parts and path.name != "docs.js"
    }


def needed(known: Mapping[str, str], *starts: str) -> set[str]:
    """Return modules and all that they import at once."""
    found, left = set(), list(starts)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            imports = re.findall(r'^(?:im|ex)port .*?"(\.[^"]+)";', known[name], re.MULTILINE)
            left += [
                (WEB / name).parent.joinpath(one).resolve().relative_to(WEB).as_posix()
                for one in imports
            ]
    return found


def sent(names: Iterable[str], known: Mapping[str, str]) -> tuple[float, float]:
    """Return the size of modules in KB, and what is sent of them: each is compressed alone."""
    files = [known[name].encode() for name in names]
    compressed = [gzip.compress(data, 9, mtime=0) for data in files]
    return sum(map(len, files)) / 1024, sum(map(len, compressed)) / 1024


def test_49_the_modules_are_small_and_loaded_at_once() -> None:
    """Fewer than 250 lines each; what is loaded by itself is announced, first what one needs to type.

    The figures are those of ADR 30.
    """
    known = modules()
    form = needed(known, "app.js")
    beside = needed(known, "view/beside.js", "view/codebox.js") - form
    announced = re.findall(
        r'modulepreload"( fetchpriority="low")? href="static/([^"]+)"',
        (WEB / "index.html").read_text(),
    )

    assert {
        name: text.count("\n") for name, text in known.items() if text.count("\n") >= 250
    } == {}
    assert {name for low, name in announced if not low} == form - {"app.js"}
    assert {name for low, name in announced if low} == beside
    gallery = form | needed(known, "view/gallery.js", "view/live.js")
    for names, raw, compressed in (
        (form, 45, 18.5),
        (gallery, 75, 31),
        (form | beside, 85, 36),
        (known, 137, 59),
    ):
        assert sent(names, known) <= (raw, compressed)
    assert sum(path.stat().st_size for path in (WEB / "style").glob("*.css")) <= 30_720
    for name in modules("lib"):
        assert '"../view' not in known[name], name


def test_49_what_a_module_imports_is_exported() -> None:
    """Of modules that are loaded when they are needed, a browser finds a wrong name only then."""
    known = modules()
    imports = re.compile(r'^import \{([^}]*)\} from "(\.[^"]+)"', re.MULTILINE)

    missing = [
        (name, wanted)
        for name, text in known.items()
        for names, path in imports.findall(text)
        for wanted in (one.split(" as ")[0].strip() for one in names.split(","))
        if not re.search(
            rf"^export .*?\b{wanted}\b",
            (WEB / name).parent.joinpath(path).resolve().read_text(),
            re.MULTILINE,
        )
    ]

    assert missing == []
