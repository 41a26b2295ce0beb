from .collaborative import CollaborativePromptClassifier as CollaborativePromptClassifier
from .learner import DualPromptLearner as DualPromptLearner
from .protocols import PROTOCOLS as PROTOCOLS, Protocol as Protocol
from .pseudo_labels import (
    collaborative_pseudo_labels as collaborative_pseudo_labels,
    mine_confident as mine_confident,
)
from .stopping import EstimatedAccuracy as EstimatedAccuracy, StablePredictions as StablePredictions
