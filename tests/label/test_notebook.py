"""The page inside of a notebook: served from this process, framed by notebooks alone, and given back at the end."""

import functools
import html.parser
import http.server
import json
import shutil
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from modal_clip_dual import DualLinearClassifier, DualPromptLearner, auto_sampling
from modal_clip_dual.label import server, show


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


def test_a_learner_has_one_page(learner):
    page = learner.label(n_instances=5)
    try:
        assert learner.label() is page and show(learner) is page  # the cell run again
        page.session.wait()
        row = int(page.session.grid.rows[0])
        page.session.say([(row, "label", "seven")])
        other = learner.label(n_instances=6)  # the first one is closed, with what was said on it
        assert other is not page and learner.rows_.tolist() == [row]
        with pytest.raises(OSError):
            get(page.url)
        other.session.wait()
        assert len(other.session.grid.rows) == 6
    finally:
        learner.label().close()
    assert learner.label() is not other
    learner.label().close()


def test_labels_of_a_list_of_names_are_positions(digits, tmp_path):
    """As `import_labels` has them, so that labels by the page and by ``teach`` go together."""
    clf = DualLinearClassifier(digits.class_names, model_name="demo", pretrained="bundled", device="cpu", verbose=0)
    learner = DualPromptLearner(clf, digits.images[:60], n_per_class=0, path=tmp_path / "labels.npz")
    page = learner.label(n_instances=5)
    page.session.wait()
    page.session.say([(3, "label", "seven"), (4, "label", "one")])
    page.close()
    assert dict(zip(learner.rows_.tolist(), learner.labels_.tolist())) == {3: 7, 4: 1}
    learner.teach(rows=[5], y=digits.target[5:6], train=False)
    page = learner.label(n_instances=5)
    page.session.wait()
    page.session.say([(3, "label", "nine")])
    page.close()
    assert dict(zip(learner.rows_.tolist(), learner.labels_.tolist())) == {3: 9, 4: 1, 5: digits.target[5]}
    learner.close()


def test_a_page_that_is_looked_at_ends_without_a_word(learner, capfd):
    page = learner.label()
    page.session.wait()
    with ThreadPoolExecutor(1) as pool:
        version = json.loads(get(page.url + "api/state")[0])["version"]
        asked = pool.submit(get, f"{page.url}api/state?since={version}")  # as the browser does, all the time
        time.sleep(0.3)
        page.close()
        assert json.loads(asked.result()[0])["version"] >= version
    assert "Traceback" not in "".join(capfd.readouterr())


def test_the_browser_is_on_another_machine(learner):
    """Behind a proxy: the page is called by the proxy's name, framed by its pages, and by no other."""
    port = listen_once()
    page = learner.label(port=port, address="https://hub.example.org:8443/user/me/proxy/{port}/")
    try:
        inside = page.url.replace(f"https://hub.example.org:8443/user/me/proxy/{port}", f"http://127.0.0.1:{port}")
        assert inside.startswith(f"http://127.0.0.1:{port}/") and "hub" in page._repr_html_()
        for host, status in {"hub.example.org:8443": 200, f"127.0.0.1:{port}": 200, "evil.example": 403}.items():
            assert status_of(inside, {"Host": host}) == status, host
        news, same = f"{inside}api/state", {"Host": "hub.example.org:8443", "Sec-Fetch-Site": "same-origin"}
        assert status_of(news, same | {"Origin": "https://hub.example.org:8443"}) == 200
        assert status_of(news, same | {"Origin": "https://evil.example"}) == 403
        policy = get(inside)[1]["content-security-policy"]
        assert "https://hub.example.org:8443" in policy.partition("frame-ancestors")[2].split(";")[0].split()
    finally:
        page.close()


@pytest.mark.parametrize("address", ["hub.example.org/{port}/", "https://hub.example.org/", "/proxy/{port}/", 7])
def test_addresses_that_lead_nowhere(learner, address):
    with pytest.raises(ValueError, match=r"address=.*; expected how the browser reaches a port"):
        learner.label(address=address)
    assert not hasattr(learner, "log_")


def test_without_the_extra(learner, monkeypatch):
    def missing():
        raise ImportError(server.MISSING)

    monkeypatch.setattr("modal_clip_dual.label.notebook.check_installed", missing)
    with pytest.raises(ImportError, match=r'pip install "modal-clip-dual\[label\]"'):
        learner.label()


def listen_once():
    """A port that is free."""
    with server.listen("127.0.0.1", 0) as listener:
        return listener.getsockname()[1]


def status_of(url, headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


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
