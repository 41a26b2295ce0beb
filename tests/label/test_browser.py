"""The page in a real browser: headless Chromium, driven by Playwright, and a server that is killed."""

import csv
import io
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from digits_folder import write_digits
from label_sessions import folder, make, truth  # noqa: F401 - fixtures
from sklearn.metrics import cohen_kappa_score

pytest.importorskip("uvicorn")
api = pytest.importorskip("playwright.sync_api")

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.browser, pytest.mark.skipif(PROGRAM is None, reason="needs Chromium")]
PATIENCE = 120_000  # ms, on a machine that does other things
EVIL = "<img src=x onerror=document.title='taken'>.png"


@pytest.fixture(scope="module")
def browser():
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=PROGRAM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    yield page
    context.close()


@contextmanager
def served(folder, cache, *arguments):
    """The command ``label`` on a folder, in a process of its own; yields it and the page's address."""
    command = [sys.executable, "-m", "modal_clip_dual", "label", str(folder), "--model", "demo", "--device", "cpu",
               "--no-browser", "--cache", str(cache), *arguments]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=root) as process:
        try:
            for line in process.stdout:
                found = re.search(r"http://\S+", line)
                if found:
                    yield process, found.group()
                    break
            else:
                pytest.fail(f"the program ended with {process.wait()}")
        finally:
            process.kill()


def tiles(page):
    """(row, file, shown text) of the tiles, in the order of the page."""
    parts = page.locator(".tile").evaluate_all(
        "all => all.map(t => [t.dataset.row, t.title, t.querySelector('.name').textContent])"
    )
    return [(int(row), file.rpartition("/")[2], name) for row, file, name in parts]


def ready(page, number):
    page.locator("h1", has_text=re.compile(rf"^Grid {number}$")).wait_for()
    page.locator("#confirm:enabled").wait_for()


def go_to(page, row):
    """Select a tile with the arrow keys alone."""
    order = [tile[0] for tile in tiles(page)]
    page.keyboard.press("ArrowRight")
    here = int(page.locator(".tile[aria-selected=true]").get_attribute("data-row"))
    steps = order.index(row) - order.index(here)
    for _ in range(abs(steps)):
        page.keyboard.press("ArrowRight" if steps > 0 else "ArrowLeft")
    page.locator(f".tile[data-row='{row}'][aria-selected=true]").wait_for()


def labeled(page, n):
    page.locator("#count", has_text=re.compile(rf"^{n} labeled")).wait_for()


def answer_grid(page, truth, said, given=()):
    """Correct what is wrong by keyboard and confirm the rest; ``said`` takes down what was answered."""
    for row, file, name in tiles(page):
        if row in given:
            continue
        said[file] = truth(file)
        if name != truth(file):
            go_to(page, row)
            page.keyboard.press(KEYS[truth(file)])
            page.locator(f".tile.said[data-row='{row}']").wait_for()
    page.keyboard.press("Enter")


NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
KEYS = {name: "1234567890"[k] for k, name in enumerate(NAMES)}


def exported(page):
    page.locator("#exports summary").click()
    with page.expect_download() as download:
        page.locator("#exports a", has_text="CSV table").click()
    text = Path(download.value.path()).read_text(encoding="utf-8")
    return {row["path"].rpartition("/")[2]: row for row in csv.DictReader(io.StringIO(text)) if row["what"]}


def test_forty_digits_by_keyboard_with_a_kill(page, tmp_path, digits, truth):
    folder, cache, said = write_digits(tmp_path / "digits", digits, 120), tmp_path / "cache", {}
    options = "--classes", ",".join(NAMES), "--batch", "10"
    cache.mkdir()
    with served(folder, cache, *options) as (process, url):
        page.goto(url)
        ready(page, 1)
        answer_grid(page, truth, said)
        ready(page, 2)
        labeled(page, 10)

        # One wrong answer, taken back.
        row, file, _ = tiles(page)[0]
        go_to(page, row)
        page.keyboard.press(KEYS["zero" if truth(file) != "zero" else "one"])
        labeled(page, 11)
        page.keyboard.press("Backspace")
        labeled(page, 10)

        # One that nobody can tell, and one of a new class, by its name.
        skipped, new = tiles(page)[1:3]
        go_to(page, skipped[0])
        page.keyboard.press("-")
        page.locator(f".tile.skip[data-row='{skipped[0]}']").wait_for()
        go_to(page, new[0])
        page.keyboard.type("blot")
        page.locator("#matches li", has_text="New class “blot”").wait_for()
        page.keyboard.press("Enter")
        page.locator(f".tile.said[data-row='{new[0]}']", has_text="blot").wait_for()
        said[new[1]] = "blot"
        page.locator(".bars .name", has_text="blot").wait_for()

        # A second one by its name, then killed in the middle of the grid.
        row, file, _ = tiles(page)[3]
        go_to(page, row)
        page.keyboard.type(truth(file)[:3])
        page.keyboard.press("Enter")
        labeled(page, 12)
        said[file] = truth(file)
        half = tiles(page)
        process.send_signal(signal.SIGKILL)
        process.wait()
        page.locator("#offline").wait_for()

    with served(folder, cache, *options) as (process, url):
        page.goto(url)
        ready(page, 2)
        labeled(page, 12)
        assert {tile[0] for tile in tiles(page)} == {tile[0] for tile in half}
        assert page.locator(".tile.said").count() == 3
        given = [row for row, _, _ in half[1:4]]
        answer_grid(page, truth, said, given)
        for number in (3, 4):
            ready(page, number)
            answer_grid(page, truth, said)
        ready(page, 5)
        labeled(page, 39)
        table = exported(page)
        assert {file: row["label"] for file, row in table.items() if row["what"] == "label"} == said
        assert [file for file, row in table.items() if row["what"] == "skip"] == [skipped[1]]
        assert page.errors == []
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


