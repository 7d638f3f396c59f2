"""The form: what is typed becomes the request, and nothing that was typed is lost."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Request, Route, expect

from browser.samples_of_models import HARD_PROMPT, SCHEMAS
from browser.tabs import Open, Start, Tab
from service_process import Service, delay

FRAMES: Final = 12


def body_of(request: Request) -> dict[str, Any]:
    """Return the body of a request to create a job."""
    found: dict[str, Any] = json.loads(request.post_data or "{}")
    return found


def submitted(tab: Tab) -> dict[str, Any]:
    """Send the form, and return the body of its request."""
    with tab.page.expect_request("**/api/v1/generate") as sent:
        tab.page.click(".primary")
    return body_of(sent.value)


def named(tab: Tab, prompt: str) -> list[dict[str, Any]]:
    """Return the jobs with this prompt, as the API lists them."""
    answer = tab.service.http.get("/api/v1/jobs", params={"limit": 100})
    return [job for job in answer.json() if job["prompt"] == prompt]


def test_1_a_job_appears_at_once_and_its_picture_without_a_reload(
    open_tab: Open, own_service: Start
) -> None:
    """The row is there within twelve frames of the answer, 200 ms where nothing else runs; the picture follows by an event."""
    tab = open_tab(own_service(**delay("3")))
    page = tab.go()
    page.wait_for_selector(".model b")
    page.evaluate(
        """() => { const real = fetch; window.fetch = async (...said) => {
            const answer = await real(...said);
            if (!String(said[0]).endsWith('generate')) return answer;
            let frames = 0;
            const look = () => { frames += 1;
                if (document.querySelector('.live li')) window.frames_taken = frames; else requestAnimationFrame(look); };
            requestAnimationFrame(look);
            return answer; }; }"""
    )

    tab.generate("one by the button")

    tab.until("typeof window.frames_taken", wanted="number")
    assert page.evaluate("window.frames_taken") <= FRAMES
    expect(page.locator('.tile img[alt="one by the button"]')).to_be_visible()
    tab.until("document.querySelector('.tile img[alt=\"one by the button\"]').naturalWidth > 0")


def test_a_model_of_the_catalogue_that_needs_no_prompt_is_sent_without_one(
    open_tab: Open, own_service: Start, tmp_path: Path
) -> None:
    """Its entry says so, and the service takes it; another name of the catalogue asks for a prompt."""
    own = tmp_path / "models.toml"
    route = 'kind = "image"\nroutes = [{ provider = "fal", model = "our-company/upscale" }]\n'
    own.write_text(f'[upscale]\nprompt = "none"\n{route}[paint]\n{route}')
    settings = {"PROVIDERS": "fal", "FAL_KEY": "a:b", "FAL_QUEUE_URL": "http://127.0.0.1:9"}
    tab = open_tab(own_service(**settings, MODELS_FILE=str(own), DEFAULT_MODEL="upscale"))
    page = tab.go()
    expect(page.locator(".model b")).to_have_text("upscale")

    with page.expect_response("**/api/v1/generate") as answered:
        page.click(".primary")
    refused = tab.service.http.post("/api/v1/generate", json={"model": "paint"})

    assert answered.value.status == 201
    assert (answered.value.json()["prompt"], answered.value.json()["provider"]) == ("", "fal")
    assert refused.json()["errors"][0]["pointer"] == "/prompt"


def test_2_ctrl_enter_sends(tab: Tab) -> None:
    """From the prompt, without the mouse."""
    page = tab.go()
    page.wait_for_selector(".model b")
    page.fill("#prompt", "two by the keyboard")

    page.keyboard.press("Control+Enter")

    expect(page.locator('.tile img[alt="two by the keyboard"]')).to_be_visible()


def test_3_a_double_press_is_two_jobs_and_a_lost_answer_is_one(tab: Tab) -> None:
    """Each press has its own idempotency key, which a repetition keeps."""
    page = tab.go()
    page.wait_for_selector(".model b")
    page.fill("#prompt", "three twice")
    page.locator(".primary").dblclick()
    expect(page.locator('.tile img[alt="three twice"]')).to_have_count(2)
    keys: list[str] = []  # of requests that have ended

    def lose_the_first(route: Route) -> None:
        key = route.request.headers["idempotency-key"]
        answer = route.fetch()
        if keys:
            route.fulfill(response=answer)
        else:
            route.abort()
        keys.append(key)

    tab.forgiving = True
    page.route("**/api/v1/generate", lose_the_first)
    tab.generate("three lost")

    expect(page.locator('.tile img[alt="three lost"]')).to_be_visible()
    deadline = time.monotonic() + 20
    while len(keys) < 2:
        assert time.monotonic() < deadline, keys
        page.wait_for_timeout(20)
    assert len(set(keys)) == 1
    assert len(named(tab, "three lost")) == 1


def test_8_every_field_of_a_model_is_in_the_form(
    open_tab: Open, service: Service, subtests: pytest.Subtests
) -> None:
    """Of the stand-in models, and of models as Replicate describes them."""
    models = service.http.get("/api/v1/models").json()
    described = {model["name"]: model["parameters"] for model in models} | SCHEMAS
    listed = [
        {**models[0], "name": name, "default": False, "parameters": schema}
        for name, schema in described.items()
    ]
    tab = open_tab(service)
    tab.page.route("**/api/v1/models*", lambda route: route.fulfill(json=listed))
    tab.go()
    tab.page.wait_for_selector(".model b")

    for name, schema in described.items():
        with subtests.test(model=name):
            tab.page.goto(f"{tab.base}/#/?model={name}")
            expect(tab.page.locator(".model")).to_have_attribute(
                "aria-label", f"Model: {name}. Choose another"
            )
            shown = tab.page.evaluate(
                "[...document.querySelectorAll('.ask [data-field]')].filter((el) => "
                "el.querySelector('input, select, textarea, button')).map((el) => el.dataset.field)"
            )
            assert set(shown) == set(schema["properties"]) - {"prompt"}
    assert len(SCHEMAS) >= 20


def test_8_a_width_and_a_height_are_chosen_by_their_shape(
    open_tab: Open, service: Service
) -> None:
    """The shapes keep the pixels of the defaults within the limits; the numbers are behind "More"."""
    tab = open_tab(service, forgiving=True)
    model = service.http.get("/api/v1/models").json()[0]
    side = {"type": "integer", "default": 1024, "minimum": 256, "maximum": 1280, "multipleOf": 64}
    schema = {"type": "object", "properties": {"width": side, "height": side}}
    listed = [{**model, "name": "fleek/sides", "default": True, "parameters": schema}]
    tab.page.route("**/api/v1/models*", lambda route: route.fulfill(json=listed))
    tab.page.route("**/api/v1/generate", lambda route: route.fulfill(status=422, json={}))
    page = tab.go()
    page.fill("#prompt", "eight")

    page.click('.shapes label:has-text("3:2")')
    wide = submitted(tab)
    page.click('.shapes button:has-text("More")')
    page.fill('[data-field="height"] input[type="number"]', "512")
    typed = submitted(tab)
    page.click('.shapes label:has-text("1:1")')

    assert wide["parameters"] == {"width": 1216, "height": 832}
    assert typed["parameters"] == {"width": 1216, "height": 512}
    assert "parameters" not in submitted(tab)


def test_9_defaults_are_not_sent(tab: Tab) -> None:
    """A default that is chosen again is left out; only what was changed is sent."""
    page = tab.go()
    page.click('[data-field="aspect_ratio"] label:has-text("3:2")')
    page.click('[data-field="num_outputs"] label:has-text("2")')
    page.click('[data-field="num_outputs"] label:has-text("1")')
    page.fill("#prompt", "nine")

    body = submitted(tab)

    assert body == {
        "prompt": "nine",
        "model_name": "fleek/placeholder",
        "parameters": {"aspect_ratio": "3:2"},
    }
    assert page.locator('[data-field="aspect_ratio"]').get_attribute("class") == "changed"
    page.click('[data-field="aspect_ratio"] .reset')
    assert "parameters" not in submitted(tab)


def test_10_a_refusal_is_shown_at_its_field(tab: Tab) -> None:
    """The first field has the focus, and its message is announced with it."""
    tab.forgiving = True
    page = tab.go()
    page.wait_for_selector(".model b")
    page.fill("#prompt", "ten")
    page.click(".more")
    page.fill("#f-width", "5")

    page.click(".primary")

    field = page.locator("#f-width")
    expect(page.locator("#e-width")).to_be_visible()
    expect(field).to_be_focused()
    expect(field).to_have_attribute("aria-invalid", "true")
    assert "e-width" in (field.get_attribute("aria-describedby") or "").split()
    expect(page.locator("#prompt")).to_have_value("ten")


def test_11_a_draft_survives_a_reload(tab: Tab) -> None:
    """It is kept for each model, in this tab."""
    page = tab.go()
    page.wait_for_selector(".model b")
    page.fill("#prompt", "eleven, half")
    page.click('[data-field="aspect_ratio"] label:has-text("16:9")')
    page.fill("#f-seed", "11")
    tab.until("Boolean(sessionStorage.getItem('fleek.draft')?.includes('\"seed\":11'))")

    page.reload()

    expect(page.locator("#prompt")).to_have_value("eleven, half")
    expect(page.locator("#f-seed")).to_have_value("11")
    expect(
        page.locator('[data-field="aspect_ratio"] label:has-text("16:9") input')
    ).to_be_checked()


def test_12_a_seed_is_drawn_and_kept(tab: Tab) -> None:
    """The dice fill the field, and each job has that seed until it is reset."""
    page = tab.go()
    page.wait_for_selector(".model b")
    page.fill("#prompt", "twelve")
    page.click('[data-field="seed"] [aria-label^="Throw the dice"]')

    seed = int(page.input_value("#f-seed"))

    assert submitted(tab)["parameters"]["seed"] == seed
    assert submitted(tab)["parameters"]["seed"] == seed
    page.click('[data-field="seed"] .reset')
    assert "parameters" not in submitted(tab)


def code(tab: Tab, language: str) -> str:
    """Return the request as it is shown in a language."""
    tab.page.click(f"#tab-{language}")
    return tab.page.inner_text("#code code")


def run(command: list[str], text: str, tmp_path: Path) -> str:
    """Run what the page shows, as its user would; returns what it has printed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # noqa: TID251 - a child's
    env = {"PATH": path, "HOME": str(tmp_path), "NO_COLOR": "1"}
    done = subprocess.run(  # noqa: S603 - what our page shows
        command, input=text, cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def taken(send: Callable[[], dict[str, Any]]) -> None:
    """Send a request, and again if an overloaded service has refused it without effect: curl ends well then."""
    tries = 20
    while (answer := send()).get("code") == "overloaded" and tries:
        tries -= 1
    assert "id" in answer, answer


@pytest.mark.parametrize(
    "prompt", ["thirteen", HARD_PROMPT], ids=["13-plain", "14-quotes-and-substitutions"]
)
def test_13_14_the_shown_code_makes_the_same_job(tab: Tab, tmp_path: Path, prompt: str) -> None:
    """All four are executed; nothing in a prompt is a command."""
    page = tab.go()
    page.wait_for_selector(".model b")
    prompt = f"{prompt} {tmp_path.name}"
    page.fill("#prompt", prompt)
    page.click('[data-field="aspect_ratio"] label:has-text("3:2")')
    page.click(".more")
    page.fill("#f-negative_prompt", 'it\'s "bad" $(touch owned)')
    page.click('[data-field="megapixels"] label:has-text("0.25")')

    shown = code(tab, "curl")
    taken(lambda: json.loads(run(["sh"], shown, tmp_path)))
    run([sys.executable, "-"], code(tab, "Python"), tmp_path)
    run(["sh"], code(tab, "CLI"), tmp_path)
    as_json = json.loads(code(tab, "JSON"))
    taken(lambda: tab.service.http.post("/api/v1/generate", json=as_json).json())

    made = named(tab, prompt.strip())
    assert len(made) == 4
    assert {
        json.dumps([job["model_name"], job["parameters"]], sort_keys=True) for job in made
    } == {json.dumps([as_json["model_name"], as_json["parameters"]], sort_keys=True)}
    assert not (tmp_path / "owned").exists()


def test_15_the_code_can_be_copied(open_tab: Open, service: Service) -> None:
    """The button says so, and the clipboard has it."""
    tab = open_tab(service, permissions=["clipboard-read", "clipboard-write"])
    page = tab.go()
    page.wait_for_selector(".model b")
    page.fill("#prompt", "fifteen")

    page.click(".copy")

    expect(page.locator(".copy")).to_have_text("Copied")
    assert '"prompt": "fifteen"' in page.evaluate("navigator.clipboard.readText()")


def test_16_a_model_is_chosen_by_keyboard(tab: Tab) -> None:
    """Search, arrows, Enter; the focus returns."""
    page = tab.go()
    page.wait_for_selector(".model b")
    page.focus(".model")

    page.keyboard.press("Enter")
    expect(page.get_by_label("Search models")).to_be_focused()  # its module is loaded by then
    page.keyboard.type("placeholder")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")

    expect(page.locator(".model b")).to_have_text("placeholder-audio")
    expect(page.locator(".primary")).to_contain_text("Generate 1 recording")
    expect(page.locator(".model")).to_be_focused()


PASTE: Final = """async () => {{
    const bytes = await (await fetch('media/{}')).blob();
    const data = new DataTransfer();
    data.items.add(new File([bytes], 'a.png', {{type: 'image/png'}}));
    const event = new ClipboardEvent('paste', {{clipboardData: data, bubbles: true}});
    document.querySelector('#prompt').dispatchEvent(event);
}}"""
DROP: Final = """async () => {{
    const bytes = await (await fetch('media/{}')).blob();
    const data = new DataTransfer();
    data.items.add(new File([bytes], 'a.png', {{type: 'image/png'}}));
    document.querySelector('[data-drop=image]').dispatchEvent(new DragEvent('drop', {{dataTransfer: data, bubbles: true}}));
}}"""


def test_44_a_picture_is_pasted_dropped_and_chosen(
    tab: Tab, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    """It is uploaded, shown, and named in the request; what is refused is explained at the field."""
    page = tab.go()
    page.wait_for_selector(".model b")
    job = next(job for job in named(tab, "study 0"))
    name = job["result_url"].rpartition("/")[2]
    page.fill("#prompt", "forty-four")
    picture = tmp_path / "a.png"
    picture.write_bytes(tab.service.http.get(f"/media/{name}").content)
    ways: dict[str, Callable[[], Any]] = {
        "paste": lambda: page.evaluate(PASTE.format(name)),
        "drop": lambda: page.evaluate(DROP.format(name)),
        "choose": lambda: page.set_input_files("#f-image", picture),
    }

    for way, act in ways.items():
        with subtests.test(way=way):
            act()
            expect(page.locator('[data-field="image"] .row img')).to_be_visible()
            tab.until("document.querySelector('[data-field=image] .row img').naturalWidth > 0")
            assert submitted(tab)["parameters"]["image"].startswith("upload:")
            page.click('[data-field="image"] .row .icon')

    tab.forgiving = True
    too_large = {
        "type": "x",
        "title": "x",
        "status": 413,
        "detail": "at most 5 bytes",
        "code": "too_large",
        "errors": [],
    }
    page.route("**/api/v1/uploads", lambda route: route.fulfill(status=413, json=too_large))
    page.set_input_files("#f-image", picture)
    expect(page.locator("#e-image")).to_contain_text("too large")
    page.unroute("**/api/v1/uploads")
    wrong = tmp_path / "words.txt"
    wrong.write_text("no picture")
    page.set_input_files("#f-image", wrong)
    expect(page.locator("#e-image")).to_have_text("This is text/plain, not a picture.")


def test_44_a_mask_is_painted_on_the_picture(tab: Tab) -> None:
    """White where the pointer was, black elsewhere, as large as the picture."""
    page = tab.go()
    page.wait_for_selector(".model b")
    job = next(job for job in named(tab, "study 0"))
    page.fill("#prompt", "forty-four, masked")
    page.evaluate(PASTE.format(job["result_url"].rpartition("/")[2]))
    page.wait_for_selector('[data-field="image"] .row img')
    page.evaluate("document.querySelector('[data-field=mask]').scrollIntoView()")
    page.click('[data-field="mask"] button:has-text("Paint a mask")')
    box = page.locator("canvas.paint").bounding_box()
    assert box is not None

    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 + 4, box["y"] + box["height"] / 2)
    page.mouse.up()
    page.click("text=Use this mask")

    expect(page.locator('[data-field="mask"] .row img')).to_be_visible()
    assert submitted(tab)["parameters"]["mask"].startswith("upload:")
    corner_and_middle = page.evaluate(
        """async () => { const img = document.querySelector('[data-field=mask] .row img');
        await img.decode(); const c = new OffscreenCanvas(img.naturalWidth, img.naturalHeight), pen = c.getContext('2d');
        pen.drawImage(img, 0, 0); const at = (x, y) => pen.getImageData(x, y, 1, 1).data[0];
        return [c.width, c.height, at(0, 0), at(c.width / 2, c.height / 2)]; }"""
    )
    assert corner_and_middle == [96, 64, 0, 255]
