"""The state behind the page, without a browser."""

import shutil
import threading
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from label_sessions import folder, make, truth  # noqa: F401 - fixtures
from scipy.stats import norm

from modal_clip_dual import DualPromptClassifier, DualPromptLearner
from modal_clip_dual.cli import main
from modal_clip_dual.label import work
from modal_clip_dual.label.grids import Check, Grid, agreement, check_of, choose_rows
from modal_clip_dual.label.journal import Journal


def answer(session, truth):
    """What a person does who knows the truth: correct the wrong ones, confirm the rest."""
    grid = session.grid
    wrong = [row for row, name in grid.predicted().items() if name != truth(session.paths[row])]
    session.say([(row, "label", truth(session.paths[row])) for row in wrong])
    session.confirm(grid.number)
    return grid


def saved(folder, state="labels.npz"):
    """Labels by file name in the state file."""
    learner = DualPromptLearner.resume(folder / state)
    names = {str(learner.X_pool[row])[-8:]: label for row, label in zip(learner.rows_, learner.labels_)}
    table = learner.annotations
    learner.close()
    return names, table


def test_correct_and_confirm(make, folder, truth):
    session = make()
    rows = []
    for k in range(3):
        rows += answer(session, truth).rows
        session.wait()
        assert session.grid.round == k + 1
    assert len(set(rows)) == 30 == session.n_labeled()
    assert sum(check.n + check.n_random for check in session.checks) == 30
    assert [check.n_random for check in session.checks] == [2, 2, 2]
    assert len(session.log) == 4 and session.log[-1]["n_labels"] == 30
    session.close()
    names, table = saved(folder)
    assert names == {session.paths[row][-8:]: truth(session.paths[row]) for row in rows}
    assert (table["what"] == "label").all()


def test_one_at_a_time_and_other_answers(make, folder):
    session = make()
    first, second, third, fourth = session.grid.rows[:4]
    assert session.add_class("  a   blot ") == "a blot"
    session.say([(first, "label", "a blot")])
    session.say([(second, "skip", None), (third, "drop", None)])
    session.say([(fourth, "label", "one")])
    session.say([(fourth, "label", "two")])
    session.wait()
    assert set(session.grid.rows[4:]) == set(session.waiting())
    session.say([(fourth, "forget", None), (second, "label", "nine")])
    session.close()
    names, table = saved(folder)
    assert names == {session.paths[first][-8:]: "a blot", session.paths[second][-8:]: "nine"}
    assert table.set_index("row")["what"].to_dict() == {first: "label", second: "label", third: "drop"}
    assert session.names.all()[-1] == "a blot"


def test_undo(make, folder, truth):
    session = make()
    grid = answer(session, truth)
    session.wait()
    n_wrong = sum(name != truth(session.paths[row]) for row, name in grid.predicted().items())
    later = session.grid
    assert session.undo()
    assert session.grid.number == grid.number and len(session.waiting()) == 10 - n_wrong
    assert session.checks == []
    if n_wrong:
        assert session.undo()
    assert not session.undo() and session.said == {}
    session.wait()
    answer(session, truth)
    assert session.grid.rows == later.rows  # what was shown meanwhile comes next
    session.close()
    names, _ = saved(folder)
    assert names == {session.paths[row][-8:]: truth(session.paths[row]) for row in grid.rows}


def test_killed_before_the_learner_heard_of_it(make, folder, truth, tmp_path):
    """Answers are in the journal before `say` returns; the state file may be older."""
    session = make()
    rows = session.grid.rows
    with session._model:  # the thread can take in nothing
        session.add_class("blot")
        session.say([(rows[0], "label", "blot")])
        session.say([(rows[1], "label", "one"), (rows[2], "skip", None)])
        session.say([(rows[1], "label", "two")])
        for name in ("labels.npz", "labels.npz.page"):
            shutil.copy(folder / name, folder / name.replace("labels", "copy"))
    with open(folder / "copy.npz.page", "ab") as file:
        file.write(b'{"n": 99, "say": [[5, "label", "th')  # cut off in the middle
    again = make("copy.npz")
    assert {row: said[:2] for row, said in again.said.items()} == {
        rows[0]: ("label", "blot"), rows[1]: ("label", "two"), rows[2]: ("skip", None)
    }  # fmt: skip
    assert again.grid.rows == rows and again.waiting() == rows[3:] and again.grid.number == session.grid.number
    again.confirm(again.grid.number)
    again.wait()
    again.close()
    names, _ = saved(folder, "copy.npz")
    assert len(names) == 9 and names[session.paths[rows[1]][-8:]] == "two"


