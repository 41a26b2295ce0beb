"""Labels out of a loop and into it: what other readers find in the files, and what files of others may hold."""

import csv
import json
import os
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from modal_clip_dual import DualPromptLearner, TipAdapterClassifier
from modal_clip_dual.data import load_image_folder
from modal_clip_dual.exchange import ImportReport, available_formats, export_labels, import_labels
from modal_clip_dual.exchange.formats.folders import write as write_folders
from modal_clip_dual.exchange.formats.label_studio import labeling_config, write as write_tasks
from modal_clip_dual.exchange.importing import Finder
from modal_clip_dual.exchange.table import Entry, Table

NAMES = ["cat", "=SUM(1)", "dog/../../wolf", "ünï 犬"]
FILES = ["a/one.png", "b/one.png", "a/two.png", "-3.png", "with space & ünï.png", "a/six.png"]
PATHS = {"csv": "out.csv", "folders": "out", "coco": "coco.json", "label-studio": "tasks.json"}


@pytest.fixture
def pool(tmp_path):
    """Six different files, two of them with the same name."""
    paths = []
    for k, name in enumerate(FILES):
        path = tmp_path / "pool" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), 40 * k, dtype=np.uint8)).save(path)
        paths.append(str(path))
    return paths


def make(pool, names=NAMES, **params):
    clf = TipAdapterClassifier(names, model_name="demo", pretrained="bundled", device="cpu", verbose=0)
    return DualPromptLearner(clf, pool, **params)


@pytest.fixture
def learner(pool):
    """Labels of both files of one name, a skip and a drop; nothing was trained on them yet."""
    learner = make(pool)
    learner.teach(rows=[0, 1], y=[0, 1], annotator="=ann", train=False)
    learner.teach(rows=[2], y=[2], train=False)
    learner.teach(rows=[4], y=[3], train=False)
    learner.skip([3], train=False)
    learner.drop([5], train=False)
    return learner


def test_formats_are_the_files_of_the_folder():
    assert available_formats() == sorted(PATHS)


# -------------------------------------------------------------------- out


def test_csv_is_read_by_csv_and_pandas(learner, pool, tmp_path):
    assert export_labels(learner, tmp_path / "out.csv") == 4
    with open(tmp_path / "out.csv", newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["path"] for line in lines] == pool
    assert [line["what"] for line in lines] == ["label", "label", "label", "skip", "label", "drop"]
    # a spreadsheet takes no cell for a formula
    assert [line["label"] for line in lines] == ["cat", "'=SUM(1)", "dog/../../wolf", "", "ünï 犬", ""]
    assert lines[0]["annotator"] == "'=ann" and lines[2]["annotator"] == ""
    frame = pd.read_csv(tmp_path / "out.csv", index_col="row")
    assert frame.index.tolist() == list(range(6)) and frame["sure"].isna().all()
    times = pd.to_datetime(frame["time"].dropna())
    assert len(times) == 6 and abs((pd.Timestamp.now("UTC") - times).dt.total_seconds()).max() < 600


def test_folders_are_read_by_load_image_folder(learner, pool, tmp_path):
    export_labels(learner, tmp_path / "out")
    paths, target, folders = load_image_folder(tmp_path / "out").values()
    assert {path.resolve().is_relative_to(tmp_path / "out") for path in map(Path, paths)} == {True}
    assert sorted(folders) == sorted(["cat", "=SUM(1)", "dog_.._.._wolf", "ünï 犬"])
    names = json.loads((tmp_path / "out" / "classes.json").read_text(encoding="utf-8"))
    found = {Path(path).read_bytes(): names[folders[label]] for path, label in zip(paths, target)}
    assert found == {Path(pool[row]).read_bytes(): NAMES[k] for row, k in {0: 0, 1: 1, 2: 2, 4: 3}.items()}
    export_labels(learner, tmp_path / "links", link=True)
    assert Path(os.readlink(tmp_path / "links" / "cat" / "one.png")) == Path(pool[0])


@pytest.mark.parametrize(
    "name",
    ["..", ".", "/etc", "a\\b", "CON", "test", "__MACOSX", " ", "x" * 300, "é" * 300, "a.", "\x00", "classes.json"],
)
def test_class_names_stay_inside_of_the_folder(pool, tmp_path, name):
    entries = [
        Entry(k, pool[k], "label", label, None, None, None, None) for k, label in enumerate([name, "Cat", "cat"])
    ]
    write_folders(Table([name, "Cat", "cat"], entries), tmp_path / "out")
    folders = [path for path in (tmp_path / "out").iterdir() if path.is_dir()]
    assert len(folders) == 3 and len({path.name.casefold() for path in folders}) == 3
    assert sorted(os.listdir(tmp_path)) == ["out", "pool"]
    assert len(load_image_folder(tmp_path / "out").paths) == 3


