"""Query strategies for modAL's learners, one per file."""

from .negative_prompt import negative_prompt_sampling, negative_prompt_uncertainty
from .random import random_sampling

__all__ = ["negative_prompt_sampling", "negative_prompt_uncertainty", "random_sampling"]
