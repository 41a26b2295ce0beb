"""SmoothedClassifier: exact radii of linear classifiers, scipy's binomial bounds, and noise in the right place."""

import warnings

import numpy as np
import pandas as pd
import pytest
from conftest import LABELLED, make_classifier
from modAL.models import ActiveLearner
from PIL import Image
from scipy.stats import binomtest, norm
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from modal_clip_dual import CalibratedCorrectness, SmoothedClassifier
from modal_clip_dual.strategies import smoothing_sampling
from modal_clip_dual.test_time import WienerDenoiser
from modal_clip_dual.test_time.smoothing import lower_bound


class Linear:
    """Two classes on two sides of a plane in the pixels, which are X itself with channels first."""

    classes_ = np.array(["left", "right"])

    def __init__(self, w, b=0.0):
        self.w, self.b, self.seen = np.asarray(w), b, []

    def input_pixels(self, X):
        return X.astype(np.float32).transpose(0, 3, 1, 2) / 255

    def proba_of_pixels(self, pixels):
        self.seen.append(pixels)
        right = pixels.reshape(len(pixels), -1) @ self.w + self.b > 0
        return np.stack([~right, right], axis=1).astype(np.float32)


def linear_on_table(w, b):
    clf = LogisticRegression()
    clf.coef_, clf.intercept_ = np.array([w]), np.array([b])
    clf.classes_, clf.n_features_in_ = np.array([0, 1]), len(w)
    return clf


@pytest.mark.parametrize("sigma", [0.1, 0.5])
def test_radius_of_a_linear_classifier(sigma):
    w, b = np.array([3.0, -4.0, 1.0]), 0.7
    X = np.random.default_rng(0).normal(scale=sigma, size=(40, 3))
    exact = np.abs(X @ w + b) / np.linalg.norm(w)  # Cohen et al., Proposition 4
    smoothed = SmoothedClassifier(linear_on_table(w, b), sigma, n_estimate=4000, random_state=0)
    labels, radii = smoothed.certify(X)
    certain = ~np.isnan(radii)
    assert certain.sum() > 30
    np.testing.assert_array_equal(labels[certain], (X @ w + b > 0)[certain])
    # A bound fails with probability 0.001 each; these share their noise, so that none or many fail.
    assert (radii[certain] <= exact[certain]).all()
    # One standard error of the share moves the bound by 3.1 of them at alpha = 0.001, and the draw by a few.
    within = certain & (exact < 1.5 * sigma)
    share = norm.cdf(exact / sigma)
    slack = 7 * np.sqrt(share * (1 - share) / 4000)
    lowest = sigma * norm.ppf(np.maximum(share - slack, 0.5))
    assert (radii[within] >= lowest[within]).all() and within.sum() > 20
    assert (exact[~certain] < 0.1 * sigma).all()


def test_largest_radius_is_that_of_a_unanimous_vote():
    smoothed = SmoothedClassifier(linear_on_table([1.0], 0.0), 0.25, n_estimate=1000, random_state=0)
    _, radii = smoothed.certify(np.array([[100.0]]))
    # All n votes: the share is at least alpha^(1/n).
    np.testing.assert_allclose(radii, 0.25 * norm.ppf(0.001 ** (1 / 1000)), rtol=1e-9)


def test_bound_is_scipys():
    for n in (1, 10, 1000):
        for alpha in (0.001, 0.05):
            votes = np.unique(np.linspace(0, n, 12).astype(int))
            expected = [
                binomtest(int(k), n, alternative="greater").proportion_ci(1 - alpha, method="exact").low
                for k in votes
            ]
            np.testing.assert_allclose(lower_bound(votes, n, alpha), expected, rtol=1e-6, atol=1e-12)


def test_abstains_on_the_plane():
    clf = linear_on_table([1.0, 1.0], 0.0)
    smoothed = SmoothedClassifier(clf, 0.3, random_state=1, abstain_label=-1)
    X = np.array([[0.5, -0.5], [3.0, 3.0]])
    labels, radii = smoothed.certify(X)
    assert np.isnan(radii[0]) and radii[1] > 0 and set(labels) <= {0, 1}
    predicted = smoothed.predict(X)
    assert predicted.tolist() == [-1, 1] and predicted.dtype.kind == "i"
    assert smoothed.set_params(abstain_label="?").predict(X).tolist() == ["?", 1]
    assert set(smoothed.set_params(abstain_label=None).predict(X)) <= {0, 1}