def test_mouse_review_and_one_image(page, tmp_path, digits, truth):
    folder, cache = write_digits(tmp_path / "digits", digits, 60), tmp_path / "cache"
    cache.mkdir()
    shutil.copy(folder / "0003.png", folder / EVIL)
    (folder / "broken.png").write_bytes(b"no image")
    evil = "<b>two</b>"
    names = [evil if name == "two" else name for name in NAMES]
    (tmp_path / "names.txt").write_text("\n".join(names))
    options = "--classes", str(tmp_path / "names.txt"), "--batch", "61", "--random", "0"
    with served(folder, cache, *options) as (_, url):
        page.goto(url)
        ready(page, 1)
        page.locator("#unreadable li", has_text="broken.png").wait_for()
        assert page.locator(f".tile[title$=\"{EVIL}\"]").count() == 1 and page.title() == "Label"
        page.locator(".group h3", has_text=evil).wait_for()
        assert page.locator("b", has_text="two").count() == 0  # names are text

        # A whole group by its heading, two tiles by Ctrl, then undo by the button.
        group = page.locator(".group").first
        n = group.locator(".tile").count()
        group.locator("h3 button").click()
        page.locator("#chips button", has_text="nine").click()
        labeled(page, n)
        page.locator("#undo").click()
        labeled(page, 0)
        page.locator(".tile").nth(0).click()
        page.locator(".tile").nth(2).click(modifiers=["Shift"])
        page.locator("#skip").click()
        page.locator(".tile.skip").nth(2).wait_for()
        assert page.locator(".tile.skip").count() == 3
        page.keyboard.press("ArrowRight")  # keys are for the images after a click on a button
        page.locator(".tile").nth(3).and_(page.locator("[aria-selected=true]")).wait_for()
        page.locator(".tile").nth(0).click()
        page.locator(".tile").nth(2).click(modifiers=["Shift"])
        page.locator("#forget").click()
        page.locator(".tile.skip").first.wait_for(state="detached")

        # Large, and one by one.
        page.keyboard.press("Escape")
        page.locator(".tile").nth(1).dblclick()
        page.locator("#zoomed[open]").wait_for()
        page.keyboard.press("Escape")
        page.locator("#zoomed[open]").wait_for(state="detached")
        page.keyboard.press("/")
        page.locator(".one img").wait_for()
        page.keyboard.press("3")
        labeled(page, 1)
        page.keyboard.press("Enter")
        labeled(page, 2)
        page.keyboard.press("-")
        page.locator(".strip .said").nth(2).wait_for()
        page.keyboard.press("/")
        page.locator("#confirm", has_text="Confirm the other 58").click()
        labeled(page, 60)

        # Answers, changed and taken back.
        page.locator("[data-view=history]").click()
        page.locator(".tile").nth(1).click()
        page.keyboard.press("7")
        page.locator(".tile.said", has_text="six").nth(0).wait_for()
        page.keyboard.press("Delete")
        labeled(page, 59)
        page.locator("[data-view=labels]").click()
        page.locator(".tile .share").first.wait_for()
        shares = [int(text[:-1]) for text in page.locator(".tile .share").all_text_contents()]
        assert len(shares) == 24 and shares == sorted(shares)
        page.locator("#page-on").click()
        page.locator("#page-back").wait_for()
        assert page.errors == []

        # Narrow, nothing is wider than the window.
        page.set_viewport_size({"width": 360, "height": 740})
        for view in ("label", "labels", "history"):
            page.locator(f"[data-view={view}]").click()
            page.locator(f"[data-view={view}][aria-current]").wait_for()
            assert page.evaluate("() => document.documentElement.scrollWidth") <= 360

        # Another page of this browser, even one of this machine, can neither read nor post nor frame it.
        other = page.context.new_page()
        other.goto(url.replace("127.0.0.1", "localhost"))  # another origin, by its name
        tried = other.evaluate(
            """async url => {
                const can = async (options) => {
                    try { return (await fetch(url, options)).type !== "opaque"; } catch { return false; }
                };
                const undo = { method: "POST", body: "{}", headers: { "Content-Type": "application/json" } };
                url += "api/state"; const read = await can();
                url = url.replace("state", "undo"); const post = await can(undo);
                await can({ method: "POST", body: "{}", mode: "no-cors" });
                return [read, post];
            }""",
            url,
        )
        assert tried == [False, False]
        labeled(page, 59)
        assert page.request.get(url.replace(url.split("/")[3], "wrong")).status == 404


