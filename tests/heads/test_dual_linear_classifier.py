"""DualLinearClassifier: what it adds to its numerics (test_dual_linear.py)."""

import pickle

import numpy as np
import pandas as pd
import pytest
from head_template import DEMO, ROWS, HeadTests
from modAL.models import ActiveLearner
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from modal_clip_dual import DualLinearClassifier, DualPromptLearner, TestTimeCentroids

NO_POOL = "ignore:DualLinearClassifier has no pool"


@pytest.mark.filterwarnings(NO_POOL)
class TestDualLinear(HeadTests):
    Head = DualLinearClassifier
    grid = {"label_weight": [1.0, 5.0]}


@pytest.fixture
def make(digits):
    return lambda **params: DualLinearClassifier(digits.class_names, **{**DEMO, **params})


@pytest.fixture
def parts(embeddings, digits):
    """Pool, test samples and their labels."""
    order = np.random.default_rng(0).permutation(1797)
    pool, test = order[:1198], order[1198:]
    return embeddings[pool], digits.target[pool], embeddings[test], digits.target[test]


def test_learns_without_a_label_and_better_with_some(make, parts, digits):
    pool, y_pool, X, y = parts
    clf = make().fit_unlabeled(pool)
    zero_shot = (clf.zero_shot_proba(X).argmax(axis=1) == y).mean()
    assert clf.score(X, y) > zero_shot + 0.12
    assert clf.classes_.tolist() == list(range(10))
    clf.fit(pool[:20], y_pool[:20])  # the pool is remembered
    with_pool = clf.score(X, y)
    with pytest.warns(UserWarning, match=r"has no pool.*fit\(X, y, X_pool=...\)"):
        alone = clone(clf).fit(pool[:20], y_pool[:20]).score(X, y)
    assert with_pool > alone + 0.05


def test_labels_of_nothing_are_refused(make, parts):
    pool, y_pool, _, _ = parts
    for clf, extra in ((make(), {}), (make(), {"X_pool": pool}), (make().fit_unlabeled(pool[:200]), {})):
        with pytest.raises((TypeError, ValueError), match="X has shape .*expected image embeddings"):
            clf.fit(None, y_pool, **extra)


def test_linear_in_its_embeddings(make, parts):
    pool, y_pool, X, _ = parts
    clf = make().fit(pool[:30], y_pool[:30], X_pool=pool)
    logits = clf.transform(X) @ clf.coef_.T + clf.intercept_
    np.testing.assert_allclose(clf.predict_logits(X)[0], logits, atol=1e-3)
    assert clf.coef_.shape == (10, 128) and clf.coef_.dtype == np.float32
    assert sum(clf.head_weights_.values()) > 0
    assert 0.9 < clf.text_share_ <= 1
    for name in ("coef_", "intercept_", "head_weights_", "text_share_"):
        with pytest.raises(AttributeError, match=f"not fitted yet: it has no {name}"):
            getattr(make(), name)


def test_pool_is_passed_on_by_modal_and_by_the_loop(make, parts):
    pool, y_pool, X, y = parts
    expected = make().fit(pool[:15], y_pool[:15], X_pool=pool).predict_proba(X)
    learner = ActiveLearner(make())
    learner.teach(pool[:15], y_pool[:15], X_pool=pool)
    np.testing.assert_array_equal(learner.predict_proba(X), expected)
    loop = DualPromptLearner(make(), pool, y_pool=y_pool)
    loop.query(n_instances=1)
    assert loop.log_[0]["n_labels"] == 0 and loop.log_[0]["accuracy"] > 0.85
    loop.teach(rows=np.arange(15), y=y_pool[:15])
    np.testing.assert_array_equal(loop.predict_proba(X), expected)


def test_pool_outlives_pickles_but_not_files_and_clones(make, parts, tmp_path):
    pool, y_pool, X, _ = parts
    clf = make().fit_unlabeled(pool)
    copied = pickle.loads(pickle.dumps(clf)).fit(pool[:9], y_pool[:9])
    np.testing.assert_array_equal(copied.predict_proba(X), clf.fit(pool[:9], y_pool[:9]).predict_proba(X))
    clf.save(tmp_path / "clf.npz")
    for other in (clone(clf), DualLinearClassifier.load(tmp_path / "clf.npz")):
        with pytest.warns(UserWarning, match="has no pool"):
            other.fit(pool[:9], y_pool[:9])


def test_save_without_neighbors(make, parts, tmp_path):
    pool, y_pool, X, y = parts
    clf = make().fit(pool[:40], y_pool[:40], X_pool=pool)
    clf.save(tmp_path / "large")
    clf.save(tmp_path / "small", neighbors=False)
    assert (tmp_path / "small").stat().st_size < 0.3 * (tmp_path / "large").stat().st_size
    small = DualLinearClassifier.load(tmp_path / "small")
    np.testing.assert_array_equal(small.predict_logits(X)[0], clf.predict_logits(X)[0])
    assert abs(small.predict_correct_proba(X).mean() - small.score(X, y)) < 0.1
    never = make(n_neighbors=0).fit(pool[:40], y_pool[:40], X_pool=pool)
    np.testing.assert_allclose(small.predict_correct_proba(X), never.predict_correct_proba(X), atol=0.05)
    assert not np.array_equal(small.predict_correct_proba(X), clf.predict_correct_proba(X))