def test_export_in_the_shell_tells_of_answers_that_are_not_in_the_state(make, folder, tmp_path, capsys):
    session = make()
    rows = session.grid.rows
    session.say([(rows[0], "label", "one")])
    session.wait(until=lambda: not session._pending)
    state, out = str(folder / "labels.npz"), str(tmp_path / "out.csv")
    assert main(["export", state, out]) == 0
    told = capsys.readouterr()
    assert told.out == f"1 labels written: {out}\n" and not told.err
    with session._model:  # the thread can take in nothing, as while it trains
        session.say([(row, "label", "two") for row in rows[:3]])
        session.say([(rows[1], "forget", None), (rows[3], "skip", None), (rows[0], "label", "one")])
        assert main(["export", state, out, "--overwrite"]) == 0
        told = capsys.readouterr()
        assert told.out == f"1 labels written: {out}\n"  # said anew, and taken back: not counted
        assert f"not in {state} yet, and may be missing in {out}: 2.  To take them in, end modal" in told.err
    session.close()
    assert main(["export", state, out, "--overwrite"]) == 0
    told = capsys.readouterr()
    assert told.out == f"2 labels written: {out}\n" and not told.err


def test_export_in_the_shell_passes_over_the_journal_of_another_pool(make, folder, tmp_path, capsys):
    make().close()
    journal = Journal(folder / "labels.npz.page")
    journal.start(["other.png"])
    journal.append({"n": 1, "say": [[0, "label", "one", 0.0]]})
    assert main(["export", str(folder / "labels.npz"), str(tmp_path / "out.csv")]) == 0
    assert not capsys.readouterr().err


def test_going_on(make, truth):
    session = make()
    answer(session, truth)
    session.wait()
    session.say([(session.grid.rows[0], "skip", None)])
    grid, checks = session.grid, session.checks
    session.close()
    again = make()
    assert again.grid == grid and again.checks == checks and len(again.said) == 11


def test_journal_of_another_pool_is_not_read(tmp_path):
    journal = Journal(tmp_path / "journal")
    journal.start(["a/1.png", "a/2.png"])
    journal.append({"n": 1, "say": [[0, "label", "cat", 0.0]]})
    assert len(journal.read(["b/1.png", "b/2.png", "b/3.png"])) == 1  # moved, and grown
    assert journal.read(["a/2.png", "a/1.png"]) == []
    assert journal.read(["a/1.png"]) == []
    (tmp_path / "journal").write_bytes(b"\0nothing\n")
    assert journal.read(["a/1.png"]) == []


def test_wrong_answers_change_nothing(make):
    session = make()
    number, row = session.grid.number, session.grid.rows[0]
    wrong_answers = [
        (-1, "label", "one"), (len(session.paths), "skip", None), (True, "skip", None), ("0", "skip", None),
        (row, "label", "eleven"), (row, "label", None), (row, "skip", "one"), (row, "delete", None),
    ]  # fmt: skip
    for wrong in wrong_answers:
        with pytest.raises(ValueError, match="row|answer|class"):
            session.say([(row, "label", "one"), wrong])
    for name in ("one", "ONE ", "one_", "a " * 200, "", " _ "):
        with pytest.raises(ValueError, match="class"):
            session.add_class(name)
    with pytest.raises(ValueError, match="not the one that is shown"):
        session.confirm(number + 1)
    with pytest.raises(ValueError, match="kind="):
        session.tiles("secrets")
    assert session.said == {} and not session.can_undo


