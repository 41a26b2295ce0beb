"""The page inside of a notebook: served from this process, framed by notebooks alone, and given back at the end."""

import functools
import html.parser
import http.server
import json
import shutil
import threading
import urllib.error
import urllib.request

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from modal_clip_dual import DualLinearClassifier, DualPromptLearner, auto_sampling
from modal_clip_dual.label import show


@pytest.fixture
def learner(digits):
    names = list(digits.class_names)
    clf = DualLinearClassifier(
        dict(zip(names, names)), model_name="demo", pretrained="bundled", device="cpu", verbose=0
    )
    return DualPromptLearner(clf, digits.images[:60], query_strategy=auto_sampling)


class Frame(html.parser.HTMLParser):
    def handle_starttag(self, tag, attributes):
        assert tag == "iframe"
        self.found = dict(attributes)


def get(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read(), answer.headers


def test_shown_used_and_given_back(learner, digits):
    page = show(learner, height=500, n_instances=5, annotator="ann")
    try:
        frame = Frame()
        frame.feed(page._repr_html_())
        assert frame.found["src"] == page.url and frame.found["height"] == "500"
        content, headers = get(page.url)
        assert b"<script" in content
        parts = [part.strip() for part in headers["content-security-policy"].split(";")]
        policy = dict(part.split(" ", 1) for part in parts if " " in part)
        frames = policy["frame-ancestors"].split()
        assert "http://localhost:*" in frames and "vscode-webview:" in frames and "*" not in frames
        assert "x-frame-options" not in headers or headers["x-frame-options"] != "DENY"
        page.session.wait()
        assert "phase" in json.dumps(json.loads(get(page.url + "api/state")[0]))
        row = int(page.session.grid.rows[0])
        page.session.say([(row, "label", "seven")])
        with pytest.raises(urllib.error.HTTPError):  # without the token nobody gets in
            get(page.url.rsplit("/", 2)[0] + "/wrong/")
    finally:
        page.close()
    with pytest.raises(OSError):
        get(page.url)
    assert dict(zip(learner.rows_.tolist(), learner.labels_.tolist())) == {row: "seven"}
    assert learner.annotations["annotator"].tolist() == ["ann"]
    learner.teach(rows=[next(k for k in range(60) if k != row)], y=["one"], train=False)  # usable again


def test_embeddings_cannot_be_shown(embeddings, digits):
    clf = DualLinearClassifier(digits.class_names, model_name="demo", pretrained="bundled", verbose=0)
    with pytest.raises(ValueError, match="holds embeddings, which nobody can look at"):
        show(DualPromptLearner(clf, embeddings[:50]))


@pytest.mark.browser
def test_notebooks_may_frame_it_and_others_not(learner, tmp_path):
    """In Chromium: a page of localhost, as JupyterLab is one, shows it; one of another name does not."""
    api = pytest.importorskip("playwright.sync_api")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("needs Chromium")
    page = show(learner, n_instances=5)
    (tmp_path / "notebook.html").write_text(f"<!doctype html><title>cell</title>{page._repr_html_()}")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    handler.log_message = lambda *args: None
    host = http.server.ThreadingHTTPServer(("0.0.0.0", 0), handler)
    threading.Thread(target=host.serve_forever, daemon=True).start()
    try:
        page.session.wait()
        with api.sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
            for name, framed in {"localhost": True, "127.0.0.2": False}.items():
                tab = browser.new_page()
                tab.set_default_timeout(120_000)
                tab.goto(f"http://{name}:{host.server_port}/notebook.html")
                frame = tab.frames[1]
                if framed:
                    frame.wait_for_selector("img")
                assert frame.url.startswith(page.url) == framed  # else Chromium shows a page of its own, an error
                tab.close()
            browser.close()
    finally:
        host.shutdown()
        host.server_close()
        page.close()