def test_fits_from_before_the_second_opinion_still_load(make, parts):
    pool, y_pool, X, _ = parts
    clf = make().fit(pool[:40], y_pool[:40], X_pool=pool)
    settings, arrays = clf.fitted_state()
    assert arrays.pop("head.second").shape == (pool.shape[1] + 1, len(clf.classes_))
    del settings["head"]["second_factor"]
    old = make().restore_state(settings, arrays)
    np.testing.assert_array_equal(old.predict_proba(X), clf.predict_proba(X))
    logits = np.column_stack([X, np.ones(len(X))]) @ clf._head.second
    rest = [np.log(np.exp(np.delete(logits, k, axis=1)).sum(axis=1)) for k in range(logits.shape[1])]
    second = clf._head.second_factor * (logits - np.transpose(rest))
    np.testing.assert_allclose(old.clean_logits(X), clf.clean_logits(X) - second, atol=2e-3)
    for broken in ({k: v for k, v in arrays.items() if k != "head.store"}, arrays | {"head.third": np.ones(3)}):
        with pytest.raises(ValueError, match="does not hold what a DualLinearFit has"):
            make().restore_state(settings, broken)


def test_all_forms_of_the_pool(make, digits, embeddings, tmp_path):
    clf = make(max_pool=150).fit(digits.images[:20], digits.target[:20], X_pool=digits.images[:300])
    same = make(max_pool=150).fit(embeddings[:20], digits.target[:20], X_pool=embeddings[:300])
    actual, wanted = clf.predict_proba(digits.images[300:320]), same.predict_proba(embeddings[300:320])
    np.testing.assert_allclose(actual, wanted, atol=1e-2)
    mapped = np.memmap(tmp_path / "pool", dtype=np.float32, mode="w+", shape=(300, 128))
    mapped[:] = embeddings[:300]
    from_file = make(max_pool=150).fit(embeddings[:20], digits.target[:20], X_pool=mapped)
    np.testing.assert_array_equal(from_file.predict_proba(embeddings), same.predict_proba(embeddings))
    table = pd.DataFrame(embeddings[:300]).add_prefix("e")
    named = make().fit_unlabeled(table)
    assert named.feature_names_in_[0] == "e0"


def test_columns_of_pool_and_labeled_samples_are_compared(make, digits, embeddings):
    pool, y = pd.DataFrame(embeddings[:100]).add_prefix("e"), digits.target[:20]
    turned = pool[pool.columns[::-1]]
    fitted = make().fit(pool[:20], y, X_pool=pool)
    message = "columns of X have other names than those of {}, or another order: column 0 is 'e0' in X and 'e127' in "
    with pytest.raises(ValueError, match=message.format("X_pool")):
        make().fit(pool[:20], y, X_pool=turned)
    with pytest.raises(ValueError, match=message.format("the pool that was given before")):
        make().fit_unlabeled(turned).fit(pool[:20], y)
    with pytest.raises(ValueError, match="the pool that was given before"):
        fitted.fit(turned[:20], y)
    plain = make().fit(embeddings[:20], y, X_pool=turned.to_numpy()[:, ::-1])  # without names
    np.testing.assert_array_equal(plain.coef_, fitted.coef_)


@pytest.mark.parametrize("form", [np.asfortranarray, pd.DataFrame, lambda X: X.astype(np.float64), lambda X: X * 3])
def test_labeled_samples_are_known_in_the_pool_in_any_form(make, digits, embeddings, form):
    X, y = embeddings[:60], digits.target[:60]
    plain, other = (make().fit(labeled, y, X_pool=embeddings[:300]) for labeled in (X, form(X)))
    assert len(plain._head.store) == len(other._head.store) == 300
    np.testing.assert_allclose(other.predict_proba(embeddings), plain.predict_proba(embeddings), atol=1e-3)


def test_only_the_rows_that_are_used_are_encoded(make, digits, demo, monkeypatch):
    demo.embedding_cache.clear()
    seen = []
    encode = type(demo).encode_images
    monkeypatch.setattr(type(demo), "encode_images", lambda self, x: seen.append(len(x)) or encode(self, x))
    make(max_pool=50).fit_unlabeled(digits.images[:400])
    assert sum(seen) == 50


# ---------------------------------------------------------------- encoders outside of open_clip


@pytest.fixture
def text(demo, digits):
    return demo.encode_texts([f"a photo of a {name}." for name in digits.class_names]).numpy()


