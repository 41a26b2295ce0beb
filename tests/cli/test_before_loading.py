"""What the arguments alone tell is refused before a CLIP is loaded, which takes long, or is downloaded."""

import os
import socket
from pathlib import Path

import pytest
from PIL import Image

from modal_clip_dual import DualLinearClassifier, DualPromptLearner, random_sampling
from modal_clip_dual.active.locking import check_free, claim
from modal_clip_dual.cli import build_parser, main
from modal_clip_dual.cli.label import make_session
from modal_clip_dual.clip import backbone
from modal_clip_dual.clip.templates import check_class_names


@pytest.fixture
def nothing_loads(monkeypatch):
    def load(*args):
        pytest.fail("a CLIP was loaded")

    monkeypatch.setattr(backbone, "_loaded", {})
    monkeypatch.setattr(backbone, "_load", load)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The current folder, with images in FLAT, an empty folder and a file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for folder in ("FLAT", "EMPTY.png"):
        Path(folder).mkdir()
    for k in range(3):
        Image.new("L", (8, 8), k).save(f"FLAT/{k}.png")
    Path("file").write_text("text")
    return tmp_path


SAME = "give the same tokens"
LABEL = ["label", "FLAT", "--model", "demo", "--no-browser"]
TEN = ["c", "d", "e", "f", "g", "h", "i", "j"]


@pytest.mark.parametrize(
    ["arguments", "message"],
    [
        ([*LABEL, "--classes", "a,A"], f"class_names 'a' and 'A' {SAME}"),
        ([*LABEL, "--classes", "red_fox,red fox"], f"class_names 'red_fox' and 'red fox' {SAME}"),
        ([*LABEL, "--classes", "_,a"], "class_names contains '_'"),
        ([*LABEL, "--classes", f"{'x ' * 90},a"], "is too long: its prompt takes"),
        ([*LABEL, "--classes", "a,b", "--template", "no name"], "template='no name'"),
        ([*LABEL, "--classes", "a,b", "--cache", "nosuch"], "cache='nosuch'"),
        ([*LABEL, "--classes", "a,b", "--cache", "file"], "cache='file' is a file"),
        ([*LABEL, "--classes", "a,b", "--host", "192.0.2.1"], "cannot listen on 192.0.2.1"),
        ([*LABEL, "--classes", "a,b", "--strategy", "os:getcwd"], "--strategy='os:getcwd' takes the arguments ()"),
        (["demo", "--strategies", "os:getcwd"], "strategies='os:getcwd' takes the arguments ()"),
        (["demo", "--figure", "EMPTY.png"], "--figure EMPTY.png is a folder"),
        (["demo", "--csv", "FLAT"], "--csv FLAT is a folder"),
        (["demo", "--csv", "nowhere/a.csv"], "--csv nowhere/a.csv: there is no folder"),
        (["benchmark", "--class-names", *TEN, "k,K"], f"class_names 'k' and 'K' {SAME}"),
        (["benchmark", "--class-names", *TEN, "k,k"], "class_names contains 'k' more than once"),
        (["benchmark", "--class-names", *TEN, "k,_"], "class_names contains '_'"),
        (["benchmark", "--out", "file/a"], "--out file/a is no folder, "),
        (["report", "nowhere", "--out", "FLAT"], "--out FLAT is a folder"),
    ],
)
def test_refused_at_once(arguments, message, place, nothing_loads, capsys):
    pytest.importorskip("uvicorn")
    if arguments[0] == "benchmark":
        arguments = [*arguments, "--data", "digits", "--model", "demo", "--seeds", "1"]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error
    assert sorted(os.listdir(place / "FLAT")) == ["0.png", "1.png", "2.png"]  # no state, no lock


def test_a_port_in_use(place, nothing_loads, capsys):
    pytest.importorskip("uvicorn")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        assert main([*LABEL, "--classes", "a,b", "--port", port]) == 2
    assert f"cannot listen on 127.0.0.1, port {port}" in capsys.readouterr().err


def test_the_port_is_free_again_after_a_refusal(place, nothing_loads, monkeypatch):
    pytest.importorskip("uvicorn")
    made = []

    def listen(host, port):
        made.append(socket.create_server((host, 0)))
        return made[-1]

    monkeypatch.setattr("modal_clip_dual.label.server.listen", listen)
    assert main([*LABEL, "--classes", "a,A"]) == 2
    assert [each.fileno() for each in made] == [-1]


def test_a_state_file_of_another_process(place, nothing_loads, monkeypatch):
    def taken(path, owner):
        raise RuntimeError(f"path={path!r} is in use by another process")

    monkeypatch.setattr("modal_clip_dual.active.locking.claim", taken)
    with pytest.raises(RuntimeError, match=r"labels.npz' is in use by another process"):
        make_session(build_parser().parse_args([*LABEL, "--classes", "a,b"]))


def test_asking_for_a_state_file_leaves_it_free(tmp_path):
    check_free(str(tmp_path / "state.npz"))
    assert os.listdir(tmp_path) == []

    class Owner:
        pass

    owner = Owner()
    release = claim(str(tmp_path / "state.npz"), owner)
    check_free(str(tmp_path / "state.npz"))  # of this process, whose learners share it
    assert "state.npz.lock" in os.listdir(tmp_path)
    release()
    assert os.listdir(tmp_path) == []


def test_places_that_cannot_be_written_to(place, nothing_loads, monkeypatch, capsys):
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != place)
    for arguments, name in (
        (["demo"], "--figure"),
        (["benchmark", "--data", "digits", "--model", "demo"], "--out"),
        (["report", "FLAT", "--out", "a.html"], "--out"),
    ):
        assert main(arguments) == 2
        assert f"{str(place)!r} cannot be written to; {name} " in capsys.readouterr().err


def test_going_on_with_what_does_not_fit(place, request):
    clf = DualLinearClassifier({"a": "a", "b": "b"}, model_name="demo", pretrained="bundled", device="cpu")
    files = [f"{place}/FLAT/{k}.png" for k in range(3)]
    loop = DualPromptLearner(clf, files, path="FLAT/labels.npz", query_strategy=random_sampling).start()
    loop.teach(rows=[0], y=["a"], train=False)
    loop.close()
    before = Path("FLAT/labels.npz").read_bytes()
    request.getfixturevalue("nothing_loads")
    for arguments, message in (
        (["--classes", "a,b,A"], f"class_names 'a' and 'A' {SAME}"),
        (["--classes", "_"], "class_names contains '_'"),
        (["--template", "no name"], "template='no name'"),
        (["--learner", "prompts"], "--learner prompts is another"),
        (["--strategy", "dirichlet-uncertainty"], "asks the classifier for predict_alpha"),
        (["--device", "nosuch"], "device='nosuch'"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            make_session(build_parser().parse_args([*LABEL, *arguments]))
    assert Path("FLAT/labels.npz").read_bytes() == before


def test_names_are_compared_as_the_model_reads_them(checkpoints):
    check_class_names(["a", "b"], "a photo of a {}.", f"local-dir:{checkpoints['clip']}")
    check_class_names(["bank", "Bank"], {"bank": ["money"], "Bank": ["a town"]}, "demo")  # told apart by their texts
    with pytest.raises(ValueError, match=SAME):
        check_class_names(["a", "A"], ["a {}.", "the {}."], "ViT-B-32")
