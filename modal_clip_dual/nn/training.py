"""The skorch net: how the two prompts are trained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from inspect import signature
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions, validate_parameter_constraints
from skorch import NeuralNet, NeuralNetClassifier
from skorch.callbacks import EarlyStopping, LRScheduler

from ..utils.arrays import as_tensor
from ..utils.memory import memory_advice, precision_advice
from .batches import Batches, PairedBatches
from .callbacks import ClipEachGradient, StopIfNotFinite, diverged
from .criteria import criterion_of
from .inference import PREDICTION_BATCH
from .module import DualPromptModule, module_of
from .net_params import check_parts

if TYPE_CHECKING:
    from ..clip.backbone import Backbone
    from ..data.reading import ImageSource
    from ..utils.arrays import Rows
    from .criteria import PromptCriterion

# Arguments of the net for which the classifier has its own argument, or that the
# method fixes.
OWN_PARAMS = (
    "lr", "max_epochs", "batch_size", "device", "verbose", "classes", "predict_nonlinearity", "module",
    "criterion", "criterion__negative_weight", "criterion__complement", "criterion__seed", "criterion__counts",
    "module__context_init",
)  # fmt: skip
_COUNT = [Interval(Integral, 1, None, closed="left")]
# Arguments of the module, the batches and SGD that net_params may set.
PART_CONSTRAINTS: dict[str, Any] = {
    "module__detach_positive": ["boolean"],
    "module__class_specific_context": ["boolean"],
    "module__name_offsets": ["boolean", StrOptions({"auto"})],
    "module__n_visual_tokens": [*_COUNT, None],
    "module__prompt_depth": [*_COUNT, None],
    "module__text_encoding": [StrOptions({"auto", "prefix-sharing", "truncated", "full"})],
    "module__text_batch_size": [*_COUNT, StrOptions({"auto"}), None],
    "iterator_train__pseudo_batch_size": _COUNT,
    "callbacks__cosine_decay__warmup": ["boolean"],
    "optimizer__momentum": [Interval(Real, 0, 1, closed="left")],
    "optimizer__weight_decay": [Interval(Real, 0, None, closed="left")],
}
PSEUDO_BATCH_SIZE = "iterator_train__pseudo_batch_size"
OFFSETS = "module__name_offsets"
AUTO_EPOCHS = 20  # of max_epochs="auto", where these have enough steps
WARMUP = "callbacks__cosine_decay__warmup"  # of net_params: whether the first epoch is a warm-up
WARMUP_LR = 1e-5  # CoOp's, MaPLe's and PCB's
SGD = {"optimizer__momentum": 0.9, "optimizer__weight_decay": 5e-4}


def warm_cosine(
    optimizer: torch.optim.Optimizer, T_max: int, n_warmup: int, last_epoch: int = -1
) -> torch.optim.lr_scheduler.LRScheduler:
    """Return the schedule of CoOp, MaPLe and PCB: a constant 1e-5 in the first steps, then a cosine to 0.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
    T_max : int
        Number of steps, those of the warm-up included.
    n_warmup : int
        Number of steps of the warm-up, less than ``T_max``.
    last_epoch : int, default=-1
        Not used; skorch passes it.
    """
    factor = min(1.0, WARMUP_LR / optimizer.param_groups[0]["lr"])
    parts = [
        torch.optim.lr_scheduler.ConstantLR(optimizer, factor, n_warmup),
        torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max - n_warmup),
    ]
    return torch.optim.lr_scheduler.SequentialLR(optimizer, parts, [n_warmup])


class PromptNet(NeuralNetClassifier):
    """A `skorch.NeuralNetClassifier` whose forward passes outside of training give the two logits alone.

    Other outputs may be None, and skorch moves every output of a forward pass to the CPU.  Callbacks get s+ / tau as
    the predictions of a batch, so that skorch's `EpochScoring` scores what the classifier predicts.
    """

    def evaluation_step(self, batch: Any, training: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """Return s+ / tau and z, both (n, C), for a batch."""
        positive, clean = super().evaluation_step(batch, training=training)[:2]
        return positive, clean

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Return the loss of a batch, and s+ / tau (n, C) as what callbacks get for predictions."""
        return _with_logits(super().train_step_single(batch, **fit_params))

    def validation_step(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Return the loss of a batch, and s+ / tau (n, C) as what callbacks get for predictions."""
        return _with_logits(super().validation_step(batch, **fit_params))

    def notify(self, method_name: str, **cb_kwargs: Any) -> None:
        """Call a method of every callback; a batch comes with its labels, without weights that go with them."""
        X, y = cb_kwargs.get("batch") or (None, None)
        if isinstance(y, (tuple, list)):
            cb_kwargs["batch"] = X, y[0]
        super().notify(method_name, **cb_kwargs)


def check_net_params(
    net_params: Mapping[str, Any] | None,
    criterion: str | type[PromptCriterion] = "dual",
    with_pseudo: bool = False,
) -> None:
    """Refuse arguments of the net that belong elsewhere, that the method fixes, or that do not fit."""
    net_params = net_params or {}
    ours = {name for name in PART_CONSTRAINTS if name not in SGD or "optimizer" not in net_params}
    settings = {name: value for name, value in net_params.items() if name in ours}
    known = signature(criterion_of(criterion)).parameters
    for name in net_params:
        part, _, rest = name.partition("__")
        if name in OWN_PARAMS:
            raise ValueError(
                f"net_params[{name!r}]: this is an argument of DualPromptClassifier, or follows "
                "from one; set it there"
            )
        if part == "module" and name not in settings:
            free = sorted(key for key in PART_CONSTRAINTS if key.startswith("module__"))
            raise ValueError(
                f"net_params[{name!r}]: this follows from other arguments, or does not exist; of the module "
                f"these may be set: {', '.join(free)}"
            )
        if part == "criterion" and rest not in known:
            raise ValueError(
                f"net_params[{name!r}]: criterion={criterion!r} has no such argument; expected one of "
                f"{sorted(set(known) - {'negative_weight', 'complement', 'seed', 'counts'})}"
            )
        if with_pseudo and part == "iterator_train" and name not in settings:
            raise ValueError(
                f"net_params[{name!r}]: with pseudo-labels the batches are those of the method"
            )
    constraints = {name: PART_CONSTRAINTS[name] for name in settings}
    for name, constraint in criterion_of(criterion).constraints.items():
        constraints[f"criterion__{name}"] = constraint
    settings = {name: value for name, value in net_params.items() if name in constraints}
    validate_parameter_constraints(constraints, settings, caller_name="net_params")
    check_parts(net_params)


def module_settings(net_params: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the arguments of `DualPromptModule` that ``net_params`` sets."""
    pairs = (name.split("__", 1) for name in net_params or {} if name.startswith("module__"))
    return {name: (net_params or {})[f"{part}__{name}"] for part, name in pairs}


def make_net(
    backbone: Backbone,
    names: Sequence[str],
    seeds: Sequence[int],
    *,
    n_labeled: int,
    n_pseudo: int = 0,
    counts: Sequence[float] | None = None,
    n_context: int = 16,
    context_init: str | None = None,
    visual_prompts: str | None = None,
    templates: list[Any] | dict[str, list[str]] | None = None,
    criterion: str | type[PromptCriterion] = "dual",
    negative_weight: float = 1.0,
    complement: str = "uniform",
    lr: float = 0.01,
    max_epochs: int | str = "auto",
    min_steps: int = 400,
    batch_size: int = 16,
    gradient_clip_value: float | None = 5.0,
    net_params: Mapping[str, Any] | None = None,
    verbose: int = 0,
    sample_weight: np.ndarray | None = None,
) -> NeuralNetClassifier:
    """Build a skorch net with initialized modules, ready for training on labeled samples.

    ``n_pseudo`` pseudo-labeled samples follow the ``n_labeled`` labeled ones; ``counts`` are the samples, or the sums
    of weights, per class.  ``sample_weight`` holds a weight for each of both, with mean 1 for each kind.

    The three seeds are those of the contexts, the order of the samples and the drawn
    complements; the other arguments are those of `DualPromptClassifier`.
    """
    context_seed, order_seed, complement_seed = seeds
    params = {
        "iterator_train": Batches,
        "iterator_train__shuffle": True,
        "iterator_train__generator": torch.Generator().manual_seed(order_seed),
        "iterator_valid": Batches,
        "iterator_valid__batch_size": PREDICTION_BATCH,
        "train_split": None,
        "callbacks__valid_acc": None,
        **(net_params or {}),
    }
    pseudo_batch_size = params.pop(PSEUDO_BATCH_SIZE, 64)
    warmup = params.pop(WARMUP, False)
    if n_pseudo:
        del params["iterator_train__shuffle"]
        params["iterator_train"] = PairedBatches
        params["iterator_train__n_labeled"] = n_labeled
        params[PSEUDO_BATCH_SIZE] = pseudo_batch_size
    if sample_weight is not None:
        if "iterator_train" in (net_params or {}):
            raise ValueError(
                "sample_weight with net_params['iterator_train']: weights come with the batches of this package; "
                "expected one of both"
            )
        params["iterator_train__sample_weight"] = torch.from_numpy(sample_weight.astype(np.float32))
    per_epoch = steps_per_epoch(n_labeled, n_pseudo, batch_size, pseudo_batch_size)
    n_epochs = number_of_epochs(max_epochs, min_steps, per_epoch)
    if "optimizer" not in params:
        params = {"optimizer": torch.optim.SGD, **SGD, **params}
    if verbose < 2:
        params.setdefault("callbacks__print_log", None)
    of_criterion = {k.partition("__")[2]: v for k, v in params.items() if k.startswith("criterion__")}
    params["callbacks"] = [
        *_callbacks(n_epochs * per_epoch, per_epoch if warmup and n_epochs > 1 else 0, gradient_clip_value),
        *criterion_of(criterion).callbacks(**of_criterion),
        *(params.get("callbacks") or []),
    ]
    if params.get(OFFSETS, "auto") == "auto":
        holds = criterion_of(criterion).holds_classes
        params[OFFSETS] = holds and not params.get("module__class_specific_context", False)
    if "counts" in signature(criterion_of(criterion)).parameters:
        params["criterion__counts"] = counts
    net = PromptNet(
        DualPromptModule,
        module__backbone=backbone,
        module__names=list(names),
        module__n_context=n_context,
        module__context_init=context_init,
        module__negative=bool(negative_weight),
        module__visual_prompts=visual_prompts,
        module__needs=criterion_of(criterion).needed(**of_criterion),
        module__templates=templates,
        module__seed=context_seed,
        criterion=criterion_of(criterion),
        criterion__negative_weight=negative_weight,
        criterion__complement=complement,
        criterion__seed=complement_seed,
        lr=lr,
        max_epochs=n_epochs,
        batch_size=batch_size,
        classes=np.arange(len(names)),
        device=str(backbone.device),
        verbose=int(verbose >= 2),
        predict_nonlinearity=_softmax,
        **params,
    )
    return net.initialize()


def steps_per_epoch(n_labeled: int, n_pseudo: int, batch_size: int, pseudo_batch_size: int = 64) -> int:
    """Return the number of steps of an epoch: one pass over the set with more batches."""
    return max(math.ceil(n_labeled / batch_size), math.ceil(n_pseudo / pseudo_batch_size))


def number_of_epochs(max_epochs: int | str, min_steps: int, per_epoch: int) -> int:
    """Return the number of epochs; ``"auto"`` is 20, or more where these have fewer than ``min_steps`` steps."""
    if not isinstance(max_epochs, str):
        return max_epochs
    return max(AUTO_EPOCHS, math.ceil(min_steps / per_epoch))


def _callbacks(n_steps: int, n_warmup: int, gradient_clip_value: float | None) -> list[tuple[str, Any]]:
    cosine = LRScheduler(torch.optim.lr_scheduler.CosineAnnealingLR, step_every="batch", T_max=n_steps)
    if n_warmup:
        cosine = LRScheduler(warm_cosine, step_every="batch", T_max=n_steps, n_warmup=n_warmup)
    callbacks = [("finite_loss", StopIfNotFinite()), ("cosine_decay", cosine)]
    if gradient_clip_value is not None:
        callbacks.append(("clipping", ClipEachGradient(gradient_clip_value)))
    return callbacks


def train(net: NeuralNetClassifier, inputs: np.ndarray | Rows | ImageSource, target: np.ndarray) -> None:
    """Train a net on embeddings or an `ImageSource` and the positions of the labels.

    Unlike ``net.fit``, it lets KeyboardInterrupt through.

    Raises
    ------
    FloatingPointError
        If the loss of a step is not finite.
    torch.cuda.OutOfMemoryError
        If the device has no memory left; the message says what to change.
    """
    params = net.get_params(deep=False)
    sizes = {"batch_size": net.batch_size}
    if PSEUDO_BATCH_SIZE in params:
        sizes["pseudo_batch_size"] = params[PSEUDO_BATCH_SIZE]
    text_encoder = module_of(net).text_encoder
    sizes["text_batch_size"] = text_encoder.batch_size
    shown = " or ".join(f"{name} (now {size!r})" for name, size in sizes.items())
    advice = f"try a smaller {shown}{precision_advice(text_encoder.backbone.precision)}"
    with memory_advice("training", advice):
        run(net, inputs, target)
    if not all(torch.isfinite(prompt).all() for prompt in net.module_.parameters()):
        raise diverged(net, "a prompt is no longer finite")


def run(net: NeuralNet, inputs: Any, target: np.ndarray) -> None:
    """Train a net as `train` does, without messages about memory."""
    X = inputs if hasattr(inputs, "read") else as_tensor(inputs).to(net.device)
    y = torch.from_numpy(target).to(net.device)
    net.notify("on_train_begin", X=X, y=y)
    try:
        net.fit_loop(X, y)
    except KeyboardInterrupt as error:
        if not _is_early_stopping(error):
            raise
    net.notify("on_train_end", X=X, y=y)
    net.module_.eval()


def _is_early_stopping(error: BaseException) -> bool:
    """Return whether skorch's EarlyStopping ended training; like Ctrl-C it raises KeyboardInterrupt."""
    innermost: Any = error.__traceback__
    while innermost.tb_next is not None:
        innermost = innermost.tb_next
    return isinstance(innermost.tb_frame.f_locals.get("self"), EarlyStopping)


def _with_logits(step: dict[str, Any]) -> dict[str, Any]:
    return {**step, "y_pred": step["y_pred"].positive.detach()}


def _softmax(logits: torch.Tensor) -> torch.Tensor:
    return logits.softmax(dim=-1)
