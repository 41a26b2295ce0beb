"""What goes wrong while people label: nothing that they said is lost, and nothing is said that they did not say."""

import json
import os
import shutil

import pytest
from PIL import Image
from sklearn.metrics import cohen_kappa_score

pytest.importorskip("starlette")
testclient = pytest.importorskip("starlette.testclient", reason="needs httpx")

from label_sessions import folder, make, truth  # noqa: E402, F401

from modal_clip_dual import DualLinearClassifier, DualPromptLearner  # noqa: E402
from modal_clip_dual.exchange import import_labels  # noqa: E402
from modal_clip_dual.label.answers import Names, Said, agreements, bring, states_of  # noqa: E402
from modal_clip_dual.label.server import create_app  # noqa: E402

NAMES = ['say "hi"', "<script>x</script>", "🐱 cat", "a,b; c", "../up", "=1+1", "it's", "naïve café", "x" * 200]


def client_of(session):
    return testclient.TestClient(create_app(session, "secret"), base_url="http://127.0.0.1:8000/secret/")


def answers(learner):
    """(row, label, annotator) of all labels that a learner holds."""
    table = learner.annotations
    table = table[table["what"] == "label"]
    return sorted(zip(table["row"].tolist(), table["label"].tolist(), table["annotator"].tolist()))


def test_a_disk_that_takes_nothing_more(make, monkeypatch):
    session = make()
    client, grid = client_of(session), session.grid
    first, second = grid.rows[:2]
    session.say([(first, "label", "one")])
    session.wait()

    def full(event):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(session._journal, "append", full)
    for name, body in {
        "say": {"answers": [{"row": second, "what": "label", "name": "two"}]},
        "confirm": {"number": grid.number},
        "undo": {},
        "class": {"name": "blot"},
    }.items():
        answer = client.post(f"api/{name}", json=body)
        assert answer.status_code == 400 and "No space left" in answer.json()["error"], name
        assert {row: said.name for row, said in session.said.items()} == {first: "one"}
        assert session.grid == grid and session.can_undo and "blot" not in session.class_names
    monkeypatch.undo()
    assert client.post("api/undo", json={}).json()["labeled"] == 0
    client.post("api/confirm", json={"number": grid.number})
    session.close()
    assert len(session.learner.rows_) == 10


def test_a_file_that_breaks_or_goes_while_it_is_shown_is_not_confirmed(make, folder):
    session = make()
    client, rows = client_of(session), session.grid.rows
    broken, gone, said = rows[:3]
    (folder / f"{broken:04}.png").write_bytes(b"no longer an image")
    (folder / f"{gone:04}.png").unlink()
    client.post("api/say", json={"answers": [{"row": said, "what": "label", "name": "two"}]})
    (folder / f"{said:04}.png").write_bytes(b"no longer an image")
    assert [client.get(f"thumb/{row}").status_code for row in rows[:3]] == [404] * 3
    state = client.get("api/state").json()
    assert state["dropped"] == 2 and state["labeled"] == 1  # what has an answer keeps it
    assert {file for file, _ in state["unreadable"]["files"]} == {f"{broken:04}.png", f"{gone:04}.png"}
    assert client.post("api/confirm", json={"number": session.grid.number}).json()["labeled"] == 8
    session.wait()  # it trains without the three
    assert session.said[said].what == "drop" and session.grid.round == 1
    session.close()
    assert {*session.learner.rows_.tolist()} == {*rows[3:]}
    assert (said, "two", None) in answers(session.learner)  # kept, and not counted


def test_a_folder_that_is_gone_may_come_back(make, folder):
    session = make()
    client, grid = client_of(session), session.grid
    kept = folder.with_name("kept")
    kept.mkdir()
    for path in folder.glob("*.png"):
        shutil.move(path, kept)
    assert client.get(f"thumb/{grid.rows[0]}").status_code == 404
    assert not session.said
    client.post("api/confirm", json={"number": grid.number})
    with pytest.raises(RuntimeError, match="none of the 120 files is there any more"):
        session.wait()
    assert session.n_labeled() == 10 and not client.get("api/state").json()["dropped"]
    for path in kept.glob("*.png"):
        shutil.move(path, folder)
    client.post("api/retry", json={})
    session.wait(until=lambda: session.grid is not None and session.grid.round == 1)
    session.close()
    assert sorted(session.learner.rows_) == sorted(grid.rows)


