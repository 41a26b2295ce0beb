"""DualPromptClassifier, the scikit-learn estimator."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _num_samples, check_is_fitted, validate_data

from .clip.inputs import (
    BATCH_SIZE,
    READING_CONSTRAINTS,
    check_cache,
    check_input,
    check_template,
    check_width,
    disk_cache,
    join,
)
from .data.images import kind_of
from .data.stores import EMBEDDING_BYTES, MemoryStore
from .utils.arrays import unit_rows
from .utils.labels import check_labels, encode_labels, resolve_labels
from .utils.rollback import unchanged_on_error
from .utils.selection import select_highest_per_class
from .utils.validation import check_integer

if TYPE_CHECKING:
    import torch
    from skorch import NeuralNetClassifier

    from .clip.backbone import Backbone
    from .data.reading import ImageSource
    from .nn.module import DualPromptModule
    from .nn.text_encoder import PromptedTextEncoder
    from .utils.arrays import Rows

# Attributes that a fit may leave unset, and that the one before must not leave behind.
FIT_ONLY: tuple[str, ...] = (
    "n_features_in_", "feature_names_in_", "_moved_embeddings", "pseudo_rows_", "pseudo_labels_",
    "saved_with_", "_saved_clip",
)  # fmt: skip
# A place on one machine, and none that a file from elsewhere may choose.
NOT_SAVED = ("cache_folder",)


class DualPromptClassifier(ClassifierMixin, TransformerMixin, BaseEstimator):
    """Classify images with a frozen CLIP, two learnable text prompts and maybe visual ones.

    The positive prompt classifies.  The negative prompt is trained in reverse, so that
    comparing the two gives, for every image and class, a score that ranks like the
    probability that this label is right: the clean probability of [1]_, Eq. 3.  Ranking a
    pool by it decides what to label next; see `negative_prompt_sampling`.

    Every method takes ``X`` in one of three forms, told apart by shape and type: image
    embeddings of this CLIP, (n, D) numbers; images, (n, H, W) or (n, H, W, 3) of uint8;
    or file paths, a 1-d array, a list, or a DataFrame with one column.  Images and files
    are encoded once per process, with the preprocessing that belongs to the weights;
    with visual prompts, which move the embeddings, once per fit, and X cannot be embeddings.

    Parameters
    ----------
    class_names : list of str or dict of {label: str}, default=None
        What the classes are called in a prompt; underscores are read as spaces.  With a
        list, labels are either positions in it (integers) or the names themselves.  Where another
        estimator numbers the names before it passes them on (VotingClassifier, BaggingClassifier,
        CalibratedClassifierCV), the list has to be sorted: ``sorted(names)``.  With
        None the classes are the labels that ``fit`` is given and each label is its own
        name; an active learner should be told all classes instead, since the first
        labels seldom contain every one.
    model_name : str, default="ViT-B-16"
        open_clip's name of the model; ``"local-dir:FOLDER"`` and ``"hf-hub:ORG/REPO"``
        too.  ``"demo"`` is the small CLIP that ships with this package.
    pretrained : str or None, default="openai"
        open_clip's tag of the weights, or a checkpoint file; ``"bundled"`` for the demo
        model.
    n_context : int, default=16
        Context vectors per prompt (M).
    negative_weight : float, default=1.0
        Weight lambda of L2, the loss of the negative prompt.  0 is a plain CoOp learner:
        its clean probabilities carry no information.
    complement : {"uniform", "all", "hard"}, default="uniform"
        Which wrong labels L2 sees: one drawn at random per sample and step, as in [1]_;
        all of them; or all, weighted by how likely the positive prompt finds them.
    detach_positive : bool, default=False
        Send the gradient of L2 to the negative prompt alone.
    visual_prompts : {"vpt-deep", "vpt-shallow", "maple"} or None, default=None
        Learnable tokens in the image tower, which must be open_clip's VisionTransformer.
        ``"vpt-deep"``: fresh ones for every block [2]_, the paper's choice as we read it;
        ``"vpt-shallow"``: for the first block.  ``"maple"``: contexts for the first blocks
        of the text tower too, from which linear maps make the visual tokens [3]_.  None
        leaves the image tower as it is.
    n_visual_tokens : int, default=20
        Tokens per block of VPT; MaPLe has as many as ``n_context``.
    prompt_depth : int or None, default=None
        Number of blocks with prompts of their own in MaPLe (J); None is 9, as in [3]_, or
        all blocks of the shallower tower if it has fewer.
    augment : "auto", callable or None, default="auto"
        Random change of training images.  ``"auto"``: with visual prompts a random resized
        crop and a horizontal flip; switch it off where a flip changes the meaning.  A
        callable takes a PIL image and returns one, or the finished tensor, as open_clip's
        training transforms do; what it draws from the global generators of Python, NumPy
        and torch is decided by ``random_state``.
    template : str or list of str, default="a photo of a {}."
        Hand-written prompt of `zero_shot_proba`; of several, the embeddings are averaged.
    lr : float, default=0.01
        Initial learning rate; it decays to 0 along a cosine, step by step.
    max_epochs : int, default=20
        Passes over the labelled samples.
    batch_size : int, default=16
        Labelled samples per step.
    pseudo_batch_size : int, default=64
        Pseudo-labelled samples per step, if there are any.
    momentum : float, default=0.9
        Of SGD.
    weight_decay : float, default=5e-4
        Of SGD.
    gradient_clip_value : float or None, default=5.0
        Largest norm of the gradient of a context, each clipped on its own.  With few
        labels single steps are large enough to ruin a prompt; None takes them as they are.
    encode_batch_size : int, default=256
        Images per forward pass of the image tower, training aside.
    text_encoding : {"auto", "prefix-sharing", "truncated", "full"}, default="auto"
        How prompts go through the text tower: what all classes share is encoded once; sequences
        are cut behind the longest one; or as they are.  All give the same embeddings;
        ``"auto"`` takes the first that the tower allows.
    text_batch_size : int, "auto" or None, default="auto"
        Classes that go through the text tower at a time.  If there are more, memory does not grow
        with their number, but in training they are encoded twice.  ``"auto"`` is 256, None all.
    n_jobs : int, "auto" or None, default="auto"
        Worker processes that read and decode files; see `CLIPImageEncoder`.
    cache : {"memory", "disk"} or None, default="memory"
        Where what was made of an image is kept, so that later rounds need not read it
        again: its embedding, or with visual prompts its pixels.  ``"memory"``: in this
        process, up to 1 GiB.  ``"disk"``: in ``cache_folder``, for every later process.  The
        embeddings of a fit with visual prompts stay with it whatever this says, up to 1 GiB.
    cache_folder : str or path-like or None, default=None
        Folder of ``cache="disk"``; None is ``modal_clip_dual`` in the user's cache folder.
    device : str, default="auto"
        A torch device; ``"auto"`` takes CUDA where there is one.
    precision : str, default="auto"
        open_clip's name of the towers' precision; ``"auto"`` is float32 on the CPU and
        bfloat16 (or float16) on a GPU.  Logits and probabilities are always float32.
    net_params : dict, default=None
        Further arguments of the `skorch.NeuralNetClassifier`, for instance
        ``{"optimizer": torch.optim.AdamW, "callbacks": [...]}``.  An ``iterator_train`` of
        your own gets images as the model takes them, without ``augment``.  A ``train_split`` leaves the
        learning rate above 0 at the end: its schedule counts every sample.
    verbose : int, default=1
        0: silent.  1: a progress bar when encoding images takes more than a few seconds.
        2: also skorch's line per epoch.
    random_state : int, RandomState instance or None, default=None
        Decides the initial contexts, the order of the samples and the drawn complements.
        The global generators are left alone, with None too.

    Attributes
    ----------
    classes_ : ndarray of shape (C,)
        All labels, sorted, also those of which no sample was seen.
    net_ : skorch.NeuralNetClassifier
        The trained net; ``net_.module_`` holds the prompts.
    history_ : skorch.history.History
        Loss per epoch and step.
    pseudo_rows_, pseudo_labels_ : ndarray of int, ndarray
        After `fit_unlabeled`: the rows of its pool that it was trained on, and their labels.
    n_features_in_ : int
        Width D of the embeddings, if ``fit`` was given embeddings.
    feature_names_in_ : ndarray of shape (D,)
        Column names, if ``fit`` was given a DataFrame of embeddings.
    saved_with_ : dict of {str: str}
        After `load`: the versions of Python and of packages that wrote the file.
    coef_ : ndarray of shape (C, D), float32
        Text embeddings of the positive prompt over tau: the class probabilities are the
        softmax of ``transform(X) @ coef_.T``.

    See Also
    --------
    negative_prompt_sampling : Query strategy for modAL that ranks by the clean logits.
    CLIPImageEncoder : Images to embeddings, as a step of its own in a pipeline.

    Notes
    -----
    The loss of the negative prompt is printed with a wrong sign in [1]_ (Eq. 5); see
    `modal_clip_dual.nn.losses.negative_prompt_loss`.

    With ``negative_weight=0`` these are the plain learners that [1]_ compares with: CoOp
    (no visual prompts), VPT and MaPLe.

    References
    ----------
    .. [1] "Explicit Uncertainty Modeling for Active CLIP Adaptation with Dual Prompt
       Tuning", arXiv:2602.04340.
    .. [2] Jia et al., "Visual Prompt Tuning", ECCV 2022, arXiv:2203.12119.
    .. [3] Khattak et al., "MaPLe: Multi-modal Prompt Learning", CVPR 2023, arXiv:2210.03117.

    Examples
    --------
    >>> from modal_clip_dual import DualPromptClassifier
    >>> from modal_clip_dual.data import load_digits_images
    >>> digits = load_digits_images()
    >>> X, y = digits.images, digits.target
    >>> clf = DualPromptClassifier(
    ...     digits.class_names, model_name="demo", pretrained="bundled", random_state=0
    ... )
    >>> clf = clf.fit(X[:60], y[:60])
    >>> clf.predict_proba(X[60:]).shape
    (1737, 10)
    >>> bool(clf.score(X[60:], y[60:]) > 0.5)
    True
    """

    _parameter_constraints: dict[str, Any] = {
        "class_names": [list, tuple, np.ndarray, Mapping, None],
        **READING_CONSTRAINTS,
        "n_context": [Interval(Integral, 1, None, closed="left")],
        "negative_weight": [Interval(Real, 0, None, closed="left")],
        "complement": [StrOptions({"uniform", "all", "hard"})],
        "detach_positive": ["boolean"],
        "visual_prompts": [StrOptions({"vpt-deep", "vpt-shallow", "maple"}), None],
        "n_visual_tokens": [Interval(Integral, 1, None, closed="left")],
        "prompt_depth": [Interval(Integral, 1, None, closed="left"), None],
        "augment": [StrOptions({"auto"}), callable, None],
        "template": [str, list, tuple],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": BATCH_SIZE,
        "pseudo_batch_size": BATCH_SIZE,
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "gradient_clip_value": [Interval(Real, 0, None, closed="neither"), None],
        "encode_batch_size": BATCH_SIZE,
        "text_encoding": [StrOptions({"auto", "prefix-sharing", "truncated", "full"})],
        "text_batch_size": [*BATCH_SIZE, StrOptions({"auto"}), None],
        "net_params": [dict, None],
        "random_state": ["random_state"],
    }

    classes_: np.ndarray
    history_: Any
    pseudo_rows_: np.ndarray
    pseudo_labels_: np.ndarray
    _names: list[str]
    _complement: str
    _visual: dict[str, Any]
    _clip: tuple[str, str | None]
    _net: Any  # a NeuralNetClassifier, or after unpickling the arrays of its prompts

    def __init__(
        self,
        class_names: Sequence[str] | np.ndarray | Mapping[Any, str] | None = None,
        *,
        model_name: str = "ViT-B-16",
        pretrained: str | None = "openai",
        n_context: int = 16,
        negative_weight: float = 1.0,
        complement: str = "uniform",
        detach_positive: bool = False,
        visual_prompts: str | None = None,
        n_visual_tokens: int = 20,
        prompt_depth: int | None = None,
        augment: str | Callable[..., Any] | None = "auto",
        template: str | Sequence[str] = "a photo of a {}.",
        lr: float = 0.01,
        max_epochs: int = 20,
        batch_size: int = 16,
        pseudo_batch_size: int = 64,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        gradient_clip_value: float | None = 5.0,
        encode_batch_size: int = 256,
        text_encoding: str = "auto",
        text_batch_size: int | str | None = "auto",
        n_jobs: int | str | None = "auto",
        cache: str | None = "memory",
        cache_folder: str | os.PathLike[str] | None = None,
        device: str = "auto",
        precision: str = "auto",
        net_params: dict[str, Any] | None = None,
        verbose: int = 1,
        random_state: int | np.random.RandomState | None = None,
    ):
        self.class_names = class_names
        self.model_name = model_name
        self.pretrained = pretrained
        self.n_context = n_context
        self.negative_weight = negative_weight
        self.complement = complement
        self.detach_positive = detach_positive
        self.visual_prompts = visual_prompts
        self.n_visual_tokens = n_visual_tokens
        self.prompt_depth = prompt_depth
        self.augment = augment
        self.template = template
        self.lr = lr
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.pseudo_batch_size = pseudo_batch_size
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.gradient_clip_value = gradient_clip_value
        self.encode_batch_size = encode_batch_size
        self.text_encoding = text_encoding
        self.text_batch_size = text_batch_size
        self.n_jobs = n_jobs
        self.cache = cache
        self.cache_folder = cache_folder
        self.device = device
        self.precision = precision
        self.net_params = net_params
        self.verbose = verbose
        self.random_state = random_state

    # ---------------------------------------------------------------- training

    def fit(self, X: Any, y: Any, *, X_pseudo: Any = None, y_pseudo: Any = None) -> DualPromptClassifier:
        """Train all prompts from new random values.

        With pseudo-labels a step takes ``batch_size`` labelled and ``pseudo_batch_size``
        pseudo-labelled samples, whose mean losses are added.  An epoch is one pass over the
        set with more batches; the other one is cycled.  modAL passes both arguments on:
        ``learner.teach(X, y, X_pseudo=..., y_pseudo=...)``.

        Parameters
        ----------
        X : array-like
            Embeddings (n, D), images (n, H, W[, 3]) of uint8, or n file paths.  May be empty
            if there are pseudo-labels.
        y : array-like of shape (n,)
            Labels.  Not every class needs one.
        X_pseudo : array-like, default=None
            Samples with pseudo-labels, of the same form as X; may be empty.  See
            `mine_confident`.
        y_pseudo : array-like of shape (n_pseudo,), default=None
            Their pseudo-labels.

        Returns
        -------
        self : DualPromptClassifier

        Raises
        ------
        ValueError
            If a parameter or X or y does not fit, before any training; an estimator that
            was fitted before stays as it was.
        FileNotFoundError
            If X names a file that does not exist.
        FloatingPointError
            At the first step whose loss is not finite; an estimator that was fitted before stays
            as it was.
        torch.cuda.OutOfMemoryError
            If memory runs out, with advice; likewise.
        """
        self._check_params()
        if (X_pseudo is None) != (y_pseudo is None):
            missing, given = ("X_pseudo", "y_pseudo") if X_pseudo is None else ("y_pseudo", "X_pseudo")
            raise ValueError(f"{given} was passed without {missing}; expected both or neither")
        if X_pseudo is None or not (_num_samples(X_pseudo) or _num_samples(y_pseudo)):
            classes, names, target = resolve_labels(self.class_names, check_labels(y))
            return self._train(X, target, classes, names)
        y_pseudo = check_labels(y_pseudo, "y_pseudo")
        if X is None or not (_num_samples(X) or _num_samples(y)):
            classes, names, target = resolve_labels(self.class_names, y_pseudo)
            return self._train(None, target[:0], classes, names, X_pseudo, target)
        y = check_labels(y)
        known = y if self.class_names is not None else np.concatenate([y, y_pseudo])
        classes, names, _ = resolve_labels(self.class_names, known)
        target = encode_labels(y, classes), encode_labels(y_pseudo, classes, "y_pseudo")
        return self._train(X, target[0], classes, names, X_pseudo, target[1])

    def fit_unlabeled(self, X_pool: Any, n_per_class: int = 16) -> DualPromptClassifier:
        """Train on pseudo-labels of zero-shot CLIP alone, without any label: round 0.

        Per class the ``n_per_class`` samples of the pool that zero-shot CLIP predicts as it
        with the highest probability are its pseudo-labelled ones (arXiv:2602.04340, Sec. 3).

        Parameters
        ----------
        X_pool : array-like
            Embeddings (n, D), images (n, H, W[, 3]) of uint8, or n file paths.
        n_per_class : int, default=16
            Pseudo-labels per class (K); a class with fewer predictions gives all it has.

        Returns
        -------
        self : DualPromptClassifier
            Its ``classes_`` are the positions in the list ``class_names``, or the labels of a
            mapping.

        Raises
        ------
        ValueError
            If ``class_names`` is None, or as `fit`.

        See Also
        --------
        mine_confident : The pseudo-labels of later rounds, by a fitted classifier.
        """
        self._check_params()
        check_integer("n_per_class", n_per_class, least=1)
        if self.class_names is None:
            raise ValueError(
                "class_names is None; without labels the classes have to be named: expected a list "
                "of names or a mapping"
            )
        classes, names, _ = resolve_labels(self.class_names, None)
        array, backbone = self._prepare(X_pool, refit=True)
        proba = self._zero_shot(array, backbone, names)
        rows = select_highest_per_class(proba.max(axis=1), proba.argmax(axis=1), n_per_class)
        target = proba[rows].argmax(axis=1)
        with unchanged_on_error(self):
            self._train(None, target[:0], classes, names, array[rows], target)
            if kind_of(array) == "embeddings":  # the names of the pool's columns, if it has any
                validate_data(self, X_pool, reset=True, skip_check_array=True)
            self.pseudo_rows_, self.pseudo_labels_ = rows, classes[target]
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> DualPromptClassifier:
        """Train the present prompts further: ``max_epochs`` on the given samples alone.

        The learning rate starts anew and momentum from zero.  An estimator that was never
        fitted starts from random contexts, as in `fit`.

        Parameters
        ----------
        X : array-like
            Embeddings (n, D), images (n, H, W[, 3]) of uint8, or n file paths.
        y : array-like of shape (n,)
            Labels.
        classes : array-like of shape (C,), default=None
            All labels; needed at the first call if ``class_names`` is None.

        Returns
        -------
        self : DualPromptClassifier

        Raises
        ------
        ValueError
            As `fit`; and if ``classes`` differs from the classes known so far.
        """
        self._check_params()
        y = check_labels(y)
        continued = hasattr(self, "classes_")
        if continued:
            target = encode_labels(y, self.classes_)
            known, names = self.classes_, self._names
        elif self.class_names is None and classes is not None:
            known, names, _ = resolve_labels(None, np.asarray(classes))
            target = encode_labels(y, known)
        else:
            known, names, target = resolve_labels(self.class_names, y)
        if classes is not None and not np.array_equal(np.unique(classes), known):
            raise ValueError(
                f"classes={classes!r} differs from the classes known so far: {known.tolist()}"
            )
        return self._train(X, target, known, names, continued=continued)

    def initialize(self) -> DualPromptClassifier:
        """Check the parameters: what modAL 0.4.2's DeepActiveLearner calls first.

        Nothing is loaded or forgotten.

        Returns
        -------
        self : DualPromptClassifier

        Raises
        ------
        ValueError
            If a parameter does not fit.
        """
        self._check_params()
        return self

    def _check_params(self) -> None:
        self._validate_params()
        check_cache(self.cache, self.cache_folder, self.n_jobs)
        if callable(self.augment) and self.visual_prompts is None:
            raise ValueError(
                f"augment={self.augment!r} has no effect with visual_prompts=None, where each "
                "image is embedded once; expected 'auto' or None, or visual prompts"
            )

    def _train(
        self,
        X: Any,
        target: np.ndarray,
        classes: np.ndarray,
        names: list[str],
        X_pseudo: Any = None,
        pseudo_target: Any = (),
        *,
        continued: bool = False,
    ) -> DualPromptClassifier:
        from skorch.history import History

        from .nn.training import check_net_params, train

        n_labelled, n_pseudo = len(target), len(pseudo_target)
        check_net_params(self.net_params, with_pseudo=n_pseudo > 0)
        parts = []
        if X is not None:
            parts.append(self._prepare(X, refit=not continued, n_labels=n_labelled))
        if n_pseudo:
            parts.append(self._prepare(X_pseudo, refit=True, n_labels=n_pseudo, name="X_pseudo"))
            target = np.concatenate([target, pseudo_target])
        arrays, (backbone, *_) = zip(*parts)
        array = arrays[0] if len(arrays) == 1 else join(*arrays)
        if continued:
            text_encoder, visual = _module_of(self.net_).text_encoder, self._visual
        else:
            names_ = ("visual_prompts", "n_visual_tokens", "prompt_depth")
            visual = {name: getattr(self, name) for name in names_}
            text_encoder = self._text_encoder(backbone, names, self.n_context)
        if self.verbose >= 2:
            print(text_encoder)
        seeds = _seeds(self.random_state, 3)
        net = self._make_net(text_encoder, visual, n_labelled, seeds, n_pseudo)
        if visual["visual_prompts"] is None:
            inputs = self._encode(array, backbone)
        else:
            inputs = self._source(array, backbone)
            if callable(self.augment):  # shows before training whether it can be used
                next(inputs.read([np.arange(1)], seed=0))
        if continued:
            _module_of(net).load_state_dict(_module_of(self.net_).state_dict())
        train(net, inputs, target)
        if continued:  # joined afterwards: skorch's scheduler would resume where it ended
            rows = [*self.history_, *net.history]
            net.history = History()
            net.history.extend({**row, "epoch": k + 1} for k, row in enumerate(rows))
        # Set at the very end, and all at once: whatever went wrong, it is as it was before.
        with unchanged_on_error(self):
            for name in FIT_ONLY:
                self.__dict__.pop(name, None)
            if kind_of(array) == "embeddings":
                table = X_pseudo if X is None else X  # has the columns' names, if there are any
                validate_data(self, table, reset=True, skip_check_array=True)
            self.classes_ = classes
            self.history_ = net.history
            self._names = names
            self._complement = self.complement
            self._visual = visual
            self._clip = (backbone.model_name, backbone.pretrained)
            self._net = net
        return self

    def _text_encoder(self, backbone: Backbone, names: list[str], n_context: int) -> PromptedTextEncoder:
        from .nn.text_encoder import PromptedTextEncoder

        settings = self.text_encoding, self.text_batch_size
        return PromptedTextEncoder(backbone, names, n_context, *settings)

    def _make_net(
        self,
        text_encoder: PromptedTextEncoder,
        visual: dict[str, Any],
        n_samples: int,
        seeds: Sequence[int],
        n_pseudo: int = 0,
    ) -> NeuralNetClassifier:
        """A skorch net with initialized modules; the seeds: prompts, order, complements."""
        from .nn.training import make_net

        names = [
            "negative_weight", "complement", "detach_positive", "lr", "max_epochs", "batch_size",
            "momentum", "weight_decay", "gradient_clip_value", "net_params", "verbose",
            "pseudo_batch_size",
        ]  # fmt: skip
        params = {name: getattr(self, name) for name in names}
        return make_net(text_encoder, n_samples, seeds, n_pseudo=n_pseudo, visual=visual, **params)

    # ---------------------------------------------------------------- prediction

    def predict(self, X: Any) -> np.ndarray:
        """Predict the label of each sample: the class nearest to the positive prompt.

        Parameters
        ----------
        X : array-like
            Embeddings (n, D), images (n, H, W[, 3]) of uint8, or n file paths.

        Returns
        -------
        labels : ndarray of shape (n,)
            Values of ``classes_``.

        Raises
        ------
        NotFittedError
            If the estimator was never fitted.
        ValueError
            If X is none of the three forms, not finite, or of another width.
        """
        (best,) = self._predict(X, lambda positive, z: [positive.argmax(dim=1)], negative=False)
        labels: np.ndarray = self.classes_[best]
        return labels

    def predict_proba(self, X: Any) -> np.ndarray:
        """Class probabilities softmax(s+ / tau) of the positive prompt.

        Parameters
        ----------
        X : array-like
            Embeddings (n, D), images (n, H, W[, 3]) of uint8, or n file paths.

        Returns
        -------
        proba : ndarray of shape (n, C), float32
            Columns in the order of ``classes_``, all C of them.

        Raises
        ------
        NotFittedError, ValueError
            As `predict`.
        """
        (proba,) = self._predict(X, lambda positive, z: [positive.softmax(dim=1)], negative=False)
        return proba

    def predict_logits(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Logits s+ / tau of the class probabilities, and clean logits z, in one pass.

        Parameters
        ----------
        X : array-like
            Embeddings (n, D), images (n, H, W[, 3]) of uint8, or n file paths.

        Returns
        -------
        positive : ndarray of shape (n, C), float32
            Their softmax is what `predict_proba` returns.
        z : ndarray of shape (n, C), float32
            As `clean_logits` returns.

        Raises
        ------
        NotFittedError, ValueError
            As `predict`.
        """
        positive, z = self._predict(X, lambda positive, z: [positive, z])
        return positive, z

    def clean_logits(self, X: Any) -> np.ndarray:
        """Clean logits z = (s+ - s-) / tau, by which query strategies rank.

        Parameters
        ----------
        X : array-like
            Embeddings (n, D), images (n, H, W[, 3]) of uint8, or n file paths.

        Returns
        -------
        z : ndarray of shape (n, C), float32
            Unlike the probabilities these do not saturate: z reaches +-100.

        Raises
        ------
        NotFittedError, ValueError
            As `predict`.
        """
        (z,) = self._predict(X, lambda positive, z: [z])
        return z

    def predict_clean_proba(self, X: Any) -> np.ndarray:
        """Clean probability p_k = sigmoid(z_k) of every label (arXiv:2602.04340, Eq. 3).

        It ranks like the probability that label k is right, but is larger by log(C - 1)
        in the logit where L2 sees one uniform complement; `predict_correct_proba` takes
        that back.

        Parameters
        ----------
        X : array-like
            Embeddings (n, D), images (n, H, W[, 3]) of uint8, or n file paths.

        Returns
        -------
        clean : ndarray of shape (n, C), float32
            Each in [0, 1]; rows do not sum to one.

        Raises
        ------
        NotFittedError, ValueError
            As `predict`.
        """
        (clean,) = self._predict(X, lambda positive, z: [z.sigmoid()])
        return clean

    def predict_correct_proba(self, X: Any) -> np.ndarray:
        """Probability that the predicted label is right.

        ``sigmoid(z - log(C - 1))`` at the predicted label z: the minimiser of L2 with
        uniform complements is inflated by just that term.  With ``complement="hard"`` the
        complements are the label's rivals, of which usually one matters; the term is 0.

        Parameters
        ----------
        X : array-like
            Embeddings (n, D), images (n, H, W[, 3]) of uint8, or n file paths.

        Returns
        -------
        correct : ndarray of shape (n,), float32
            Each in [0, 1].

        Raises
        ------
        NotFittedError, ValueError
            As `predict`.
        """
        return self._predict_with_correct(X)[1]

    def _predict_with_correct(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Predicted labels and P(correct), both (n,), in one pass."""
        check_is_fitted(self, "classes_")
        inflation = 0.0 if self._complement == "hard" else math.log(len(self.classes_) - 1)

        def at_prediction(positive: torch.Tensor, z: torch.Tensor) -> list[torch.Tensor]:
            best = positive.argmax(dim=1, keepdim=True)
            return [best[:, 0], (z.gather(1, best)[:, 0] - inflation).sigmoid()]

        best, correct = self._predict(X, at_prediction)
        return self.classes_[best], correct

    def zero_shot_proba(self, X: Any) -> np.ndarray:
        """Class probabilities of CLIP with the hand-written ``template``; needs no `fit`.

        Parameters
        ----------
        X : array-like
            Embeddings (n, D), images (n, H, W[, 3]) of uint8, or n file paths.

        Returns
        -------
        proba : ndarray of shape (n, C), float32
            Columns in the order of ``classes_``; before `fit`, of the list ``class_names``
            or of the sorted labels of a mapping.

        Raises
        ------
        NotFittedError
            If ``class_names`` is None and the estimator was never fitted.
        ValueError
            As `predict`; and if the template has no ``{}``.
        """
        self._check_params()
        if hasattr(self, "classes_"):
            names = self._names
        elif self.class_names is None:
            raise NotFittedError(
                f"This {type(self).__name__} has class_names=None and was never fitted, so it "
                "does not know its classes yet; pass class_names"
            )
        else:
            _, names, _ = resolve_labels(self.class_names, None)
        check_template(self.template)
        array, backbone = self._prepare(X, frozen=True)
        return self._zero_shot(array, backbone, names)

    def _zero_shot(self, array: np.ndarray | Rows, backbone: Backbone, names: list[str]) -> np.ndarray:
        from .clip.templates import template_embeddings
        from .nn.inference import by_cosine
        from .utils.memory import memory_advice

        embeddings = self._encode(array, backbone)
        with memory_advice("scoring", "free memory that others hold on this device, or device='cpu'"):
            text = template_embeddings(backbone, names, check_template(self.template))
            scaled = text * backbone.logit_scale
            (proba,) = by_cosine(embeddings, scaled, lambda logits: [logits.softmax(dim=1)])
        return proba

    def transform(self, X: Any) -> np.ndarray:
        """Unit image embeddings, on which the predictions rest; needs no `fit`.

        Those of the frozen CLIP; after a fit with visual prompts, as these see the images.

        Parameters
        ----------
        X : array-like
            Embeddings (n, D), images (n, H, W[, 3]) of uint8, or n file paths.

        Returns
        -------
        embeddings : ndarray of shape (n, D), float32
            Each of length 1.  Without visual prompts they may be passed to every method in
            place of X.

        Raises
        ------
        ValueError
            As `predict`.
        """
        self._check_params()
        array, backbone = self._prepare(X)
        return unit_rows(self._embed(array, backbone))

    def _predict(
        self, X: Any, reduce: Callable[..., Sequence[torch.Tensor]], negative: bool = True
    ) -> list[np.ndarray]:
        """What ``reduce`` makes of the logits of X, part by part; see `nn.inference.predict`."""
        from .nn.inference import predict

        check_is_fitted(self, "classes_")
        array, backbone = self._prepare(X)
        return predict(self.net_, self._embed(array, backbone), reduce, negative)

    # ---------------------------------------------------------------- input and state

    def _load_backbone(self, model_name: str, pretrained: str | None) -> Backbone:
        from .clip.backbone import load_backbone

        return load_backbone(model_name, pretrained, self.device, self.precision)

    def _prepare(
        self,
        X: Any,
        refit: bool = False,
        n_labels: int | None = None,
        frozen: bool = False,
        name: str = "X",
    ) -> tuple[Any, Backbone]:
        """Return X checked, as embeddings, images or paths, and the CLIP it goes to.

        That is the CLIP of the last fit, whatever the parameters say by now, or the one
        that they name if there was none or another fit is due.  What can be seen without
        the CLIP is checked before it is loaded.  ``frozen``: visual prompts play no part.
        """
        fitted = "_net" in self.__dict__ and not refit
        array = check_input(X, self, name)
        if n_labels is not None and len(array) != n_labels:
            raise ValueError(
                f"{name} has {len(array)} rows but {name.replace('X', 'y')} has {n_labels} labels "
                "(inconsistent numbers of samples); expected one label per row"
            )
        visual_prompts = self._visual["visual_prompts"] if fitted else self.visual_prompts
        if visual_prompts is not None and kind_of(array) == "embeddings" and not frozen:
            raise ValueError(
                f"{name} has shape {array.shape}, so it holds embeddings, which "
                f"visual_prompts={visual_prompts!r} would have to change; expected images "
                "(n, H, W[, 3]) of uint8 or file paths, or visual_prompts=None"
            )
        if fitted:
            backbone = _module_of(self.net_).text_encoder.backbone
        else:
            backbone = self._load_backbone(self.model_name, self.pretrained)
        if kind_of(array) == "embeddings":
            check_width(array, backbone, self, name)
            if hasattr(self, "n_features_in_") and not refit:  # column names, where fit saw some
                validate_data(self, X, reset=False, skip_check_array=True)
        return array, backbone

    def _embed(self, array: Any, backbone: Backbone) -> Any:
        """Embeddings (n, D) float32 of a checked X as the classifier sees them."""
        if "_net" not in self.__dict__ or self._visual["visual_prompts"] is None:
            return self._encode(array, backbone)
        from .clip.embedding import embed, encoding_advice, prefetch
        from .nn.inference import embed_images

        if "_moved_embeddings" not in self.__dict__:  # a fit's own, never pickled
            self._moved_embeddings = MemoryStore(EMBEDDING_BYTES)
        source = self._source(array, backbone)

        def forward(batches: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
            return prefetch(embed_images(self.net_, source.read(batches)))

        store, batch_size = self._moved_embeddings, self.encode_batch_size
        with encoding_advice(backbone, batch_size, "encode_batch_size"):
            embeddings, _ = embed(source, forward, store, batch_size, self.verbose)
        return embeddings

    def _encode(self, array: Any, backbone: Backbone) -> Any:
        """Embeddings (n, D) float32 of a checked X by the frozen CLIP."""
        if kind_of(array) == "embeddings":
            return array
        from .clip.embedding import encode

        names = ("cache", "cache_folder", "n_jobs", "device")
        params = {name: getattr(self, name) for name in names}
        params["size_name"] = "encode_batch_size"
        return encode(backbone, array, self.encode_batch_size, self.verbose, **params)

    def _source(self, array: np.ndarray, backbone: Backbone) -> ImageSource:
        """The images of a checked X, to be read for the towers with visual prompts."""
        from .clip.embedding import is_cuda
        from .data.augmentation import RandomResizedCropFlip
        from .data.reading import ImageSource, memory_of_pixels

        store: Any = {"memory": memory_of_pixels, None: None}.get(self.cache)
        if self.cache == "disk":
            store = disk_cache(self.cache_folder, "pixels", "1", np.uint8)
        augment: Any = self.augment
        if augment == "auto":
            augment = RandomResizedCropFlip(backbone.preprocessing.size)
        return ImageSource(
            array,
            backbone.preprocessing,
            augment=augment,
            store=store,
            n_jobs=self.n_jobs,
            pin=is_cuda(backbone),
        )

    @property
    def net_(self) -> NeuralNetClassifier:
        """The trained `skorch.NeuralNetClassifier`; rebuilt at first use after unpickling."""
        if "_net" not in self.__dict__:
            raise AttributeError(f"this {type(self).__name__} is not fitted yet: it has no net_")
        if isinstance(self._net, dict):
            import torch

            prompts = {name: torch.from_numpy(value) for name, value in self._net.items()}
            n_context = len(prompts["context_positive"])
            backbone = self._load_backbone(*self._clip)
            self._check_clip(backbone)
            text_encoder = self._text_encoder(backbone, self._names, n_context)
            net = self._make_net(text_encoder, self._visual, n_samples=1, seeds=(0, 0, 0))
            _module_of(net).load_state_dict(prompts)
            net.history = self.history_
            self._net = net
        return self._net

    def _check_clip(self, backbone: Backbone) -> None:
        """Refuse a CLIP that is not the one of the file that this was loaded from, if it was."""
        from .utils.persistence import describe_versions

        if "_saved_clip" in self.__dict__:
            versions = getattr(self, "saved_with_", None)
            shown = f", saved with {describe_versions(versions)}" if versions else ""
            backbone.check_identity(self._saved_clip, shown)

    @property
    def coef_(self) -> np.ndarray:
        """Weights (C, D) of the linear classifier that this is on its own embeddings."""
        module = _module_of(self.net_).eval()
        scale = module.text_encoder.backbone.logit_scale
        return (module.text_embeddings()[0] * scale).float().cpu().numpy()

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__().copy()
        state.pop("_moved_embeddings", None)
        if not isinstance(state.get("_net", {}), dict):
            # The prompts are all there is to keep: the backbone is loaded by name, the
            # optimizer starts anew, and the losses of single steps would outgrow both.
            module = _module_of(state["_net"])
            state["_net"] = {
                name: value.detach().cpu().numpy() for name, value in module.state_dict().items()
            }
        if "history_" in state:
            history = type(state["history_"])()
            history.extend({**row, "batches": []} for row in state["history_"])
            state["history_"] = history
        return state

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted estimator to a file that holds no code and no weights of the CLIP.

        One .npz file of plain arrays and a JSON text: prompts, classes, parameters, losses per
        epoch, versions of packages, and a checksum of the CLIP's weights, which `load` compares.
        A file that is there is replaced at once.  ``cache_folder`` is not in it.

        Parameters
        ----------
        path : str or path-like
            File to write; taken as it is, whatever its suffix.

        Raises
        ------
        NotFittedError
            If the estimator was never fitted.
        ValueError
            If a parameter has become invalid since the fit, or there is no such folder.

        See Also
        --------
        load : Reads the file.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> from modal_clip_dual import DualPromptClassifier
        >>> from modal_clip_dual.data import load_digits_images
        >>> X, y, class_names = load_digits_images().values()
        >>> clf = DualPromptClassifier(
        ...     class_names, model_name="demo", pretrained="bundled", max_epochs=2
        ... ).fit(X[:60], y[:60])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     clf.save(Path(folder, "digits.npz"))
        ...     loaded = DualPromptClassifier.load(Path(folder, "digits.npz"))
        >>> bool((loaded.predict_proba(X) == clf.predict_proba(X)).all())
        True
        """
        from .utils.persistence import check_target, plain, plain_params, write_state

        check_is_fitted(self, "classes_")
        self._check_params()
        path = check_target(path)
        fit, arrays = self._saved_prompts()
        arrays = {f"prompt.{name}": value for name, value in arrays.items()}
        for name in ("pseudo_rows_", "pseudo_labels_"):
            if hasattr(self, name):
                arrays[name] = plain(getattr(self, name))
        settings = {
            "estimator": plain_params(self, without=NOT_SAVED),
            "fit": fit,
            "history": [_plain_entries(row) for row in self.history_],
            "n_features_in": getattr(self, "n_features_in_", None),
            "feature_names_in": list(getattr(self, "feature_names_in_", [])),
        }
        write_state(path, "classifier", settings, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str], **params: Any) -> DualPromptClassifier:
        """Read an estimator that `save` wrote; it predicts as the saved one did, bit for bit.

        The CLIP is loaded at first use, by name.  If its weights are not those that the prompts
        were trained with, that first use raises ValueError; reading ``net_`` is one.

        Parameters
        ----------
        path : str or path-like
            A file of `save`.  It may come from a stranger: it can choose the parameters, among
            them which CLIP is loaded, but nothing in it is run.
        **params
            Parameters that replace saved ones, such as ``device="cpu"``, or ``model_name`` where
            a CLIP has moved to another folder.  Those that were no plain values, such as a callable
            ``augment`` or classes in ``net_params``, are not in the file and have to be passed.

        Returns
        -------
        estimator : DualPromptClassifier

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is no file of `save`, is damaged or newer than this version of the package, or
            a parameter is missing or does not fit.

        See Also
        --------
        save : Writes the file, with an example.
        """
        from .utils.persistence import read_state

        settings, arrays = read_state(path, "classifier")
        try:
            missing = set(settings["estimator"]["missing"]) - set(params)
            unknown = {*settings["estimator"]["params"], *missing} - set(cls._get_param_names())
        except (KeyError, TypeError, AttributeError) as error:
            raise _damaged(path, error) from error
        if unknown:
            raise ValueError(f"path={str(path)!r} has parameters that do not exist here: {sorted(map(str, unknown))}")
        if missing:
            example = ", ".join(f"{name}=..." for name in sorted(missing))
            raise ValueError(
                f"path={str(path)!r} cannot hold the saved {', '.join(sorted(missing))}, no plain "
                f"value; pass what it was: {cls.__name__}.load(path, {example})"
            )
        estimator = cls._from_saved(path, settings, params)
        estimator._check_params()
        try:
            return estimator._restore_saved(settings, arrays, params)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _damaged(path, error) from error

    @classmethod
    def _from_saved(
        cls, path: str | os.PathLike[str], settings: dict[str, Any], params: dict[str, Any]
    ) -> DualPromptClassifier:
        from .utils.persistence import params_of

        try:
            return cls(**params_of(settings["estimator"], without=NOT_SAVED) | params)
        except (KeyError, ValueError) as error:  # TypeError: an argument of load that does not exist
            raise _damaged(path, error) from error

    def _restore_saved(
        self, settings: dict[str, Any], arrays: dict[str, np.ndarray], params: dict[str, Any]
    ) -> DualPromptClassifier:
        """All that `save` wrote, but the parameters."""
        prompts = {k.removeprefix("prompt."): v for k, v in arrays.items() if k.startswith("prompt.")}
        self._restore_prompts(settings["fit"], prompts)
        if not all(prompts[f"context_{name}"].ndim == 2 for name in ("positive", "negative")):
            raise ValueError("contexts are no matrices")
        if self.classes_.shape != (len(self._names),) or not all(isinstance(n, str) for n in self._names):
            raise ValueError("classes and names do not match")
        if {type(self._saved_clip[name]) for name in ("precision", "weights", "preprocessing")} != {str}:
            raise ValueError("no checksum")
        if not {"visual_prompts", "n_visual_tokens", "prompt_depth"} <= set(self._visual):
            raise ValueError("no settings of visual prompts")
        name, tag = self._clip
        self._clip = (params.get("model_name", name), params.get("pretrained", tag))
        self.saved_with_ = dict(settings["versions"])
        self.history_.extend({**row, "batches": []} for row in settings["history"])
        if settings["n_features_in"] is not None:
            self.n_features_in_ = int(settings["n_features_in"])
        if settings["feature_names_in"]:
            self.feature_names_in_ = np.array(settings["feature_names_in"], dtype=object)
        for name in ("pseudo_rows_", "pseudo_labels_"):
            if name in arrays:
                setattr(self, name, arrays[name])
        if "pseudo_labels_" in arrays:
            self.pseudo_labels_ = self.pseudo_labels_.astype(self.classes_.dtype)
        return self

    def _saved_prompts(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What was fitted, as plain settings and arrays: the inverse of `_restore_prompts`."""
        clip = self.__dict__.get("_saved_clip")  # not loaded yet, or found to be the same
        settings = {
            "classes": self.classes_.tolist(),
            "classes_dtype": self.classes_.dtype.str,
            "names": self._names,
            "complement": self._complement,
            "visual": {k: v.item() if isinstance(v, np.generic) else v for k, v in self._visual.items()},
            "clip": list(self._clip),
            "clip_identity": clip or _module_of(self.net_).text_encoder.backbone.identity(),
        }
        return settings, self.__getstate__()["_net"]

    def _restore_prompts(
        self, settings: dict[str, Any], prompts: Mapping[str, np.ndarray]
    ) -> DualPromptClassifier:
        """Become the fitted estimator of `_saved_prompts`; the losses of its fit are gone."""
        from skorch.history import History

        dtype = settings.get("classes_dtype", "")
        known = re.fullmatch(r"[<>|=]([biuf][1248]|O)", dtype)  # texts are as wide as they are
        self.classes_ = np.array(settings["classes"], dtype=dtype if known else None)
        self.history_ = History()
        self._names = settings["names"]
        self._complement = settings["complement"]
        self._visual = settings["visual"]
        self._clip = tuple(settings["clip"])
        for name in FIT_ONLY:
            self.__dict__.pop(name, None)
        if "clip_identity" in settings:
            self._saved_clip = dict(settings["clip_identity"])
        self._net = dict(prompts)
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []  # always float32
        return tags


def _module_of(net: NeuralNetClassifier) -> DualPromptModule:
    from .nn.module import module_of  # loads torch

    return module_of(net)


def _damaged(path: Any, error: Exception) -> ValueError:
    return ValueError(f"path={str(path)!r} is no saved classifier, or damaged ({error!r})")


def _plain_entries(row: dict[str, Any]) -> dict[str, Any]:
    """What of a row of the history JSON can hold; callbacks put anything there."""
    return {name: value for name, value in row.items() if isinstance(value, (str, int, float))}


def _seeds(random_state: Any, n: int) -> list[int]:
    """n seeds from a random state, without touching NumPy's global generator."""
    if random_state is None:
        return [int(seed) for seed in np.random.SeedSequence().generate_state(n)]
    if isinstance(random_state, np.random.RandomState):
        return [int(seed) for seed in random_state.randint(2**31 - 1, size=n)]
    return [int(seed) for seed in np.random.SeedSequence(int(random_state)).generate_state(n)]
