"""The web server: who is let in, and what is answered."""

import html.parser
import io
import json
import os
import re
import shutil
import zipfile
from importlib.resources import files
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

pytest.importorskip("starlette")
testclient = pytest.importorskip("starlette.testclient", reason="needs httpx")

from label_sessions import folder, make, truth  # noqa: E402, F401

from modal_clip_dual.label import server  # noqa: E402
from modal_clip_dual.label.server import ANY_ADDRESS, LOOPBACK, create_app, listen, new_token  # noqa: E402

TOKEN = "secret"
EVIL = "<img src=x onerror=alert(1)>.png"


@pytest.fixture
def session(make, folder):
    shutil.copy(folder / "0003.png", folder / EVIL)
    return make()


@pytest.fixture
def client(session):
    app = create_app(session, TOKEN)
    with testclient.TestClient(app, base_url=f"http://127.0.0.1:8000/{TOKEN}/") as client:
        yield client


def test_page(client):
    page = client.get("")
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    for name in re.findall(r'(?:src|href)="([^"#]+)"', page.text):
        assert client.get(name).status_code == 200, name
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert page.headers["referrer-policy"] == "no-referrer"


class Tags(html.parser.HTMLParser):
    def handle_starttag(self, tag, attributes):
        names = dict(attributes)
        assert tag != "style" and (tag != "script" or "src" in names)
        assert not [name for name in names if name.startswith("on") or name == "style"]
        for name in ("src", "href"):
            assert not names.get(name, "").startswith(("http", "//")), "an asset from elsewhere"


def test_nothing_inline_and_nothing_from_elsewhere():
    folder = files("modal_clip_dual.label").joinpath("assets")
    Tags().feed(folder.joinpath("index.html").read_text(encoding="utf-8"))
    for name in ("app.js", "plots.js", "style.css"):
        text = folder.joinpath(name).read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        forbidden = r"https?:|@import|innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\("
        assert not re.search(forbidden, text), name


def test_state_and_gestures(client, session):
    state = client.get("api/state").json()
    grid = state["grid"]
    assert len(grid["tiles"]) == 10 and state["pool"] == 121 and state["labeled"] == 0
    row = grid["tiles"][0]["row"]
    state = client.post("api/say", json={"answers": [{"row": row, "what": "label", "name": "seven"}]}).json()
    assert state["labeled"] == 1 and state["per_class"][7] == 1
    assert state["grid"]["tiles"][0]["said"] == {"what": "label", "name": "seven"}
    state = client.post("api/class", json={"name": "<b>blot</b>"}).json()
    assert state["classes"][-1] == "<b>blot</b>"
    state = client.post("api/undo", json={}).json()
    assert state["labeled"] == 0 and not state["can_undo"]
    state = client.post("api/confirm", json={"number": grid["number"]}).json()
    assert state["labeled"] == 10
    again = client.post("api/confirm", json={"number": grid["number"]})
    assert again.status_code == 400 and "not the one that is shown" in again.json()["error"]
    session.wait()
    assert len(client.get("api/tiles?kind=history&n=3").json()["tiles"]) == 3
    assert client.get("api/tiles?kind=labels").json()["total"] == 10
    assert client.get("api/tiles?kind=predictions&n=5000").json()["total"] == 111
    json.dumps(state, allow_nan=False)


def test_news_are_told_when_they_come(client, session):
    version = client.get("api/state").json()["version"]
    assert client.get(f"api/state?since={version - 1}").json()["version"] == version


def test_no_paths_of_the_machine(client, folder):
    told = client.get("api/state").text + client.get("api/tiles?kind=predictions&n=200").text
    assert str(folder.parent) not in told
    assert f'"digits/{EVIL}"' in told


