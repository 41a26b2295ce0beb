"""Fine-tuning of the image tower: a copy of its last blocks is trained, the text embeddings stay.

The blocks in front of the copy are those of the shared CLIP.  Their output for an image does not change, so without
augmentation it is computed once.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from skorch import NeuralNet
from skorch.callbacks import LRScheduler
from torch import nn

from ..clip.backbone import Backbone
from ..clip.blocks import describe_tower
from ..utils.arrays import blocks
from ..utils.memory import memory_advice
from .averaging import WeightAverage
from .batches import Batches
from .callbacks import StopIfNotFinite, diverged
from .criteria.dual import DualPromptLoss
from .image_encoder import is_open_clips, through
from .module import Outputs
from .training import run

if TYPE_CHECKING:
    from ..data.reading import ImageSource

KEPT_BYTES = 1 << 30  # of outputs of the frozen blocks; more images are sent through them at every step


class FineTunedTower(nn.Module):
    """An image tower whose last blocks, and all that follows them, are a trainable copy in float32.

    Parameters
    ----------
    backbone : Backbone
        It is never changed.
    text : torch.Tensor of shape (C, D)
        Unit text embeddings of the classes.
    layers : {"last", "all"} or int
        Number of last blocks to train; ``"last"`` is 1, and ``"all"`` the whole tower, with its patch and
        position embeddings.

    Attributes
    ----------
    n_frozen : int or None
        Number of blocks that are shared with the backbone; None if nothing is.

    Raises
    ------
    ValueError
        If the tower does not have so many blocks, or blocks at all.
    """

    def __init__(self, backbone: Backbone, text: torch.Tensor, layers: int | str):
        super().__init__()
        tower: Any = backbone.model.visual
        self.backbone = backbone
        self.register_buffer("text", text.to(backbone.device), persistent=False)
        self.n_frozen: int | None = None
        shared: list[Any] = []
        if layers != "all":
            self.n_frozen = _n_frozen(backbone, layers)
            shared = [tower.conv1, tower.patch_dropout, tower.ln_pre, tower.class_embedding]
            shared += [tower.positional_embedding, *tower.transformer.resblocks[: self.n_frozen]]
        # What the copying already knows it does not copy.
        self.tower = copy.deepcopy(tower, {id(part): part for part in shared})
        theirs = {id(parameter) for parameter in tower.parameters()}
        self.trained = {
            name: parameter for name, parameter in self.tower.named_parameters() if id(parameter) not in theirs
        }
        for parameter in self.trained.values():
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)

    def train(self, mode: bool = True) -> FineTunedTower:
        """Set the mode of this module alone: the tower evaluates in training, too, as in CLIPood's code."""
        self.training = mode
        return self

    def hidden(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the output (n, tokens, width), float32, of the frozen blocks for images."""
        assert self.n_frozen is not None
        tower: Any = self.backbone.model.visual
        first = _FirstBlocks(tower.transformer, self.n_frozen)
        with torch.inference_mode():
            _with_transformer(tower, first)(self.backbone.to_input(pixels))
        return first.output.float().clone()

    def image_embeddings(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return unit embeddings (n, D) of images, as `Backbone.to_input` takes them, or of outputs of `hidden`."""
        if self.n_frozen is None:
            features = self.tower(self.backbone.to_input(inputs).float())
        else:
            hidden = inputs if inputs.ndim == 3 else self.hidden(inputs)
            tower: Any = self.tower
            last = _LastBlocks(tower.transformer, self.n_frozen, hidden)
            # The blocks ignore what comes in, so one blank image is enough to get there.
            blank = torch.zeros(1, 3, *tower.image_size, dtype=tower.conv1.weight.dtype, device=hidden.device)
            features = _with_transformer(tower, last)(blank)
        if isinstance(features, tuple):  # CoCa's tower returns its tokens too
            features = features[0]
        return F.normalize(features.float(), dim=-1)

    def forward(self, inputs: torch.Tensor) -> Outputs:
        """Return the logits s <v, t> of images or outputs of `hidden`, and the texts."""
        scale, text = self.backbone.logit_scale, self.get_buffer("text")
        logits = scale * self.image_embeddings(inputs) @ text.T
        return Outputs(logits, None, frozen_text=text, logit_scale=scale)

    def weights(self) -> dict[str, np.ndarray]:
        """Return the trained weights by their names in the tower."""
        return {name: parameter.detach().cpu().numpy() for name, parameter in self.trained.items()}

    def load_weights(self, weights: dict[str, np.ndarray]) -> None:
        """Take the weights of another tower of this kind.

        Raises
        ------
        ValueError
            If names or shapes differ.
        """
        shapes = {name: tuple(parameter.shape) for name, parameter in self.trained.items()}
        if shapes != {name: value.shape for name, value in weights.items()}:
            raise ValueError(
                f"the saved weights are not those of the last blocks of {self.backbone.name}: names or shapes differ"
            )
        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(torch.from_numpy(weights[name]))


def fine_tune(
    module: FineTunedTower,
    source: ImageSource,
    target: np.ndarray,
    *,
    margin: float,
    average: WeightAverage | None,
    lr: float,
    weight_decay: float,
    n_steps: int,
    batch_size: int,
    seed: int,
    verbose: int = 0,
    sample_weight: np.ndarray | None = None,
) -> None:
    """Train the last blocks by AdamW, the learning rate along a cosine, step by step.

    ``sample_weight`` (n,) are weights above 0 of the samples, relative to each other.  The other arguments are those
    of `FineTunedClassifier`.

    Raises
    ------
    FloatingPointError
        If the loss of a step, or a weight, is not finite.
    torch.cuda.OutOfMemoryError
        If the device has no memory left; the message says what to change.
    """
    steps_per_epoch = math.ceil(len(target) / batch_size)
    max_epochs = math.ceil(n_steps / steps_per_epoch)
    cosine = LRScheduler(
        torch.optim.lr_scheduler.CosineAnnealingLR, step_every="batch", T_max=max_epochs * steps_per_epoch
    )
    callbacks: list[tuple[str, Any]] = [("finite_loss", StopIfNotFinite()), ("cosine_decay", cosine)]
    if average is not None:
        callbacks.append(("weight_average", average))
    params: dict[str, Any] = {} if verbose >= 2 else {"callbacks__print_log": None}
    if sample_weight is not None:
        relative = (sample_weight / sample_weight.mean()).astype(np.float32)
        params["iterator_train__sample_weight"] = torch.from_numpy(relative)
    net = NeuralNet(
        module,
        criterion=DualPromptLoss,
        criterion__negative_weight=0.0,
        criterion__margin=margin,
        optimizer=torch.optim.AdamW,
        optimizer__weight_decay=weight_decay,
        lr=lr,
        max_epochs=max_epochs,
        batch_size=batch_size,
        iterator_train=Batches,
        iterator_train__shuffle=True,
        iterator_train__generator=torch.Generator().manual_seed(seed),
        train_split=None,
        callbacks=callbacks,
        device=str(module.backbone.device),
        verbose=int(verbose >= 2),
        **params,
    ).initialize()
    advice = f"try a smaller batch_size (now {batch_size}), or fewer layers"
    with memory_advice("training", advice):
        kept = _kept(module, source, batch_size)
        run(net, source if kept is None else kept, target)
    if not all(torch.isfinite(parameter).all() for parameter in module.trained.values()):
        raise diverged(net, "a weight is no longer finite")


def _kept(module: FineTunedTower, source: ImageSource, batch_size: int) -> np.ndarray | None:
    """Return the outputs of the frozen blocks for all images; None where they change or are too large."""
    if module.n_frozen is None or source.augment is not None:
        return None
    rows = [np.arange(len(source))[part] for part in blocks(len(source), batch_size)]
    outputs: Iterator[torch.Tensor] = map(module.hidden, source.read(rows))
    kept: np.ndarray | None = None
    for part, output in zip(rows, outputs):
        if kept is None:
            if 4 * len(source) * output[0].numel() > KEPT_BYTES:
                return None
            kept = np.empty((len(source), *output.shape[1:]), dtype=np.float32)
        kept[part] = output.cpu().numpy()
    return kept


def _n_frozen(backbone: Backbone, layers: int | str) -> int:
    tower: Any = backbone.model.visual
    if not is_open_clips(tower):
        raise ValueError(
            f"layers={layers!r}: the image tower of {backbone.name} ({describe_tower(tower)}) has no blocks that "
            "can be told apart; expected a model with open_clip's VisionTransformer, or layers='all'"
        )
    n_blocks, n_trained = len(tower.transformer.resblocks), 1 if layers == "last" else int(layers)
    if n_trained > n_blocks:
        raise ValueError(
            f"layers={layers}: the image tower of {backbone.name} has {n_blocks} blocks; expected at most "
            f"{n_blocks}, or 'all' for the whole tower"
        )
    return n_blocks - n_trained


class _FirstBlocks(nn.Module):
    """The first blocks of a transformer, whose output is kept."""

    output: torch.Tensor

    def __init__(self, transformer: nn.Module, n_blocks: int):
        super().__init__()
        self.transformer = transformer
        self.n_blocks = n_blocks

    def forward(self, x: torch.Tensor, attn_mask: torch.Tensor | None = None) -> torch.Tensor:
        self.output = through(self.transformer, x, attn_mask, stop=self.n_blocks)
        return self.output


class _LastBlocks(nn.Module):
    """The last blocks of a transformer, for an output of the first ones."""

    def __init__(self, transformer: nn.Module, n_skipped: int, hidden: torch.Tensor):
        super().__init__()
        self.transformer = transformer
        self.n_skipped = n_skipped
        self.hidden = hidden

    def forward(self, x: torch.Tensor, attn_mask: torch.Tensor | None = None) -> torch.Tensor:
        return through(self.transformer, self.hidden, attn_mask, start=self.n_skipped)


def _with_transformer(tower: nn.Module, transformer: nn.Module) -> nn.Module:
    """Return a view of a tower, every other part of it shared, with another walk through the blocks."""
    view = copy.copy(tower)
    view._modules = {**tower._modules, "transformer": transformer}
    return view
