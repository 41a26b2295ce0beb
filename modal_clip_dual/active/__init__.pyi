from .learner import DualPromptLearner as DualPromptLearner
from .protocols import PROTOCOLS as PROTOCOLS, Protocol as Protocol
from .stopping import EstimatedAccuracy as EstimatedAccuracy, StablePredictions as StablePredictions
