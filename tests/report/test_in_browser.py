"""The report in a real browser: the player, the scrubber, the keys and the 3-D view work, without a console error."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from egoflow.cli import main
from egoflow.registry import load_preset
from egoflow.report.charts import line_chart
from egoflow.training.checkpoint import State, save

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium is installed")
FRAMES = 5


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    entry, run = load_preset("joint:tiny")
    save(folder / "run" / "last.safetensors", run, entry.method_type(run.config), State())
    world = f"world:boxes?frames={FRAMES}&height=48&width=64&speed=5&texture_ratio=1&samples=1"
    assert main(["predict", str(folder / "run"), world, "--out", str(folder / "out"), "--quantity", "all", "--no-video",
                 "--also", "report"]) == 0
    return folder / "out" / "report" / "index.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as play:
        started = play.chromium.launch(executable_path=BROWSER, args=[
            "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"])
        yield started
        started.close()


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Any]:
    """Open the report; the test fails if anything is written to the console as an error, or cannot be loaded."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    opened, errors = context.new_page(), []
    opened.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("requestfailed", lambda request: errors.append(f"not loaded: {request.url}"))
    opened.goto(report.as_uri())
    yield opened
    assert errors == []
    context.close()


def place(page: Any) -> int:
    return int(page.locator("#scrub").input_value())


def shown(page: Any, pane: int) -> str:
    return page.locator(f"#picture{pane}").get_attribute("src")


def pixels(page: Any) -> bytes:
    return page.locator("#scene").screenshot()


def test_the_scrubber_moves_both_pictures(page: Any) -> None:
    assert shown(page, 0).endswith("image/000000.jpg")
    page.locator("#scrub").fill("3")
    assert shown(page, 0).endswith("image/000003.jpg")
    assert shown(page, 1).endswith("depth/000003.jpg")
    assert "4 of 5" in page.locator("#where").inner_text()
    assert page.evaluate("document.getElementById('picture0').decode().then(() => true)")


def test_keys_and_buttons(page: Any) -> None:
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert place(page) == 1
    page.locator("#on").click()
    assert place(page) == 2
    # A button that has the focus takes the space bar itself, and the browser's own keys are left to it.
    page.keyboard.press("Space")
    assert place(page) == 3
    assert page.locator("#play").get_attribute("aria-pressed") != "true"
    page.keyboard.press("Control+ArrowRight")
    assert place(page) == 3
    page.locator("#back").click()
    page.locator("body").click(position={"x": 5, "y": 5})
    page.keyboard.press("3")
    assert "image" not in shown(page, 1)
    assert "depth" not in shown(page, 1)
    # Every control can be reached with the keyboard alone.
    reached = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id"))
    assert {"layer0", "layer1", "play", "back", "on", "scrub", "speed", "scene"} <= reached


def test_the_player_plays_and_stops(page: Any) -> None:
    page.locator("#play").click()
    page.wait_for_function("Number(document.getElementById('scrub').value) > 0", timeout=5000)
    assert page.locator("#play").get_attribute("aria-pressed") == "true"
    page.keyboard.press("Space")
    assert page.locator("#play").get_attribute("aria-pressed") == "false"


def test_the_scene_is_drawn_and_turns(page: Any) -> None:
    scene = page.locator("#scene")
    # With the focus ring from the start, so that it is in every picture.
    scene.focus()
    page.wait_for_timeout(300)
    assert not page.locator("#nogl").is_visible()
    before = pixels(page)
    box = scene.bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 150)
    page.mouse.down()
    page.mouse.move(box["x"] + 350, box["y"] + 190, steps=4)
    page.mouse.up()
    page.wait_for_timeout(200)
    turned = pixels(page)
    assert turned != before
    page.keyboard.press("r")
    page.wait_for_timeout(200)
    assert pixels(page) == before


def test_names_may_hold_signs_of_an_address(browser: Any, report: Path, tmp_path: Path) -> None:
    shutil.copytree(report.parent, tmp_path / "report")
    data = tmp_path / "report" / "data.js"
    data.write_text(data.read_text().replace('"000000"', '"a#1?%41"'))
    for file in (tmp_path / "report" / "frames").rglob("000000.jpg"):
        file.rename(file.with_name("a#1?%41.jpg"))
    opened = browser.new_page()
    opened.goto((tmp_path / "report" / "index.html").as_uri())
    assert opened.evaluate("document.getElementById('picture0').decode().then(() => true)")
    opened.close()


def test_the_longest_label_of_a_chart_is_whole(browser: Any) -> None:
    opened = browser.new_page()
    opened.set_content("<style>.chart text { font: 11px system-ui, sans-serif }</style>" + line_chart(
        np.arange(3), np.array([-1.23e-5, 0.00381, 1.23e-5]), title="t"))
    left = opened.evaluate("Math.min(...[...document.querySelectorAll('text')].map(text => text.getBBox().x))")
    assert left >= 0
    opened.close()


def test_it_fits_a_phone_and_the_dark(browser: Any, report: Path) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740}, color_scheme="dark")
    opened = context.new_page()
    opened.goto(report.as_uri())
    assert opened.evaluate("document.documentElement.scrollWidth") <= 360
    red, green, blue = (int(v) for v in opened.evaluate(
        "getComputedStyle(document.body).backgroundColor").removeprefix("rgb(").rstrip(")").split(","))
    assert max(red, green, blue) < 60
    context.close()
