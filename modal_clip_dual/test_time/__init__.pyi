# The public names and where they are: lazy_loader resolves them at first use, type checkers read them.
from .centroids import TestTimeCentroids as TestTimeCentroids
from .denoising import WienerDenoiser as WienerDenoiser
from .eraser import SpuriousFeatureEraser as SpuriousFeatureEraser
from .smoothing import SmoothedClassifier as SmoothedClassifier
