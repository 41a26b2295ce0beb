"""Query strategies for modAL's learners, one per file."""

from .mining import mine_confident
from .negative_prompt import negative_prompt_sampling, negative_prompt_uncertainty
from .random import random_sampling

__all__ = [
    "mine_confident",
    "negative_prompt_sampling",
    "negative_prompt_uncertainty",
    "random_sampling",
]
