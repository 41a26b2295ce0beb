"""The command ``label``: what is wrong is said before the page opens."""

import os
from pathlib import Path

import pytest
from PIL import Image

from modal_clip_dual import DualLinearClassifier, DualPromptClassifier
from modal_clip_dual.cli import build_parser, main
from modal_clip_dual.cli.label import class_names_of, hosts_of, make_session, shown_host


@pytest.fixture
def folder(tmp_path, digits, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for k in range(30):
        path = tmp_path / "photos" / ("three" if digits.target[k] == 3 else "other") / f"{k:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits.images[k]).save(path)
    Image.fromarray(digits.images[40]).save(tmp_path / "photos" / "loose.png")
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    return tmp_path / "photos"


def parse(folder, *arguments):
    return build_parser().parse_args(["label", str(folder), "--model", "demo", "--device", "cpu", *arguments])


def test_session_of_the_arguments_and_going_on(folder, monkeypatch):
    session = make_session(parse(folder, "--budget", "40", "--batch", "5", "--folder-labels"))
    assert session.n_pool == 31 and session.class_names == ["other", "three"]
    assert session.learner.path == str(folder / "labels.npz") and session.learner.budget == 40
    session.start()
    session.wait()
    assert {str(session.paths[row]).split("/")[-2] == said.name for row, said in session.said.items()} == {True}
    assert session.n_labeled() == 30
    session.close()
    Image.new("L", (8, 8)).save(folder / "new.png")
    again = make_session(parse(folder, "--budget", "50", "--classes", "other,three,four"))
    again.start()
    again.wait()
    assert again.n_pool == 32 and again.learner.budget == 50 and again.n_labeled() == 30
    assert again.class_names == ["other", "three", "four"]
    again.close()
    with pytest.raises(ValueError, match="begun with a DualLinearClassifier .* --learner prompts is another"):
        make_session(parse(folder, "--learner", "prompts"))
    calibrated = make_session(parse(folder, "--learner", "dual-linear", "--calibration", "own"))
    assert calibrated.learner.calibration == "own"
    calibrated.close()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != folder / "labels.npz")
    with pytest.raises(ValueError, match=r"labels.npz' cannot be written to; --state FILE"):
        make_session(parse(folder))
    monkeypatch.undo()
    with pytest.raises(ValueError, match="was begun with --model demo"):
        make_session(build_parser().parse_args(["label", str(folder), "--model", "ViT-B-32"]))


def begun(folder, *arguments):
    session = make_session(parse(folder, "--folder-labels", *arguments))
    session.start()
    session.wait()
    labels = {Path(session.paths[row]).name: said.name for row, said in session.said.items()}
    return session, labels


def test_a_folder_that_moved_away_from_its_state(folder, tmp_path):
    state = ("--state", str(tmp_path / "state.npz"))
    session, labels = begun(folder, *state)
    session.close()
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(FileNotFoundError, match="holds none of the 31 images of .*state.npz, nor are they where"):
        folder.rename(tmp_path / "moved")
        make_session(parse(tmp_path / "elsewhere", *state))
    (tmp_path / "moved" / "link.png").symlink_to(tmp_path / "nowhere")
    again, after = begun(tmp_path / "moved", *state)
    assert after == labels and again.n_pool == 31
    assert all(path.startswith(str(tmp_path / "moved")) for path in again.paths)
    again.close()


def test_images_that_were_changed_are_asked_for_anew(folder, capsys):
    session, labels = begun(folder)
    session.close()
    row = next(row for row, said in session.said.items() if said.name == "three")
    changed = session.paths[row]
    image = Image.open(changed).copy()
    image.rotate(90).save(changed)
    again = make_session(parse(folder))
    assert f"warning: {changed}: it is another image than it was" in capsys.readouterr().err
    again.start()
    again.wait()
    assert again.n_pool == 32 and again.paths[31] == changed and again.said[row].what == "drop"
    assert again.n_labeled() == 29 and 31 not in again.said and 31 in again.learner.unlabeled_
    assert [path for path, _ in again.unreadable] == [changed]
    again.say([(31, "label", "three")])
    again.close()
    once_more = make_session(parse(folder))  # it is known by now
    once_more.start()
    once_more.wait()
    assert once_more.n_pool == 32 and once_more.n_labeled() == 30 and once_more.unreadable == []
    once_more.close()
    for path in folder.rglob("*.png"):
        Image.open(path).rotate(45).save(path)
    with pytest.raises(ValueError, match="all 31 images of .*labels.npz are others by now, the first of them '"):
        make_session(parse(folder))


def test_images_that_changed_places_keep_their_labels(folder):
    session, _ = begun(folder)
    session.close()
    first, second = (next(path for path in session.paths if f"/{name}/" in path) for name in ("three", "other"))
    os.rename(first, first + ".moving")
    os.rename(second, first)
    os.rename(first + ".moving", second)
    with pytest.warns(UserWarning, match="at other rows; labels and log follow them"):
        again = make_session(parse(folder))
    again.start()
    again.wait()
    assert again.n_pool == 31 and again.said[again.paths.index(second)].name == "three"
    again.close()