def test_two_files_of_one_name_and_class_are_both_there(pool, tmp_path):
    entries = [Entry(k, pool[k], "label", "cat", None, None, None, None) for k in (0, 1)]
    write_folders(Table(["cat"], entries), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out" / "cat").iterdir()) == ["one-2.png", "one.png"]


def test_coco_by_the_numbers_of_its_categories(learner, pool, tmp_path):
    export_labels(learner, tmp_path / "coco.json", format="coco")
    content = json.loads((tmp_path / "coco.json").read_text(encoding="utf-8"))
    files = {image["id"]: image["file_name"] for image in content["images"]}
    names = {category["id"]: category["name"] for category in content["categories"]}
    assert sorted(files.values()) == sorted(pool) and list(names.values()) == NAMES
    found = {files[a["image_id"]]: names[a["category_id"]] for a in content["annotations"]}
    assert found == {pool[0]: NAMES[0], pool[1]: NAMES[1], pool[2]: NAMES[2], pool[4]: NAMES[3]}
    assert len({a["id"] for a in content["annotations"]}) == 4 and content["predictions"] == []


def test_tasks_of_label_studio(learner, pool, tmp_path):
    export_labels(learner, tmp_path / "tasks.json", format="label-studio", root=tmp_path)
    tasks = json.loads((tmp_path / "tasks.json").read_text(encoding="utf-8"))
    assert tasks[0]["data"] == {"image": "/data/local-files/?d=pool/a/one.png", "path": pool[0], "row": 0}
    assert tasks[4]["data"]["image"] == "/data/local-files/?d=pool/with%20space%20%26%20%C3%BCn%C3%AF.png"
    (result,) = tasks[1]["annotations"][0]["result"]
    assert result["value"] == {"choices": ["=SUM(1)"]} and tasks[3]["annotations"][0]["was_cancelled"]
    config = ElementTree.fromstring(labeling_config([*NAMES, '<"&>']))
    assert [choice.get("value") for choice in config.iter("Choice")] == [*NAMES, '<"&>']
    assert (result["from_name"], result["to_name"]) == (
        config.find("Choices").get("name"),
        config.find("Image").get("name"),
    )
    with pytest.raises(ValueError, match="root=.* does not hold"):
        export_labels(learner, tmp_path / "other.json", format="label-studio", root=tmp_path / "pool" / "a")


def test_predictions_and_their_confidence(learner, pool, tmp_path):
    learner.train()
    learner.forget([5])  # back, so it is predicted
    export_labels(learner, tmp_path / "tasks.json", format="label-studio", predictions=True)
    tasks = json.loads((tmp_path / "tasks.json").read_text(encoding="utf-8"))
    labels, sure = learner.estimator.predict_with_confidence(pool)
    assert [t["predictions"][0]["result"][0]["value"]["choices"] for t in tasks] == [[NAMES[k]] for k in labels]
    np.testing.assert_allclose([t["predictions"][0]["score"] for t in tasks], sure, atol=1e-5)
    export_labels(learner, tmp_path / "out.csv", predictions=True)
    frame = pd.read_csv(tmp_path / "out.csv")
    np.testing.assert_allclose(frame["sure"], sure, atol=1e-5)
    export_labels(learner, tmp_path / "out", predictions=True)
    assert len(load_image_folder(tmp_path / "out").paths) == 6
    export_labels(learner, tmp_path / "coco.json", format="coco", predictions=True)
    assert len(json.loads((tmp_path / "coco.json").read_text())["predictions"]) == 6


# -------------------------------------------------------------------- nothing is lost


@pytest.mark.parametrize("format", sorted(PATHS))
def test_nothing_is_overwritten_unless_asked(learner, tmp_path, format):
    path = tmp_path / PATHS[format]
    if format == "folders":
        path.mkdir()
        (path / "mine.txt").write_text("mine")
    else:
        path.write_text("mine")
    with pytest.raises(FileExistsError, match="overwrite=True replaces it"):
        export_labels(learner, path, format=format)
    if format == "folders":  # a folder of somebody's own is not replaced at all
        with pytest.raises(FileExistsError, match="no folder that was exported before"):
            export_labels(learner, path, format=format, overwrite=True)
        assert (path / "mine.txt").read_text() == "mine"
        shutil.rmtree(path)
        export_labels(learner, path, format=format)
    else:
        assert path.read_text() == "mine"
    assert export_labels(learner, path, format=format, overwrite=True) == 4
    assert sorted(os.listdir(tmp_path)) == sorted(["pool", PATHS[format]])


def tree(folder):
    """All names in a folder and the bytes behind them."""
    return {path.relative_to(folder): path.is_file() and path.read_bytes() for path in folder.rglob("*")}


OWN = ["labels.npz", "cat/mine.png", "notes/todo.txt", "cat/deep/one.png", "empty/"]


@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("link", [True, False])
def test_what_no_export_wrote_is_not_deleted(learner, tmp_path, own, link, marked):
    out = tmp_path / "out"
    export_labels(learner, out, link=link)
    if not marked:  # as earlier versions left it
        (out / ".modal-clip-dual-export.json").unlink()
    (out / own).parent.mkdir(parents=True, exist_ok=True)
    (out / own).mkdir() if own.endswith("/") else (out / own).write_text("mine")
    before = tree(out)
    with pytest.raises(FileExistsError, match=f"out' holds '{own}', which no export wrote"):
        export_labels(learner, out, link=not link, overwrite=True)
    assert tree(out) == before and sorted(os.listdir(tmp_path)) == ["out", "pool"]


@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("link", [True, False])
def test_exports_are_replaced_by_exports(learner, tmp_path, link, marked):
    out = tmp_path / "out"
    learner.relabel(rows=[1], y=[0], train=False)  # both files of one name in one folder, one with a number
    export_labels(learner, out, link=link)
    if not marked:
        (out / ".modal-clip-dual-export.json").unlink()
    (out / "cat" / "Thumbs.db").write_text("of the system")
    learner.relabel(rows=[0, 1, 2], y=[3, 3, 3], train=False)
    assert export_labels(learner, out, overwrite=True) == 4
    assert sorted(path.name for path in out.iterdir()) == [".modal-clip-dual-export.json", "classes.json", NAMES[3]]
    assert len(os.listdir(out / NAMES[3])) == 4 and sorted(os.listdir(tmp_path)) == ["out", "pool"]


@pytest.mark.parametrize("content", ['["cat", "dog"]', '{"cat": "cat"}', "{"])
def test_a_list_of_classes_makes_no_export_of_a_folder(learner, tmp_path, content):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "classes.json").write_text(content)
    (tmp_path / "out" / "model.bin").write_text("mine")
    before = tree(tmp_path / "out")
    with pytest.raises(FileExistsError, match="which no export wrote"):
        export_labels(learner, tmp_path / "out", overwrite=True)
    assert tree(tmp_path / "out") == before


