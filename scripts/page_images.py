# ruff: noqa: INP001 - a program, not a package
"""Takes pictures of the web page: ``python -m scripts.page_images FOLDER``.

Serves from an empty folder with the placeholder, makes some jobs, looks at each page in Chromium, and records the
page at work. Those of the documentation, in docs/images, have the same names; look at each before you put it there.
"""

import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx2
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from scripts.chromium import ADVICE, find

PORT: Final = 8431
URL: Final = f"http://127.0.0.1:{PORT}"
PROMPTS: Final = (
    "A lighthouse on a basalt cliff, long exposure, the sea like milk",
    "Portrait of an owl as a Dutch master",
    "A paper boat crossing a puddle, macro",
    "The last light of a winter day",
    "A fishing harbour before the storm",
    "Tea in a garden under paper lanterns",
)
RATIOS: Final = ("3:2", "1:1", "4:5", "16:9", "9:16", "3:2", "1:1")
MANY: Final = 21
USAGE: Final = "Usage: python -m scripts.page_images FOLDER\n\nThe pictures are put into the folder, which is made if it is missing."
WATCHED: Final = "5"  # seconds of the jobs that are recorded
RECORDED: Final = (
    # prompt, shape
    ("A lighthouse under the northern lights, long exposure", "16:9"),
    ("An owl in a library, as a Dutch master", "4:5"),
)
SLOW: Final = "400"  # seconds of the jobs that are shown in progress
PATIENCE: Final = 400.0  # seconds
PAINTED: Final = """[...document.querySelectorAll('main img')].every((one) =>
  one.complete && one.naturalWidth || one.offsetParent === null || one.getBoundingClientRect().top > innerHeight)"""

HEALTHY: Final = (
    "#state[data-state=healthy]"  # a service without time to spare says otherwise for a moment
)
PROGRESS: Final = (
    "Number(document.querySelector('.live .meter')?.getAttribute('aria-valuenow') ?? 100)"
)

VIEWS: Final[tuple[tuple[str, str, str, int, int], ...]] = (
    # name, route, theme, width, height
    ("web-create", "#/", "light", 1280, 800),
    ("web-gallery-dark", "#/gallery", "dark", 1280, 800),
    ("web-queue", "#/queue", "light", 1280, 800),
    ("web-system", "#/system", "light", 1280, 1100),
    ("web-job", "#/jobs/{id}", "light", 1280, 800),
    ("web-job-dark", "#/jobs/{id}", "dark", 1280, 800),
    ("web-375", "#/", "light", 375, 812),
    ("web-375-gallery-dark", "#/gallery", "dark", 375, 812),
    ("web-375-queue", "#/queue", "light", 375, 812),
    ("web-375-system-dark", "#/system", "dark", 375, 812),
)


@contextmanager
def service(folder: str, seconds: str) -> Iterator[httpx2.Client]:
    """Serve until the block ends; predictions last so many seconds."""
    delays = {"REPLICATE_MOCK_DELAY_MIN": seconds, "REPLICATE_MOCK_DELAY_MAX": seconds}
    process = subprocess.Popen(  # noqa: S603 - ourselves
        [sys.executable, "-m", "fleek", "serve", "--port", str(PORT)], cwd=folder, env=delays
    )
    try:
        with httpx2.Client(base_url=URL, timeout=PATIENCE) as client:
            until(lambda: is_alive(client))
            yield client
    finally:
        process.terminate()
        process.wait()


def is_alive(client: httpx2.Client) -> bool:
    """Whether the service answers."""
    try:
        return client.get("/livez").is_success
    except httpx2.HTTPError:
        return False


def until(met: Any) -> None:
    """Wait until a condition is met."""
    end = time.monotonic() + PATIENCE
    while not met():
        if time.monotonic() > end:
            raise TimeoutError("the service does not come so far")
        time.sleep(0.2)


def submit(client: httpx2.Client, number: int) -> str:
    """Create a job, and return its id."""
    parameters = {"aspect_ratio": RATIOS[number % len(RATIOS)], "seed": number}
    body = {"prompt": PROMPTS[number % len(PROMPTS)], "parameters": parameters}
    while (answer := client.post("/api/v1/generate", json=body)).status_code == 503:
        time.sleep(int(answer.headers["retry-after"]))
    answer.raise_for_status()
    return str(answer.json()["id"])