@pytest.mark.parametrize(
    "body",
    ["", "[]", "{", '{"answers": 3}', '{"answers": [{"row": "../0", "what": "skip"}]}', '{"answers": [{}]}',
     '{"answers": [{"row": 1e9, "what": "skip"}]}', '{"answers": [{"row": -1, "what": "skip"}]}', "null"],
)  # fmt: skip
def test_nonsense_is_refused(client, session, body):
    answer = client.post("api/say", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400 and answer.json()["error"]
    assert session.said == {}


def test_too_much_is_refused(client, monkeypatch):
    monkeypatch.setattr(server, "MOST_BYTES", 100)
    answer = client.post("api/say", content=b" " * 200, headers={"content-type": "application/json"})
    assert answer.status_code == 413


def test_without_the_token_there_is_nothing(client):
    for path in ("/", "/api/state", "/wrong/", "/wrong/api/state", "/wrong/thumb/0", "/app.js", "/secre/thumb/0"):
        assert client.get(f"http://127.0.0.1:8000{path}").status_code == 404
    assert len(new_token()) >= 32 and new_token() != new_token()


@pytest.mark.parametrize(
    "path",
    ["thumb/99999", "thumb/-1", "thumb/0.png", "thumb/..%2f..%2fetc%2fpasswd", "image/etc/passwd", "..%2fapp.js",
     "assets/app.js", "%2e%2e/index.html", "index.html", "api/export/..%2fcsv", "api/export/nosuch", "session.py"],
)  # fmt: skip
def test_only_images_of_the_pool_by_number(client, path):
    assert client.get(path).status_code in (404, 405)


@pytest.mark.parametrize(
    "headers",
    [{"host": "evil.example"}, {"host": "127.0.0.1.evil.example:8000"}, {"host": "192.168.0.7:8000"},
     {"origin": "http://evil.example"}, {"origin": "null"}, {"origin": "http://127.0.0.1:9999"},
     {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"}],
)  # fmt: skip
def test_pages_from_elsewhere_are_refused(client, session, headers):
    for answer in (
        client.get("api/state", headers=headers),
        client.get("thumb/0", headers=headers),
        client.post("api/undo", json={}, headers=headers),
    ):
        assert answer.status_code == 403 and "content-security-policy" in answer.headers
    assert session.said == {}


def test_forms_cannot_post(client):
    """What a form or a plain fetch from elsewhere can send without asking first is refused."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        assert client.post("api/undo", content="{}", headers={"content-type": kind}).status_code == 403
    assert client.get("api/undo").status_code == 405


def test_own_page_is_let_in(client):
    headers = {"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"}
    assert client.post("api/undo", json={}, headers=headers).status_code == 200
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}  # the address in a mail, say
    assert client.get("", headers=link).status_code == 200
    assert client.get("", headers={"host": "localhost:8000"}).status_code == 200


def test_other_hosts(session):
    app = create_app(session, TOKEN, hosts=[*LOOPBACK, ANY_ADDRESS], frame_ancestors="'self'")
    client = testclient.TestClient(app, base_url=f"http://192.168.0.7:80/{TOKEN}/")
    page = client.get("")
    assert page.status_code == 200 and "frame-ancestors 'self'" in page.headers["content-security-policy"]
    assert client.get("", headers={"host": "evil.example"}).status_code == 403


def test_pictures(client, session, folder):
    small = client.get("thumb/0")
    assert small.headers["content-type"] == "image/png" and "private" in small.headers["cache-control"]
    assert small.content == client.get("thumb/0").content
    (folder / "0001.png").write_bytes(b"no longer an image")
    assert client.get("image/1").status_code == 404


def test_large_pictures_are_made_small(tmp_path):
    import numpy as np

    from modal_clip_dual.label.thumbnails import Thumbnails

    large = Image.radial_gradient("L").convert("RGB").resize((3000, 2000))
    large.save(tmp_path / "a.jpg")
    turned = large.getexif()
    turned[0x0112] = 6
    large.save(tmp_path / "turned.jpg", exif=turned)
    large.save(tmp_path / "a.png")
    thumbnails = Thumbnails(limit=20_000)
    sizes, first = {}, {}
    for name in ("a.jpg", "turned.jpg", "a.png"):
        kind, content = thumbnails.get([str(tmp_path / name)], 0)
        assert kind == "image/jpeg"
        first[name] = Image.open(io.BytesIO(content))
        sizes[name] = first[name].size
    assert sizes == {"a.jpg": (256, 171), "turned.jpg": (171, 256), "a.png": (256, 171)}
    difference = np.asarray(first["a.jpg"], dtype=float) - np.asarray(first["a.png"], dtype=float)
    assert np.abs(difference).mean() < 4  # decoded at a fraction of its size, and the same picture
    assert sum(len(content) for _, content in thumbnails._kept.values()) <= 20_000


def test_export(client, session, truth):
    number = session.grid.number
    predicted = session.grid.predicted()
    client.post("api/confirm", json={"number": number})
    names = [form["name"] for form in client.get("api/formats").json()]
    assert set(names) == {"csv", "csv-predictions", "folders", "coco", "label-studio"}
    answers = {name: client.get(f"api/export/{name}") for name in names}
    for answer in answers.values():
        assert answer.status_code == 200 and answer.headers["content-disposition"].startswith("attachment")
    said = {str(session.paths[row]): name for row, name in predicted.items()}
    table = pd.read_csv(io.StringIO(answers["csv"].text))
    assert table.dropna(subset="label").set_index("path")["label"].to_dict() == said
    assert pd.read_csv(io.StringIO(answers["csv-predictions"].text))["sure"].notna().all()
    with zipfile.ZipFile(io.BytesIO(answers["folders"].content)) as archive:
        packed = {name.split("/")[-1]: name.split("/")[-2] for name in archive.namelist() if name.endswith(".png")}
    assert packed == {path.rpartition("/")[2]: name for path, name in said.items()}
    assert len(answers["coco"].json()["annotations"]) == 10
    assert len(answers["label-studio"].json()) == 121


def test_export_without_files_that_are_gone(client, session):
    session.confirm(session.grid.number)
    session.wait()
    path = Path(session.paths[min(session.said)])
    n = session.n_labeled()
    path.unlink()
    for _ in range(2):  # it is named once
        answer = client.get("api/export/folders")
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            packed = [Path(name).name for name in archive.namelist()]
        assert len(packed) == n and "classes.json" in packed and path.name not in packed  # n - 1 images
        named = client.get("api/state").json()["unreadable"]
        assert named["n"] == 1 and named["files"][0][0] == path.name and "not in the export" in named["files"][0][1]
    assert session.n_labeled() == n  # what was said stays


@pytest.mark.parametrize("seconds", [0, 5_000_000_000])  # 1970 and 2128
def test_export_of_files_of_any_year(client, session, seconds):
    session.confirm(session.grid.number)
    path = Path(session.paths[min(session.said)])
    os.utime(path, (seconds, seconds))
    with zipfile.ZipFile(io.BytesIO(client.get("api/export/folders").content)) as archive:
        (name,) = (name for name in archive.namelist() if Path(name).name == path.name)
        assert archive.read(name) == path.read_bytes()


def test_missing_extra(monkeypatch):
    import builtins

    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] in ("starlette", "uvicorn"):
            raise ImportError(f"No module named {name!r}")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r'pip install "modal-clip-dual\[label\]"'):
        server.check_installed()


def test_port_that_is_taken():
    listener = listen("127.0.0.1", 0)
    with pytest.raises(OSError, match="cannot listen on 127.0.0.1, port"):
        listen("127.0.0.1", listener.getsockname()[1])
    listener.close()