def test_what_comes_while_the_folder_is_written_stays(learner, tmp_path, monkeypatch):
    out = tmp_path / "out"
    export_labels(learner, out)
    copy = shutil.copyfile

    def late(source, target):
        (out / "late.txt").write_text("mine")
        return copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", late)
    with pytest.raises(FileExistsError, match="out' holds 'late.txt'"):
        export_labels(learner, out, overwrite=True)
    assert (out / "late.txt").read_text() == "mine" and len(load_image_folder(out).paths) == 4
    assert sorted(os.listdir(tmp_path)) == ["out", "pool"]


@pytest.mark.parametrize("linked", [True, False])
def test_a_pool_is_not_replaced_by_its_own_export(learner, tmp_path, linked):
    out = tmp_path / "out"
    export_labels(learner, out)
    paths = load_image_folder(out).paths.tolist()
    if linked:  # the pool is another folder, with links to the files of the first
        (tmp_path / "links").mkdir()
        for k, path in enumerate(paths):
            (tmp_path / "links" / f"{k}.png").symlink_to(path)
        paths = [str(tmp_path / "links" / f"{k}.png") for k in range(len(paths))]
    state = tmp_path / ("state.npz" if linked else "out/state.npz")
    other = make(paths, path=state)
    other.teach(rows=[0], y=["cat"], train=False)
    other.close()
    before = tree(out)
    (tmp_path / "alias").symlink_to(out)
    for place in (out, tmp_path / "alias"):
        with pytest.raises(ValueError, match="holds .*an image of the pool" if linked else "holds the state file"):
            export_labels(state, place, format="folders", overwrite=True)
    with pytest.raises(ValueError, match="holds .*, which would be deleted"):  # a folder above
        export_labels(state, tmp_path, format="folders", overwrite=True)
    assert tree(out) == before


@pytest.mark.parametrize("format", ["csv", "coco", "label-studio"])
def test_files_of_the_loop_under_other_names(pool, tmp_path, format):
    state = tmp_path / "state.npz"
    learner = make(pool, path=state)
    learner.teach(rows=[0], y=["cat"], train=False)
    learner.close()
    Path(f"{state}.page").write_text("answers")
    (tmp_path / "alias").symlink_to(tmp_path / "pool" / "a")
    before = tree(tmp_path / "pool")
    with pytest.raises(ValueError, match="is an image of the pool"):
        export_labels(state, tmp_path / "alias" / "two.png", format=format, overwrite=True)
    with pytest.raises(ValueError, match="is a file of the state"):
        export_labels(state, f"{state}.page", format=format, overwrite=True)
    assert tree(tmp_path / "pool") == before and Path(f"{state}.page").read_text() == "answers"


def test_file_that_vanishes_leaves_the_old_folder(learner, pool, tmp_path):
    export_labels(learner, tmp_path / "out")
    before = sorted(str(path) for path in (tmp_path / "out").rglob("*"))
    os.remove(pool[4])
    with pytest.raises(FileNotFoundError):
        export_labels(learner, tmp_path / "out", overwrite=True)
    assert sorted(str(path) for path in (tmp_path / "out").rglob("*")) == before
    assert sorted(os.listdir(tmp_path)) == ["out", "pool"]


