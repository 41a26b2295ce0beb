"""Query strategies for modAL's learners, one per file."""

from .._lazy import public_names

# Name -> module that defines it, resolved on first use: the list of strategies (`registry`)
# is to be had without importing scikit-learn.
_PUBLIC = {
    "alfa_mix_sampling": "alfa_mix",
    "available_strategies": "registry",
    "badge_gradient_norm": "badge",
    "badge_sampling": "badge",
    "cec_sampling": "cec",
    "cec_uncertainty": "cec",
    "class_balanced_entropy_sampling": "class_balanced",
    "class_balanced_margin_sampling": "class_balanced",
    "coreset_distance": "coreset",
    "coreset_sampling": "coreset",
    "dropquery_disagreement": "dropquery",
    "dropquery_sampling": "dropquery",
    "gcnal_sampling": "gcnal",
    "get_strategy": "registry",
    "mine_confident": "mining",
    "negative_prompt_sampling": "negative_prompt",
    "negative_prompt_uncertainty": "negative_prompt",
    "pcb_sampling": "pcb",
    "probcover_sampling": "probcover",
    "random_sampling": "random",
    "register_strategy": "registry",
    "typiclust_sampling": "typiclust",
}

__all__ = list(_PUBLIC)

__getattr__, __dir__ = public_names(__name__, _PUBLIC)
