# The public names and where they are: lazy_loader resolves them at first use, type checkers read them.
from .active import (
    CollaborativePromptClassifier as CollaborativePromptClassifier,
    DualPromptLearner as DualPromptLearner,
    collaborative_pseudo_labels as collaborative_pseudo_labels,
    mine_confident as mine_confident,
)
from .classifier import PAPER_SETTINGS as PAPER_SETTINGS, DualPromptClassifier as DualPromptClassifier
from .correctness.calibrated import CalibratedCorrectness as CalibratedCorrectness
from .correctness.class_codes import ClassCodeClassifier as ClassCodeClassifier
from .correctness.dirichlet import DirichletMetaClassifier as DirichletMetaClassifier
from .correctness.regressor import CorrectnessRegressor as CorrectnessRegressor
from .encoder import CLIPImageEncoder as CLIPImageEncoder
from .fine_tuned import FineTunedClassifier as FineTunedClassifier
from .heads.bayes_adapter import BayesAdapterClassifier as BayesAdapterClassifier
from .heads.dual_linear import DualLinearClassifier as DualLinearClassifier
from .heads.tip_adapter import TipAdapterClassifier as TipAdapterClassifier
from .nn.averaging import WeightAverage as WeightAverage
from .strategies import (
    alfa_mix_sampling as alfa_mix_sampling,
    auto_sampling as auto_sampling,
    available_strategies as available_strategies,
    badge_sampling as badge_sampling,
    bald_sampling as bald_sampling,
    cec_sampling as cec_sampling,
    class_balanced_entropy_sampling as class_balanced_entropy_sampling,
    class_balanced_margin_sampling as class_balanced_margin_sampling,
    code_distance_sampling as code_distance_sampling,
    coreset_sampling as coreset_sampling,
    correctness_sampling as correctness_sampling,
    dirichlet_uncertainty_sampling as dirichlet_uncertainty_sampling,
    dropquery_sampling as dropquery_sampling,
    gcnal_sampling as gcnal_sampling,
    get_strategy as get_strategy,
    negative_prompt_sampling as negative_prompt_sampling,
    negative_prompt_uncertainty as negative_prompt_uncertainty,
    pcb_sampling as pcb_sampling,
    probcover_sampling as probcover_sampling,
    random_sampling as random_sampling,
    register_strategy as register_strategy,
    smoothing_sampling as smoothing_sampling,
    typiclust_sampling as typiclust_sampling,
)
from .test_time import (
    SmoothedClassifier as SmoothedClassifier,
    SpuriousFeatureEraser as SpuriousFeatureEraser,
    TestTimeCentroids as TestTimeCentroids,
    WienerDenoiser as WienerDenoiser,
)

__version__: str