def test_without_noise_it_is_the_classifier(digits):
    clf = make_classifier(digits)
    smoothed = SmoothedClassifier(clf, 0.0)
    expected = clf.zero_shot_proba(digits.images[:20]).argmax(axis=1)
    labels, radii = smoothed.certify(digits.images[:20])
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_array_equal(smoothed.predict(digits.images[:20]), expected)
    np.testing.assert_array_equal(radii, 0)
    np.testing.assert_array_equal(smoothed.predict_proba(digits.images[:20]), np.eye(10)[expected])


def test_noise_then_denoiser_then_classifier():
    seen = []

    def denoise(noisy):
        seen.append(noisy)
        return np.zeros_like(noisy)

    clf = Linear(np.ones(12), b=-0.5)
    X = np.full((1, 2, 2, 3), 128, np.uint8)
    smoothed = SmoothedClassifier(clf, 0.2, denoiser=denoise, n_select=50, n_estimate=300, random_state=0)
    labels, _ = smoothed.certify(X)
    assert labels.tolist() == ["left"]  # of zeros; of the image itself it would be "right"
    noisy = np.concatenate(seen)
    assert noisy.shape == (350, 3, 2, 2) and all((pixels == 0).all() for pixels in clf.seen)
    np.testing.assert_allclose(noisy.mean(axis=0), 128 / 255, atol=5 * 0.2 / np.sqrt(350))
    np.testing.assert_allclose(noisy.std(), 0.2, rtol=5 / np.sqrt(2 * noisy.size))
    wrong = SmoothedClassifier(clf, denoiser=lambda noisy: noisy[:, :1])
    with pytest.raises(ValueError, match="denoiser returned an array of shape .* expected the same"):
        wrong.predict(X)


def test_noise_is_in_the_models_own_pixels(digits, demo):
    """From 0 to 1, after resizing and before normalization: the steps one by one."""
    import torch

    clf = make_classifier(digits)
    X = digits.images[:3]
    pixels = clf.input_pixels(X)
    assert pixels.shape == (3, 3, 32, 32) and pixels.min() == 0 and pixels.max() == 1
    by_open_clip = torch.stack([demo.preprocess(image) for image in _pictures(X)])
    mean, std = (np.array(values)[:, None, None] for values in (demo.preprocessing.mean, demo.preprocessing.std))
    np.testing.assert_allclose((pixels - mean) / std, by_open_clip, atol=1e-6)
    np.testing.assert_allclose(clf.proba_of_pixels(pixels), clf.zero_shot_proba(X), atol=1e-4)
    smoothed = SmoothedClassifier(clf, 0.5, n_select=20, random_state=3)
    seed = int(np.random.default_rng(3).integers(2**63))
    noise = np.random.default_rng(seed).standard_normal((20, 3, 32, 32), dtype=np.float32)
    noisy = torch.from_numpy(((pixels[1] + 0.5 * noise) - mean) / std).float()
    logits = demo.encode_images(noisy).numpy() @ clf.zero_shot_coef().T
    expected = np.bincount(logits.argmax(axis=1), minlength=10) / 20
    np.testing.assert_array_equal(smoothed.predict_proba(X)[1], expected)


def _pictures(X):
    from PIL import Image

    return [Image.fromarray(image).convert("RGB") for image in X]


def test_answers_do_not_depend_on_other_images(digits, fitted):
    X = digits.images[:6]
    smoothed = SmoothedClassifier(fitted, n_select=30, random_state=0)
    whole = smoothed.predict_proba(X)
    np.testing.assert_allclose(smoothed.predict_proba(X[4:])[0], whole[4], atol=2 / 30)
    np.testing.assert_array_equal(smoothed.predict_proba(X), whole)
    assert len(np.unique(whole)) > 3
    np.testing.assert_array_equal(smoothed.predict(X), fitted.classes_[whole.argmax(axis=1)])


def test_visual_prompts_are_used(digits):
    clf = make_classifier(digits, visual_prompts="vpt-shallow", max_epochs=1, augment=None, n_visual_tokens=2)
    clf.fit(digits.images[LABELLED[:20]], digits.target[LABELLED[:20]])
    pixels = clf.input_pixels(digits.images[:4])
    np.testing.assert_allclose(clf.proba_of_pixels(pixels), clf.predict_proba(digits.images[:4]), atol=1e-4)
    plain = make_classifier(digits)
    assert np.abs(plain.proba_of_pixels(pixels) - clf.proba_of_pixels(pixels)).max() > 1e-3
    embeddings = clf.transform(digits.images[:4])
    np.testing.assert_allclose(clf.proba_of_embeddings(embeddings), clf.predict_proba(digits.images[:4]), atol=1e-4)


