"""Weight averaging along training: PromptSRC's Gaussian over epochs and CLIPood's Beta over steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions, validate_parameter_constraints
from skorch.callbacks import Callback
from torch import nn

from .module import module_of

if TYPE_CHECKING:
    from skorch import NeuralNet


class WeightAverage(Callback):
    """Replace the trained weights at the end of training by their weighted average along the way.

    Everything that is trained is averaged.  The weights of the average sum to one, also where
    training stops early.

    Parameters
    ----------
    kind : {"gaussian", "beta"} or callable, default="gaussian"
        Weight of each point on the way.  ``"gaussian"`` takes one point after every epoch e = 1, ..., E and weighs
        it by the normal density N(e; mean, scale) ([1]_, "Gaussian weighted prompt aggregation").  ``"beta"`` takes
        the start and one point after every step, t = 0, ..., T, and weighs it by the density of Beta(b, b) at
        (t + 0.5) / (T + 1) ([2]_, "Beta moving average"): with b < 1 the start and the end count most, with b = 1
        all count alike.  A function of (t, T) gives weights of the same points as ``"beta"``, zero or larger.
    mean, scale : float, default=0.75, 0.05
        Mean and standard deviation of the Gaussian.  The defaults are epoch 15 and 1 epoch of 20, which [1]_ has for
        generalization to new classes.
    unit : {"fraction", "epoch"}, default="fraction"
        Unit of ``mean`` and ``scale``: fractions of all epochs, or epochs.
    beta : float, default=0.5
        The b of ``"beta"``.

    References
    ----------
    .. [1] Khattak et al., "Self-regulating Prompts: Foundational Model Adaptation without
       Forgetting", ICCV 2023, arXiv:2307.06948.
    .. [2] Shu et al., "CLIPood: Generalizing CLIP to Out-of-Distributions", ICML 2023,
       arXiv:2302.00864.

    Examples
    --------
    >>> from modal_clip_dual import DualPromptClassifier, WeightAverage
    >>> from modal_clip_dual.data import load_digits_images
    >>> X, y, class_names = load_digits_images().values()
    >>> clf = DualPromptClassifier(
    ...     class_names, model_name="demo", pretrained="bundled", max_epochs=5, random_state=0,
    ...     net_params={"callbacks": [WeightAverage("beta")]},
    ... )
    >>> clf.fit(X[:60], y[:60]).predict(X[60:]).shape
    (1737,)
    """

    _parameter_constraints: dict[str, Any] = {
        "kind": [StrOptions({"gaussian", "beta"}), callable],
        "mean": [Real],
        "scale": [Interval(Real, 0, None, closed="neither")],
        "unit": [StrOptions({"fraction", "epoch"})],
        "beta": [Interval(Real, 0, None, closed="neither")],
    }

    # skorch takes attributes for parameters unless they end with an underscore.
    n_points_: int  # all epochs, or all steps; 0 before training

    def __init__(
        self,
        kind: str | Callable[[int, int], float] = "gaussian",
        *,
        mean: float = 0.75,
        scale: float = 0.05,
        unit: str = "fraction",
        beta: float = 0.5,
    ):
        self.kind = kind
        self.mean = mean
        self.scale = scale
        self.unit = unit
        self.beta = beta

    def initialize(self) -> WeightAverage:
        """Check the parameters.

        Returns
        -------
        self : WeightAverage

        Raises
        ------
        ValueError
            If a parameter does not fit.
        """
        validate_parameter_constraints(
            self._parameter_constraints, self.get_params(deep=False), caller_name=type(self).__name__
        )
        self._begin()
        return self

    def log_weight(self, t: int, n: int) -> float:
        """Return the logarithm of the weight of point t, up to a constant.

        Parameters
        ----------
        t : int
            Number of the epoch from 1 for ``"gaussian"``, else number of steps taken.
        n : int
            Number of all epochs, or of all steps.

        Returns
        -------
        log_weight : float

        Raises
        ------
        ValueError
            If the function of the user's returns something that is no weight.
        """
        if self.kind == "gaussian":
            factor = n if self.unit == "fraction" else 1
            return -0.5 * ((t - self.mean * factor) / (self.scale * factor)) ** 2
        if self.kind == "beta":
            x = (t + 0.5) / (n + 1)
            return (self.beta - 1) * (math.log(x) + math.log1p(-x))
        assert callable(self.kind)
        weight = float(self.kind(t, n))
        if not 0 <= weight < math.inf:
            raise ValueError(f"kind({t}, {n}) returned {weight}; expected a weight, zero or larger")
        return math.log(weight) if weight else -math.inf

    def on_train_begin(self, net: NeuralNet, *args: Any, **kwargs: Any) -> None:
        """Forget an earlier training.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net that trains.
        *args
            Not used.
        **kwargs
            Not used.
        """
        self._begin()

    def on_epoch_begin(self, net: NeuralNet, dataset_train: Any = None, **kwargs: Any) -> None:
        """Count the steps to come, and take the start, before the first epoch.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net that trains.
        dataset_train : skorch Dataset, default=None
            The training samples.
        **kwargs
            Not used.
        """
        if self.n_points_ == 0:
            self.n_points_ = net.max_epochs
            if self.kind != "gaussian":
                self.n_points_ *= len(net.get_iterator(dataset_train, training=True))
                self._take(net)

    def on_batch_end(self, net: NeuralNet, batch: Any = None, training: bool = False, **kwargs: Any) -> None:
        """Take the weights after a step.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net that trains.
        batch : object, default=None
            Not used.
        training : bool, default=False
            Whether the batch was trained on.
        **kwargs
            Not used.
        """
        if training and self.kind != "gaussian":
            self._take(net)

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Take the weights after an epoch.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net that trains.
        **kwargs
            Not used.
        """
        if self.kind == "gaussian":
            self.t_ += 1
            self._take(net, advance=False)

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Put the average in place of the weights.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net that trains.
        **kwargs
            Not used.
        """
        with torch.no_grad():
            for name, parameter in _trained(net):
                if name in self.average_:
                    parameter.copy_(self.average_[name])
        self._begin()

    def _begin(self) -> None:
        self.average_: dict[str, torch.Tensor] = {}
        self.log_total_ = -math.inf  # of the weights so far
        self.n_points_ = 0
        self.t_ = 0  # of the point to come

    def _take(self, net: NeuralNet, advance: bool = True) -> None:
        log_weight = self.log_weight(self.t_, self.n_points_)
        self.t_ += advance
        if log_weight == -math.inf:
            return
        # By logarithms, so that tiny weights far from a Gaussian's mean still count relative to each other.
        self.log_total_ = float(np.logaddexp(self.log_total_, log_weight))
        share = math.exp(log_weight - self.log_total_)
        for name, parameter in _trained(net):
            value = parameter.detach()
            if name in self.average_ and share < 1:
                self.average_[name].lerp_(value, share)
            else:
                self.average_[name] = value.clone()

    def __getstate__(self) -> dict[str, Any]:
        return dict(self.get_params(deep=False))

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()


def _trained(net: NeuralNet) -> list[tuple[str, nn.Parameter]]:
    return [pair for pair in module_of(net).named_parameters() if pair[1].requires_grad]