@pytest.mark.parametrize("link", [True, False])
def test_files_that_are_gone_are_left_out(learner, pool, tmp_path, link):
    os.remove(pool[4])  # alone in its class
    with pytest.warns(UserWarning, match="1 files are gone or cannot be read, and are left out: '.*with") as told:
        assert export_labels(learner, tmp_path / "out", link=link) == 3
    assert told[0].filename == __file__
    folders = [path.name for path in (tmp_path / "out").iterdir() if path.is_dir()]
    assert sorted(folders) == ["=SUM(1)", "cat", "dog_.._.._wolf"]
    assert len(load_image_folder(tmp_path / "out").paths) == 3


def test_a_file_that_goes_while_it_is_copied_is_left_out(learner, pool, tmp_path, monkeypatch):
    copy = shutil.copyfile

    def gone(source, target):
        if source == pool[2]:
            Path(target).write_bytes(b"half of it")
            os.remove(source)
            raise OSError("the file went")
        return copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", gone)
    with pytest.warns(UserWarning, match="are left out: '.*two.png'"):
        assert export_labels(learner, tmp_path / "out") == 3
    assert not list((tmp_path / "out").rglob("two.png"))


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_copy_that_fails_leaves_the_old_folder(learner, pool, tmp_path, monkeypatch, error):
    export_labels(learner, tmp_path / "out")
    before = tree(tmp_path / "out")

    def fail(source, target):
        raise error

    monkeypatch.setattr(shutil, "copyfile", fail)
    with pytest.raises(type(error)):
        export_labels(learner, tmp_path / "out", overwrite=True)
    assert tree(tmp_path / "out") == before and sorted(os.listdir(tmp_path)) == ["out", "pool"]


def test_the_last_copy_of_an_image_that_was_dropped_stays(learner, pool, tmp_path):
    export_labels(learner, tmp_path / "out")
    os.remove(pool[4])
    learner.drop([4], train=False)  # as the page does with files that are gone
    before = tree(tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="is gone, and '.*' in path='.*out' may be its last copy"):
        export_labels(learner, tmp_path / "out", overwrite=True)
    assert tree(tmp_path / "out") == before


def test_links_to_a_file_that_is_gone_are_no_last_copies(learner, pool, tmp_path):
    export_labels(learner, tmp_path / "out", link=True)
    os.remove(pool[4])
    with pytest.warns(UserWarning, match="1 files are gone"):
        assert export_labels(learner, tmp_path / "out", link=True, overwrite=True) == 3


def test_what_is_refused(learner, tmp_path):
    with pytest.raises(ValueError, match="does not tell the format; expected format=, one of 'coco'"):
        export_labels(learner, tmp_path / "out.json")
    with pytest.raises(ValueError, match="format='xml'; expected one of"):
        export_labels(learner, tmp_path / "out.xml", format="xml")
    with pytest.raises(TypeError, match="a table takes no link"):
        export_labels(learner, tmp_path / "out.csv", link=True)
    with pytest.raises(ValueError, match="there is no such folder"):
        export_labels(learner, tmp_path / "no" / "out.csv")
    with pytest.raises(ValueError, match="predictions=True, but nothing was trained yet"):
        export_labels(learner, tmp_path / "out.csv", predictions=True)
    rows = make(np.random.default_rng(0).normal(size=(5, 128)).astype(np.float32))
    with pytest.raises(ValueError, match="a folder per class needs a pool of files"):
        export_labels(rows, tmp_path / "out")
    assert os.listdir(tmp_path) == ["pool"]


def test_neither_the_state_nor_an_image_is_written_to(pool, tmp_path):
    make(pool, path=tmp_path / "state.npz").start().close()
    with pytest.raises(ValueError, match="is the state file itself"):
        export_labels(tmp_path / "state.npz", tmp_path / "pool" / ".." / "state.npz", format="csv", overwrite=True)
    with pytest.raises(ValueError, match="is an image of the pool"):
        export_labels(tmp_path / "state.npz", pool[2], format="csv", overwrite=True)
    assert DualPromptLearner.resume(tmp_path / "state.npz").paths_ == pool


def test_a_state_file_is_exported_while_another_learner_holds_it(pool, tmp_path):
    learner = make(pool, path=tmp_path / "state.npz")
    learner.teach(rows=[0], y=["cat"])
    assert export_labels(tmp_path / "state.npz", tmp_path / "out.csv", predictions=True) == 1
    frame = pd.read_csv(tmp_path / "out.csv")
    labels, sure = learner.estimator.predict_with_confidence(pool)
    assert frame["predicted"].tolist() == [label.replace("=", "'=") for label in labels.tolist()]
    np.testing.assert_allclose(frame["sure"], sure, atol=1e-5)
    learner.teach(rows=[1], y=["=SUM(1)"], train=False)


# -------------------------------------------------------------------- in