def test_the_wrapped_classifier_is_not_changed(digits, fitted):
    before = {name: value.copy() for name, value in fitted.fitted_state()[1].items()}
    proba = fitted.predict_proba(digits.images[:20])
    smoothed = SmoothedClassifier(FrozenEstimator(fitted), n_select=5, n_estimate=20, denoiser="wiener")
    smoothed.fit_denoiser(digits.images[:50]).certify(digits.images[:2])
    for name, value in fitted.fitted_state()[1].items():
        np.testing.assert_array_equal(value, before[name])
    np.testing.assert_array_equal(fitted.predict_proba(digits.images[:20]), proba)


def test_the_denoiser_is_the_best_linear_map():
    """Against the normal equations of least squares on the covariance of the pool."""
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(60, 12)) @ rng.normal(size=(12, 12)) + 1).reshape(60, 3, 2, 2)
    denoiser = WienerDenoiser(0.8).fit(X)
    cov = np.cov(X.reshape(60, -1), rowvar=False)
    gain = cov @ np.linalg.inv(cov + 0.64 * np.eye(12))
    noisy = X[:5] + 0.8 * rng.normal(size=X[:5].shape)
    mean = X.reshape(60, -1).mean(axis=0)
    expected = (mean + (noisy.reshape(5, -1) - mean) @ gain.T).reshape(noisy.shape)
    # float32 sums of 60 samples, through a singular value decomposition
    np.testing.assert_allclose(denoiser(noisy), expected, atol=1e-4 * np.abs(X).max())
    perfect = WienerDenoiser(0.0).fit(X)
    np.testing.assert_allclose(perfect(noisy), noisy, atol=1e-4 * np.abs(X).max())
    few = WienerDenoiser(0.8).fit(X[:4])
    axes = PCA(3).fit(X[:4].reshape(4, -1))
    off = few(noisy).reshape(5, -1) - axes.mean_
    np.testing.assert_allclose(off @ axes.components_.T @ axes.components_, off, atol=1e-4 * np.abs(X).max())
    with pytest.raises(NotFittedError, match="never fitted"):
        WienerDenoiser()(noisy)
    for wrong in (X[:1], X[:, 0, 0, 0]):
        with pytest.raises(ValueError, match="at least two images"):
            WienerDenoiser().fit(wrong)
    with pytest.raises(ValueError, match="sigma=-1"):
        WienerDenoiser(-1)


def test_the_denoiser_is_a_transformer():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 4)), np.arange(60) % 2
    denoiser = clone(WienerDenoiser(0.5))
    assert denoiser.get_params() == {"sigma": 0.5} and repr(denoiser) == "WienerDenoiser(sigma=0.5)"
    pipe = make_pipeline(denoiser, LogisticRegression()).fit(X, y)
    np.testing.assert_array_equal(pipe[:-1].transform(X), WienerDenoiser(0.5).fit(X)(X))
    with pytest.raises(ValueError, match=r"X has shape \(60, 3\); expected \(n, 4\), as in fit"):
        denoiser(X[:, :3])
    holes = np.where(np.arange(240).reshape(60, 4) == 13, np.nan, X)
    with pytest.raises(ValueError, match="X has values that are not finite, in row 3"):
        denoiser.transform(holes)
    with pytest.raises(ValueError, match="X has values that are not finite, in row 3"):
        WienerDenoiser().fit(holes)
    assert denoiser.transform(X).tolist() == denoiser(X).tolist()
    with pytest.raises(ValueError, match="X holds something that is no number"):
        WienerDenoiser().fit(X.astype(str).astype(object) + "a")
    with pytest.raises(ValueError, match="sigma=-2"):
        WienerDenoiser().set_params(sigma=-2).fit(X)


class Untrained(LogisticRegression):
    """A classifier that must not be trained."""

    def fit(self, X, y):
        raise AssertionError("it was trained")