def test_text_embeddings_of_another_encoder(make, parts, text, demo, digits, nothing_loaded, tmp_path):
    pool, y_pool, X, y = parts
    params = {"text_embeddings": text * 3, "logit_scale": demo.logit_scale}
    clf = DualLinearClassifier(digits.class_names, **params).fit(pool[:30], y_pool[:30], X_pool=pool)
    assert not nothing_loaded  # no CLIP is
    assert clf.score(X, y) > 0.9
    expected = clf.zero_shot_proba(X)
    np.testing.assert_allclose(expected.sum(axis=1), 1, atol=1e-5)
    clf.save(tmp_path / "clf")
    loaded = DualLinearClassifier.load(tmp_path / "clf")
    np.testing.assert_array_equal(loaded.clean_logits(X), clf.clean_logits(X))
    with pytest.raises(ValueError, match="text_embeddings are not those that the saved classifier"):
        DualLinearClassifier.load(tmp_path / "clf", text_embeddings=text[::-1].copy()).predict(X)
    assert not nothing_loaded
    np.testing.assert_allclose(make().zero_shot_proba(X), expected, atol=1e-4)
    with pytest.raises(ValueError, match="X holds images, which cannot be encoded by the encoder of text_emb"):
        clf.set_params(max_pool=9).fit(digits.images[:20], digits.target[:20])
    by_name = DualLinearClassifier(digits.class_names, **params)
    names = np.array(digits.class_names)
    by_name.fit(pool[:30], names[y_pool[:30]], X_pool=pool)
    assert by_name.classes_.tolist() == sorted(digits.class_names)
    assert by_name.score(X, names[y]) == clf.score(X, y)


def test_text_embeddings_before_a_fit(parts, text, demo, digits, nothing_loaded):
    """The encoder is the one of the text: no other CLIP is asked for, and X is not said to hold images."""
    X = parts[2]
    clf = DualLinearClassifier(digits.class_names, text_embeddings=text * 3, logit_scale=demo.logit_scale)
    assert clf.get_feature_names_out().tolist() == [f"duallinearclassifier{k}" for k in range(128)]
    frame = clone(clf).set_output(transform="pandas").transform(X)
    assert frame.columns.tolist() == clf.get_feature_names_out().tolist()
    np.testing.assert_allclose(clf.zero_shot_coef(), text * demo.logit_scale, rtol=1e-4, atol=1e-3)
    adapted = TestTimeCentroids(clf).adapt(X[:200])
    assert adapted.score(X, parts[3]) > 0.5
    with pytest.raises(ValueError, match="pixels cannot be encoded by an encoder outside of this package"):
        clf.embeddings_of_pixels(np.zeros((1, 3, 8, 8)))
    assert not nothing_loaded


def test_without_text(parts, digits, nothing_loaded):
    pool, y_pool, X, y = parts
    wide = np.hstack([pool, pool[:, :3]]), np.hstack([X, X[:, :3]])  # no CLIP has this width
    clf = DualLinearClassifier([f"class {k}" for k in range(10)], text_embeddings=False)
    clf.fit(wide[0][:60], y_pool[:60], X_pool=wide[0])
    logistic = LogisticRegression(C=10, max_iter=2000).fit(wide[0][:60], y_pool[:60])
    assert clf.score(wide[1], y) > logistic.score(wide[1], y)
    assert not nothing_loaded
    with pytest.raises(ValueError, match="text_embeddings=False: the names mean nothing"):
        clf.zero_shot_proba(wide[1])
    with pytest.raises(ValueError, match="text_embeddings=False: without labels nothing tells"):
        clf.fit_unlabeled(wide[0])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"text_embeddings": True}, "text_embeddings=True; expected an array"),
        ({"text_embeddings": np.ones((3, 8))}, r"has shape \(3, 8\).*expected numbers of shape \(10, D\)"),
        ({"text_embeddings": np.ones((10, 128)) * np.nan}, "not finite"),
        ({"text_embeddings": np.zeros((10, 128))}, "rows of zeros"),
        ({"text_embeddings": np.ones((10, 128)), "class_names": None}, "with class_names=None"),
        ({"logit_scale": 0.0}, "'logit_scale' parameter"),
        ({"max_pool": 0}, "'max_pool' parameter"),
        ({"n_folds": 1}, "'n_folds' parameter"),
        ({"n_neighbors": -1}, "'n_neighbors' parameter"),
    ],
)
def test_wrong_parameters(make, embeddings, digits, params, message):
    with pytest.raises(ValueError, match=message):
        make().set_params(**params).fit(embeddings[:20], digits.target[:20], X_pool=embeddings)


def test_wrong_pools(make, embeddings, digits):
    clf = make().fit_unlabeled(embeddings[:200])
    expected = clf.predict_proba(embeddings[:5])
    for pool, message in (
        (embeddings[:0], "X_pool is empty|minimum of 1 is required"),
        (embeddings[:, :7], "X_pool has 7 features"),
    ):
        with pytest.raises(ValueError, match=message):
            clf.fit(embeddings[:9], digits.target[:9], X_pool=pool)
    np.testing.assert_array_equal(clf.predict_proba(embeddings[:5]), expected)
    with pytest.raises(ValueError, match="class_names is None; without labels"):
        make().set_params(class_names=None).fit_unlabeled(embeddings)
    assert len(ROWS) == 60
