"""CLIPClassifier: the base of every classifier on a CLIP."""

from __future__ import annotations

import os
from collections.abc import KeysView, Mapping, Sequence, ValuesView
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from sklearn.utils._param_validation import HasMethods
from sklearn.utils.validation import validate_data

from ..clip.inputs import (
    BATCH_SIZE,
    READING_CONSTRAINTS,
    check_cache,
    check_input,
    check_template,
    check_width,
    named_columns,
    texts_of,
)
from ..data.files import looking_once
from ..data.images import kind_of, rows_called
from ..utils.arrays import unit_rows
from ..utils.labels import check_labels, check_meaning, resolve_classes, resolve_labels, same_meaning
from ..utils.numbering import Numbering, numbering
from ..utils.persistence import (
    describe_versions,
)
from ..utils.rollback import unchanged_on_error
from ..utils.weights import weighted_rows
from ._pixels import PixelAccess
from ._prediction import Predicting
from ._saving import Saving

if TYPE_CHECKING:

    from ..clip.backbone import Backbone
    from ..clip.inputs import Template
    from ..utils.arrays import Rows

Self = TypeVar("Self", bound="CLIPClassifier")



class CLIPClassifier(Predicting, PixelAccess, Saving):
    """Classify images with a frozen CLIP and a head that is learned on its embeddings.

    This is the base of `DualPromptClassifier` and of the heads in ``modal_clip_dual.heads``.  It handles
    class names, the three forms of X, the cache, zero-shot classification, predictions from
    logits, saving and loading.  A subclass implements two methods:

    - ``_fit(embeddings, target, text, logit_scale)`` returns the learned head: a frozen dataclass of arrays
      and plain values, whose type is the class attribute ``_Head``.  ``embeddings`` are (n, D) float32
      of unit length, ``target`` (n,) positions in ``classes_``, ``text`` the (C, D) unit text embeddings of
      the ``template``, ``logit_scale`` the inverse temperature of the CLIP.
    - ``_logits(embeddings)`` returns (n, C) logits of unit embeddings by ``self._head``.

    ``_clean(embeddings, logits)`` is optional: it returns the clean logits z, which say how likely each label
    is right.  By default they are the log-odds of each class against the others by the logits
    themselves, so that `predict_correct_proba` is the largest probability.

    Parameters
    ----------
    class_names : list of str or dict of {label: str}, default=None
        Names of the classes; see `DualPromptClassifier` for all parameters.
    model_name : str, default="ViT-B-16"
        open_clip's name of the model.
    pretrained : str, path-like or None, default="openai"
        open_clip's tag of the weights, or a checkpoint file.
    template : str, callable, list of these, or dict of {str: list of str}, default="a photo of a {}."
        Hand-written prompt, or several, whose embeddings are averaged.  See `DualPromptClassifier`.
    encode_batch_size : int, default=256
        Number of images per forward pass of the image tower.
    n_jobs : int, "auto" or None, default="auto"
        Number of worker processes that read and decode files.
    cache : {"memory", "disk"}, path-like or None, default="memory"
        Cache of embeddings.
    device : str, default="auto"
        A torch device.
    precision : str, default="auto"
        open_clip's name of the towers' precision.
    verbose : int, default=1
        Whether a progress bar is shown.

    Attributes
    ----------
    classes_ : ndarray of shape (C,)
        All labels, sorted, including those without a training sample.
    n_features_in_ : int
        Width D of the embeddings, if ``fit`` was given embeddings.
    feature_names_in_ : ndarray of shape (D,)
        Column names, if ``fit`` was given a DataFrame of embeddings.
    saved_with_ : dict of {str: str}
        After `load`, the versions of Python and of the packages that wrote the file.

    Examples
    --------
    This is a complete classifier by nearest class means:

    >>> from dataclasses import dataclass
    >>> import numpy as np
    >>> from modal_clip_dual.base import CLIPClassifier
    >>> from modal_clip_dual.data import load_digits_images
    >>> @dataclass(frozen=True)
    ... class Means:
    ...     means: np.ndarray
    >>> class NearestMeanClassifier(CLIPClassifier):
    ...     _Head = Means
    ...     def _fit(self, embeddings, target, text, logit_scale):
    ...         seen = [embeddings[target == k].mean(axis=0) if (target == k).any() else text[k]
    ...                 for k in range(len(text))]
    ...         return Means(logit_scale * np.stack(seen))
    ...     def _logits(self, embeddings):
    ...         return embeddings @ self._head.means.T
    >>> X, y, class_names = load_digits_images().values()
    >>> clf = NearestMeanClassifier(class_names, model_name="demo", pretrained="bundled").fit(X[:60], y[:60])
    >>> clf.predict_proba(X[60:]).shape
    (1737, 10)
    """

    _parameter_constraints: dict[str, Any] = {
        # Series, indexes and categories have tolist or to_list
        "class_names": [list, tuple, HasMethods("tolist"), HasMethods("to_list"), Mapping, None],
        **READING_CONSTRAINTS,
        "template": [str, list, tuple, Mapping, callable],
        "encode_batch_size": BATCH_SIZE,
    }
    # Attributes that a fit may leave unset; those of an earlier fit are removed.
    _numbered: Numbering | None = None  # of a clone that another estimator made, until it is fitted
    _renumbered = False  # whether the labels of the fit are numbers that another estimator made
    _fit_only: tuple[str, ...] = ("n_features_in_", "feature_names_in_", "saved_with_", "_saved_clip")
    _Head: type  # type of the result of `_fit`
    _unmoved = ""  # how to leave embeddings as they are; see `_moving`

    classes_: np.ndarray
    n_features_in_: int
    feature_names_in_: np.ndarray
    saved_with_: dict[str, str]
    _names: list[str]  # names of the classes in a prompt
    _clip: tuple[str, str | None]  # name and tag of the CLIP of the fit
    _saved_clip: dict[str, str]  # identity of the CLIP of the file that this was loaded from
    _backbone: Backbone  # that CLIP, once loaded; never copied
    _head: Any  # the head of the last fit

    def __init__(
        self,
        class_names: Sequence[str] | np.ndarray | Mapping[Any, str] | None = None,
        *,
        model_name: str = "ViT-B-16",
        pretrained: str | os.PathLike[str] | None = "openai",
        template: Template = "a photo of a {}.",
        encode_batch_size: int = 256,
        n_jobs: int | str | None = "auto",
        cache: str | os.PathLike[str] | None = "memory",
        device: str = "auto",
        precision: str = "auto",
        verbose: int = 1,
    ):
        # Views of a dict cannot be copied, as `clone` does.
        self.class_names = list(class_names) if isinstance(class_names, (KeysView, ValuesView)) else class_names
        self.model_name = model_name
        self.pretrained = pretrained
        self.template = template
        self.encode_batch_size = encode_batch_size
        self.n_jobs = n_jobs
        self.cache = cache
        self.device = device
        self.precision = precision
        self.verbose = verbose

    def _fit(
        self, embeddings: np.ndarray, target: np.ndarray, text: np.ndarray, logit_scale: float, *weight: np.ndarray
    ) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no _fit")  # a subclass writes it

    # ---------------------------------------------------------------- training

    def fit(self: Self, X: Any, y: Any) -> Self:
        """Learn from labeled samples.

        Parameters
        ----------
        X : array-like
            Embeddings (n, D), images (n, H, W[, 3]) of uint8, or n file paths.
        y : array-like of shape (n,)
            Labels.  A class may have no sample.

        Returns
        -------
        self : CLIPClassifier

        Raises
        ------
        ValueError
            If a parameter or X or y does not fit, before any work; an earlier fit is kept.
        FileNotFoundError
            If X names a file that does not exist.
        """
        return self._fit_samples(X, y)

    @looking_once()
    def _fit_samples(self: Self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Do the work of `fit`; with weights, ``_fit`` gets only the samples whose weight is not 0.

        It takes a last argument ``weight`` then: (n,) numbers above 0.
        """
        self._check_params()
        classes, names, target = resolve_labels(self.class_names, check_labels(y), self._numbered)
        array, backbone = self._prepare(X, refit=True, n_labels=len(target))
        rows, weight = weighted_rows(sample_weight, len(target))
        extra = () if weight is None else (weight,)
        with rows_called("X", array):
            head = self._head_of(array[rows], target[rows], self._text(backbone, names), backbone, *extra)
        self._adopt(head, classes, names, backbone, X if kind_of(array) == "embeddings" else None)
        return self

    def _head_of(
        self, array: Any, target: np.ndarray, text: np.ndarray, backbone: Backbone, *weight: np.ndarray
    ) -> Any:
        """Return the head learned from a checked X; see `_fit`."""
        embeddings = unit_rows(self._encode(array, backbone))
        return self._fit(embeddings, target, text, backbone.logit_scale, *weight)

    def _check_params(self) -> None:
        self._validate_params()
        check_cache(self.cache, self.n_jobs)
        templates = check_template(self.template)
        if isinstance(templates, Mapping) and self.class_names is not None:
            texts_of(resolve_classes(self.class_names, None)[1], templates)

    def _check_prompts(self, names: list[str], loaded: Any) -> None:
        """Refuse names that the CLIP cannot read or tell apart; ``loaded`` is that of the last fit, or None."""
        from ..clip.templates import check_prompts

        check_prompts(self._reader(loaded), names, check_template(self.template))

    def _reader(self, loaded: Any) -> Any:
        """Return what reads texts for the CLIP of the parameters: ``loaded`` if it is that one."""
        from ..clip.templates import reader_of

        same = loaded is not None and (loaded.model_name, loaded.pretrained) == (self.model_name, self.pretrained)
        return loaded if same else reader_of(self.model_name)

    def _adopt(
        self, head: Any, classes: np.ndarray, names: list[str], backbone: Backbone, table: Any, **attributes: Any
    ) -> None:
        """Set all fitted attributes at once; if an error occurs, nothing has changed.

        ``table`` is the X of the fit if it held embeddings, whose columns may have names.
        """
        with unchanged_on_error(self):
            for name in self._fit_only:
                self.__dict__.pop(name, None)
            if table is not None:
                validate_data(self, named_columns(table), reset=True, skip_check_array=True)
            self.classes_ = classes
            self._names = names
            self._numbered = None
            self._note_meaning()
            self._clip = (backbone.model_name, backbone.pretrained)
            self._backbone = backbone
            self._head = head
            for name, value in attributes.items():
                setattr(self, name, value)

    def _note_meaning(self) -> None:
        """Note whether the labels of the fit are numbers of another estimator, not positions in ``class_names``."""
        self._renumbered = not same_meaning(self.class_names, self.classes_, self._names)

    def __sklearn_clone__(self: Self) -> Self:
        copy: Self = super().__sklearn_clone__()
        found = numbering(self._numbered)
        if found is not None:
            copy._numbered = found
        return copy

    def _text(self, backbone: Backbone, names: list[str]) -> np.ndarray:
        """Return unit text embeddings (C, D), float32, of the hand-written template."""
        from ..clip.templates import template_embeddings

        text = template_embeddings(backbone, names, check_template(self.template))
        embeddings: np.ndarray = text.cpu().numpy()
        return embeddings

    def _zero_shot(self, array: np.ndarray | Rows, backbone: Backbone, names: list[str]) -> np.ndarray:
        import torch

        from ..nn.inference import by_cosine
        from ..utils.memory import memory_advice

        embeddings = self._encode(array, backbone)
        with memory_advice("scoring", "free memory that others hold on this device, or device='cpu'"):
            text = torch.from_numpy(self._text(backbone, names)).to(backbone.device)
            scaled = text * backbone.logit_scale
            (proba,) = by_cosine(embeddings, scaled, lambda logits: [logits.softmax(dim=1)])
        return proba

    # ---------------------------------------------------------------- input

    def _load_backbone(self, model_name: str, pretrained: str | os.PathLike[str] | None) -> Backbone:
        from ..clip.backbone import load_backbone

        return load_backbone(model_name, pretrained, self.device, self.precision)

    @property
    def _n_features_out(self) -> int:
        """Width of the embeddings that `transform` returns, for the names of its columns."""
        return self._clip_in_use().embed_dim

    def _named_backbone(self) -> Backbone:
        """Return the CLIP that the parameters name."""
        return self._load_backbone(self.model_name, self.pretrained)

    def _backbone_for(self, array: Any) -> Backbone:
        """Return the CLIP that the parameters name, for a checked X."""
        return self._named_backbone()

    def _fitted_backbone(self) -> Backbone:
        """Return the CLIP of the last fit; after unpickling or `load` it is loaded by name and compared."""
        if self.__dict__.get("_backbone") is None:
            backbone = self._load_backbone(*self._clip)
            if "_saved_clip" in self.__dict__:
                versions = getattr(self, "saved_with_", None)
                shown = f", saved with {describe_versions(versions)}" if versions else ""
                backbone.check_identity(self._saved_clip, shown)
            self._backbone = backbone
        return self._backbone

    def _moving(self, fitted: bool) -> str | None:
        """Return what of the classifier changes embeddings, so that X cannot hold them; None if nothing does."""
        return None

    def _prepare(
        self,
        X: Any,
        refit: bool = False,
        n_labels: int | None = None,
        frozen: bool = False,
        name: str = "X",
    ) -> tuple[Any, Backbone]:
        """Check X; return it as embeddings, images or paths, together with its CLIP.

        This is the CLIP of the last fit, whatever the parameters are by now; before a fit it is the one
        that the parameters name.  All checks that do not need the CLIP come before it is loaded.  With
        ``frozen``, visual prompts are not used.
        """
        fitted = "_head" in self.__dict__ and not refit
        if fitted and not self._renumbered:
            check_meaning(self.class_names, self.classes_, self._names)
        array = check_input(X, self, name)
        if n_labels is not None and len(array) != n_labels:
            raise ValueError(
                f"{name} has {len(array)} rows but {name.replace('X', 'y')} has {n_labels} labels "
                "(inconsistent numbers of samples); expected one label per row"
            )
        moving = self._moving(fitted)
        if moving is not None and kind_of(array) == "embeddings" and not frozen:
            raise ValueError(
                f"{name} has shape {array.shape}, so it holds embeddings, which {moving} would have to change; "
                f"expected images (n, H, W[, 3]) of uint8 or file paths{self._unmoved}"
            )
        backbone = self._fitted_backbone() if fitted else self._backbone_for(array)
        if kind_of(array) == "embeddings":
            check_width(array, backbone, self, name)
            if hasattr(self, "n_features_in_") and not refit:  # column names, if fit was given some
                validate_data(self, named_columns(X), reset=False, skip_check_array=True)
        return array, backbone

    def _embed(self, array: Any, backbone: Backbone) -> Any:
        """Return the embeddings (n, D), float32, of a checked X, with the classifier's visual prompts if any."""
        return self._encode(array, backbone)

    def _encode(self, array: Any, backbone: Backbone, pixels: Any = None) -> Any:
        """Return the embeddings (n, D), float32, of a checked X by the frozen CLIP.

        ``pixels`` is the store of a source of the same images: what it holds is not read again.
        """
        if kind_of(array) == "embeddings":
            return array
        from ..clip.embedding import encode

        params = {name: getattr(self, name) for name in ("cache", "n_jobs", "device")} | {"pixels": pixels}
        return encode(backbone, array, self.encode_batch_size, self.verbose, size_name="encode_batch_size", **params)

    @looking_once()
    def block_features(self, X: Any, kind: str = "tokens") -> np.ndarray:
        """Return features of each block of the frozen image tower; needs no `fit`.

        They are cached as embeddings are, but apart from them.  Visual prompts do not change them.

        Parameters
        ----------
        X : array-like
            Images (n, H, W[, 3]) of uint8, or n file paths.
        kind : {"tokens", "attention"}, default="tokens"
            ``"tokens"`` are the CLS tokens that the blocks put out.  ``"attention"`` are the attention weights of
            CLS, head by head, on CLS itself and on the patches, row by row; they sum to 1.

        Returns
        -------
        features : ndarray of float32
            Tokens (n, blocks, width), or attention (n, blocks, heads, 1 + patches).

        Raises
        ------
        ValueError
            If the kind is unknown, X holds embeddings, or the image tower is not open_clip's VisionTransformer.

        Examples
        --------
        >>> from modal_clip_dual import BayesAdapterClassifier
        >>> from modal_clip_dual.data import load_digits_images
        >>> X, y, class_names = load_digits_images().values()
        >>> clf = BayesAdapterClassifier(class_names, model_name="demo", pretrained="bundled")
        >>> clf.block_features(X[:5]).shape, clf.block_features(X[:5], "attention").shape
        ((5, 4, 128), (5, 4, 4, 17))
        """
        self._check_params()
        array, backbone = self._prepare(X, frozen=True)
        from ..clip.blocks import block_features

        params = {name: getattr(self, name) for name in ("cache", "n_jobs", "device")}
        return block_features(
            backbone, array, kind, self.encode_batch_size, self.verbose, size_name="encode_batch_size", **params
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = self._moving(fitted=False) is None
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []  # always float32
        return tags