def test_images_need_a_classifier_on_pixels(digits, tmp_path):
    X, y = digits.images[:20], digits.target[:20]
    digit = tmp_path / "a.png"
    Image.fromarray(X[0]).save(digit)
    for estimator in (make_pipeline("passthrough", Untrained()), CalibratedCorrectness(Untrained())):
        name = type(estimator).__name__
        with pytest.raises(ValueError, match=f"X holds images, but noise .* and {name} is none"):
            SmoothedClassifier(estimator).fit(X, y)
        with pytest.raises(ValueError, match="X holds paths, but noise"):
            SmoothedClassifier(estimator).fit([str(digit)] * 2, [0, 1])


def test_names_of_columns_are_known_behind_the_noise():
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    X = pd.DataFrame(rng.normal(size=(40, 2)) + 2 * y[:, None], columns=["a", "b"])
    chosen = make_pipeline(make_column_transformer((StandardScaler(), ["b"])), LogisticRegression())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for estimator in (LogisticRegression(), chosen):
            clf = SmoothedClassifier(estimator, 0.1, n_select=20, random_state=0).fit(X, y)
            assert clf.score(X, y) > 0.8
    with pytest.raises(ValueError, match="feature names"):
        clf.predict(X.rename(columns={"a": "c"}))


def test_denoising_keeps_more_votes(digits):
    clf = make_classifier(digits)
    plain = SmoothedClassifier(clf, 0.5, n_select=100, random_state=0)
    denoised = SmoothedClassifier(clf, 0.5, denoiser="wiener", n_select=100, random_state=0)
    denoised.fit_denoiser(digits.images[300:600])
    X, y = digits.images[:10], digits.target[:10]
    right = [clf_.predict_proba(X)[np.arange(10), y].mean() for clf_ in (plain, denoised)]
    assert right[1] > right[0] + 0.2


def test_in_a_learner(digits):
    clf = SmoothedClassifier(make_classifier(digits, max_epochs=2), denoiser="wiener", n_select=5, random_state=0)
    learner = ActiveLearner(clf, smoothing_sampling, X_training=digits.images[:20], y_training=digits.target[:20])
    rows, images = learner.query(digits.images[20:50], n_instances=4)
    learner.teach(images, digits.target[20:50][rows], X_pool=digits.images[:100])
    assert learner.estimator.denoiser_.mean_.shape == (3 * 32 * 32,)
    assert learner.predict(digits.images[:3]).shape == (3,)


def test_bad_input_is_refused(digits, embeddings, fitted):
    clf = make_classifier(digits)
    for call in (SmoothedClassifier(fitted).certify, SmoothedClassifier(clf).predict):
        with pytest.raises(ValueError, match="holds embeddings, but noise is added to pixels"):
            call(embeddings[:3])
    with pytest.raises(ValueError, match="holds embeddings, but noise is added to pixels"):
        SmoothedClassifier(clf).fit(embeddings[:20], digits.target[:20])
    with pytest.raises(ValueError, match="holds embeddings, which have no pixels"):
        clf.input_pixels(embeddings[:3])
    with pytest.raises(ValueError, match=r"pixels has shape .* expected \(n, 3, 32, 32\)"):
        clf.proba_of_pixels(np.zeros((2, 3, 8, 8)))
    with pytest.raises(ValueError, match=r"embeddings has shape .* expected \(n, 128\)"):
        clf.proba_of_embeddings(embeddings[:3, :5])
    with pytest.raises(NotFittedError, match="fit_denoiser"):
        SmoothedClassifier(clf, denoiser="wiener").predict(digits.images[:2])
    with pytest.raises(ValueError, match="is not fitted; expected 'wiener'"):
        SmoothedClassifier(clf).fit_denoiser(digits.images[:5])
    smoothed = SmoothedClassifier(clf, denoiser="wiener").fit_denoiser(digits.images[:5])
    with pytest.raises(NotFittedError, match=r"fitted for sigma=0.25, but sigma is 0.5"):
        smoothed.set_params(sigma=0.5).predict(digits.images[:2])
    for name, wrong in {"sigma": -1, "n_select": 0, "n_estimate": 0, "alpha": 1.0, "denoiser": "tv"}.items():
        with pytest.raises(ValueError, match=f"'{name}' parameter"):
            SmoothedClassifier(clf, **{name: wrong}).predict(digits.images[:2])
    with pytest.raises(NotFittedError):
        SmoothedClassifier(LogisticRegression()).predict(np.zeros((2, 2)))


@parametrize_with_checks(
    [SmoothedClassifier(LogisticRegression(), sigma=0.01, n_select=3, n_estimate=3, random_state=0)]
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)