@pytest.mark.parametrize("format", sorted(PATHS))
@pytest.mark.parametrize("as_names", [False, True])
def test_round_trip(learner, pool, tmp_path, format, as_names):
    export_labels(learner, tmp_path / PATHS[format], format=format)
    other = make(pool[::-1])  # rows are others
    if as_names:
        other.teach(rows=[0], y=["cat"], train=False)  # labels are texts from here on
    report = import_labels(other, tmp_path / PATHS[format], format=format, train=False)
    found = {other.X_pool[row]: label for row, label in zip(other.rows_, other.labels_.tolist())}
    expected = {pool[0]: 0, pool[1]: 1, pool[2]: 2, pool[4]: 3}
    if as_names:
        expected = {pool[5]: "cat", **{path: NAMES[k] for path, k in expected.items()}}
    assert found == expected
    assert report.n_labels == 4 and report.unmatched == []
    said = other.annotations.set_index("row")
    assert said.loc[5, "annotator"] == ("=ann" if format in ("csv", "coco") else None) or pd.isna(
        said.loc[5, "annotator"]
    )
    assert ("skip" in set(said["what"])) == (format in ("csv", "label-studio"))
    again = import_labels(other, tmp_path / PATHS[format], format=format, train=False)
    assert (again.n_labels, again.n_changed) == (0, 0)  # what is there is there


def test_moved_pools_and_files_that_are_not_meant(learner, pool, tmp_path):
    export_labels(learner, tmp_path / "out.csv")
    shutil.move(tmp_path / "pool", tmp_path / "elsewhere")
    other = make([path.replace("/pool/", "/elsewhere/") for path in pool])
    import_labels(other, tmp_path / "out.csv", train=False)
    assert other.labels_.tolist() == [0, 1, 2, 3]
    # one of two files of a name: of which of them the label is cannot be said
    (tmp_path / "two.csv").write_text("path,label\nx/one.png,cat\ny/one.png,cat\nzzz.png,cat\na/two.png,cat\n")
    some = make([path.replace("/pool/", "/elsewhere/") for path in (pool[0], pool[2])])
    with pytest.warns(UserWarning, match="3 of 4 samples are not, or not for certain, in the pool: 'zzz.png'"):
        report = import_labels(some, tmp_path / "two.csv", train=False)
    assert some.rows_.tolist() == [1] and sorted(report.unmatched) == ["x/one.png", "y/one.png", "zzz.png"]


def test_renamed_files_in_class_folders_are_known_by_their_bytes(pool, tmp_path):
    folder = tmp_path / "sorted" / "cat"
    folder.mkdir(parents=True)
    shutil.copyfile(pool[2], folder / "one.png")  # another's name
    Image.new("RGB", (9, 9)).save(folder / "two.png")  # a name of the pool, and other bytes
    learner = make(pool)
    with pytest.warns(UserWarning, match="1 of 2 samples"):
        report = import_labels(learner, tmp_path / "sorted", train=False)
    assert learner.rows_.tolist() == [2] and report.unmatched == [str(folder / "two.png")]


def test_longest_end_of_a_path():
    finder = Finder(["/p/a/1.png", "/p/b/1.png", "/p/b/2.png"])
    assert finder.find("b/1.png") == 1 and finder.find("C:\\x\\a\\1.png") == 0
    assert finder.find("1.png") is None and finder.find("c/1.png") is None
    assert finder.find("2.png") == 2 and finder.find(None) is None and finder.find("..") is None


def test_conflicts(pool, tmp_path):
    (tmp_path / "in.csv").write_text("path,label,what\na/two.png,ünï 犬,\nb/one.png,,skip\n", encoding="utf-8")
    learner = make(pool)
    learner.teach(rows=[1, 2], y=[0, 0], annotator="ann", train=False)
    report = import_labels(learner, tmp_path / "in.csv", train=False)
    assert report == ImportReport(0, 0, 2, 0, [])
    assert learner.labels_.tolist() == [0, 0]
    report = import_labels(learner, tmp_path / "in.csv", conflicts="replace", train=False)
    assert report == ImportReport(0, 1, 0, 1, [])
    assert (learner.rows_.tolist(), learner.labels_.tolist()) == ([2], [3])
    with pytest.raises(ValueError, match="conflicts='ask'; expected one of"):
        import_labels(learner, tmp_path / "in.csv", conflicts="ask")


def test_new_classes_are_asked_for(pool, tmp_path):
    (tmp_path / "in.csv").write_text("path,label\na/two.png,horse\na/six.png,cat\n")
    learner = make(pool)
    with pytest.raises(ValueError, match=r"has the labels \['horse'\], which are no class_names; add_classes=True"):
        import_labels(learner, tmp_path / "in.csv")
    assert not len(learner.rows_) and learner.estimator.class_names == NAMES
    import_labels(learner, tmp_path / "in.csv", add_classes=True, train=False)
    assert learner.estimator.class_names == [*NAMES, "horse"] and learner.labels_.tolist() == [4, 0]