def test_files_that_go_between_two_grids(make, folder, monkeypatch):
    session = make(budget=10)
    session.confirm(session.grid.number)
    session.wait()
    assert session.grid is None
    free = sorted(set(range(120)) - set(session.said))
    (folder / f"{free[0]:04}.png").unlink()
    session.extend_budget(5)  # nothing to train on is new; it asks at once
    session.wait(until=lambda: session.grid is not None)
    assert session.said[free[0]].what == "drop" and free[0] not in session.grid.rows


def test_a_file_that_holds_another_image_by_now_is_asked_for_anew(make, folder, digits):
    session = make()
    client, rows = client_of(session), session.grid.rows
    changed, path = rows[0], folder / f"{rows[0]:04}.png"
    before = client.get(f"thumb/{changed}").content
    session.say([(changed, "label", "two")])
    session.wait()
    Image.fromarray(digits.images[500]).save(path)
    session.confirm(session.grid.number)
    session.wait()
    assert session.said[changed].what == "drop" and session.grid.round == 1 and session.n_pool == 121
    assert [(file, "another image" in reason) for file, reason in session.unreadable] == [(str(path), True)]
    assert (changed, "two", None) in answers(session.learner) and changed not in session.learner.rows_
    assert client.get("thumb/120").content != before  # not the picture that was kept of this file
    session.say([(changed, "forget", None)])  # its label would count for the new image
    session.say([(120, "label", "one")])
    session.confirm(session.grid.number)
    session.wait()
    assert session.said[changed].what == "drop" and session.n_pool == 121
    assert 120 in session.learner.rows_ and changed not in session.learner.rows_
    session.close()
    again = make()
    assert again.n_pool == 121 and again.said[120].name == "one" and again.said[changed].what == "drop"


def test_a_folder_of_other_images_is_not_taken_for_new_ones(make, folder, digits):
    session = make()
    kept = folder.with_name("kept")
    shutil.copytree(folder, kept)
    for k, path in enumerate(sorted(folder.glob("*.png"))):
        Image.fromarray(digits.images[500 + k]).save(path)
    session.confirm(session.grid.number)
    with pytest.raises(RuntimeError, match="files hold other images than when the loop read them"):
        session.wait()
    assert session.n_labeled() == 10 and not session.unreadable
    for path in kept.glob("*.png"):
        shutil.copy(path, folder)
    session.retry()
    session.wait(until=lambda: session.grid is not None and session.grid.round == 1)
    assert len(session.learner.rows_) == 10


def test_names_that_are_hard_to_write(make, folder, tmp_path):
    session = make()
    client = client_of(session)
    rows = session.grid.rows[: len(NAMES)]
    for row, name in zip(rows, NAMES):
        state = client.post("api/class", json={"name": name}).json()
        assert state["classes"][-1] == name
        client.post("api/say", json={"answers": [{"row": row, "what": "label", "name": name}]})
    files = {"csv": "labels.csv", "coco": "labels.json", "label-studio": "tasks.json", "folders": "labels.zip"}
    paths = list(session.paths)
    for format, file in files.items():
        (tmp_path / file).write_bytes(client.get(f"api/export/{format}").content)
        if format == "folders":
            shutil.unpack_archive(tmp_path / file, tmp_path / "unpacked")
            file = "unpacked/labels"
        names = {name: name for name in session.class_names}
        clf = DualLinearClassifier(names, model_name="demo", pretrained="bundled", device="cpu", verbose=0)
        learner = DualPromptLearner(clf, paths, n_per_class=0)
        assert import_labels(learner, tmp_path / file, format=format, train=False).n_labels == len(NAMES), format
        assert dict(zip(learner.rows_.tolist(), learner.labels_.tolist())) == dict(zip(rows, NAMES)), format


