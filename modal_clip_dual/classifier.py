"""DualPromptClassifier, the scikit-learn estimator."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from .base import CLIPClassifier
from .clip.inputs import BATCH_SIZE, check_same_columns, check_template, column_names, join
from .data.augmentation import AUGMENTATIONS, RandomResizedCrop
from .data.files import looking_once
from .data.images import EXPECTED, kind_of, rows_called
from .data.stores import EMBEDDING_BYTES, MemoryStore
from .nn.fitted import VISUAL_SETTINGS, FittedPrompts
from .nn.kept import Kept
from .utils.arrays import n_samples, unit_rows
from .utils.catalog import names_in
from .utils.labels import LABELS, check_labels, encode_labels, labels_of_partial_fit, resolve_classes, resolve_labels
from .utils.persistence import plain
from .utils.selection import select_highest_per_class
from .utils.validation import check_integer
from .utils.weights import weighted_rows

if TYPE_CHECKING:
    import torch
    from skorch import NeuralNetClassifier

    from .clip.backbone import Backbone
    from .clip.inputs import Template
    from .data.reading import ImageSource
    from .nn.criteria import PromptCriterion
    from .nn.module import DualPromptModule

# The names of criteria and visual prompts, read without importing torch.
CRITERIA_FOLDER, PROMPTS_FOLDER = (Path(__file__).parent / "nn" / name for name in ("criteria", "prompts"))
# Parameters of version 0.1.0 that are in `net_params` now, with their old defaults.
MOVED = {
    "detach_positive": ("module__detach_positive", False),
    "n_visual_tokens": ("module__n_visual_tokens", 20),
    "prompt_depth": ("module__prompt_depth", None),
    "text_encoding": ("module__text_encoding", "auto"),
    "text_batch_size": ("module__text_batch_size", "auto"),
    "momentum": ("optimizer__momentum", 0.9),
    "weight_decay": ("optimizer__weight_decay", 5e-4),
    "pseudo_batch_size": ("iterator_train__pseudo_batch_size", 64),
}
# The settings of arXiv 2602.04340, as far as it tells them; docs/method.md says which of them are choices.
PAPER_SETTINGS: dict[str, Any] = {
    "n_context": 16,
    "context_init": None,
    "criterion": "dual",
    "augment": "coop",
    "lr": 0.01,
    "max_epochs": 20,
}


class DualPromptClassifier(CLIPClassifier):
    """Classify images with a frozen CLIP, two learnable text prompts and optional visual ones.

    The positive prompt classifies.  The negative prompt is trained in reverse, so that
    comparing the two gives, for every image and class, a score that ranks like the
    probability that this label is right: the clean probability of [1]_, Eq. 3.  Ranking a
    pool by this score decides which samples to label next; see `negative_prompt_sampling`.

    Every method takes ``X`` in one of three forms, told apart by shape and type: image
    embeddings of this CLIP, (n, D) numbers; images, (n, H, W) or (n, H, W, 3) of uint8;
    or file paths, a 1-d array, a list, or a DataFrame with one column.  Images and files
    are encoded once per process, with the preprocessing that belongs to the weights.
    Visual prompts change the embeddings: then images are encoded once per fit, and X cannot be embeddings.

    Parameters
    ----------
    class_names : list of str or dict of {label: str}, default=None
        Names of the classes in a prompt; underscores are read as spaces.  With a
        list, labels are either positions in it (integers) or the names themselves.  Where another
        estimator numbers the labels before it passes them on (VotingClassifier, BaggingClassifier,
        StackingClassifier), the numbers mean what they were made of.  A Series, an Index or the keys of a
        dict count as a list.  With
        None the classes are the labels that ``fit`` is given and each label is its own
        name; an active learner should be given all classes instead, because the first
        labels seldom include every one.
    model_name : str, default="ViT-B-16"
        open_clip's name of the model; ``"local-dir:FOLDER"`` and ``"hf-hub:ORG/REPO"``
        work, too.  ``"demo"`` is the small CLIP that ships with this package.
    pretrained : str, path-like or None, default="openai"
        open_clip's tag of the weights, or a checkpoint file; ``"bundled"`` for the demo
        model.
    n_context : int, default=16
        Number of context vectors per prompt (M).
    context_init : str or None, default=None
        Words that start the positive prompt, such as ``"a photo of a"``, directly before the class name.  They may
        have ``n_context`` tokens at most, and the vectors in front of them are random.  With None all are drawn
        from N(0, 0.02^2), as those of the negative prompt always are.
    negative_weight : float, default=1.0
        Weight lambda of L2, the loss of the negative prompt.  With 0 this is a plain CoOp learner,
        whose clean probabilities carry no information.
    complement : {"uniform", "all", "hard"}, default="uniform"
        Wrong labels that enter L2: one drawn at random per sample and step, as in [1]_;
        all of them; or all, weighted by how likely the positive prompt finds them.
    criterion : {"anchored", "background", "dual", "promptsrc"} or PromptCriterion class, default="anchored"
        Loss that training minimizes.  ``"dual"`` is the loss of [1]_.  ``"anchored"`` adds, for each class, a pull
        of the positive prompt to the hand-written ``template`` that fades with the labels and is as strong as they
        ask for; see `modal_clip_dual.nn.criteria.anchored.AnchoredLoss`.  ``"promptsrc"`` adds the three terms of
        [4]_ that keep the positive prompt near the frozen CLIP with its ``template``, with any number of labels, and
        ends with an average of the prompts over the epochs.  ``"background"`` adds a term that keeps the classes
        equally likely for embeddings of backgrounds, ``criterion__background`` of ``net_params``.  The weights of
        terms are arguments ``criterion__...`` of ``net_params``.  A class must derive from
        `modal_clip_dual.nn.criteria.PromptCriterion`.
    visual_prompts : {"vpt-deep", "vpt-shallow", "maple", "ivlp"} or None, default=None
        Learnable tokens in the image tower, which must be open_clip's VisionTransformer.
        ``"vpt-deep"`` has separate tokens for every block [2]_, the paper's choice as we read it;
        ``"vpt-shallow"`` has tokens for the first block.  ``"maple"`` has contexts for the first blocks
        of the text tower, too, which linear maps turn into visual tokens [3]_.  ``"ivlp"`` has such contexts and
        separate visual tokens, independent of them [4]_.  None leaves the image tower unchanged.
    augment : {"auto", "coop"}, callable or None, default="auto"
        Random change of training images, with visual prompts only.  ``"auto"`` is mild: a random crop of 80 to
        100% of the area, resized, and no flip.  ``"coop"`` is the recipe of CoOp, MaPLe and PromptSRC: a crop of 8
        to 100%, mirrored every second time.  None changes nothing.  A
        callable takes a PIL image and returns one, or the finished tensor, as open_clip's
        training transforms do; ``random_state`` seeds the global generators of Python,
        NumPy and torch that it uses.  Before training the frozen CLIP is asked about the images before
        and after the change, and a warning is given if it no longer sees in them what it saw before.
    template : str, callable, list of these, or dict of {str: list of str}, default="a photo of a {}."
        Hand-written prompt of `zero_shot_proba`, or several, whose embeddings are averaged.  A callable takes
        a class name and returns the text, as open_clip's own lists have them
        (``open_clip.OPENAI_IMAGENET_TEMPLATES``).  A dict has texts for each class by its name, such as
        descriptions that a language model wrote (CuPL); they are taken as they are.
    lr : float, default=0.01
        Initial learning rate; it decays to 0 along a cosine, step by step.
    max_epochs : int or "auto", default="auto"
        Number of passes over the labeled samples.  ``"auto"`` is 20, or more where these have fewer than
        ``min_steps`` steps.
    min_steps : int, default=400
        Least number of training steps with ``max_epochs="auto"``; a number of epochs is taken as it is.
    batch_size : int, default=16
        Number of labeled samples per step.
    gradient_clip_value : float or None, default=5.0
        Largest norm of a context's gradient; each context is clipped on its own.  With few
        labels a single step can be large enough to ruin a prompt; None does not clip.
    encode_batch_size : int, default=256
        Number of images per forward pass of the image tower, except in training.
    n_jobs : int, "auto" or None, default="auto"
        Number of worker processes that read and decode files; see `CLIPImageEncoder`.
    cache : {"memory", "disk"}, path-like or None, default="memory"
        Cache for embeddings, or with visual prompts for pixels, so that later rounds need not read images
        again.  ``"memory"`` lasts as long as this process, up to 1 GiB.  ``"disk"`` also keeps them for later
        processes, in ``modal_clip_dual`` in the user's cache folder; a path names another folder.  A fit with
        visual prompts always keeps its own embeddings, up to 1 GiB.
    device : str, default="auto"
        A torch device; ``"auto"`` takes CUDA if available.
    precision : str, default="auto"
        open_clip's name of the towers' precision; ``"auto"`` is float32 on the CPU and
        bfloat16 (or float16) on a GPU.  Logits and probabilities are always float32.
    net_params : dict, default=None
        Further arguments of the `skorch.NeuralNetClassifier`, for instance
        ``{"optimizer": torch.optim.AdamW, "callbacks": [...]}``.  The optimizer is SGD unless it is named here,
        with ``optimizer__momentum=0.9`` and ``optimizer__weight_decay=5e-4``.  Arguments of the parts are:

        - ``module__n_visual_tokens=None``: tokens per block; None is 20 for VPT and 4 for IVLP, as in the papers.
          MaPLe has as many as ``n_context``.
        - ``module__prompt_depth=None``: number of blocks with their own prompts in MaPLe and IVLP (J); None is 9,
          as in [3]_ and [4]_, or all blocks of the shallower tower if it has fewer.
        - ``module__detach_positive=False``: send the gradient of L2 to the negative prompt alone.
        - ``module__class_specific_context=False``: give every class contexts of its own, as CoOp's CSC.  No prefix is
          shared then, so a step takes longer; see :doc:`/prompts`.
        - ``module__name_offsets="auto"``: let both prompts learn an offset to each token of each class name [6]_.
          ``"auto"`` does so if the criterion holds each class near its text, as ``"anchored"`` does, and if the
          contexts are not class-specific.
        - ``module__text_encoding="auto"``: how prompts go through the text tower.  ``"prefix-sharing"`` encodes
          the part that all classes share once, ``"truncated"`` cuts sequences behind the longest one, ``"full"``
          leaves them at full length.  All give the same embeddings; ``"auto"`` takes the first that the tower allows.
        - ``module__text_batch_size="auto"``: classes that go through the text tower at a time.  With more
          classes, memory does not grow with their number, but in training they are encoded twice.
          ``"auto"`` is 256, None all at once.
        - ``callbacks__cosine_decay__warmup=False``: train the first epoch with a learning rate of 1e-5, as CoOp does.
          ``callbacks__cosine_decay=None`` keeps ``lr`` as it is, or leaves it to a scheduler in ``callbacks``.
        - ``iterator_train__pseudo_batch_size=64``: pseudo-labeled samples per step, if there are any.
        - ``criterion__...``: arguments of the ``criterion``.  ``criterion__margin=0.0`` is the weight of a margin
          that grows with the distance of the classes' names [5]_.  ``"anchored"`` has
          ``criterion__text_penalty="auto"`` and ``criterion__image_weight=1.6``.  ``"promptsrc"`` also has
          ``criterion__text_weight=25.0``, ``criterion__image_weight=10.0``, ``criterion__logits_weight=1.0`` and
          ``criterion__average="gaussian"``, with ``criterion__average_mean=0.75`` and
          ``criterion__average_scale=0.05``, fractions of the epochs.

        Your own ``iterator_train`` gets images as the model takes them, without ``augment``.  With a
        ``train_split`` the learning rate ends above 0, because its schedule counts every sample.
    verbose : int, default=1
        Amount of output: 0 is silent, 1 shows a progress bar when encoding images takes more than a
        few seconds, 2 also shows skorch's line per epoch.
    random_state : int, RandomState instance or None, default=None
        Controls the initial contexts, the order of the samples and the drawn complementary labels.
        The global generators are never used, not even with None.

    Attributes
    ----------
    classes_ : ndarray of shape (C,)
        All labels, sorted, including those without a training sample.
    net_ : skorch.NeuralNetClassifier
        The trained net; ``net_.module_`` holds the prompts.
    history_ : skorch.history.History
        Loss per epoch and step.
    pseudo_rows_, pseudo_labels_ : ndarray of int, ndarray
        After `fit_unlabeled`, the rows of the pool that it was trained on, and their pseudo-labels.
    n_features_in_ : int
        Width D of the embeddings, if ``fit`` was given embeddings.
    feature_names_in_ : ndarray of shape (D,)
        Column names, if ``fit`` was given a DataFrame of embeddings.
    saved_with_ : dict of {str: str}
        After `load`, the versions of Python and of the packages that wrote the file.
    coef_ : ndarray of shape (C, D), float32
        Text embeddings of the positive prompt, divided by tau: the class probabilities are the
        softmax of ``transform(X) @ coef_.T``.

    See Also
    --------
    negative_prompt_sampling : Query samples for modAL, ranked by the clean logits.
    WeightAverage : Average the prompts along training, for ``net_params["callbacks"]``.
    CLIPImageEncoder : Encode images as a separate step of a pipeline.

    Notes
    -----
    The loss of the negative prompt is printed with a wrong sign in [1]_ (Eq. 5); see
    `modal_clip_dual.nn.criteria.dual.negative_prompt_loss`.

    With ``negative_weight=0`` the classifier is one of the plain learners that [1]_ compares with: CoOp
    (no visual prompts), VPT and MaPLe.

    References
    ----------
    .. [1] "Explicit Uncertainty Modeling for Active CLIP Adaptation with Dual Prompt
       Tuning", arXiv:2602.04340.
    .. [2] Jia et al., "Visual Prompt Tuning", ECCV 2022, arXiv:2203.12119.
    .. [3] Khattak et al., "MaPLe: Multi-modal Prompt Learning", CVPR 2023, arXiv:2210.03117.
    .. [4] Khattak et al., "Self-regulating Prompts: Foundational Model Adaptation without
       Forgetting", ICCV 2023, arXiv:2307.06948.
    .. [5] Shu et al., "CLIPood: Generalizing CLIP to Out-of-Distributions", ICML 2023,
       arXiv:2302.00864.
    .. [6] After Parisot et al., "Learning to Name Classes for Vision and Language Models",
       CVPR 2023, arXiv:2304.01830, where the embeddings of names themselves are learned.

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
        **CLIPClassifier._parameter_constraints,
        "n_context": [Interval(Integral, 1, None, closed="left")],
        "context_init": [str, None],
        "negative_weight": [Interval(Real, 0, None, closed="left")],
        "complement": [StrOptions({"uniform", "all", "hard"})],
        "criterion": [StrOptions(set(names_in(CRITERIA_FOLDER))), type],
        "visual_prompts": [StrOptions(set(names_in(PROMPTS_FOLDER))), None],
        "augment": [StrOptions(set(AUGMENTATIONS)), callable, None],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "max_epochs": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "min_steps": [Interval(Integral, 1, None, closed="left")],
        "batch_size": BATCH_SIZE,
        "gradient_clip_value": [Interval(Real, 0, None, closed="neither"), None],
        "net_params": [dict, None],
        "random_state": ["random_state"],
    }
    _fit_only = (*CLIPClassifier._fit_only, "_net", "_prompted_embeddings", "pseudo_rows_", "pseudo_labels_")
    _Head = FittedPrompts
    _unmoved = ", or visual_prompts=None"

    history_: Any
    pseudo_rows_: np.ndarray
    pseudo_labels_: np.ndarray
    _head: FittedPrompts
    _net: NeuralNetClassifier  # of a fit in this process, or rebuilt
    _prompted_embeddings: Kept  # those of images, as the visual prompts see them, in a MemoryStore

    def __init__(
        self,
        class_names: Sequence[str] | np.ndarray | Mapping[Any, str] | None = None,
        *,
        model_name: str = "ViT-B-16",
        pretrained: str | os.PathLike[str] | None = "openai",
        n_context: int = 16,
        context_init: str | None = None,
        negative_weight: float = 1.0,
        complement: str = "uniform",
        criterion: str | type[PromptCriterion] = "anchored",
        visual_prompts: str | None = None,
        augment: str | Callable[..., Any] | None = "auto",
        template: Template = "a photo of a {}.",
        lr: float = 0.01,
        max_epochs: int | str = "auto",
        min_steps: int = 400,
        batch_size: int = 16,
        gradient_clip_value: float | None = 5.0,
        encode_batch_size: int = 256,
        n_jobs: int | str | None = "auto",
        cache: str | os.PathLike[str] | None = "memory",
        device: str = "auto",
        precision: str = "auto",
        net_params: dict[str, Any] | None = None,
        verbose: int = 1,
        random_state: int | np.random.RandomState | None = None,
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
        self.n_context = n_context
        self.context_init = context_init
        self.negative_weight = negative_weight
        self.complement = complement
        self.criterion = criterion
        self.visual_prompts = visual_prompts
        self.augment = augment
        self.lr = lr
        self.max_epochs = max_epochs
        self.min_steps = min_steps
        self.batch_size = batch_size
        self.gradient_clip_value = gradient_clip_value
        self.net_params = net_params
        self.random_state = random_state

    # ---------------------------------------------------------------- training

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, X_pseudo: Any = None, y_pseudo: Any = None
    ) -> DualPromptClassifier:
        """Train all prompts from new random values.

        With pseudo-labels each step takes ``batch_size`` labeled and ``pseudo_batch_size``
        pseudo-labeled samples, whose mean losses are added.  An epoch is one pass over the
        set with more batches; the other one is cycled.  modAL passes both arguments on:
        ``learner.teach(X, y, X_pseudo=..., y_pseudo=...)``.

        Parameters
        ----------
        X : array-like
            Embeddings (n, D), images (n, H, W[, 3]) of uint8, or n file paths.  X may be empty
            if there are pseudo-labels.
        y : array-like of shape (n,)
            Labels.  A class may have no sample.
        sample_weight : array-like of shape (n,), default=None
            Weight of each sample's loss, relative to the others; 0 leaves a sample out.  Batches are those of the
            samples that there are, so a weight of 2 is a sample that comes twice only where a batch holds all of
            them and complements are not drawn (``complement="all"`` or ``"hard"``); otherwise it is so on average.
            For classes of very different size:
            ``sklearn.utils.class_weight.compute_sample_weight("balanced", y)``.
        X_pseudo : array-like, default=None
            Samples with pseudo-labels, in the same form as X; there may be none.  See
            `mine_confident`.
        y_pseudo : array-like of shape (n_pseudo,), default=None
            Their pseudo-labels.

        Returns
        -------
        self : DualPromptClassifier

        Raises
        ------
        ValueError
            If a parameter or X or y does not fit, before any training; an earlier fit is kept.
        FileNotFoundError
            If X names a file that does not exist.
        FloatingPointError
            If the loss of a step is not finite; an earlier fit is kept.
        torch.cuda.OutOfMemoryError
            If memory runs out; the message says what to change, and an earlier fit is kept.
        """
        self._check_params()
        if (X_pseudo is None) != (y_pseudo is None):
            missing, given = ("X_pseudo", "y_pseudo") if X_pseudo is None else ("y_pseudo", "X_pseudo")
            raise ValueError(f"{given} was passed without {missing}; expected both or neither")
        any_pseudo = X_pseudo is not None and n_samples(X_pseudo, "X_pseudo", EXPECTED)
        if X_pseudo is None or not (any_pseudo or n_samples(y_pseudo, "y_pseudo", LABELS)):
            classes, names, target = resolve_labels(self.class_names, check_labels(y), self._numbered)
            return self._train(X, target, classes, names, sample_weight=sample_weight)
        y_pseudo = check_labels(y_pseudo, "y_pseudo")
        labeled = y is not None and n_samples(y, "y", LABELS) > 0
        if not labeled and (X is None or not n_samples(X, "X", EXPECTED)):
            if sample_weight is not None:
                raise ValueError("sample_weight was passed without X; expected weights of labeled samples, or None")
            classes, names, target = resolve_labels(self.class_names, y_pseudo, self._numbered)
            return self._train(None, target[:0], classes, names, X_pseudo, target)
        y = check_labels(y)
        known = y if self.class_names is not None else np.concatenate([y, y_pseudo])
        classes, names = resolve_classes(self.class_names, known, self._numbered)
        target = encode_labels(y, classes), encode_labels(y_pseudo, classes, "y_pseudo")
        return self._train(X, target[0], classes, names, X_pseudo, target[1], sample_weight=sample_weight)

    @looking_once()
    def fit_unlabeled(self, X_pool: Any, n_per_class: int = 16) -> DualPromptClassifier:
        """Train on pseudo-labels of zero-shot CLIP alone, without any label: round 0.

        Each class gets as pseudo-labeled samples the ``n_per_class`` ones that zero-shot CLIP predicts
        as this class with the highest probability (arXiv:2602.04340, Sec. 3).

        Parameters
        ----------
        X_pool : array-like
            Embeddings (n, D), images (n, H, W[, 3]) of uint8, or n file paths.
        n_per_class : int, default=16
            Number of pseudo-labels per class (K); a class with fewer predictions gets all of them.

        Returns
        -------
        self : DualPromptClassifier
            Its ``classes_`` are the positions in the list ``class_names``, or the labels of a
            mapping.

        Raises
        ------
        ValueError
            If ``class_names`` is None, or as for `fit`.

        See Also
        --------
        mine_confident : Select the pseudo-labels of later rounds by a fitted classifier.
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
        with rows_called("X_pool", array):
            proba = self._zero_shot(array, backbone, names)
        rows = select_highest_per_class(proba.max(axis=1), proba.argmax(axis=1), n_per_class)
        target = proba[rows].argmax(axis=1)
        pseudo = {"pseudo_rows_": rows, "pseudo_labels_": classes[target]}
        table = X_pool if kind_of(array) == "embeddings" else None  # its columns may have names
        return self._train(None, target[:0], classes, names, array[rows], target, table=table, **pseudo)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> DualPromptClassifier:
        """Train the present prompts for another ``max_epochs``, ``"auto"`` included, on the given samples alone.

        The learning rate schedule starts again, and momentum starts from zero.  An estimator that was never
        fitted starts from random contexts, as in `fit`.

        Parameters
        ----------
        X : array-like
            Embeddings (n, D), images (n, H, W[, 3]) of uint8, or n file paths.
        y : array-like of shape (n,)
            Labels.
        classes : array-like of shape (C,), default=None
            All labels; needed at the first call if ``class_names`` is None.
        sample_weight : array-like of shape (n,), default=None
            Weight of each sample's loss, relative to the others of this call; as in `fit`.

        Returns
        -------
        self : DualPromptClassifier

        Raises
        ------
        ValueError
            As for `fit`; and if ``classes`` differs from the classes known so far.
        """
        self._check_params()
        continued = hasattr(self, "classes_")
        so_far = (self.classes_, self._names) if continued else None
        y = check_labels(y)
        known, names, target = labels_of_partial_fit(self.class_names, y, classes, so_far, self._numbered)
        return self._train(X, target, known, names, sample_weight=sample_weight, continued=continued)

    def initialize(self) -> DualPromptClassifier:
        """Check the parameters; modAL 0.4.2's DeepActiveLearner calls this first.

        It neither loads a CLIP nor discards a fit.

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
        super()._check_params()
        if callable(self.augment) and self.visual_prompts is None:
            raise ValueError(
                f"augment={self.augment!r} has no effect with visual_prompts=None, where each "
                "image is embedded once; expected 'auto', 'coop' or None, or visual prompts"
            )

    def _check_prompts(self, names: list[str], loaded: Any) -> None:
        from .nn.text_encoder import prompt_tokens

        super()._check_prompts(names, loaded)
        prompt_tokens(self._reader(loaded), names, self.n_context)

    @looking_once()
    def _train(
        self,
        X: Any,
        target: np.ndarray,
        classes: np.ndarray,
        names: list[str],
        X_pseudo: Any = None,
        pseudo_target: Any = (),
        *,
        sample_weight: Any = None,
        continued: bool = False,
        table: Any = None,
        **attributes: Any,
    ) -> DualPromptClassifier:
        from .nn.batches import ImagesAndEmbeddings
        from .nn.module import module_of
        from .nn.training import check_net_params, train

        n_labeled, n_pseudo = len(target), len(pseudo_target)
        check_net_params(self.net_params, self.criterion, with_pseudo=n_pseudo > 0)
        parts = []
        if X is not None or n_labeled or not n_pseudo:  # None is refused where there are labels
            parts.append(self._prepare(X, refit=not continued, n_labels=n_labeled))
        if n_pseudo:
            parts.append(self._prepare(X_pseudo, refit=True, n_labels=n_pseudo, name="X_pseudo"))
            target = np.concatenate([target, pseudo_target])
        arrays, (backbone, *_) = zip(*parts)
        array = arrays[0] if len(arrays) == 1 else join(*arrays)
        if len(arrays) == 2 and kind_of(array) == "embeddings":
            check_same_columns(column_names(X_pseudo), column_names(X), "X_pseudo")
        rows, weight = weighted_rows(sample_weight, n_labeled)
        counted = None if weight is None else np.concatenate([weight, np.ones(n_pseudo)])
        if weight is not None:  # of pseudo-labeled samples, too, which count alike
            n_labeled = len(rows)
            rows = np.concatenate([rows, np.arange(len(target) - n_pseudo, len(target))])
            weight = np.concatenate([weight / weight.mean(), np.ones(n_pseudo)])
        target = target[rows]
        counts = np.bincount(target, counted, minlength=len(names)).tolist()
        net = self._make_net(
            backbone, names, n_labeled, n_pseudo, counts, continued=continued, sample_weight=weight
        )
        module = module_of(net)
        if self.verbose >= 2:
            print(module.text_encoder)
        looks = X is not None and net.criterion_.looks
        if module.visual is None:
            first = "X_pseudo" if X is None else "X"
            with rows_called("X_pseudo", arrays[-1]), rows_called(first, arrays[0]):
                inputs = self._encode(array, backbone)
            frozen = inputs = inputs if weight is None else inputs[rows]
        else:
            inputs = self._source(array[rows], backbone)
            if weight is not None:
                inputs.numbers = rows  # in messages
            inputs.check(seed=0)  # unreadable files raise an error before any training
            if callable(self.augment):  # an error here comes before training
                next(inputs.read([np.arange(1)], seed=0))
            if self.augment is not None:
                self._check_augmentation(array[rows], target, backbone, names)
            pairs = "frozen_image" in module.needs and inputs.augment is None  # each image is embedded once
            if pairs or looks:
                frozen = unit_rows(self._encode(array[rows], backbone, inputs.store))
            if pairs:
                inputs = ImagesAndEmbeddings(inputs, frozen)
        if looks:
            images = unit_rows(frozen[:n_labeled])
            text, mass = self._text(backbone, names), None if counted is None else counted[:n_labeled]
            net.criterion_.look(images, target[:n_labeled], text, backbone.logit_scale, mass)
        if continued:
            module.load_state_dict(self._module().state_dict())
        train(net, inputs, target)
        if continued:  # joined after training: skorch's scheduler would resume from the old history
            net.history = _history([*self.history_, *net.history])
        visual = self._head.visual if continued else self._visual_settings()
        head = FittedPrompts.of(module, self.complement, visual)
        if kind_of(array) == "embeddings" and table is None:
            table = X_pseudo if X is None else X  # it has the columns' names, if there are any
        self._adopt(
            head, classes, names, backbone, table, history_=net.history, _net=net, **attributes
        )
        return self

    def _check_augmentation(self, array: Any, target: np.ndarray, backbone: Backbone, names: list[str]) -> None:
        """Warn if the frozen CLIP no longer sees in augmented images what it sees in the images."""
        import torch

        from .nn.augmentation_check import rows_to_ask, warn_of_augmentation

        rows = rows_to_ask(len(array))
        before = self._zero_shot(array[rows], backbone, names).argmax(axis=1)
        text = torch.from_numpy(self._text(backbone, names)).to(backbone.device)
        source = self._source(array[rows], backbone)
        warn_of_augmentation(before, target[rows], source, backbone, text, self.augment)

    def _visual_settings(self) -> dict[str, Any]:
        """Return the settings of the visual prompts of the next fit."""
        from .nn.prompts import visual_prompts_of

        given = self.net_params or {}
        moved = {name: given.get(MOVED[name][0]) for name in VISUAL_SETTINGS if name in MOVED}
        if moved["n_visual_tokens"] is None:  # what is saved does not depend on defaults
            kind = self.visual_prompts and visual_prompts_of(self.visual_prompts)
            moved["n_visual_tokens"] = kind.n_tokens if kind else MOVED["n_visual_tokens"][1]
        return {"visual_prompts": self.visual_prompts, **moved}

    def _make_net(
        self,
        backbone: Backbone,
        names: list[str],
        n_labeled: int,
        n_pseudo: int = 0,
        counts: list[float] | None = None,
        *,
        continued: bool = False,
        sample_weight: np.ndarray | None = None,
    ) -> NeuralNetClassifier:
        """Return a skorch net with initialized modules; with ``continued``, of the kind of the last fit."""
        from .nn.training import make_net

        same = ("negative_weight", "complement", "criterion", "lr", "max_epochs", "min_steps", "batch_size",
                "gradient_clip_value", "verbose")  # fmt: skip
        visual = self._head.visual if continued else self._visual_settings()
        of_module = {f"module__{name}": value for name, value in visual.items() if name != "visual_prompts"}
        n_context = self.n_context
        if continued:
            fitted = self._head.of_module
            n_context = fitted.pop("n_context")
            of_module |= {f"module__{name}": value for name, value in fitted.items()}
        return make_net(
            backbone,
            names,
            _seeds(self.random_state, 3),
            n_labeled=n_labeled,
            n_pseudo=n_pseudo,
            counts=counts,
            n_context=n_context,
            context_init=None if continued else self.context_init,
            visual_prompts=visual["visual_prompts"],
            templates=check_template(self.template),
            net_params={**(self.net_params or {}), **of_module},
            sample_weight=sample_weight,
            **{name: getattr(self, name) for name in same},
        )

    # ---------------------------------------------------------------- prediction

    def _inflation(self) -> float:
        # Hard complements are the label's rivals, and usually one of them matters.
        return 0.0 if self._head.complement == "hard" else super()._inflation()

    def _reduce(
        self, embeddings: Any, reduce: Callable[..., Sequence[torch.Tensor]], clean: bool
    ) -> list[np.ndarray]:
        from .nn.inference import predict

        return predict(self._module(), embeddings, reduce, clean)

    def _module(self) -> DualPromptModule:
        """Return the module of the last fit; after unpickling it is rebuilt at first use."""
        if self._head.is_built:
            return self._head.module(self._backbone, self._names)
        from .nn.training import module_settings

        return self._head.module(self._fitted_backbone(), self._names, **module_settings(self.net_params))

    def _moving(self, fitted: bool) -> str | None:
        visual_prompts = self._head.visual["visual_prompts"] if fitted else self.visual_prompts
        return None if visual_prompts is None else f"visual_prompts={visual_prompts!r}"

    def _embed(self, array: Any, backbone: Backbone) -> Any:
        if "_head" not in self.__dict__ or self._head.visual["visual_prompts"] is None:
            return self._encode(array, backbone)
        from .nn.inference import embed_by

        module, kept = self._module(), self.__dict__.get("_prompted_embeddings")
        if kept is None or not kept.holds_for(module):
            kept = self._prompted_embeddings = Kept(module)  # never pickled
            kept.value = MemoryStore(EMBEDDING_BYTES)
        return embed_by(module, self._source(array, backbone), kept.value, self.encode_batch_size, self.verbose)

    def _embed_pixels(self, normalized: torch.Tensor, backbone: Backbone) -> torch.Tensor:
        if "_head" not in self.__dict__ or self._head.visual["visual_prompts"] is None:
            return super()._embed_pixels(normalized, backbone)
        from .nn.inference import embed_images

        (embeddings,) = embed_images(self._module(), [normalized])
        return embeddings

    def _source(self, array: np.ndarray, backbone: Backbone) -> ImageSource:
        """Return the images of a checked X, to be read for the towers with visual prompts."""
        from .clip.embedding import pixel_source

        augment: Any = self.augment
        if isinstance(augment, str):
            augment = RandomResizedCrop(backbone.preprocessing.size, **AUGMENTATIONS[augment])
        return pixel_source(backbone, array, augment, self.cache, self.n_jobs)

    # ---------------------------------------------------------------- state

    @property
    def net_(self) -> NeuralNetClassifier:
        """The trained `skorch.NeuralNetClassifier`; after unpickling it is rebuilt at first use."""
        if "_head" not in self.__dict__:
            raise AttributeError(f"this {type(self).__name__} is not fitted yet: it has no net_")
        if "_net" not in self.__dict__:
            from .nn.module import module_of

            net = self._make_net(self._fitted_backbone(), self._names, 1, continued=True)
            module = module_of(net)
            module.load_state_dict(self._module().state_dict())
            net.history = self.history_
            # The same module predicts: prompts that are set in the net are those of the classifier, as after a fit.
            self._head = FittedPrompts.of(module.eval(), self._head.complement, self._head.visual)
            self._net = net
        return self._net

    @property
    def coef_(self) -> np.ndarray:
        """Weights (C, D) of this classifier, which is linear in its own embeddings."""
        if "_head" not in self.__dict__:
            raise AttributeError(f"this {type(self).__name__} is not fitted yet: it has no coef_")
        module = self._module().eval()
        return (module.text_embeddings()[0] * module.backbone.logit_scale).float().cpu().numpy()

    def __getstate__(self) -> dict[str, Any]:
        # Only the prompts are kept: the backbone is loaded by name, the optimizer starts
        # again, and the losses of single steps would be larger than both.
        state = super().__getstate__()
        for name in ("_net", "_prompted_embeddings"):
            state.pop(name, None)
        if "history_" in state:
            state["history_"] = _history(state["history_"], with_batches=False)
        return state

    def restore_state(
        self, settings: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
    ) -> DualPromptClassifier:
        """Restore the fitted state that `fitted_state` returned, without the losses of its fit.

        Parameters
        ----------
        settings : mapping
            Settings as `fitted_state` returned them.
        arrays : mapping of {str: ndarray}
            Arrays as `fitted_state` returned them; arrays of other names are ignored.

        Returns
        -------
        self : DualPromptClassifier

        Raises
        ------
        KeyError, TypeError, ValueError
            If something is missing or does not fit; the estimator is then unchanged.
        """
        super().restore_state(settings, arrays)
        self.history_ = _history([])
        return self

    def _extra_state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        settings, arrays = super()._extra_state()
        settings["history"] = [_plain_entries(row) for row in self.history_]
        names = [name for name in ("pseudo_rows_", "pseudo_labels_") if hasattr(self, name)]
        return settings, {**arrays, **{name: plain(getattr(self, name)) for name in names}}

    def _restore_extra(self, settings: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        super()._restore_extra(settings, arrays)
        self.history_ = _history(settings["history"], with_batches=False)
        if "pseudo_labels_" in arrays:
            self.pseudo_rows_ = arrays["pseudo_rows_"]
            self.pseudo_labels_ = arrays["pseudo_labels_"].astype(self.classes_.dtype)

    @classmethod
    def params_from(cls, saved: dict[str, Any]) -> dict[str, Any]:
        """Return the constructor arguments in the result of `saved_params`, also of version 0.1.0.

        Parameters
        ----------
        saved : dict
            Parameters of a file, which may come from a stranger.

        Returns
        -------
        params : dict

        Raises
        ------
        ValueError
            If a parameter does not exist, or the file chooses a cache folder.
        """
        params = dict(saved["params"])
        if "text_encoding" in params or "momentum" in params:
            params.pop("cache_folder", None)
            moved = {name: params.pop(name) for name in MOVED if name in params}
            changed = {MOVED[name][0]: value for name, value in moved.items() if value != MOVED[name][1]}
            if changed and "net_params" not in saved["missing"]:
                params["net_params"] = {**changed, **(params.get("net_params") or {})}
        if "min_steps" not in params:  # of before the defaults changed
            if "criterion" not in saved["missing"]:
                params.setdefault("criterion", "dual")
            if params.get("augment") == "auto":
                params["augment"] = "coop"
        missing = [name for name in saved["missing"] if name != "cache_folder"]
        return super().params_from({"params": params, "missing": missing})


def _history(rows: Any, with_batches: bool = True) -> Any:
    """Return a skorch History of rows, with epochs numbered from 1."""
    from skorch.history import History

    history = History()
    extra: dict[str, Any] = {} if with_batches else {"batches": []}
    history.extend({**row, "epoch": k + 1, **extra} for k, row in enumerate(rows))
    return history


def _plain_entries(row: dict[str, Any]) -> dict[str, Any]:
    """Return the entries of a history's row that JSON can hold; callbacks may add any object."""
    return {name: value for name, value in row.items() if isinstance(value, (str, int, float))}


def _seeds(random_state: Any, n: int) -> list[int]:
    """Draw n seeds from a random state, without using NumPy's global generator."""
    if random_state is None:
        return [int(seed) for seed in np.random.SeedSequence().generate_state(n)]
    if isinstance(random_state, np.random.RandomState):
        return [int(seed) for seed in random_state.randint(2**31 - 1, size=n)]
    return [int(seed) for seed in np.random.SeedSequence(int(random_state)).generate_state(n)]
