"""Label on the page below a cell of a notebook in a real JupyterLab, and see that the learner has the labels.

JupyterLab lives in an environment of its own, together with this package and its extra ``label``; this script needs
Playwright and Chromium:

    python -m venv lab && lab/bin/pip install jupyterlab jupyter-server-proxy ".[label]"
    python examples/label_in_jupyterlab.py --jupyter-lab lab/bin/jupyter-lab

The script starts the server on 127.0.0.1 in a temporary folder, drives it with headless Chromium, and stops it.
``--proxy`` asks for the page through jupyter-server-proxy, as from another machine.  What it asserts is what the
page "Notebooks" of the documentation promises.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Frame, Page, sync_playwright

from modal_clip_dual.data import load_digits_images

START_SECONDS = 120
PATIENCE = 60_000  # ms
DIGITS = load_digits_images()

CELLS = [
    """\
from pathlib import Path
from modal_clip_dual import DualLinearClassifier, DualPromptLearner, auto_sampling

names = {names}
clf = DualLinearClassifier({{name: name for name in names}}, model_name="demo", pretrained="bundled", verbose=0)
paths = sorted(map(str, Path("photos").glob("*.png")))
learner = DualPromptLearner(clf, paths, query_strategy=auto_sampling, path="labels.npz")
learner.label({arguments})""",
    """\
