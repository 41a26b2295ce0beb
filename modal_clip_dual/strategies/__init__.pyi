# The public names and where they are: lazy_loader resolves them at first use, type checkers read them.
from .alfa_mix import alfa_mix_sampling as alfa_mix_sampling
from .auto import auto_sampling as auto_sampling
from .badge import (
    badge_gradient_norm as badge_gradient_norm,
    badge_sampling as badge_sampling,
)
from .bald import (
    bald_sampling as bald_sampling,
    bald_uncertainty as bald_uncertainty,
)
from .cec import (
    cec_sampling as cec_sampling,
    cec_uncertainty as cec_uncertainty,
)
from .class_balanced import (
    class_balanced_entropy_sampling as class_balanced_entropy_sampling,
    class_balanced_margin_sampling as class_balanced_margin_sampling,
)
from .code_distance import code_distance_sampling as code_distance_sampling
from .coreset import (
    coreset_distance as coreset_distance,
    coreset_sampling as coreset_sampling,
)
from .correctness import correctness_sampling as correctness_sampling
from .dirichlet_uncertainty import dirichlet_uncertainty_sampling as dirichlet_uncertainty_sampling
from .dropquery import (
    dropquery_disagreement as dropquery_disagreement,
    dropquery_sampling as dropquery_sampling,
)
from .gcnal import gcnal_sampling as gcnal_sampling
from .negative_prompt import (
    negative_prompt_sampling as negative_prompt_sampling,
    negative_prompt_uncertainty as negative_prompt_uncertainty,
)
from .pcb import pcb_sampling as pcb_sampling
from .probcover import probcover_sampling as probcover_sampling
from .random import random_sampling as random_sampling
from .registry import (
    available_strategies as available_strategies,
    get_strategy as get_strategy,
    register_strategy as register_strategy,
)
from .smoothing import smoothing_sampling as smoothing_sampling
from .typiclust import typiclust_sampling as typiclust_sampling
