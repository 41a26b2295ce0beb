"""How far two float32 computations of the same number may differ, on any processor.

Products are summed in another order, in vectors of another width and shared among another number
of threads, so that each of n roundings goes either way: the error of a sum of n products grows
like sqrt(n) times half of eps (Higham and Mary, 2019, "A new approach to probabilistic rounding
error analysis"), here relative to the lengths of the two vectors.  Two computations differ by
twice that.
"""

import numpy as np

EPS = float(np.finfo(np.float32).eps)


def of_products(width):
    """Of the product of two unit vectors of so many numbers."""
    return EPS * width**0.5


def of_tower(width=128, layers=4):
    """Of the numbers of a unit embedding by a tower; each layer adds the roundings of its products."""
    return layers * of_products(width)


def of_logits(scale, width=128):
    """Of logits: products of given unit embeddings, times ``scale``; twice that where two of them are subtracted."""
    return scale * of_products(width)


def of_probabilities(scale, width=128):
    """Of softmax or sigmoid of logits.  No logit moves a probability by more than half of its own error."""
    return 0.5 * of_logits(scale, width) + 4 * EPS  # of exp, the sum and the division