def test_two_annotators(make, folder):
    ann = make(annotator="ann")
    rows = ann.grid.rows[:4]
    ann.say([(row, "label", "one") for row in rows])
    ann.close()
    assert answers(ann.learner) == sorted((row, "one", "ann") for row in rows)
    bob = make(annotator="bob")
    bob.say([(rows[0], "label", "one")])  # agrees, which counts as his answer, too
    bob.say([(rows[1], "label", "two")])
    bob.say([(rows[2], "label", "three")])
    bob.say([(rows[3], "skip", None)])
    bob.wait()
    both = [(rows[0], "one", "ann"), (rows[0], "one", "bob"), (rows[1], "one", "ann"), (rows[1], "two", "bob")]
    assert answers(bob.learner) == sorted([*both, (rows[2], "one", "ann"), (rows[2], "three", "bob")])
    assert bob.undo() and bob.undo()  # of the skip, and of "three"
    bob.wait()
    assert answers(bob.learner) == sorted([*both, (rows[2], "one", "ann"), (rows[3], "one", "ann")])
    assert bob.learner.disagreements.index.tolist() == [rows[1]]
    client = client_of(bob)
    kappa = cohen_kappa_score(["one", "one"], ["one", "two"])
    agreed = {"people": ["ann", "bob"], "both": 2, "alike": 1, "kappa": kappa}
    assert client.get("api/state").json()["agreements"] == [agreed]
    assert client.get("api/state").json()["disagreements"] == 1
    (tile,) = client.get("api/tiles?kind=disagreements").json()["tiles"]
    assert (tile["row"], tile["others"], tile["said"]["name"]) == (rows[1], "ann: one, bob: two", "two")
    assert dict(zip(bob.learner.rows_.tolist(), bob.learner.labels_.tolist()))[rows[1]] == "two"
    bob.close()
    nobody = make()
    assert nobody.agreements == [agreed]
    nobody.say([(rows[1], "label", "two")])  # nothing new, and nobody's name is taken away
    nobody.close()
    assert answers(nobody.learner) == answers(bob.learner)


def test_agreement_of_people(make):
    """Pairs with images in common, most images first; where there is one label only, kappa is not defined."""
    session = make(start=False)
    learner = session.learner.start()
    said = {"ann": "zero one two zero", "bob": "zero one one", "cy": "zero"}
    for annotator, labels in said.items():
        rows = list(range(len(labels.split())))
        learner.teach(rows=rows, y=labels.split(), annotator=annotator, train=False)
    learner.teach(rows=[9], y=["two"], annotator="dee", train=False)
    kappa = cohen_kappa_score(["zero", "one", "two"], ["zero", "one", "one"])
    pairs = agreements(learner)
    assert pairs[0] == {"people": ["ann", "bob"], "both": 3, "alike": 2, "kappa": kappa} and 0 < kappa < 1
    alone = {"both": 1, "alike": 1, "kappa": None}
    assert pairs[1:] == [{"people": ["ann", "cy"], **alone}, {"people": ["bob", "cy"], **alone}]


def test_what_one_said_before_a_kill_stays_hers(make, folder):
    ann = make(annotator="ann")
    row = ann.grid.rows[0]
    with ann._model:  # the thread can take in nothing
        ann.say([(row, "label", "one")])
        for name in ("labels.npz", "labels.npz.page"):
            shutil.copy(folder / name, folder / name.replace("labels", "copy"))
    bob = make("copy.npz", annotator="bob")
    bob.close()
    assert answers(bob.learner) == [(row, "one", "ann")]


def test_a_second_tab_confirms_nothing_that_it_does_not_show(make):
    session = make()
    first, second, grid = client_of(session), client_of(session), session.grid
    row = grid.rows[0]
    first.post("api/say", json={"answers": [{"row": row, "what": "label", "name": "two"}]})
    assert second.get("api/state").json()["labeled"] == 1
    first.post("api/confirm", json={"number": grid.number})
    late = second.post("api/confirm", json={"number": grid.number})
    assert late.status_code == 400 and session.n_labeled() == 10
    session.wait()
    assert second.post("api/undo", json={}).json()["labeled"] == 1  # the last gesture, in whichever tab
    assert second.get("api/state").json()["grid"]["number"] == grid.number
    assert os.path.basename(session.learner.path) == second.get("api/state").json()["state_file"]


