"""DualLinearClassifier: a linear head that learns from the whole pool, a few labels and the text."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils._param_validation import Interval

from ..base import CLIPClassifier
from ..clip.external import ExternalEncoder
from ..clip.inputs import check_same_columns, column_names
from ..data.files import looking_once
from ..data.images import as_array, kind_of, rows_called
from ..utils.arrays import unit_rows
from ..utils.labels import check_labels, resolve_labels
from ..utils.pool import spread_rows
from ..utils.weights import weighted_rows
from ._dual_linear import POOL, fit_dual_linear
from ._fitted import DualLinearFit

if TYPE_CHECKING:
    from ..clip.backbone import Backbone
    from ..clip.inputs import Template

COUNT = [Interval(Integral, 1, None, closed="left")]
SCALE = 100.0  # scale of the logits of OpenAI's models, and of most later ones


class DualLinearClassifier(CLIPClassifier):
    """Learn a linear classifier from the whole unlabeled pool, the class names and a few labels.

    For frozen embeddings this is the recommended classifier: it starts from the clusters of the pool, which are
    worth more than the first labels, and then follows the labels.  A fit takes a second or two and needs no
    learning rate and no random seed.  The same input gives the same result.

    A positive part classifies.  It blends the logits of the text, of four Gaussian mixtures with a text prior, of two
    logistic regressions that are penalized toward the text, and of the same models without text; the weights are
    learned from predictions for held-out labeled samples.  A negative part measures the evidence against the
    label: from the other classes, from the nearest samples of the pool, and from the one mixture that trusts the text
    least.

    Parameters
    ----------
    class_names : list of str or dict of {label: str}, default=None
        Names of the classes in a prompt; see `DualPromptClassifier`.
    model_name : str, default="ViT-B-16"
        open_clip's name of the model.
    pretrained : str, path-like or None, default="openai"
        open_clip's tag of the weights, or a checkpoint file.
    text_embeddings : array-like of shape (C, D), False or None, default=None
        Text embeddings from the encoder of X, in the order of ``class_names``, for encoders outside of open_clip:
        then X must be embeddings, and no CLIP is loaded.  False is for names that mean nothing to the CLIP
        ("class 1"), and for encoders without a text tower: then there are no predictions before the first
        labels.  None takes the CLIP's text tower.
    logit_scale : float or None, default=None
        Inverse temperature of ``text_embeddings``; None is 100.
    rank : int, default=256
        Largest number of principal axes of the embeddings to use.
    label_weight : float, default=4.0
        Largest weight of a labeled sample in the mixtures, in unlabeled samples.  The weight is smaller, but at
        least 1, if the pool is so small that a few labeled samples would decide the class means.
    max_pool : int or None, default=None
        Largest number of rows of the pool to use, evenly spread; None is 3,000, or 20 per class if that is more.
        It bounds memory and time, whatever the size of the pool.
    n_folds : int, default=5
        Number of folds of the labeled samples; weights are learned from predictions for held-out folds.
    n_neighbors : int, default=5
        Number of nearest samples of the pool that enter P(correct); with 0, neighbors are neither used nor kept.
    template : str, callable, list of these, or dict of {str: list of str}, default="a photo of a {}."
        Hand-written prompt, or several, whose embeddings are averaged.
    encode_batch_size : int, default=256
        Number of images per forward pass of the image tower.
    n_jobs : int, "auto" or None, default="auto"
        Number of worker processes that read and decode files; see `CLIPImageEncoder`.
    cache : {"memory", "disk"}, path-like or None, default="memory"
        Cache for embeddings; see `CLIPImageEncoder`.
    device : str, default="auto"
        A torch device; ``"auto"`` takes CUDA if available.
    precision : str, default="auto"
        open_clip's name of the towers' precision.
    verbose : int, default=1
        Amount of output: 0 is silent, 1 shows a progress bar when encoding images takes more than a few seconds.

    Attributes
    ----------
    classes_ : ndarray of shape (C,)
        All labels, sorted, including those without a training sample.
    coef_ : ndarray of shape (C, D), float32
        Weights: the class probabilities are the softmax of ``transform(X) @ coef_.T + intercept_``.
    intercept_ : ndarray of shape (C,), float32
        Biases.
    head_weights_ : dict of {str: float}
        Weight of every part in the blend.
    text_share_ : float
        Share of the heads with text in the blend, 0 to 1: near 0 if the names explain the labels no better than
        chance.
    n_features_in_ : int
        Width D of the embeddings, if ``fit`` was given embeddings.
    feature_names_in_ : ndarray of shape (D,)
        Column names, if ``fit`` was given a DataFrame of embeddings.
    saved_with_ : dict of {str: str}
        After `load`, the versions of Python and of the packages that wrote the file.

    See Also
    --------
    DualPromptClassifier : The paper's own method, which can also adapt the image tower.
    auto_sampling : The recommended query strategy for it.

    Notes
    -----
    The method is this package's own.  Its parts come from TransCLIP (mixtures with a text prior), TaskRes and CLAP
    (penalties that keep a linear head near the text), stacked generalization and Platt scaling.

    Examples
    --------
    >>> from modal_clip_dual import DualLinearClassifier
    >>> from modal_clip_dual.data import load_digits_images
    >>> X, y, class_names = load_digits_images().values()
    >>> clf = DualLinearClassifier(class_names, model_name="demo", pretrained="bundled")
    >>> clf = clf.fit_unlabeled(X[:1200])  # not a single label
    >>> bool(clf.score(X[1200:], y[1200:]) > 0.85)
    True
    >>> clf = clf.fit(X[:20], y[:20])  # the pool is remembered
    >>> clf.predict_correct_proba(X[1200:]).shape
    (597,)
    """

    _parameter_constraints: dict[str, Any] = {
        **CLIPClassifier._parameter_constraints,
        "text_embeddings": ["array-like", "boolean", None],
        "logit_scale": [Interval(Real, 0, None, closed="neither"), None],
        "rank": COUNT,
        "label_weight": [Interval(Real, 0, None, closed="neither")],
        "max_pool": [*COUNT, None],
        "n_folds": [Interval(Integral, 2, None, closed="left")],
        "n_neighbors": [Interval(Integral, 0, None, closed="left")],
    }
    _Head = DualLinearFit

    _head: DualLinearFit
    _pool: np.ndarray  # the used rows of the last pool, unit embeddings
    _pool_columns: np.ndarray | None  # names of its columns, if it was a table of embeddings that has some

    def __init__(
        self,
        class_names: Sequence[str] | np.ndarray | Mapping[Any, str] | None = None,
        *,
        model_name: str = "ViT-B-16",
        pretrained: str | os.PathLike[str] | None = "openai",
        text_embeddings: Any = None,
        logit_scale: float | None = None,
        rank: int = 256,
        label_weight: float = 4.0,
        max_pool: int | None = None,
        n_folds: int = 5,
        n_neighbors: int = 5,
        template: Template = "a photo of a {}.",
        encode_batch_size: int = 256,
        n_jobs: int | str | None = "auto",
        cache: str | os.PathLike[str] | None = "memory",
        device: str = "auto",
        precision: str = "auto",
        verbose: int = 1,
    ):
        super().__init__(
            class_names,
            model_name=model_name,
            pretrained=pretrained,
            template=template,
            encode_batch_size=encode_batch_size,
            n_jobs=n_jobs,
            cache=cache,
            device=device,
            precision=precision,
            verbose=verbose,
        )
        self.text_embeddings = text_embeddings
        self.logit_scale = logit_scale
        self.rank = rank
        self.label_weight = label_weight
        self.max_pool = max_pool
        self.n_folds = n_folds
        self.n_neighbors = n_neighbors

    # ---------------------------------------------------------------- training

    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, X_pool: Any = None) -> DualLinearClassifier:
        """Learn from labeled samples and the pool.

        modAL passes the pool on: ``learner.teach(X, y, X_pool=...)``; `DualPromptLearner` does so by itself.

        Parameters
        ----------
        X : array-like
            Embeddings (n, D), images (n, H, W[, 3]) of uint8, or n file paths.
        y : array-like of shape (n,)
            Labels.  A class may have no sample.
        sample_weight : array-like of shape (n,), default=None
            Weight of each labeled sample in every sum over labels, of the mixtures, the regressions, the blend and
            the calibration: 2 is a sample that comes twice, 0 leaves one out.  In P(correct) a neighbor counts once,
            whatever its weight.
        X_pool : array-like, default=None
            Samples without labels, in any of the three forms; they may include the labeled ones.  The pool is
            remembered until another one is given; clones start without one.  Only ``max_pool`` rows of it are read.

        Returns
        -------
        self : DualLinearClassifier

        Raises
        ------
        ValueError
            If a parameter or an argument does not fit, before any work; an earlier fit is kept.
        FileNotFoundError
            If X names a file that does not exist.

        Warns
        -----
        UserWarning
            If there is no pool: then it learns from the text and the labels alone.
        """
        self._check_params()
        y = check_labels(y)
        return self._learn(as_array(X, "X") if X is None else X, y, X_pool, sample_weight)  # None is refused

    def fit_unlabeled(self, X_pool: Any) -> DualLinearClassifier:
        """Learn from the pool and the class names alone, without any label.

        Parameters
        ----------
        X_pool : array-like
            Embeddings (n, D), images (n, H, W[, 3]) of uint8, or n file paths; the pool is remembered
            until another one is given.

        Returns
        -------
        self : DualLinearClassifier
            Its ``classes_`` are the positions in the list ``class_names``, or the labels of a mapping.

        Raises
        ------
        ValueError
            If ``class_names`` is None or ``text_embeddings`` is False, or as for `fit`.
        """
        self._check_params()
        if self.class_names is None:
            raise ValueError(
                "class_names is None; without labels the classes have to be named: expected a list "
                "of names or a mapping"
            )
        if self.text_embeddings is False:
            raise ValueError(
                "text_embeddings=False: without labels nothing tells which cluster is which class; expected "
                "labels in fit(X, y, X_pool=...), or names that mean something"
            )
        return self._learn(None, None, X_pool)

    def _check_params(self) -> None:
        super()._check_params()
        text = self.text_embeddings
        if text is None or text is False:
            return
        if text is True:
            raise ValueError("text_embeddings=True; expected an array of shape (C, D), False or None")
        if self.class_names is None:
            raise ValueError("text_embeddings were passed with class_names=None; expected the names of their rows")
        array = np.asarray(text)
        if array.dtype.kind not in "fiu" or array.ndim != 2 or len(array) != len(self.class_names):
            raise ValueError(
                f"text_embeddings has shape {array.shape} and type {array.dtype}; expected numbers of shape "
                f"({len(self.class_names)}, D), one row per entry of class_names"
            )
        if not np.isfinite(array).all() or not (np.abs(array).max(axis=1) > 0).all():
            raise ValueError("text_embeddings has values that are not finite, or rows of zeros")

    def _check_prompts(self, names: list[str], loaded: Any) -> None:
        if self.text_embeddings is None:  # no other text is read
            super()._check_prompts(names, loaded)

    @looking_once()
    def _learn(self, X: Any, y: np.ndarray | None, X_pool: Any, sample_weight: Any = None) -> DualLinearClassifier:
        classes, names, target = resolve_labels(self.class_names, y, self._numbered)
        pool, pool_array = self.__dict__.get("_pool"), np.empty(0)
        if X_pool is not None:
            pool_array = as_array(X_pool, "X_pool")
            if not len(pool_array):
                raise ValueError("X_pool is empty; expected at least one sample")
            pool_array, backbone = self._prepare(pool_array, refit=True, name="X_pool")
        if X is not None:
            array, backbone = self._prepare(X, refit=True, n_labels=len(target))
        columns = self._checked_columns(X, array if X is not None else None, X_pool, pool_array)
        counted, weight = weighted_rows(sample_weight, 0 if X is None else len(target))
        if X_pool is not None:
            with rows_called("X_pool", pool_array):
                pool = self._embedded_pool(pool_array, backbone, len(names))
        if X is None:
            labeled, target = np.empty((0, backbone.embed_dim), np.float32), np.empty(0, np.intp)
        else:
            with rows_called("X", array):
                labeled, target = unit_rows(self._encode(array[counted], backbone)), target[counted]
        self._check_pool(pool, labeled)
        head = fit_dual_linear(
            labeled,
            target,
            len(names),
            pool=pool,
            text=self._scaled_text(backbone, names),
            rank=self.rank,
            label_weight=self.label_weight,
            max_pool=self.max_pool,
            n_folds=self.n_folds,
            neighbors=self.n_neighbors,
            weight=weight,
        )
        table, checked = (X_pool, pool_array) if X is None else (X, array)
        table = table if kind_of(checked) == "embeddings" else None  # its columns may have names
        kept = {} if pool is None else {"_pool": pool, "_pool_columns": columns}
        self._adopt(head, classes, names, backbone, table, **kept)
        return self

    def _checked_columns(self, X: Any, array: Any, X_pool: Any, pool_array: Any) -> np.ndarray | None:
        """Return the names of the pool's columns, which those of X, if both have names, have to equal."""
        columns = self.__dict__.get("_pool_columns")
        if X_pool is not None:
            columns = column_names(X_pool) if kind_of(pool_array) == "embeddings" else None
        if X is not None and kind_of(array) == "embeddings":
            which = "X_pool" if X_pool is not None else "the pool that was given before"
            check_same_columns(column_names(X), columns, "X", which)
        return columns

    def _embedded_pool(self, array: Any, backbone: Backbone, n_classes: int) -> np.ndarray:
        """Return the used rows of a checked pool as unit embeddings; no other rows are read."""
        rows = spread_rows(len(array), self.max_pool or max(POOL, 20 * n_classes))
        return unit_rows(self._encode(array[rows], backbone))

    def _check_pool(self, pool: np.ndarray | None, labeled: np.ndarray) -> None:
        if pool is None:
            warnings.warn(
                f"{type(self).__name__} has no pool, so it learns from the text and the labels alone: most of what "
                "it can do with few labels comes from the pool; pass fit(X, y, X_pool=...) or call "
                "fit_unlabeled(X_pool) first",
                UserWarning,
                stacklevel=4,
            )
        elif pool.shape[1] != labeled.shape[1]:
            raise ValueError(
                f"X has embeddings {labeled.shape[1]} wide, the pool that was given before {pool.shape[1]}; pass "
                "X_pool anew"
            )

    def _scaled_text(self, backbone: Any, names: list[str]) -> np.ndarray | None:
        """Return text embeddings (C, D) times the logit scale; None if ``text_embeddings`` is False."""
        if self.text_embeddings is False:
            return None
        scaled: np.ndarray = self._text(backbone, names) * np.float32(backbone.logit_scale)
        return scaled

    # ---------------------------------------------------------------- encoders outside of open_clip

    def _external(self, embed_dim: int) -> ExternalEncoder:
        text = None
        if self.text_embeddings is not False:
            entries: Any = self.class_names
            names = list(entries.values()) if isinstance(entries, Mapping) else list(entries)
            text = dict(zip(names, unit_rows(np.asarray(self.text_embeddings, dtype=np.float32))))
        return ExternalEncoder(embed_dim, self.logit_scale or SCALE, text)

    def _backbone_for(self, array: Any) -> Any:
        if self.text_embeddings is None:
            return super()._backbone_for(array)
        embeddings = kind_of(array) == "embeddings"
        if self.text_embeddings is False:  # images need the CLIP; embeddings may come from another encoder
            return self._external(array.shape[1]) if embeddings else super()._backbone_for(array)
        width = np.asarray(self.text_embeddings).shape[1]
        if not embeddings:
            raise ValueError(
                f"X holds {kind_of(array)}, which cannot be encoded by the encoder of text_embeddings; expected "
                f"embeddings (n, {width})"
            )
        return self._external(width)

    def _named_backbone(self) -> Any:
        text = self.text_embeddings
        return super()._named_backbone() if text is None or text is False else self._external(np.shape(text)[1])

    def _load_backbone(self, model_name: str, pretrained: str | os.PathLike[str] | None) -> Any:
        if not model_name:  # the fit used an encoder outside of open_clip
            return self._external(self._head.coef.shape[1])
        return super()._load_backbone(model_name, pretrained)

    def _text(self, backbone: Any, names: list[str]) -> np.ndarray:
        if not isinstance(backbone, ExternalEncoder):
            return super()._text(backbone, names)
        if backbone.text is None:
            raise ValueError(
                "text_embeddings=False: the names mean nothing, so there is no zero-shot classification"
            )
        return np.stack([backbone.text[name] for name in names])

    # ---------------------------------------------------------------- prediction

    def _logits(self, embeddings: np.ndarray) -> np.ndarray:
        return self._head.logits(embeddings)

    def _clean(self, embeddings: np.ndarray, logits: np.ndarray) -> np.ndarray:
        clean: np.ndarray = self._head.correctness_logits(embeddings) + np.float32(self._inflation())
        return clean

    def _fitted_head(self, name: str) -> DualLinearFit:
        if "_head" not in self.__dict__:
            raise AttributeError(f"this {type(self).__name__} is not fitted yet: it has no {name}")
        return self._head

    @property
    def coef_(self) -> np.ndarray:
        """Weights (C, D) of the linear classifier."""
        return self._fitted_head("coef_").coef

    @property
    def intercept_(self) -> np.ndarray:
        """Biases (C,) of the linear classifier."""
        return self._fitted_head("intercept_").intercept

    @property
    def head_weights_(self) -> dict[str, float]:
        """Weight of every part in the blend."""
        head = self._fitted_head("head_weights_")
        return dict(zip(head.head_names.tolist(), head.head_weights.tolist()))

    @property
    def text_share_(self) -> float:
        """Share of the heads with text in the blend, 0 to 1."""
        return self._fitted_head("text_share_").text_share

    # ---------------------------------------------------------------- state

    def save(self, path: str | os.PathLike[str], *, neighbors: bool = True) -> None:
        """Write the fitted estimator to a file that holds no code and no weights of the CLIP.

        The file does not hold the pool, only the neighbors for P(correct): up to ``max_pool`` rows of 256 numbers.

        Parameters
        ----------
        path : str or path-like
            File to write; the name is used as it is, whatever its suffix.
        neighbors : bool, default=True
            Whether to save the neighbors.  With False the file is small, predictions are the same, and P(correct)
            uses the class probabilities alone, with a separate calibration.

        Raises
        ------
        NotFittedError
            If the estimator was never fitted.
        ValueError
            If a parameter has become invalid since the fit, or the folder does not exist.

        See Also
        --------
        load : Read the file.
        """
        without = copy.copy(self)
        if not neighbors and "_head" in self.__dict__:
            head = self._head
            without._head = replace(
                head, store=head.store[:0], store_probabilities=head.store_probabilities[:0], second=None
            )
        super(DualLinearClassifier, without).save(path)
