"""What users pass on to skorch's net, checked before it is made."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any

from skorch import NeuralNet, NeuralNetClassifier
from skorch.callbacks import Callback

PARTS = ("module", "criterion", "optimizer", *NeuralNet.prefixes_)
OWN_CALLBACKS = ("finite_loss", "cosine_decay")  # names of those that every net of this package has
SPLIT = "skorch.dataset.ValidSplit(5)"


def check_parts(net_params: Mapping[str, Any]) -> None:
    """Refuse names that skorch does not know, and parts of the net that are no such part.

    Raises
    ------
    ValueError
        Names the key of ``net_params``, what was received and what is expected.
    """
    known = {*signature(NeuralNet).parameters, *signature(NeuralNetClassifier).parameters} - {"args", "kwargs"}
    for name in net_params:
        part, separator, _ = name.partition("__")
        if part not in PARTS if separator else name not in known:
            raise ValueError(
                f"net_params[{name!r}]: skorch's NeuralNetClassifier has no such argument; expected one of its own, "
                f"or a name that begins with {', '.join(f'{one}__' for one in PARTS[:6])}"
            )
    optimizer, split = net_params.get("optimizer"), net_params.get("train_split")
    if "optimizer" in net_params and not callable(optimizer):
        raise ValueError(
            f"net_params['optimizer']={optimizer!r}; expected a class of optimizers, such as torch.optim.AdamW"
        )
    if split is not None and not callable(split):
        raise ValueError(f"net_params['train_split']={split!r}; expected None or a split, such as {SPLIT}")
    callbacks = net_params.get("callbacks")
    if not isinstance(callbacks, (list, tuple, type(None))):
        raise ValueError(f"net_params['callbacks']={callbacks!r}; expected a list of callbacks")
    for entry in callbacks or []:
        _check_callback(entry, split)


def _check_callback(entry: Any, split: Any) -> None:
    """Refuse what is no callback, takes a name of this package's, or watches a loss that is not computed."""
    named = isinstance(entry, (tuple, list)) and len(entry) == 2
    name, callback = entry if named else (None, entry)
    is_class = isinstance(callback, type) and issubclass(callback, Callback)
    if not (is_class or isinstance(callback, Callback)):
        raise ValueError(
            f"net_params['callbacks'] holds {entry!r}; expected skorch's callbacks, or pairs of a name and a callback"
        )
    if name in OWN_CALLBACKS:
        raise ValueError(
            f"net_params['callbacks'] holds a second callback called {name!r}; expected another name. "
            f"net_params={{'callbacks__{name}': None}} turns this package's own off"
        )
    monitor = getattr(callback, "monitor", None)
    if is_class and "monitor" in signature(callback).parameters:
        monitor = signature(callback).parameters["monitor"].default
    if split is None and monitor in ("valid_loss", "valid_loss_best"):
        kind = callback.__name__ if is_class else type(callback).__name__
        raise ValueError(
            f"net_params['callbacks'] holds {kind}(monitor={monitor!r}), and without a train_split there is no such "
            f"loss; expected net_params['train_split'], such as {SPLIT}, or "
            f"monitor={monitor.replace('valid', 'train')!r}"
        )
