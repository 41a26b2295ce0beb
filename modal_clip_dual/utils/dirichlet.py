"""Uncertainties of Dirichlet distributions over class probabilities."""

from __future__ import annotations

import numpy as np
from scipy.special import digamma, entr, gammaln

KINDS = ("mutual-information", "entropy", "data", "max-probability", "precision", "differential-entropy")


def uncertainty_of(alpha: np.ndarray, kind: str = "mutual-information") -> np.ndarray:
    """Return the uncertainty (n,), float64, of Dirichlet distributions with parameters alpha (n, C).

    The kinds, with p = alpha / alpha_0 and alpha_0 = sum of alpha (arXiv 2212.07359, Sec. 4):

    - ``"entropy"``: of p, in nats, all uncertainty together;
    - ``"data"``: the mean entropy of the probabilities, which more labels would not lessen;
    - ``"mutual-information"``: the difference of both, which more labels would lessen;
    - ``"max-probability"``: 1 - max p;
    - ``"precision"``: C / alpha_0, which is 1 for the uniform distribution;
    - ``"differential-entropy"``: of the density, in nats; it may be negative.
    """
    alpha = np.asarray(alpha, dtype=np.float64)
    total = alpha.sum(axis=1)
    p = alpha / total[:, None]
    n_classes = alpha.shape[1]
    value: np.ndarray
    if kind == "max-probability":
        value = 1 - p.max(axis=1)
    elif kind == "precision":
        value = n_classes / total
    elif kind == "differential-entropy":
        norm = gammaln(alpha).sum(axis=1) - gammaln(total)
        value = norm + (total - n_classes) * digamma(total) - ((alpha - 1) * digamma(alpha)).sum(axis=1)
    else:
        entropy = entr(p).sum(axis=1)
        data = (p * (digamma(total + 1)[:, None] - digamma(alpha + 1))).sum(axis=1)
        value = {"entropy": entropy, "data": data, "mutual-information": np.maximum(entropy - data, 0)}[kind]
    return value
