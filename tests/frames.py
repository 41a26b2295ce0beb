"""Tables of runs for tests."""

from html.parser import HTMLParser

import numpy as np
import pandas as pd


def runs(strategy, curves, labels=(10, 20, 40), **constant):
    """Rows of a strategy, from one list of accuracies per seed."""
    return pd.DataFrame(
        [
            {**constant, "strategy": strategy, "seed": seed, "round": k + 1, "n_labels": labels[k],
             "budget": labels[k] / 1000, "accuracy": accuracy}
            for seed, curve in enumerate(curves)
            for k, accuracy in enumerate(curve)
        ]
    )  # fmt: skip


def many(strategies=("random", "margin", "badge"), n_seeds=6, data=("A",), seed=0):
    """Random accuracies of whole test samples, with ties."""
    rng = np.random.default_rng(seed)
    return pd.concat(
        [
            runs(s, 0.5 + rng.integers(0, 20, (n_seeds, 3)) / 50, data=d, estimator="selection")
            for d in data
            for s in strategies
        ],
        ignore_index=True,
    )


def table(strategies=("random", "a"), data="d", estimator="e", seeds=3, **columns):
    rng = np.random.default_rng(0)
    rows = [
        {"data": data, "estimator": estimator, "loop": "selection", "strategy": name, "seed": seed,
         "round": k, "n_labels": 10 * k, "budget": 0.01 * k, "accuracy": 0.5 + 0.05 * k + rng.normal(0, 0.01)}
        for name in strategies for seed in range(seeds) for k in (1, 2)
    ]  # fmt: skip
    return pd.DataFrame(rows).assign(**columns)


class Page(HTMLParser):
    """Cells of the tables, tags, and the addresses that the page refers to."""

    def __init__(self, path):
        super().__init__()
        self.cells, self.tags, self.addresses, self.open = [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        assert not self.open, "tags that are never closed"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.cells.append(data)
