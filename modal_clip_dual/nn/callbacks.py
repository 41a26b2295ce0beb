"""The skorch callbacks that act at every step of training."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from skorch.callbacks import Callback
from torch import nn

from .module import module_of

if TYPE_CHECKING:
    from skorch import NeuralNet


class ClipEachGradient(Callback):
    """Clip the norm of each parameter's gradient on its own.

    skorch's GradientNormClipping clips them together, so that the negative prompt's
    gradient would change the positive prompt's steps.
    """

    def __init__(self, gradient_clip_value: float):
        self.gradient_clip_value = gradient_clip_value

    def on_grad_computed(
        self, net: NeuralNet, named_parameters: Iterable[tuple[str, nn.Parameter]], **kwargs: Any
    ) -> None:
        """Clip between the backward pass and the step."""
        for _, parameter in named_parameters:
            if parameter.grad is not None:
                nn.utils.clip_grad_norm_(parameter, self.gradient_clip_value)


class StopIfNotFinite(Callback):
    """End training at the first step whose loss is infinite or nan.

    skorch fetches the loss of every step for its history, so this check costs nothing.
    """

    def on_batch_end(
        self, net: NeuralNet, batch: Any = None, training: bool = False, **kwargs: Any
    ) -> None:
        """Check the loss of a training step."""
        if not training:
            return
        loss = net.history[-1]["batches"][-1]["train_loss"]
        if not math.isfinite(loss):
            raise diverged(net, f"the loss is {loss}")


def diverged(net: NeuralNet, what: str) -> FloatingPointError:
    """Return the error for training that met non-finite numbers, with the place and advice."""
    epochs = net.history
    epoch, step = len(epochs), len(epochs[-1]["batches"])
    advice = f"try a smaller lr than {net.lr:g}, or a gradient_clip_value"
    if epoch == step == 1:  # no step has been taken yet
        precision = module_of(net).backbone.precision
        advice = (
            "nothing had been trained yet, so the towers, augment or a callback gave it; the towers "
            f"compute in {precision}: try precision='fp32'"
        )
    return FloatingPointError(
        f"training diverged: {what} in epoch {epoch}, step {step}; {advice}. The estimator is as it "
        "was before this fit"
    )