def doubts(page):
    """Rows of the grid, those first whose prediction the server finds the least likely; and how it calls them."""
    told = page.evaluate("async () => (await (await fetch('api/state')).json()).grid.tiles")
    names = {tile["row"]: tile["name"] for tile in told}
    shown = [row for row, _, _ in tiles(page)]
    correct = {tile["row"]: tile["correct"] for tile in told}
    return sorted(shown, key=lambda row: (correct[row], shown.index(row))), names


def test_jumps_to_doubtful_images(page, tmp_path, digits):
    """By keyboard: from doubt to doubt, a class leads on; as many keys as tests/benchmarks/gestures.py counts."""
    folder, cache, said = write_digits(tmp_path / "digits", digits, 80), tmp_path / "cache", {}
    cache.mkdir()
    options = "--classes", ",".join(NAMES), "--batch", "12"
    pressed = []

    def press(key):
        pressed.append(key)
        page.keyboard.press(key)

    def here():
        return [int(row) for row in page.locator(".tile[aria-selected=true]").evaluate_all(
            "all => all.map(t => t.dataset.row)")]  # fmt: skip

    with served(folder, cache, *options) as (_, url):
        page.goto(url)
        for number in (1, 2):
            ready(page, number)
            order, names = doubts(page)
            # Whoever answers thinks otherwise of two, whatever the model is right about on this processor.
            wrong = [order[1], order[4]]
            right = names | {row: NAMES[(NAMES.index(names[row]) + 1) % len(NAMES)] for row in wrong}
            said |= {file: right[row] for row, file, _ in tiles(page)}
            pressed.clear()
            moved, expected = False, 1
            for row in order[: order.index(wrong[-1]) + 1]:
                if not moved:
                    press(".")
                    expected += 1
                assert here() == [row]
                moved = row in wrong
                if moved:
                    press(KEYS[right[row]])
                    expected += 1
                    page.locator(f".tile.said[data-row='{row}']").wait_for()
            if number == 1:  # back, over the one that has an answer, and on; an arrow ends the walk
                left = [row for row in order if row not in wrong]
                at = order.index(here()[0])
                before = [row for row in left if order.index(row) < at][-1]
                page.keyboard.press(",")
                assert here() == [before]
                page.keyboard.press("ArrowRight")
                arrived = here()
                page.keyboard.press("-")
                page.locator(f".tile.skip[data-row='{arrived[0]}']").wait_for()
                assert here() == arrived  # a gesture at an image that was not jumped to stays there
                page.keyboard.press("Backspace")
                page.locator(".tile.skip").wait_for(state="detached")
            press("Enter")
            assert len(pressed) == expected
        ready(page, 3)
        labeled(page, 24)
        table = exported(page)
        assert {file: row["label"] for file, row in table.items()} == said
        assert page.errors == []


def test_agreement_of_two_people_is_told_in_review(page, make, folder):
    learner = make(start=False).learner.start()
    for annotator, labels in (("ann", ["zero", "one", "two"]), ("<b>bob", ["zero", "one", "one"])):
        learner.teach(rows=[0, 1, 2], y=labels, annotator=annotator, train=False)
    learner.close()
    kappa = cohen_kappa_score(["zero", "one", "two"], ["zero", "one", "one"])
    told = f"3 images labeled by both <b>bob and ann, 2 alike; Cohen's kappa is {kappa:.2f}."
    cache = Path(os.environ["XDG_CACHE_HOME"]) / "modal_clip_dual"
    cache.mkdir(parents=True, exist_ok=True)
    with served(folder, cache, "--annotator", "cy") as (_, url):
        page.goto(url)
        ready(page, 1)
        assert told not in page.locator("#status").text_content()
        page.locator("nav button[data-view=labels]").click()
        page.locator("#status", has_text=told).wait_for()
        page.locator("button", has_text="Disagreements (1)").click()
        page.locator("h1", has_text="Review").wait_for()
        page.locator("#status", has_text="what each one said").wait_for()
        assert told in page.locator("#status").text_content()
        page.locator("button", has_text="Predictions").click()
        page.locator("#status", has_text="What the model says").wait_for()
        assert "kappa" not in page.locator("#status").text_content()
        page.locator("nav button[data-view=history]").click()  # others' answers stay
        page.locator(".tile[data-row='0']").click()
        page.keyboard.press("Delete")
        page.locator("#toast", has_text="cannot take back").wait_for()
        page.locator(".tile.said[data-row='0']").wait_for()
    assert not page.errors