import json
learner.label().close()
print("SAID", json.dumps(dict(zip([paths[row] for row in learner.rows_.tolist()], learner.labels_.tolist()))))
print("BY", sorted(set(learner.annotations["annotator"])), learner)""",
]


def write_notebook(path: Path, arguments: str) -> None:
    """Write a notebook that labels, and tells afterwards what the learner has."""
    sources = [cell.format(names=DIGITS.class_names, arguments=arguments) for cell in CELLS[:1]] + CELLS[1:]
    common = {"metadata": {}, "execution_count": None, "outputs": [], "cell_type": "code"}
    cells = [{**common, "id": f"cell-{k}", "source": source} for k, source in enumerate(sources)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(notebook))


@contextmanager
def served(program: str, folder: Path) -> Iterator[tuple[str, str]]:
    """Start a JupyterLab on a folder; yield its address and its token."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(20)
    home = folder.parent
    news = home / "settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    news.parent.mkdir(parents=True)
    news.write_text('{"fetchNews": "false"}')
    own = {"JUPYTERLAB_SETTINGS_DIR": str(home / "settings"), "IPYTHONDIR": str(home / "ipython")}
    environment = {**os.environ, **own}
    command = [program, "--no-browser", "--ip=127.0.0.1", f"--port={port}", f"--IdentityProvider.token={token}"]
    command += [f"--ServerApp.root_dir={folder}", "--allow-root"]
    with open(home / "server.log", "wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        began = time.monotonic()
        while True:
            try:
                urllib.request.urlopen(f"{url}/api?token={token}", timeout=5).close()
                break
            except (OSError, urllib.error.URLError):
                if server.poll() is not None or time.monotonic() - began > START_SECONDS:
                    raise RuntimeError((home / "server.log").read_text(errors="replace")[-2000:]) from None
                time.sleep(0.5)
        yield url, token
    finally:
        server.terminate()
        server.wait(30)


def truth(file: str) -> str:
    """Return the class of a file."""
    return str(DIGITS.class_names[DIGITS.target[int(Path(file).stem)]])


def label_grid(frame: Frame, number: int) -> dict[str, str]:
    """Correct what is wrong in a grid by mouse and key, and confirm the rest; return what was said."""
    frame.locator("h1", has_text=re.compile(rf"^Grid {number}$")).wait_for()
    frame.locator("#confirm:enabled").wait_for()
    shown = frame.locator(".tile").evaluate_all(
        "all => all.map(t => [t.dataset.row, t.title, t.querySelector('.name').textContent])"
    )
    for row, file, name in shown:
        if name != truth(file):
            tile = frame.locator(f".tile[data-row='{row}']")
            tile.click()
            tile.press("1234567890"[list(DIGITS.class_names).index(truth(file))])
            frame.locator(f".tile.said[data-row='{row}']").wait_for()
    frame.locator(".tile").first.press("Enter")
    return {file.rpartition("/")[2]: truth(file) for _, file, _ in shown}


def frame_of(page: Page) -> Frame:
    """Return the page for labeling inside of the notebook."""
    shown = page.locator(".jp-OutputArea iframe, [data-mime-type='application/vnd.jupyter.stderr']").first
    shown.wait_for()
    frame = shown.element_handle().content_frame()
    assert frame is not None, shown.inner_text()
    return frame


def run_cell(page: Page, k: int) -> None:
    """Run a cell as a person does."""
    page.locator("#jp-main-statusbar", has_text="| Idle").wait_for()  # what is run before is lost
    page.locator(".jp-CodeCell").nth(k).locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")


def try_it(page: Page, url: str, token: str, pictures: Path | None, proxied: bool) -> None:
    """Label two grids in JupyterLab, reload it between them, and close the page; every step is checked."""
    page.goto(f"{url}/lab/tree/try.ipynb?token={token}")
    page.locator(".jp-CodeCell").nth(1).wait_for()
    run_cell(page, 0)
    frame = frame_of(page)
    said = label_grid(frame, 1)
    assert frame.url.startswith(url) == proxied, frame.url
    print(f"{len(said)} labels on the page below a cell, {frame.url.rsplit('/', 2)[0]}/...")
    frame.locator("h1", has_text="Grid 2").wait_for()
    if pictures is not None:
        page.screenshot(path=pictures / f"jupyterlab{'-proxy' if proxied else ''}.png")
    page.on("dialog", lambda dialog: dialog.accept())
    page.locator(".jp-CodeCell .cm-content").nth(1).click()
    page.keyboard.press("Control+s")
    page.locator("#jp-main-statusbar", has_text="Saving completed").wait_for()
    page.reload()
    said |= label_grid(frame_of(page), 2)
    print("the browser's page was reloaded; the one below the cell is there, and goes on")
    run_cell(page, 1)
    told = page.locator(".jp-OutputArea-output", has_text="SAID")
    told.wait_for()
    text = told.inner_text()
    found = json.loads(re.search(r"SAID (\{.*\})", text)[1])  # type: ignore[index]  # has_text found it
    assert {Path(file).name: name for file, name in found.items()} == said, (found, said)
    assert "BY ['me']" in text, text
    print(f"the learner has the {len(said)} labels that were given, by 'me'")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jupyter-lab", default=shutil.which("jupyter-lab"), metavar="PROGRAM")
    parser.add_argument("--proxy", action="store_true", help="ask for the page through jupyter-server-proxy")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="folder in which to save a screenshot")
    args = parser.parse_args()
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if args.jupyter_lab is None or program is None:
        parser.error("needs Chromium and jupyter-lab; see the first lines of this file")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name, "work")
        (folder / "photos").mkdir(parents=True)
        for k in range(100):
            Image.fromarray(DIGITS.images[k]).save(folder / "photos" / f"{k:03}.png")
        with served(os.path.abspath(args.jupyter_lab), folder) as (url, token):
            arguments: dict[str, Any] = {"annotator": "me", "n_instances": 10}
            if args.proxy:
                arguments["address"] = f"{url}/proxy/{{port}}/"
            write_notebook(folder / "try.ipynb", ", ".join(f"{key}={value!r}" for key, value in arguments.items()))
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
                page = browser.new_page(viewport={"width": 1300, "height": 1000})
                page.set_default_timeout(PATIENCE)
                try:
                    try_it(page, url, token, args.pictures, args.proxy)
                finally:
                    if args.pictures is not None:
                        page.screenshot(path=args.pictures / "last.png")
                browser.close()
    print("done")


if __name__ == "__main__":
    main()
