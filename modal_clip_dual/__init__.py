"""Active CLIP adaptation with dual prompt tuning, as a plugin for modAL."""

from ._compat import mend_modal
from ._lazy import public_names

__version__ = "0.1.0"

# Name -> module that defines it.  Resolved on first use, so that importing the package
# costs neither torch nor open_clip, skorch, scikit-learn or modAL.
_PUBLIC = {
    "CLIPImageEncoder": "encoder",
    "DualPromptClassifier": "classifier",
    "DualPromptLearner": "active",
    "alfa_mix_sampling": "strategies",
    "badge_sampling": "strategies",
    "cec_sampling": "strategies",
    "class_balanced_entropy_sampling": "strategies",
    "class_balanced_margin_sampling": "strategies",
    "coreset_sampling": "strategies",
    "dropquery_sampling": "strategies",
    "gcnal_sampling": "strategies",
    "get_strategy": "strategies",
    "mine_confident": "strategies",
    "negative_prompt_sampling": "strategies",
    "negative_prompt_uncertainty": "strategies",
    "pcb_sampling": "strategies",
    "probcover_sampling": "strategies",
    "random_sampling": "strategies",
    "register_strategy": "strategies",
    "typiclust_sampling": "strategies",
}

__all__ = [*_PUBLIC, "__version__"]

__getattr__, __dir__ = public_names(__name__, _PUBLIC)

mend_modal()