def test_budget(make, truth):
    session = make(budget=12, n_random=0)
    answer(session, truth)
    session.wait()
    assert len(session.grid.rows) == 2
    answer(session, truth)
    session.wait()
    assert session.grid is None and session.status["phase"] == "done"
    assert session.status["message"] == "the budget of 12 labels is spent"
    session.extend_budget(5)
    session.wait(until=lambda: session.grid is not None)
    assert len(session.grid.rows) == 5


def test_whole_pool(make, folder, truth):
    for k in range(25, 120):
        (folder / f"{k:04}.png").unlink()
    session = make()
    for _ in range(3):
        answer(session, truth)
        session.wait()
    assert session.grid is None and session.status["message"] == "every image has an answer"


def test_files_that_cannot_be_read_or_are_gone(make, folder, truth):
    (folder / "broken.png").write_bytes(b"no image")
    session = make()
    assert [path[-10:] for path, _ in session.unreadable] == ["broken.png"] and session.n_pool == 120
    lost = next(row for row in range(120) if row not in session.grid.rows)
    (folder / f"{lost:04}.png").unlink()
    answer(session, truth)
    session.wait()
    assert session.said[lost].what == "drop" and session.n_labeled() == 10
    (folder / f"{session.grid.rows[0]:04}.png").unlink()
    session.say([(session.grid.rows[0], "label", "one")])  # seen before it went
    session.wait()
    assert session.said[session.grid.rows[0]].what == "drop" and len(session.unreadable) == 3
    assert session.learner.rows_.tolist() == [row for row, said in session.said.items() if said.what == "label"]


def test_new_files_and_labels_to_begin_with(make, folder, truth, digits):
    paths = sorted(map(str, folder.glob("*.png")))
    session = make(labels={paths[3]: "three", paths[5]: "five"})
    assert {row: said.name for row, said in session.said.items()} == {3: "three", 5: "five"}
    session.wait()
    session.close()
    new = folder / "new"
    new.mkdir()
    shutil.copy(folder / "0007.png", new / "0200.png")
    again = make(new_paths=[str(new / "0200.png")])
    assert again.n_pool == 121 and 120 in again.learner.unlabeled_


def test_a_grid_ahead_where_training_is_slow(make, truth, monkeypatch):
    monkeypatch.setattr(work, "SLOW", -1.0)
    session = make()
    shown = session.grid
    assert len(session._ready) == 1 and not set(session._ready[0].rows) & set(shown.rows)
    with session._model:  # it cannot train now
        answer(session, truth)
        assert session.grid is not None and session.grid.round == 0
    session.wait()
    assert session._ready[0].round == 1
    assert not set(session._ready[0].rows) & (set(session.grid.rows) | set(shown.rows))


def test_prompts_and_a_calibration(make, folder, digits):
    """Another learner behind the page: it names the images, says how sure it is, and how long it will take."""
    for k in range(60, 120):
        (folder / f"{k:04}.png").unlink()
    names = {name: name for name in digits.class_names}
    clf = DualPromptClassifier(names, model_name="demo", pretrained="bundled", device="cpu", max_epochs=1, verbose=0)
    paths = sorted(map(str, folder.glob("*.png")))
    learner = DualPromptLearner(clf, paths, n_per_class=1, calibration="transductive", path=folder / "labels.npz")
    session = make(learner=learner)
    assert None not in session.grid.names
    sure = learner.predict_correct_proba([session.paths[row] for row in session.grid.rows])
    np.testing.assert_allclose(session.grid.correct, sure, rtol=1e-5)
    expected = []
    session._set_status = lambda phase, set_status=session._set_status, **more: (
        expected.append((phase, more.get("expected"))), set_status(phase, **more)
    )  # fmt: skip
    seconds = session.log[-1]["train_seconds"]
    session.confirm(session.grid.number)
    session.wait()
    assert ("training", seconds) in expected and session.grid.round == 1
    assert session.log[-1]["accuracy_interval"] is not None