def test_precision_stays_until_another_is_asked_for(folder):
    for arguments, expected in (("--precision", "bf16"), "bf16"), ((), "bf16"), (("--precision", "fp32"), "fp32"):
        session = make_session(parse(folder, "--folder-labels", *arguments))
        assert session.learner.estimator.precision == expected
        session.start()
        session.wait()
        assert session.learner.estimator._fitted_backbone().precision == expected
        session.close()


def test_what_learns(folder):
    session = make_session(parse(folder, "--learner", "prompts", "--calibration", "transductive"))
    assert isinstance(session.learner.estimator, DualPromptClassifier)
    assert session.learner.calibration == "transductive" and session.class_names == ["other", "three"]
    assert isinstance(make_session(parse(folder)).learner.estimator, DualLinearClassifier)


def test_class_names(folder, tmp_path):
    assert class_names_of(parse(folder), folder) == ["other", "three"]
    assert class_names_of(parse(folder, "--classes", "a, b c,d"), folder) == ["a", "b c", "d"]
    (tmp_path / "names.txt").write_text("one\n\n two \n")
    assert class_names_of(parse(folder, "--classes", str(tmp_path / "names.txt")), folder) == ["one", "two"]
    (tmp_path / "names.txt").write_text("one\ntwo", encoding="utf-8-sig")
    assert class_names_of(parse(folder, "--classes", str(tmp_path / "names.txt")), folder) == ["one", "two"]
    (tmp_path / "names.txt").write_text("grün\nrot", encoding="utf-16")
    assert class_names_of(parse(folder, "--classes", str(tmp_path / "names.txt")), folder) == ["grün", "rot"]
    (tmp_path / "names.txt").write_text("rot\ngrün", encoding="latin-1")
    with pytest.raises(ValueError, match=r"names.txt' is no text in UTF-8: line 2 .*expected UTF-8"):
        class_names_of(parse(folder, "--classes", str(tmp_path / "names.txt")), folder)
    with pytest.raises(ValueError, match=r"there is no file 'gone.txt'; expected names, or a file"):
        class_names_of(parse(folder, "--classes", "gone.txt"), folder)


@pytest.mark.parametrize(
    ["arguments", "message"],
    [
        (["/nowhere"], "'/nowhere' is not a folder"),
        (["EMPTY", "--classes", "a,b"], "holds no images"),
        (["FLAT"], "or name the classes: --classes cat,dog"),
        (["FLAT", "--classes", "a"], "expected at least two"),
        (["FLAT", "--classes", "a,b,a"], "'a' comes twice"),
        (["FLAT", "--classes", "a,b", "--random", "30"], "--random 30"),
        (["FLAT", "--classes", "a,b", "--model", "nosuch"], "model_name='nosuch'"),
        (["FLAT", "--classes", "a,b", "--template", "no name"], "template='no name'"),
        (["FLAT", "--classes", "a,b", "--model", "demo", "--strategy", "nosuch:function"], "cannot be imported"),
        (
            ["FLAT", "--classes", "a,b", "--strategy", "dirichlet-uncertainty"],  # before a CLIP is downloaded
            "--strategy dirichlet-uncertainty asks the classifier for predict_alpha(X), which the classifier of",
        ),
        (
            ["FLAT", "--classes", "a,b", "--learner", "prompts", "--strategy", "dirichlet-uncertainty"],
            "--strategy dirichlet-uncertainty asks the classifier for predict_alpha(X), which the classifier of",
        ),
        (["FLAT", "--classes", "a,b", "--annotator", " "], "--annotator ' '; expected a name"),
        (["FLAT", "--classes", "a,b", "--cache", "/proc/nosuch/x"], "--cache '/proc/nosuch/x' cannot be made"),
        (["FLAT", "--classes", "a,b", "--port", "99999"], "--port 99999; expected 0 to 65535"),
        (["FLAT", "--classes", "a,b", "--model", "demo", "--device", "nosuch"], "device='nosuch'"),
        (["FLAT", "--classes", "a,b", "--model", "demo", "--host", "192.0.2.1"], "cannot listen on 192.0.2.1"),
        (["FLAT", "--classes", "a,b", "--state", "/nowhere/labels.npz"], "cannot be written to"),
        (["FLAT", "--classes", "a,b", "--state", "FLAT/0.png"], "is not a saved state"),
    ],
)
def test_what_is_wrong(arguments, message, tmp_path, capsys, monkeypatch):
    pytest.importorskip("uvicorn")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "FLAT").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "FLAT" / "0.png")
    arguments = [str(tmp_path / a) if a.startswith(("EMPTY", "FLAT")) else a for a in arguments]
    assert main(["label", *arguments, "--no-browser"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error
    assert not Path(tmp_path / "FLAT" / "labels.npz").exists()


def test_hosts():
    assert shown_host("127.0.0.1") == "127.0.0.1" and shown_host("::1") == "[::1]"
    assert shown_host("0.0.0.0") not in ("0.0.0.0", "")
    assert {"127.0.0.1", "10.0.0.5", "address"} <= set(hosts_of("10.0.0.5"))
