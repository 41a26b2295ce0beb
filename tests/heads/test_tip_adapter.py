"""Tip-Adapter against its formula, sample by sample."""

import numpy as np
from head_template import ROWS, HeadTests

from modal_clip_dual import TipAdapterClassifier


class TestTipAdapter(HeadTests):
    Head = TipAdapterClassifier
    grid = {"beta": [1.0, 5.5]}

    def test_is_the_formula(self, make, labeled, embeddings, demo, digits):
        clf = make(alpha=2.0, beta=3.0, template="the number {}").fit(*labeled)
        text = demo.encode_texts([f"the number {name}" for name in digits.class_names]).numpy()
        for row in (0, 7):
            v = embeddings[row].astype(np.float64)
            expected = demo.logit_scale * text @ v
            for key, label in zip(*labeled):
                expected[label] += 2.0 * np.exp(-3.0 * (1 - v @ key))
            # Cosines are sums of 128 float32 products of at most 1; the logits are 100 times them.
            bound = 2 * 128 * np.finfo(np.float32).eps * demo.logit_scale
            np.testing.assert_allclose(clf.predict_logits(embeddings[row : row + 1])[0][0], expected, atol=bound)

    def test_without_votes_it_is_zero_shot(self, make, labeled, embeddings):
        clf = make(alpha=0.0).fit(*labeled)
        np.testing.assert_allclose(clf.predict_proba(embeddings), clf.zero_shot_proba(embeddings), atol=1e-4)

    def test_labeled_samples_win_with_large_weights(self, make, labeled):
        clf = make(alpha=1e4, beta=200.0).fit(*labeled)
        assert len(ROWS) == len(labeled[1])
        np.testing.assert_array_equal(clf.predict(labeled[0]), labeled[1])