def has_thumbnail(client: httpx2.Client, job_id: str) -> bool:
    """Whether a job has its file, and its small picture."""
    outputs = client.get(f"/api/v1/jobs/{job_id}").json()["outputs"]
    return bool(outputs) and outputs[0]["placeholder"] is not None


def take(page: Page, name: str, folder: Path) -> None:
    """Save what the page shows, as WebP for the documentation and as PNG to look at."""
    path = folder / f"{name}.png"
    page.screenshot(path=path)
    with Image.open(path) as picture:
        picture.convert("RGB").save(folder / f"{name}.webp", quality=86, method=6)


def look(browser: Any, view: tuple[str, str, str, int, int], job_id: str, folder: Path) -> None:
    """Open a route as a view says, wait for its pictures, and save it."""
    name, route, theme, width, height = view
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
    context.set_default_timeout(PATIENCE * 1000)
    page = context.new_page()
    page.goto(f"{URL}/{route.format(id=job_id)}")
    shown = {
        "#/": ".tile img",
        "#/gallery": ".tile img",
        "#/system": ".fact",
        "#/queue": ".live li",
    }
    page.wait_for_selector(shown.get(route, "main img"))
    if route == "#/":
        page.fill("#prompt", PROMPTS[2])
    until(lambda: page.evaluate(PAINTED))
    page.wait_for_selector(HEALTHY)
    take(page, name, folder)
    context.close()


def take_all(browser: Any, home: str, job_id: str, folder: Path) -> None:
    """Take a picture of each view, while some jobs are in progress."""
    with service(home, SLOW) as client:
        for number in range(3):
            submit(client, number)
        for view in VIEWS:
            look(browser, view, job_id, folder)


class Recording:
    """Frames of an animation, and how long each is shown."""

    def __init__(self, page: Page) -> None:
        """Record a page."""
        self.page = page
        self.frames: list[Image.Image] = []
        self.durations: list[int] = []

    def keep(self, milliseconds: int) -> None:
        """Add what the page shows now."""
        until(lambda: self.page.evaluate(PAINTED))
        self.page.wait_for_selector(HEALTHY)
        with Image.open(io.BytesIO(self.page.screenshot())) as picture:
            size = (picture.width * 3 // 4, picture.height * 3 // 4)
            self.frames.append(picture.convert("RGB").resize(size, Image.Resampling.LANCZOS))
        self.durations.append(milliseconds)

    def save(self, path: Path) -> None:
        """Write the animation; it starts again at its end."""
        first, *others = self.frames
        first.save(
            path,
            save_all=True,
            append_images=others,
            duration=self.durations,
            loop=0,
            quality=62,
            method=6,
            minimize_size=True,
        )


def record(browser: Any, folder: Path) -> None:
    """Record two jobs, from the prompt to the picture in the gallery."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    context.set_default_timeout(PATIENCE * 1000)
    page = context.new_page()
    page.goto(URL)
    page.wait_for_selector(".tile img")
    recording = Recording(page)
    recording.keep(1200)
    for prompt, shape in RECORDED:
        page.fill("#prompt", prompt.partition(",")[0])
        recording.keep(500)
        page.fill("#prompt", prompt)
        page.click(f'.shapes label:has-text("{shape}")')
        recording.keep(600)
        page.click(".primary")
        page.mouse.move(0, 0)
        page.wait_for_selector(f'.live li:has-text("{prompt}")')
        recording.keep(600)
    for percent in (40, 75):
        until(lambda percent=percent: page.evaluate(PROGRESS) >= percent)
        recording.keep(500)
    for milliseconds, (prompt, _) in zip((1500, 3000), RECORDED, strict=True):
        page.wait_for_selector(f'.tile img[alt="{prompt}"]')
        recording.keep(milliseconds)
    recording.save(folder / "web-at-work.webp")
    context.close()


def main() -> int:
    """Take all pictures."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print(USAGE, file=sys.stderr)  # noqa: T201 - the answer
        return 2
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    path = find()
    if path is None:
        print(ADVICE, file=sys.stderr)  # noqa: T201 - the answer
        return 1
    with tempfile.TemporaryDirectory() as home:
        with service(home, "0.1") as client:
            ids = [submit(client, number) for number in range(MANY)]
            until(lambda: all(has_thumbnail(client, one) for one in ids))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
            with service(home, WATCHED):
                record(browser, folder)
            take_all(browser, home, ids[0], folder)
            browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