@pytest.mark.parametrize(
    ("names", "label", "labels"),
    [({name: name for name in NAMES}, "horse", ["horse", "cat"]), ({"c": "cat", "d": "dog"}, "horse", ["horse", "c"]),
     ({3: "cat", 7: "dog"}, 8, [8, 3])],
)  # fmt: skip
def test_new_classes_of_a_mapping(pool, tmp_path, names, label, labels):
    state = tmp_path / "state.npz"
    make(pool, names, path=state).start().close()
    (tmp_path / "in.csv").write_text("path,label\na/two.png,horse\na/six.png,cat\n")
    assert import_labels(state, tmp_path / "in.csv", add_classes=True, train=False).n_labels == 2
    again = DualPromptLearner.resume(state)
    assert again.estimator.class_names == {**names, label: "horse"} and again.labels_.tolist() == labels


def test_new_classes_of_which_one_cannot_be_added(pool, tmp_path):
    names = {"c": "cat", "d": "dog"}
    (tmp_path / "in.csv").write_text("path,label\na/two.png,horse\na/six.png,d\n")
    learner = make(pool, names)
    with pytest.raises(ValueError, match="label='d'; class_names is a dict of labels"):
        import_labels(learner, tmp_path / "in.csv", add_classes=True)
    assert learner.estimator.class_names == names and not len(learner.rows_)


def test_state_files_are_taught_and_closed(pool, tmp_path):
    make(pool, path=tmp_path / "state.npz").start().close()
    (tmp_path / "in.csv").write_text("path,label\na/two.png,cat\na/six.png,=SUM(1)\n")
    assert import_labels(tmp_path / "state.npz", tmp_path / "in.csv", annotator="ann").n_labels == 2
    again = DualPromptLearner.resume(tmp_path / "state.npz")
    assert again.labels_.tolist() == [0, 1] and set(again.annotations["annotator"]) == {"ann"}
    assert again.log_[-1]["n_labels"] == 2


def test_label_studio_answers_of_several_people(pool, tmp_path):
    def answer(name, who, when, **more):
        result = [{"type": "choices", "value": {"choices": [name]}}] if name else []
        return {"result": result, "completed_by": who, "updated_at": when, **more}

    url = "/data/local-files/?d=x/pool/b/one.png"
    answers = [answer("cat", 2, "2026-01-02"), answer("=SUM(1)", {"email": "b@x.org", "id": 7}, "2026-01-01"),
               answer("=SUM(1)", 2, "2026-01-01")]  # fmt: skip
    tasks = [
        {"id": 1, "data": {"image": url}, "annotations": answers},
        {
            "id": 2,
            "data": {"image": "/data/upload/1/abc/two.png"},
            "annotations": [answer("", 2, "", was_cancelled=True)],
        },
        {"id": 3, "data": {"image": "s3://bucket/a/six.png"}, "annotations": []},
    ]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    learner = make(pool)
    report = import_labels(learner, tmp_path / "export.json", format="label-studio", train=False)
    said = learner.annotations
    assert report.n_labels == 2 and report.n_left_out == 1
    assert dict(zip(said["annotator"][:2], said["label"][:2])) == {"2": 0, "b@x.org": 1}
    assert said[said["what"] == "skip"]["row"].tolist() == [2]


@pytest.fixture
def exported():
    """Four tasks that label-studio 1.23.2 exported in examples/label_studio_round_trip.py: two labels, a skip."""
    return json.loads((Path(__file__).parents[1] / "fixtures" / "label-studio-1.23.2.json").read_text())


@pytest.fixture
def photos(exported, tmp_path):
    """The files of these tasks, in another folder, and others between them, so that their rows are others, too."""
    folder = tmp_path / "photos"
    folder.mkdir()
    names = [task["data"]["path"].rpartition("/")[2] for task in exported]
    paths = [str(folder / name) for pair in zip(["x.png", "y.png", "z.png", "w.png"], names) for name in pair]
    for path in paths:
        Image.new("RGB", (8, 8)).save(path)
    return paths


def test_what_a_server_of_label_studio_exported(exported, photos, tmp_path):
    names = sorted({choice_of(task) for task in exported[:2]})
    learner = make(photos, names)
    (tmp_path / "export.json").write_text(json.dumps(exported))
    report = import_labels(learner, tmp_path / "export.json", format="label-studio", train=False)
    assert report == ImportReport(2, 0, 0, 1, [])  # predictions are no labels
    said = {name_of(photos[row]): names[label] for row, label in zip(learner.rows_, learner.labels_)}
    assert said == {name_of(task["data"]["path"]): choice_of(task) for task in exported[:2]}
    table = learner.annotations.set_index("row")
    assert table["annotator"].tolist() == ["1", "1", "1"] and table["what"][5] == "skip"


