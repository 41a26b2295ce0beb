"""DualPromptClassifier.save and load: the same predictions, and no other CLIP under them."""

import json
import pickle
import time

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import write_checkpoint
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from modal_clip_dual import DualPromptClassifier, DualPromptLearner, __version__
from modal_clip_dual.utils import persistence


def settings_of(path):
    with np.load(path, allow_pickle=False) as file:
        return json.loads(str(file["settings"]))


def rewrite(path, change):
    """Change the settings of a file in place."""
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    settings = json.loads(str(arrays["settings"]))
    change(settings, arrays)
    with open(path, "wb") as file:
        np.savez(file, **(arrays | {"settings": np.array(json.dumps(settings))}))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "clf.npz"


@pytest.fixture
def anew(nothing_loaded):
    """Load from a file as another process would: with no CLIP in memory."""

    def load(path, **params):
        nothing_loaded.clear()
        return DualPromptClassifier.load(path, **params)

    return load


@pytest.mark.parametrize("labels", ["integers", "strings", "objects", "mapping"])
def test_predicts_the_same_bits(classifier, digits, embeddings, path, anew, labels):
    X, y = embeddings[:60], digits.target[:60]
    clf = classifier(max_epochs=2)
    if labels in ("strings", "objects"):
        y = np.array(digits.class_names, dtype=object if labels == "objects" else str)[y]
    elif labels == "mapping":
        y = y + 5
        clf.set_params(class_names={5 + k: name for k, name in enumerate(digits.class_names)})
    clf.fit(X, y)
    clf.save(path)
    loaded = anew(path)
    for method in ("predict", "predict_proba", "clean_logits", "predict_correct_proba", "zero_shot_proba"):
        np.testing.assert_array_equal(getattr(loaded, method)(X), getattr(clf, method)(X))
    assert loaded.classes_.dtype == clf.classes_.dtype
    assert loaded.get_params() == clf.get_params()
    assert loaded.n_features_in_ == 128
    assert loaded.history_[:, "train_loss"] == clf.history_[:, "train_loss"]
    assert path.stat().st_size < 100_000
    assert [entry.name for entry in path.parent.iterdir()] == ["clf.npz"]


@pytest.mark.parametrize("visual", ["vpt-deep", "vpt-shallow", "maple"])
def test_visual_prompts(digits, checkpoints, path, anew, visual):
    X, y = digits.images[:16], digits.target[:16]
    clf = DualPromptClassifier(
        digits.class_names, model_name=f"local-dir:{checkpoints['clip']}", pretrained=None,
        visual_prompts=visual, net_params={"module__n_visual_tokens": np.int64(2)}, n_context=3,
        max_epochs=1, device="cpu", augment=None, random_state=0, verbose=0,
    ).fit(X, y)  # fmt: skip
    clf.save(path)
    loaded = anew(path)
    np.testing.assert_array_equal(loaded.clean_logits(X), clf.clean_logits(X))
    np.testing.assert_array_equal(loaded.transform(X), clf.transform(X))


def test_class_specific_contexts(classifier, digits, embeddings, path, anew):
    """They come back as they are, also where net_params no longer ask for them, and training goes on from them."""
    X, y = embeddings[:20], digits.target[:20]
    params = {"module__class_specific_context": True}
    clf = classifier(max_epochs=2, n_context=3, context_init="a photo", net_params=params).fit(X, y)
    clf.save(path)
    loaded = anew(path, net_params=None)
    np.testing.assert_array_equal(loaded.clean_logits(X), clf.clean_logits(X))
    loaded.partial_fit(X, y)
    np.testing.assert_array_equal(loaded.clean_logits(X), clf.partial_fit(X, y).clean_logits(X))
    assert loaded.net_.module_.context_positive.shape == (10, 3, 128)


def test_a_file_from_before_offsets_of_names(classifier, digits, embeddings, path, anew):
    """Prompts without offsets predict as they did, and training goes on without."""
    X, y = embeddings[:20], digits.target[:20]
    clf = classifier(max_epochs=2, net_params={"module__name_offsets": False}).fit(X, y)
    clf.save(path)
    loaded = anew(path, net_params=None)
    np.testing.assert_array_equal(loaded.clean_logits(X), clf.clean_logits(X))
    loaded.partial_fit(X, y)
    np.testing.assert_array_equal(loaded.clean_logits(X), clf.partial_fit(X, y).clean_logits(X))
    assert not loaded.net_.module_.name_offsets
    with_offsets = classifier(max_epochs=2).fit(X, y)
    assert with_offsets.net_.module_.name_offsets
    with_offsets.save(path)
    loaded = anew(path)
    np.testing.assert_array_equal(loaded.clean_logits(X), with_offsets.clean_logits(X))
    np.testing.assert_array_equal(
        loaded.partial_fit(X, y).clean_logits(X), with_offsets.partial_fit(X, y).clean_logits(X)
    )
    assert np.abs(loaded.net_.module_.offsets_positive.detach().numpy()).max() > 0


