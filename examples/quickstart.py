"""Label 72 of 1,797 handwritten digits with modAL, 12 at a time.

It runs offline: the digits come with scikit-learn, the CLIP with modal-clip-dual.
"""

import numpy as np
from modAL.models import ActiveLearner

from modal_clip_dual import DualLinearClassifier, auto_sampling
from modal_clip_dual.data import load_digits_images

digits = load_digits_images()
X, y, pool = digits.images, digits.target, np.arange(1797)
clf = DualLinearClassifier(digits.class_names, model_name="demo", pretrained="bundled").fit_unlabeled(X)
print(f"0 labels: {clf.score(X, y):.1%} of all right")
learner = ActiveLearner(clf, query_strategy=auto_sampling)

for _ in range(6):
    chosen, images = learner.query(X[pool], n_instances=12)
    learner.teach(images, y[pool[chosen]])  # here a person would say what they show
    pool = np.delete(pool, chosen)
    print(f"{len(learner.y_training)} labels: {learner.score(X[pool], y[pool]):.1%} of the rest right")