def test_answers_that_come_meanwhile_make_no_grid_smaller(make):
    session = make()
    with session._model:  # it has heard of none of these when it chooses
        session.confirm(session.grid.number)
        session.say([(row, "label", "one") for row in session.learner.unlabeled_[:40].tolist()])
        grid = session._choose()
    assert len(grid.rows) == 10 and not set(grid.rows) & set(session.said)


def test_a_training_that_fails(make, truth, monkeypatch, folder, capsys):
    session = make()

    def fails():
        raise FloatingPointError("not finite")

    monkeypatch.setattr(session.learner, "train", fails)
    grid = answer(session, truth)
    with pytest.raises(RuntimeError, match="not finite"):
        session.wait()
    assert session.status["phase"] == "error" and session.n_labeled() == 10
    assert "FloatingPointError" in capsys.readouterr().err
    monkeypatch.undo()
    session.retry()
    session.wait(until=lambda: session.grid is not None)
    session.close()
    names, _ = saved(folder)
    assert len(names) == len(grid.rows)


def test_review(make, truth):
    session = make()
    for _ in range(3):
        answer(session, truth)
        session.wait()
    tiles, total = session.tiles("predictions", 0, 500)
    assert total == 90 and {tile["row"] for tile in tiles} == set(session.learner.unlabeled_)
    sure = session.learner.estimator.predict_correct_proba([session.paths[tile["row"]] for tile in tiles])
    np.testing.assert_allclose([tile["correct"] for tile in tiles], sure, rtol=1e-5)
    assert (np.diff(sure) >= -1e-6).all()
    labels, total = session.tiles("labels", 0, 10)
    assert total == 30 and len(labels) == 10
    proba = session.learner.estimator.predict_proba([session.paths[tile["row"]] for tile in labels])
    classes = session.learner.estimator.classes_.tolist()
    own = [shares[classes.index(tile["said"])] for shares, tile in zip(proba, labels)]
    np.testing.assert_allclose([tile["correct"] for tile in labels], own, rtol=1e-5)
    assert own == sorted(own)
    last = list(session.said)[-1]
    assert session.tiles("history", 0, 5)[0][0]["row"] == last
    session.say([(labels[0]["row"], "label", "eight")])
    assert session.tiles("history", 0, 5)[0][0]["row"] == labels[0]["row"]


def test_answers_from_many_threads(make, folder):
    session = make()
    rows = list(range(60))
    threads = [
        threading.Thread(target=lambda part=part: [session.say([(row, "label", "one")]) for row in part])
        for part in (rows[::3], rows[1::3], rows[2::3])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    session.close()
    names, _ = saved(folder)
    assert sorted(names) == [f"{row:04}.png" for row in rows]


def test_checks_count_random_images_apart():
    grid = Grid(1, 0, [3, 1, 4, 5], ["a", "b", "a", "b"], [0.5] * 4, [[]] * 4, random=[4, 5])
    labels = {3: "a", 1: "a", 4: "a"}  # 5 was skipped
    assert check_of(grid, labels) == Check(0, 2, 1, 1, 1)
    total = agreement([Check(0, 18, 9, 2, 1), Check(1, 18, 17, 2, 2)])
    z, n, share = norm.ppf(0.975), 4, 3 / 4  # Wilson's formula
    center = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    np.testing.assert_allclose([total["low"], total["high"]], [center - half, center + half], rtol=1e-9)
    assert total["n"] == 36 and total["agree"] == 26
    assert agreement([])["low"] is None
    assert choose_rows([7, 8, 9, 2], [9, 5], {5, 8}, 3) == [9, 7, 2]
    assert grid.without({1, 4}) == replace(
        grid, rows=[3, 5], names=["a", "b"], correct=[0.5] * 2, guesses=[[]] * 2, random=[5]
    )


def test_times_are_those_of_the_answers(make):
    session = make()
    before = pd.Timestamp.now(tz="UTC")
    session.say([(session.grid.rows[0], "skip", None)])
    session.wait()
    assert abs((session.learner.annotations["time"].iloc[0] - before).total_seconds()) < 60