def test_tasks_are_those_that_the_server_took(exported, photos, tmp_path):
    """Data, prediction and annotation are written as the server gave them back."""
    for task, path in zip(exported[:2], photos[1::2]):
        (annotation,), row = task["annotations"], task["data"]["row"]
        prediction = annotation["prediction"]
        predicted = prediction["result"][0]["value"]["choices"][0]
        entry = Entry(row, path, "label", choice_of(task), "ann", None, predicted, prediction["score"])
        write_tasks(Table([], [entry]), tmp_path / "tasks.json", root=tmp_path)
        assert json.loads((tmp_path / "tasks.json").read_text()) == [{
            "data": task["data"] | {"path": path},
            "predictions": [{key: prediction[key] for key in ("model_version", "result", "score")}],
            "annotations": [{"result": annotation["result"]}],
        }]  # fmt: skip


def choice_of(task):
    return task["annotations"][0]["result"][0]["value"]["choices"][0]


def name_of(path):
    return path.rpartition("/")[2]


@pytest.mark.parametrize(
    ("format", "content", "message"),
    [
        ("csv", "name,class\na,b\n", "it has the columns .*; expected 'label', and 'path' or 'row'"),
        ("csv", "path,label\na/two.png\n", "line 2 is longer or shorter"),
        ("csv", "row,label\n-1,cat\n", "line 2: row='-1'"),
        ("csv", "path,label,what\na/two.png,cat,maybe\n", "line 2: what='maybe'"),
        ("csv", "", "it has the columns"),
        ("coco", "[]", "expected an object with the lists"),
        ("coco", "{", "cannot be read as COCO-style JSON: "),
        ("coco", '{"images": [{}], "categories": [], "annotations": []}', "an image has no id"),
        ("coco", '{"images": [], "categories": [{"id": 1}], "annotations": []}', "a category has no name"),
        (
            "coco",
            '{"images": [{"id": 1, "file_name": "a/two.png"}], "categories": [{"id": 1, "name": "cat"}, {"id": 2,'
            ' "name": "dog"}], "annotations": [{"image_id": 1, "category_id": 1}, {"image_id": 1,'
            ' "category_id": 2}]}',
            r"image 'a/two.png' has the categories \['cat', 'dog'\]; expected one label",
        ),
        ("coco", "[" * 100000, "cannot be read"),
        ("label-studio", '{"data": {}}', "expected a list of tasks"),
        ("label-studio", '[{"image": "a/two.png", "label": "cat"}]', "a task has no 'data'"),
        (
            "label-studio",
            '[{"data": {"path": "a/two.png"}, "annotations": [{"result": [{"type": "choices", "value": {"choices":'
            ' ["cat", "dog"]}}]}]}]',
            "has the labels .*; expected one per image",
        ),
        ("label-studio", '[{"data": {"path": ["a"]}, "annotations": []}]', "path is .*; expected text"),
        ("csv", "path,label\nnowhere.png,cat\n", "for a sample of the pool .1 for others, such as 'nowhere"),
        ("csv", "path,label\n../../../etc/passwd,cat\n", "no label for a sample of the pool"),
        ("csv", "row,label\n2,cat\n", "no label for a sample of the pool"),  # rows are no names of files
        ("csv", "row,label\n2,cat\n", "rows do not tell which files are meant.*expected 'path'"),
        ("csv", "Path,PATH,label\na/two.png,a/six.png,cat\n", "expected one 'path'"),
        ("csv", "sep=;\npath,label\na/two.png,cat\n", "it has the columns ..path,label..; expected 'label'"),
        ("csv", "sep=;\npath;label\na/two.png\n", "line 3 is longer or shorter"),
    ],
)  # fmt: skip
def test_files_of_strangers(pool, tmp_path, format, content, message):
    path = tmp_path / PATHS[format]
    path.write_text(content)
    learner = make(pool).start()
    with pytest.raises(ValueError, match=message):
        import_labels(learner, path, format=format)
    assert not len(learner.rows_)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_of_spreadsheets(pool, tmp_path, encoding, separator):
    lines = [("path", "label"), ("a/two.png", "ünï 犬"), ("with space & ünï.png", '"dog/../../wolf"')]
    text = "".join(f"{separator.join(cells)}\r\n" for cells in lines)
    (tmp_path / "in.csv").write_bytes(text.encode(encoding))
    learner = make(pool)
    assert import_labels(learner, tmp_path / "in.csv", train=False).n_labels == 2
    assert dict(zip(learner.rows_.tolist(), learner.labels_.tolist())) == {2: NAMES.index("ünï 犬"), 4: 2}


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\r\npath;label\r\na/two.png;cat\r\n",
        'SEP=|\n"path"|label\na/two.png|cat\n',
        '"sep=,",\npath,label\na/two.png,cat\n',
        "path, label\na/two.png, cat\n",
        'path, "label"\na/two.png, "cat"\n',
        "path      , label\na/two.png , cat  \n",
        "Path,Label\na/two.png,cat\n",
        " LABEL ;Path;Note\ncat;a/two.png;x\n",
        "label,path,Label\ncat,a/two.png,other\n",  # what is called exactly so comes first
    ],
)
def test_tables_whose_first_lines_are_written_otherwise(pool, tmp_path, text):
    (tmp_path / "in.csv").write_bytes(text.encode())
    learner = make(pool)
    assert import_labels(learner, tmp_path / "in.csv", train=False).n_labels == 1
    assert (learner.rows_.tolist(), learner.labels_.tolist()) == ([2], [0])