def test_what_only_some_fits_leave(classifier, embeddings, digits, path, anew):
    clf = classifier(max_epochs=1).fit_unlabeled(embeddings[:80], n_per_class=2)
    clf.save(path)
    loaded = anew(path)
    np.testing.assert_array_equal(loaded.pseudo_rows_, clf.pseudo_rows_)
    np.testing.assert_array_equal(loaded.pseudo_labels_, clf.pseudo_labels_)
    assert loaded.pseudo_labels_.dtype == clf.pseudo_labels_.dtype
    table = pd.DataFrame(embeddings[:20]).add_prefix("e")
    classifier(max_epochs=1).fit(table, digits.target[:20]).save(path)
    loaded = anew(path)
    assert loaded.feature_names_in_.tolist() == table.columns.tolist()
    assert not hasattr(loaded, "pseudo_rows_")
    with pytest.raises(ValueError, match="feature names"):
        loaded.predict(table.rename(columns={"e0": "other"}))
    loaded.fit(embeddings[:20], digits.target[:20])  # leaves nothing of the file behind
    for name in ("saved_with_", "_saved_clip", "feature_names_in_"):
        assert not hasattr(loaded, name)


def test_loaded_estimator_goes_on(classifier, digits, embeddings, path, anew):
    X, y = embeddings[:30], digits.target[:30]
    clf = classifier(max_epochs=2).fit(X, y)
    clf.save(path)
    loaded = anew(path)
    loaded.save(path.with_name("again"))  # before the CLIP was loaded
    copy = pickle.loads(pickle.dumps(loaded))
    again = anew(path.with_name("again"))
    for other in (loaded, copy, again):
        other.partial_fit(X, y)
    clf.partial_fit(X, y)
    for other in (loaded, copy, again):
        np.testing.assert_array_equal(other.clean_logits(X), clf.clean_logits(X))
        assert len(other.history_) == len(clf.history_) == 4
    assert not hasattr(clone(anew(path)), "classes_")


def test_no_clip_is_loaded_before_it_is_used(classifier, digits, embeddings, path, anew, nothing_loaded):
    classifier(max_epochs=1).fit(embeddings[:20], digits.target[:20]).save(path)
    loaded = anew(path)
    assert not nothing_loaded
    loaded.predict(embeddings[:2])
    assert len(nothing_loaded) == 1


# -------------------------------------------------------------------- another CLIP


@pytest.fixture
def replaced(digits, tmp_path, path):
    """A saved classifier, and what writes another checkpoint to the folder of its CLIP."""
    folder = write_checkpoint(tmp_path / "clip")
    clf = DualPromptClassifier(
        digits.class_names, model_name=f"local-dir:{folder}", pretrained=None, n_context=2,
        max_epochs=1, device="cpu", random_state=0,
    ).fit(digits.images[:20], digits.target[:20])  # fmt: skip
    clf.save(path)

    def replace(seed):
        time.sleep(0.02)  # for the file's time of change
        write_checkpoint(folder, seed=seed)

    return clf, replace, folder


def test_replaced_checkpoint_is_refused(replaced, digits, path):
    clf, replace, folder = replaced
    X, expected = digits.images[:20], clf.clean_logits(digits.images[:20])
    saved = clf.net_.module_.text_encoder.backbone.weights_checksum
    replace(seed=1)
    loaded = DualPromptClassifier.load(path)
    for use in (loaded.predict, loaded.transform, lambda X: loaded.net_):  # and again
        with pytest.raises(ValueError, match=f"other weights.*{saved}.*saved with python") as caught:
            use(X)
        assert f"model_name='local-dir:{folder}', pretrained=None" in str(caught.value)
        assert loaded._load_backbone(*loaded._clip).weights_checksum in str(caught.value)
    loaded.fit(X, digits.target[:20])  # a new fit is one on the new CLIP
    assert loaded.predict(X).shape == (20,)
    replace(seed=0)
    np.testing.assert_array_equal(DualPromptClassifier.load(path).clean_logits(X), expected)


