"""The skorch net: how the two prompts are trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import EarlyStopping, LRScheduler

from ..utils.arrays import as_tensor
from ..utils.memory import memory_advice, precision_advice
from .batches import Batches, PairedBatches
from .callbacks import ClipEachGradient, StopIfNotFinite, diverged
from .inference import PREDICTION_BATCH
from .losses import DualPromptLoss
from .module import DualPromptModule, module_of
from .text_encoder import PromptedTextEncoder

if TYPE_CHECKING:
    from ..data.reading import ImageSource
    from ..utils.arrays import Rows

# Arguments of the net that have an argument of their own in the classifier, or that the
# method fixes.
OWN_PARAMS = (
    "lr", "max_epochs", "batch_size", "device", "verbose", "classes", "predict_nonlinearity",
)  # fmt: skip


def check_net_params(net_params: dict[str, Any] | None, with_pseudo: bool = False) -> None:
    """Refuse arguments of the net that have another place, or that the method fixes."""
    for name in net_params or {}:
        if with_pseudo and name.partition("__")[0] == "iterator_train":
            raise ValueError(
                f"net_params[{name!r}]: with pseudo-labels the batches are those of the method"
            )
        if name in OWN_PARAMS:
            raise ValueError(
                f"net_params[{name!r}]: this is an argument of DualPromptClassifier, or follows "
                "from one; set it there"
            )
        if name.partition("__")[0] in ("module", "criterion"):
            raise ValueError(f"net_params[{name!r}]: module and criterion are those of the method")
    callbacks = (net_params or {}).get("callbacks")
    if not isinstance(callbacks, (list, tuple, type(None))):
        raise ValueError(f"net_params['callbacks']={callbacks!r}; expected a list of callbacks")


def make_net(
    text_encoder: PromptedTextEncoder,
    n_samples: int,
    seeds: Sequence[int],
    *,
    n_pseudo: int = 0,
    pseudo_batch_size: int = 64,
    negative_weight: float,
    complement: str,
    detach_positive: bool,
    visual: dict[str, Any],
    lr: float,
    max_epochs: int,
    batch_size: int,
    momentum: float,
    weight_decay: float,
    gradient_clip_value: float | None,
    net_params: dict[str, Any] | None,
    verbose: int,
) -> NeuralNetClassifier:
    """A skorch net with initialized modules, to be trained on `n_samples` labelled samples.

    ``n_pseudo`` pseudo-labelled samples follow these.

    The three seeds are those of the contexts, the order of the samples and the drawn
    complements.  ``visual`` holds ``visual_prompts``, ``n_visual_tokens`` and
    ``prompt_depth``; the other arguments are those of `DualPromptClassifier`.
    """
    context_seed, order_seed, complement_seed = seeds
    n_steps = max_epochs * max(
        math.ceil(n_samples / batch_size), math.ceil(n_pseudo / pseudo_batch_size)
    )
    cosine = LRScheduler(
        torch.optim.lr_scheduler.CosineAnnealingLR, step_every="batch", T_max=n_steps
    )
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
    if n_pseudo:
        del params["iterator_train__shuffle"]
        params["iterator_train"] = PairedBatches
        params["iterator_train__n_labelled"] = n_samples
        params["iterator_train__pseudo_batch_size"] = pseudo_batch_size
    if "optimizer" not in params:
        params["optimizer"] = torch.optim.SGD
        params.setdefault("optimizer__momentum", momentum)
        params.setdefault("optimizer__weight_decay", weight_decay)
    if verbose < 2:
        params.setdefault("callbacks__print_log", None)
    callbacks = [("finite_loss", StopIfNotFinite()), ("cosine_decay", cosine)]
    if gradient_clip_value is not None:
        callbacks.append(("clipping", ClipEachGradient(gradient_clip_value)))
    params["callbacks"] = [*callbacks, *(params.get("callbacks") or [])]
    net = NeuralNetClassifier(
        DualPromptModule,
        module__text_encoder=text_encoder,
        module__negative=bool(negative_weight),
        module__detach_positive=detach_positive,
        module__seed=context_seed,
        **{f"module__{name}": value for name, value in visual.items()},
        criterion=DualPromptLoss,
        criterion__negative_weight=negative_weight,
        criterion__complement=complement,
        criterion__seed=complement_seed,
        lr=lr,
        max_epochs=max_epochs,
        batch_size=batch_size,
        classes=np.arange(len(text_encoder.names)),
        device=str(text_encoder.backbone.device),
        verbose=int(verbose >= 2),
        predict_nonlinearity=_softmax,
        **params,
    )
    return net.initialize()


def train(net: NeuralNetClassifier, inputs: np.ndarray | Rows | ImageSource, target: np.ndarray) -> None:
    """Train a net on embeddings or an `ImageSource` and the positions of the labels.

    Unlike in ``net.fit`` an interruption is an interruption.

    Raises
    ------
    FloatingPointError
        At the first step whose loss is not finite.
    torch.cuda.OutOfMemoryError
        With advice.
    """
    params = net.get_params(deep=False)
    sizes = {"batch_size": net.batch_size}
    if "iterator_train__pseudo_batch_size" in params:
        sizes["pseudo_batch_size"] = params["iterator_train__pseudo_batch_size"]
    text_encoder = module_of(net).text_encoder
    sizes["text_batch_size"] = text_encoder.batch_size
    shown = " or ".join(f"{name} (now {size!r})" for name, size in sizes.items())
    advice = f"try a smaller {shown}{precision_advice(text_encoder.backbone.precision)}"
    with memory_advice("training", advice):
        _train(net, inputs, target)
    if not all(torch.isfinite(prompt).all() for prompt in net.module_.parameters()):
        raise diverged(net, "a prompt is no longer finite")


def _train(net: NeuralNetClassifier, inputs: Any, target: np.ndarray) -> None:
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
    """Whether skorch's EarlyStopping ended training; like Ctrl-C it raises KeyboardInterrupt."""
    innermost: Any = error.__traceback__
    while innermost.tb_next is not None:
        innermost = innermost.tb_next
    return isinstance(innermost.tb_frame.f_locals.get("self"), EarlyStopping)


def _softmax(logits: torch.Tensor) -> torch.Tensor:
    return logits.softmax(dim=-1)
