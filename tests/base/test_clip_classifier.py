"""CLIPClassifier by a small subclass, and files of earlier versions."""

import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import NearestCentroid

from modal_clip_dual import DualPromptClassifier, DualPromptLearner
from modal_clip_dual.base import CLIPClassifier, class_of

FIXTURES = Path(__file__).parents[1] / "fixtures"
DEMO = {"model_name": "demo", "pretrained": "bundled", "device": "cpu", "verbose": 0}


@dataclass(frozen=True)
class Means:
    means: np.ndarray


class NearestMean(CLIPClassifier):
    """Logits are minus squared distances to class means; a class without a sample has its text."""

    _Head = Means

    def _fit(self, embeddings, target, text, logit_scale):
        seen = np.unique(target)
        means = text.copy()
        means[seen] = [embeddings[target == k].mean(axis=0) for k in seen]
        return Means(means)

    def _logits(self, embeddings):
        return -((embeddings[:, None] - self._head.means) ** 2).sum(axis=2)


@pytest.fixture
def labeled(embeddings, digits):
    rows = np.random.default_rng(0).permutation(1797)[:60]
    return embeddings[rows], digits.target[rows]


def test_two_methods_make_a_classifier(labeled, embeddings, digits):
    clf = NearestMean(digits.class_names, **DEMO).fit(*labeled)
    expected = NearestCentroid().fit(*labeled).predict(embeddings)
    assert (clf.predict(embeddings) == expected).mean() > 0.999
    assert clf.n_features_in_ == 128
    np.testing.assert_array_equal(clf.predict(digits.images[:20]), clf.predict(embeddings[:20]))
    np.testing.assert_allclose(clf.transform(embeddings * 2), embeddings, atol=1e-6)
    np.testing.assert_allclose(
        clf.predict_correct_proba(embeddings), clf.predict_proba(embeddings).max(axis=1), atol=1e-6
    )
    copied = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(copied.predict_proba(embeddings), clf.predict_proba(embeddings))
    with pytest.raises(NotFittedError):
        clone(clf).predict(embeddings)


def test_zero_shot_without_fit(embeddings, digits):
    zero_shot = DualPromptClassifier(digits.class_names, **DEMO).zero_shot_proba(embeddings[:50])
    np.testing.assert_array_equal(
        NearestMean(digits.class_names, **DEMO).zero_shot_proba(embeddings[:50]), zero_shot
    )


def test_what_a_subclass_lacks_is_named(labeled):
    with pytest.raises(NotImplementedError, match="CLIPClassifier has no _fit"):
        CLIPClassifier([str(k) for k in range(10)], **DEMO).fit(*labeled)


def test_files_of_other_classes_are_refused(labeled, digits, tmp_path):
    clf = NearestMean(digits.class_names, **DEMO).fit(*labeled)
    clf.save(tmp_path / "mine.npz")  # a class of another package: it can be written, and is never imported
    with pytest.raises(ValueError, match="expected a classifier of this package"):
        NearestMean.load(tmp_path / "mine.npz")
    for path in ("os:system", "modal_clip_dual.utils.labels:check_labels", "modal_clip_dual.nowhere:X",
                 "modal_clip_dual.heads.tip_adapter:Interval",
                 "modal_clip_dual.base:CLIPClassifier.load"):  # fmt: skip
        with pytest.raises(ValueError, match="class "):
            class_of(path)


# ---------------------------------------------------------------- files of version 0.1.0

EPS = np.finfo(np.float32).eps


@pytest.fixture(scope="module")
def expected():
    """Probabilities by version 0.1.0, on another processor."""
    with np.load(FIXTURES / "expected-0.1.0.npz") as file:
        return dict(file)


def close(actual, expected):
    """Probabilities of logits up to 100: sums of 128 products in float32, in another order."""
    np.testing.assert_allclose(actual, expected, atol=4 * 128 * EPS * 100)


def test_old_classifiers_load(digits, expected):
    X = digits.images[:20]
    text = DualPromptClassifier.load(FIXTURES / "classifier-0.1.0.npz")
    close(text.predict_proba(X), expected["text"])
    close(text.predict_correct_proba(X), expected["text_correct"])
    assert text.net_params is None
    assert text.classes_.tolist() == sorted(digits.class_names)
    maple = DualPromptClassifier.load(FIXTURES / "maple-0.1.0.npz")
    close(maple.predict_proba(X), expected["maple"])
    assert maple.cache == "disk"
    assert maple.net_params == {
        "module__n_visual_tokens": 3, "module__prompt_depth": 2, "optimizer__momentum": 0.5
    }  # fmt: skip
    assert (maple.criterion, maple.augment) == ("dual", "coop")  # what 0.1.0 had
    with pytest.warns(UserWarning, match="augment='coop' hides"):
        maple.set_params(cache="memory").partial_fit(X[:4], digits.target[:4])


def test_old_loops_go_on(digits, expected, tmp_path):
    path = shutil.copy(FIXTURES / "learner-0.1.0.npz", tmp_path / "loop.npz")
    learner = DualPromptLearner.resume(path, digits.images[:200])
    close(learner.predict_proba(digits.images[:20]), expected["learner"])
    assert (learner.n_per_class, learner.first_query, learner.budget) == (4, "strategy", 30)
    assert learner.estimator.net_params == {"iterator_train__pseudo_batch_size": 32}
    rows = expected["continued_rows"][10:]
    learner.teach(rows=rows, y=digits.target[rows])
    # Training amplifies the last bits: the same to two digits, where another seed would differ in the first.
    np.testing.assert_allclose(learner.predict_proba(digits.images[:20]), expected["continued"], atol=0.02)
    assert DualPromptLearner.resume(path, digits.images[:200]).rows_.tolist() == expected["continued_rows"].tolist()


def test_transform_gives_frames_where_asked(embeddings, digits):
    """scikit-learn's set_output, before a fit and after one, and as the whole process's setting."""
    import pandas as pd
    import sklearn

    from modal_clip_dual import DualPromptClassifier

    clf = DualPromptClassifier(
        digits.class_names, model_name="demo", pretrained="bundled", max_epochs=1, device="cpu", verbose=0
    )
    expected, index = clf.transform(embeddings[:5]), list("abcde")
    frame = clf.set_output(transform="pandas").transform(pd.DataFrame(embeddings[:5], index=index))
    assert list(frame.columns) == [f"dualpromptclassifier{k}" for k in range(embeddings.shape[1])]
    assert frame.index.tolist() == index
    np.testing.assert_allclose(frame.to_numpy(), expected, atol=np.finfo(np.float32).eps, rtol=0)
    images = clf.transform(digits.images[:5])
    assert isinstance(images, pd.DataFrame) and images.shape == (5, embeddings.shape[1])
    clf.fit(embeddings[:40], digits.target[:40])
    assert list(clf.transform(embeddings[:5]).columns) == clf.get_feature_names_out().tolist()
    with sklearn.config_context(transform_output="pandas"):
        again = DualPromptClassifier(**clf.get_params()).fit(embeddings[:40], digits.target[:40])
        assert isinstance(again.transform(embeddings[:5]), pd.DataFrame)
        assert again.predict_proba(embeddings[:5]).shape == (5, 10)