def test_other_preprocessing_is_refused(replaced, digits, path):
    _, _, folder = replaced
    config = folder / "open_clip_config.json"
    time.sleep(0.02)
    config.write_text(config.read_text().replace("0.3", "0.25"))
    with pytest.raises(ValueError, match=r"other preprocessing .*0\.25.* than .*0\.3"):
        DualPromptClassifier.load(path).predict(digits.images[:2])


def test_text_tower_counts_too(replaced, digits, path):
    _, _, folder = replaced
    state = torch.load(folder / "open_clip_pytorch_model.bin", weights_only=True)
    state["ln_final.bias"][0] += 1
    time.sleep(0.02)
    torch.save(state, folder / "open_clip_pytorch_model.bin")
    with pytest.raises(ValueError, match="other weights"):
        DualPromptClassifier.load(path).predict(digits.images[:2])


def test_clip_that_moved(replaced, digits, path, tmp_path):
    clf, _, folder = replaced
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="expected a folder"):
        DualPromptClassifier.load(path).predict(digits.images[:2])
    moved = DualPromptClassifier.load(path, model_name=f"local-dir:{tmp_path / 'elsewhere'}")
    np.testing.assert_array_equal(moved.clean_logits(digits.images[:9]), clf.clean_logits(digits.images[:9]))


def test_other_precision_of_the_same_clip(replaced, digits, path, nothing_loaded):
    clf, replace, _ = replaced
    X = digits.images[:20]
    half = DualPromptClassifier.load(path, precision="bf16")
    assert (half.predict(X) == clf.predict(X)).mean() > 0.8
    assert [key[3] for key in nothing_loaded] == ["bf16"]  # the other one was forgotten
    replace(seed=2)
    with pytest.raises(ValueError, match="other weights"):
        DualPromptClassifier.load(path, precision="bf16").predict(X)


def test_resumed_learner_refuses_another_clip(replaced, digits, path, tmp_path):
    clf, replace, _ = replaced
    X = digits.images[:30]
    DualPromptLearner(clone(clf), X, n_per_class=1, path=tmp_path / "loop.npz").start()
    DualPromptLearner.resume(tmp_path / "loop.npz", X).predict(X)
    replace(seed=1)
    with pytest.raises(ValueError, match="other weights"):
        DualPromptLearner.resume(tmp_path / "loop.npz", X).predict(X)


# -------------------------------------------------------------------- parameters and files


def test_parameters_that_are_no_plain_values(classifier, digits, embeddings, path):
    X, y = embeddings[:20], digits.target[:20]
    net_params = {"optimizer": torch.optim.Adam}
    seeded = classifier(max_epochs=1, net_params=net_params, random_state=np.random.RandomState(0))
    clf = seeded.fit(X, y)
    clf.save(path)
    with pytest.raises(ValueError, match=r"cannot hold the saved net_params, random_state.*net_params=\.\.\."):
        DualPromptClassifier.load(path)
    loaded = DualPromptClassifier.load(path, net_params=net_params, random_state=3, device="cpu")
    np.testing.assert_array_equal(loaded.clean_logits(X), clf.clean_logits(X))
    assert (loaded.net_params, loaded.random_state) == (net_params, 3)
    with pytest.raises(TypeError, match="other"):
        DualPromptClassifier.load(path, net_params=net_params, random_state=3, other=1)
    with pytest.raises(ValueError, match="'lr' parameter"):
        DualPromptClassifier.load(path, net_params=net_params, random_state=3, lr=-1)


def test_folder_of_the_cache_is_not_taken_from_a_file(classifier, digits, embeddings, path, tmp_path):
    clf = classifier(max_epochs=1, cache=tmp_path / "cache")
    clf.fit(embeddings[:20], digits.target[:20]).save(path)
    assert DualPromptClassifier.load(path).cache == "disk"
    assert DualPromptClassifier.load(path, cache=tmp_path).cache == tmp_path
    theirs = str(tmp_path / "theirs")
    rewrite(path, lambda s, a: s["estimator"]["params"].update(cache=theirs))
    with pytest.raises(ValueError, match="a file may not choose a folder"):
        DualPromptClassifier.load(path)
    state = tmp_path / "state.npz"
    DualPromptLearner(clf, embeddings[:20], path=state).start()
    assert DualPromptLearner.resume(state, embeddings[:20]).estimator.cache == "disk"
    rewrite(state, lambda s, a: s["estimator"]["params"].update(cache=theirs))
    with pytest.raises(ValueError, match="a file may not choose a folder"):
        DualPromptLearner.resume(state, embeddings[:20])


