"""Pictures of the page of `modal-clip-dual label` for the docs: light, dark, narrow, in headless Chromium.

    python docs/label_page_pictures.py

A scripted person labels three grids of digits first.  Needs Chromium and Playwright, and nothing of the network.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from modal_clip_dual.data import load_digits_images

HERE = Path(__file__).parent
DIGITS = load_digits_images()


def truth(file):
    return DIGITS.class_names[DIGITS.target[int(Path(file).stem)]]


def ready(page, number):
    page.locator("h1", has_text=re.compile(rf"^Grid {number}$")).wait_for()
    page.locator("#confirm:enabled").wait_for()


def wrong_tiles(page):
    said = "all => all.map(t => [t.dataset.row, t.title, t.querySelector('.name').textContent])"
    return [(row, file) for row, file, name in page.locator(".tile").evaluate_all(said) if name != truth(file)]


def correct(page, row, file):
    page.locator(f".tile[data-row='{row}']").click()
    page.keyboard.press("1234567890"[DIGITS.class_names.index(truth(file))])
    page.locator(f".tile.said[data-row='{row}']").wait_for()


def take(page, output, name):
    path = output / f"label-page{name}.png"
    page.mouse.move(0, 0)
    page.wait_for_timeout(300)
    page.screenshot(path=path)
    Image.open(path).convert("RGB").save(path, optimize=True)
    print(path)


def pictures(page, output):
    for number in (1, 2, 3):
        ready(page, number)
        wrong = wrong_tiles(page)
        for row, file in wrong[:-1] if number == 3 else wrong:
            correct(page, row, file)
        if number == 3:
            break
        page.keyboard.press("Enter")
    if wrong:
        page.locator(f".tile[data-row='{wrong[-1][0]}']").click()
    take(page, output, "")
    page.emulate_media(color_scheme="dark")
    take(page, output, "-dark")
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 390, "height": 800})
    page.evaluate("() => scrollTo(0, 0)")
    take(page, output, "-narrow")
    page.set_viewport_size({"width": 1280, "height": 800})
    for view, name in (("labels", "-review"), ("label", "-one")):
        page.locator(f"nav [data-view={view}]").click()
        page.locator(".tile").first.wait_for()
        if name == "-one":
            page.keyboard.press("/")
            page.locator(".one img").wait_for()
        take(page, output, name)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=HERE)
    args = parser.parse_args()
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root, "digits")
        folder.mkdir()
        for k in range(600):
            Image.fromarray(DIGITS.images[k]).save(folder / f"{k:04}.png")
        command = [sys.executable, "-m", "modal_clip_dual", "label", str(folder), "--classes",
                   ",".join(DIGITS.class_names), "--model", "demo", "--no-browser", "--cache", root]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process, sync_playwright() as playwright:
            try:
                url = next(filter(None, (re.search(r"http://\S+", line) for line in process.stdout))).group()
                browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
                page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="light")
                page.set_default_timeout(120_000)
                page.goto(url)
                pictures(page, args.output)
                browser.close()
            finally:
                process.kill()


if __name__ == "__main__":
    main()