def test_bob_takes_back_his_own_answer_alone(make):
    """What Ann said is there after *Take back* and after *Undo*, whatever Bob had said in between."""
    ann = make(annotator="ann")
    rows = ann.grid.rows[:4]
    ann.say([(row, "label", "one") for row in rows])
    ann.close()
    hers = sorted((row, "one", "ann") for row in rows)
    times = ann.learner.annotations["time"].tolist()
    bob = make(annotator="bob")
    bob.say([(row, "label", "nine") for row in rows[:3]])
    bob.wait()
    bob.say([(rows[0], "forget", None)])
    bob.wait()
    both = sorted([*hers, (rows[1], "nine", "bob"), (rows[2], "nine", "bob")])
    assert answers(bob.learner) == both and bob.said[rows[0]][:2] == ("label", "one")
    assert bob.learner.annotations["time"].tolist()[0] == times[0]
    bob.say([(rows[1], "skip", None)])
    bob.wait()
    assert (rows[1], "one", "ann") not in answers(bob.learner) and bob.said[rows[1]].what == "skip"
    assert bob.undo()
    bob.wait()
    assert answers(bob.learner) == both and bob.said[rows[1]].name == "nine"
    with pytest.raises(ValueError, match=f"row {rows[3]} has the answer of ann, which bob cannot take back"):
        bob.say([(rows[3], "forget", None)])
    bob.say([(row, "forget", None) for row in rows])
    bob.close()
    assert answers(bob.learner) == hers


def test_undo_of_a_skip_that_is_not_taken_in_yet_after_a_kill(make, folder):
    ann = make(annotator="ann")
    row = ann.grid.rows[0]
    ann.say([(row, "label", "one")])
    ann.close()
    bob = make(annotator="bob")
    bob.say([(row, "label", "nine")])
    bob.say([(row, "skip", None)])
    bob.wait()
    with bob._model:  # the thread can take in nothing
        bob.undo()
        for name in ("labels.npz", "labels.npz.page"):
            shutil.copy(folder / name, folder / name.replace("labels", "copy"))
    cy = make("copy.npz", annotator="cy")
    cy.close()
    assert answers(cy.learner) == [(row, "nine", "bob"), (row, "one", "ann")]


def test_every_change_of_a_row_is_brought_to_the_learner(make):
    """From any answers of two people, with and without a name, to any others."""
    learner = make(start=False).learner.start()
    names = Names(learner)
    said = {who: Said("label", name, 0.0, who) for who, name in (("ann", "one"), ("bob", "two"), (None, "three"))}
    other, skip, drop = Said("label", "four", 0.0, "ann"), Said("skip", None, 0.0), Said("drop", None, 0.0)
    states = [
        (), (said[None],), (said["ann"],), (other,), (skip,), (drop,), (said["ann"], said["bob"]),
        (said["bob"], other), (said["ann"], drop), (said[None], said["bob"]), (said["bob"], said["ann"]),
    ]  # fmt: skip
    pairs = [(before, after) for before in states for after in states]
    for start in range(0, len(pairs), 100):
        some = pairs[start : start + 100]
        for part in zip(*some):
            bring(learner, names, dict(enumerate(part)))
            held = states_of(learner, names)
            for row, state in enumerate(part):
                assert [one._replace(time=0.0) for one in held.get(row, ())] == list(state), some[row]


def test_a_file_that_is_away_for_a_moment_comes_back_with_its_answers(make, folder):
    ann = make(annotator="ann")
    shown = ann.grid.rows
    ann.say([(shown[0], "label", "one"), (shown[1], "label", "two")])
    ann.close()
    bob = make(annotator="bob")
    bob.say([(shown[1], "label", "nine")])
    bob.wait()
    labels = answers(bob.learner)
    free = next(row for row in range(120) if row not in shown)
    away = [folder / f"{row:04}.png" for row in (shown[0], shown[1], free)]
    for path in away:
        path.rename(path.with_suffix(".away"))
    bob.say([(shown[2], "label", "one"), (shown[1], "label", "eight")])  # of one that is gone, too
    bob.confirm(bob.grid.number)
    bob.wait()
    assert {bob.said[row].what for row in (shown[0], shown[1], free)} == {"drop"} and len(bob.unreadable) == 3
    assert shown[0] not in bob.learner.rows_ and shown[1] not in bob.learner.rows_
    bob.close()
    with pytest.warns(UserWarning, match="files of the pool are gone"):
        bob = make(annotator="bob")
    assert bob.said[shown[0]].what == "drop" and len(bob.unreadable) == 3
    for path in away:
        path.with_suffix(".away").rename(path)
    bob.say([(shown[0], "forget", None)])  # its file is back: that alone is taken back
    assert bob.said[shown[0]].name == "one"
    bob.confirm(bob.grid.number)
    bob.wait()
    assert bob.unreadable == [] and free not in bob.said and free in bob.learner.unlabeled_
    assert bob.said[shown[1]].name == "eight"
    bob.close()
    expected = {*labels, (shown[1], "eight", "bob")} - {(shown[1], "nine", "bob")}
    assert {a for a in answers(bob.learner) if a[0] in shown[:2]} == expected
    assert {shown[0], shown[1]} <= set(bob.learner.rows_.tolist())