def test_versions_are_stored_and_shown(fitted, path):
    fitted.save(path)
    loaded = DualPromptClassifier.load(path)
    assert loaded.saved_with_ == settings_of(path)["versions"]
    assert loaded.saved_with_["modal-clip-dual"] == __version__
    assert loaded.saved_with_["torch"] == torch.__version__.partition("+")[0]
    assert "open_clip_torch" in loaded.saved_with_
    rewrite(path, lambda settings, _: settings.update(schema=3))
    with pytest.raises(ValueError, match="has schema 3; .* reads 2 .written with python .* open_clip_torch"):
        DualPromptClassifier.load(path)


def test_save_refuses(classifier, fitted, tmp_path):
    with pytest.raises(NotFittedError):
        classifier().save(tmp_path / "a")
    with pytest.raises(ValueError, match="there is no such folder to write to"):
        fitted.save(tmp_path / "no" / "a")
    with pytest.raises(ValueError, match="is a folder"):
        fitted.save(tmp_path)
    with pytest.raises(FileNotFoundError):
        DualPromptClassifier.load(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_failed_save_keeps_the_old_file(fitted, path, monkeypatch):
    fitted.save(path)
    before = path.read_bytes()

    def full(*args):
        raise OSError("no space left")

    monkeypatch.setattr(persistence.os, "replace", full)
    with pytest.raises(OSError, match="no space left"):
        fitted.save(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["clf.npz"]


def test_files_of_learners_and_classifiers_are_told_apart(fitted, classifier, embeddings, tmp_path):
    fitted.save(tmp_path / "clf")
    DualPromptLearner(classifier(max_epochs=1), embeddings[:40], path=tmp_path / "loop").start()
    with pytest.raises(ValueError, match="not a saved learner but a classifier, for DualPromptClassifier.load"):
        DualPromptLearner.resume(tmp_path / "clf", embeddings[:40])
    with pytest.raises(ValueError, match="not a saved classifier but a learner, for DualPromptLearner.resume"):
        DualPromptClassifier.load(tmp_path / "loop")


DAMAGES = {
    "no estimator": lambda s, a: s.pop("estimator"),
    "no parameters": lambda s, a: s["estimator"].pop("params"),
    "parameters of another type": lambda s, a: s["estimator"].update(params=[1]),
    "an unknown parameter": lambda s, a: s["estimator"]["params"].update(run="me"),
    "a wrong parameter": lambda s, a: s["estimator"]["params"].update(lr="high"),
    "wrong class names": lambda s, a: s["estimator"]["params"].update(class_names={"items": [[1]]}),
    "no classes": lambda s, a: s["fit"].pop("classes"),
    "too few classes": lambda s, a: s["fit"]["classes"].pop(),
    "names of another type": lambda s, a: s["fit"].update(names=list(range(10))),
    "no prompt": lambda s, a: a.pop("head.context_negative"),
    "a prompt of another shape": lambda s, a: a.update({"head.context_positive": np.zeros(3)}),
    "half the offsets": lambda s, a: a.update({"head.offsets_positive": np.zeros((10, 2, 128))}),
    "the other half": lambda s, a: a.update({"head.offsets_negative": np.zeros((10, 2, 128))}),
    "offsets of another shape": lambda s, a: a.update(
        {"head.offsets_positive": np.zeros(128), "head.offsets_negative": np.zeros((10, 2, 128))}
    ),
    "no checksum": lambda s, a: s["fit"].pop("clip_identity"),
    "a checksum that is none": lambda s, a: s["fit"]["clip_identity"].update(weights=7),
    "half a checksum": lambda s, a: s["fit"]["clip_identity"].pop("weights"),
    "no visual settings": lambda s, a: s["fit"]["head"].update(visual={}),
    "no versions": lambda s, a: s.update(versions=3),
    "history of another type": lambda s, a: s.update(history=3),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_file_is_refused_by_name(fitted, path, damage):
    fitted.save(path)
    rewrite(path, DAMAGES[damage])
    with pytest.raises(ValueError, match="clf.npz|'lr' parameter"):
        DualPromptClassifier.load(path)