def test_blanks_that_belong_to_names_stay(pool, tmp_path):
    Image.new("RGB", (7, 7)).save(tmp_path / " seven .png")
    learner = make([*pool, str(tmp_path / " seven .png")], [" cat ", "dog"])
    learner.teach(rows=[6], y=[0], train=False)
    export_labels(learner, tmp_path / "out.csv")
    other = make(learner.X_pool, [" cat ", "dog"])
    import_labels(other, tmp_path / "out.csv", train=False)
    assert (other.rows_.tolist(), other.labels_.tolist()) == ([6], [0])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("format", sorted(PATHS))
def test_exports_that_were_saved_anew_in_another_encoding(learner, pool, tmp_path, format, encoding):
    export_labels(learner, tmp_path / PATHS[format], format=format)
    file = tmp_path / PATHS[format] / ("classes.json" if format == "folders" else "")
    text = file.read_text(encoding="utf-8")
    text = text if format == "csv" else json.dumps(json.loads(text), ensure_ascii=False)
    file.write_text(text, encoding=encoding)
    other = make(pool)
    import_labels(other, tmp_path / PATHS[format], format=format, train=False)
    assert dict(zip(other.rows_.tolist(), other.labels_)) == dict(zip(learner.rows_.tolist(), learner.labels_))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label,größe\na/two.png,cat,1\n", "line 1 has the byte 0xf6"),
        ("pfad,größe\na/two.png,cat\n", "line 1 has the byte 0xf6"),
        ("path,label\na/two.png,cat\na/six.png,ünï\n", "line 3 has the byte 0xfc"),
        ("path,label\nünï.png,cat\n", "for a sample of the pool .1 for others.*Some are no text in UTF-8"),
    ],
)
def test_tables_in_an_encoding_that_nothing_tells(pool, tmp_path, text, message):
    (tmp_path / "in.csv").write_bytes(text.encode("latin-1"))
    learner = make(pool).start()
    with pytest.raises(ValueError, match=rf"in.csv' .*{message}.*; expected UTF-8.*iconv"):
        import_labels(learner, tmp_path / "in.csv")
    assert not len(learner.rows_)
    if "sample of the pool" in message:
        (tmp_path / "in.csv").write_bytes(f"{text}a/two.png,cat\n".encode("latin-1"))
        with pytest.warns(UserWarning, match="1 of 2 samples are not.*Some are no text in UTF-8"):
            assert import_labels(learner, tmp_path / "in.csv", train=False).n_labels == 1


@pytest.mark.parametrize("format", ["coco", "label-studio"])
def test_json_in_an_encoding_that_nothing_tells(pool, tmp_path, format):
    (tmp_path / PATHS[format]).write_bytes('["grün"]'.encode("latin-1"))
    with pytest.raises(ValueError, match="is no text in UTF-8: line 1 has the byte 0xfc; expected UTF-8"):
        import_labels(make(pool), tmp_path / PATHS[format], format=format)


def test_a_learner_without_names_takes_labels_as_they_are(tmp_path):
    X = np.random.default_rng(0).normal(size=(5, 128)).astype(np.float32)
    (tmp_path / "in.csv").write_text("row,label\n0,7\n1,8\n9,7\n")
    learner = make(X, names=None)
    learner.teach(rows=[2, 3], y=[7, 8], train=False)
    with pytest.warns(UserWarning, match="1 of 3 samples"):
        import_labels(learner, tmp_path / "in.csv", train=False)
    assert dict(zip(learner.rows_.tolist(), learner.labels_.tolist())) == {2: 7, 3: 8, 0: 7, 1: 8}
    with pytest.raises(FileNotFoundError, match="does not exist"):
        import_labels(learner, tmp_path / "no.csv")


@pytest.mark.parametrize("format", sorted(PATHS))
def test_nothing_is_labeled_yet(pool, tmp_path, format):
    assert export_labels(make(pool), tmp_path / PATHS[format], format=format) == 0
    if format == "csv":
        assert pd.read_csv(tmp_path / PATHS[format])["path"].tolist() == pool


def test_files_whose_names_are_no_text(tmp_path):
    name = os.fsdecode(b"\xff\xfe.png")
    try:
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    except OSError:
        pytest.skip("the file system takes names of text only")
    path = str(tmp_path / name)
    learner = make([path], path=tmp_path / "state.npz")
    learner.teach(rows=[0], y=["cat"], train=False)
    learner.close()
    for format, file in PATHS.items():
        assert export_labels(tmp_path / "state.npz", tmp_path / file, format=format) == 1
        other = make([path])
        assert import_labels(other, tmp_path / file, format=format, train=False).n_labels == 1
    assert DualPromptLearner.resume(tmp_path / "state.npz").paths_ == [path]