def test_links_that_lead_nowhere_pipes_and_files_that_go_are_left_out(make, folder, monkeypatch):
    (folder / "dangling.png").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "pipe.png")
    transform, gone = DualLinearClassifier.transform, folder / "0007.png"

    def slow(self, X):
        gone.unlink(missing_ok=True)  # between the listing and the encoding
        return transform(self, X)

    monkeypatch.setattr(DualLinearClassifier, "transform", slow)
    session = make()
    assert session.n_pool == 119 and len(session.grid.rows) == 10
    assert {os.path.basename(path) for path, _ in session.unreadable} == {"dangling.png", "pipe.png", "0007.png"}
    session.confirm(session.grid.number)
    session.close()
    (folder / "new.png").symlink_to(folder / "nowhere")
    again = make(new_paths=[str(folder / "new.png")])
    assert again.grid is not None and again.n_labeled() == 10 and again.n_pool == 119


@pytest.mark.parametrize(
    ["name", "reason"],
    [("hot dog", "same tokens"), ("word " * 100, "is too long"), ("\ud800", "no text in UTF-8"), (None, "a text")],
)
def test_a_class_that_the_model_cannot_have_is_refused(make, name, reason):
    session = make()
    client = client_of(session)
    assert client.post("api/class", json={"name": "hot_dog"}).status_code == 200
    body = json.dumps({"name": name})
    answer = client.post("api/class", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400 and reason in answer.json()["error"]
    assert client.get("api/state").json()["classes"][10:] == ["hot_dog"]
    session.confirm(session.grid.number)
    session.wait()
    assert session.names.all()[10:] == ["hot_dog"] and session.grid.round == 1


def test_names_of_files_that_are_not_utf_8(make, folder):
    for name in (b"caf\xe9.png", b"broken\xe9.png"):
        shutil.copy(folder / "0003.png", os.path.join(os.fsencode(folder), name))
    with open(os.path.join(os.fsencode(folder), b"broken\xe9.png"), "wb") as file:
        file.write(b"no image")
    session = make(n_instances=121)
    state = client_of(session).get("api/state").json()
    assert "digits/caf\ufffd.png" in [tile["file"] for tile in state["grid"]["tiles"]]
    assert state["unreadable"]["files"][0][0] == "broken\ufffd.png"
    client_of(session).post("api/confirm", json={"number": session.grid.number})
    session.wait()
    assert session.n_labeled() == 121


def test_an_empty_name_of_an_annotator(make, folder):
    with pytest.raises(TypeError, match="annotator=' '; expected a name"):
        make(annotator=" ", start=False)
    session = make(start=False)
    session.annotator = ""  # as versions before let it be
    session.start()
    session.wait()
    with session._model:
        session.confirm(session.grid.number)
        for name in ("labels.npz", "labels.npz.page"):
            shutil.copy(folder / name, folder / name.replace("labels", "copy"))
        session._pending.clear()
    again = make("copy.npz", annotator="bob")
    assert again.n_labeled() == 10 and {who for _, _, who in answers(again.learner)} == {None}


def test_a_journal_without_its_state_is_not_read(make, folder):
    session = make()
    session.add_class("blot")
    session.confirm(session.grid.number)
    session.wait()
    session.close()
    (folder / "labels.npz").unlink()
    again = make()
    assert again.said == {} and again.checks == [] and "blot" not in again.class_names
    assert again.grid.number == 1 and again.grid.round == 0


def test_numbers_that_are_no_budget(make):
    session = make(budget=20)
    client = client_of(session)
    for n in ("1e999", "-100", "0", '"x"', "true", "1.5"):
        answer = client.post("api/budget", content=f'{{"n": {n}}}', headers={"content-type": "application/json"})
        assert answer.status_code == 400 and "expected a whole number" in answer.json()["error"], n
    assert session.learner.budget == 20


def test_a_folder_of_broken_images_alone(make, folder, capsys):
    for path in folder.glob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(RuntimeError, match="none of the 120 files can be read as an image"):
        make()
    error = capsys.readouterr().err
    assert error.startswith("error: none of the 120 files") and "Traceback" not in error
