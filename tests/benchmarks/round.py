"""Seconds of one active-learning round on embeddings, part by part.

    python tests/benchmarks/round.py                                    # ViT-B-32, C = 100
    python tests/benchmarks/round.py --model demo --classes 10 --labels 100

A round is what modAL's ActiveLearner does with frozen visuals: a query from the pool by
negative-prompt sampling, and a fit on all labels so far.  Parts:

- training: `fit`, beside the same steps in a bare loop of torch (modules, batches and optimizer
  alike, without skorch); their ratio is the share of the computation in the training time
- text: the two prompts of all classes, once, for prediction
- scoring: logits of the pool and what the score makes of them
- selection: the rule that picks the rows
- overhead: what the query takes beyond these

The model has random weights (but for "demo"); the embeddings are random unit vectors.  Medians
of the turns of one run.
"""

import argparse
import statistics
import time
import warnings

import numpy as np
import torch
from sklearn.base import clone

from modal_clip_dual import DualPromptClassifier, negative_prompt_sampling
from modal_clip_dual.nn.criteria.dual import DualPromptLoss
from modal_clip_dual.nn.module import DualPromptModule
from modal_clip_dual.strategies.view import View
from modal_clip_dual.utils.arrays import as_tensor
from modal_clip_dual.utils.selection import select_per_class

WORDS = "river highway forest meadow orchard harbour station market garden tower".split()
NAMES = [f"{a} {b}" for a in WORDS for b in WORDS]


def bare_loop(clf: DualPromptClassifier, X: np.ndarray, y: np.ndarray) -> float:
    """Seconds of the steps of a fit, written out in torch."""
    backbone = clf._load_backbone(clf.model_name, clf.pretrained)
    module = DualPromptModule(backbone, NAMES[: len(clf.class_names)], clf.n_context)
    loss = DualPromptLoss()
    prompts = [p for p in module.parameters() if p.requires_grad]
    sgd = torch.optim.SGD(prompts, lr=clf.lr, momentum=0.9, weight_decay=5e-4)
    X, y = as_tensor(X).to(backbone.device), torch.from_numpy(y).to(backbone.device)
    start = time.perf_counter()
    for _ in range(clf.max_epochs):
        for rows in torch.randperm(len(X), device=X.device).split(clf.batch_size):
            sgd.zero_grad()
            loss(module(X[rows]), y[rows]).backward()
            for prompt in prompts:
                torch.nn.utils.clip_grad_norm_(prompt, clf.gradient_clip_value)
            sgd.step()
    if X.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def timed(function) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--pool", type=int, default=10_000)
    parser.add_argument("--labels", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compile", action="store_true", help="also a fit with torch.compile")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    clf = DualPromptClassifier(
        NAMES[: args.classes], model_name=args.model,
        pretrained="bundled" if args.model == "demo" else None, max_epochs=args.epochs,
        criterion="dual",
        device=args.device, random_state=0, verbose=0,
    )  # fmt: skip
    width = clf._load_backbone(clf.model_name, clf.pretrained).embed_dim
    rng = np.random.default_rng(0)
    pool = rng.normal(size=(args.pool, width)).astype(np.float32)
    pool /= np.linalg.norm(pool, axis=1, keepdims=True)
    y = np.arange(args.labels) % args.classes
    compiled = clone(clf).set_params(net_params={"compile": True})
    parts: dict[str, list[float]] = {}
    for turn in range(args.turns + 1):
        seconds = {"training: fit": timed(lambda: clf.fit(pool[: args.labels], y))}
        if args.compile:
            seconds["training: fit, compiled"] = timed(lambda: compiled.fit(pool[: args.labels], y))
            if not turn:
                print(f"first fit, compiled: {seconds['training: fit, compiled']:.1f} s")
        seconds["training: bare loop"] = bare_loop(clf, pool[: args.labels], y)
        seconds["text, once for prediction"] = timed(clf.net_.module_.eval().text_embeddings)
        query = timed(lambda: negative_prompt_sampling(clf, pool, args.queries))
        start = time.perf_counter()
        predicted, confidence, _, n_classes = View(clf, pool).rank("clean")
        seconds["scoring"] = time.perf_counter() - start
        seconds["selection"] = timed(
            lambda: select_per_class(confidence, predicted, args.queries, n_classes)
        )
        seconds["overhead of the query"] = max(0.0, query - seconds["scoring"] - seconds["selection"])
        if turn:  # the first warms up
            for name, value in seconds.items():
                parts.setdefault(name, []).append(value)
    medians = {name: statistics.median(values) for name, values in parts.items()}
    steps = args.epochs * -(-args.labels // clf.batch_size)
    print(f"{args.model}, {clf.net_.module_.text_encoder}, torch {torch.__version__}")
    print(f"pool {args.pool:,} x {width}, {args.labels} labels, {steps} steps, {args.queries} queries")
    print("| part | seconds |\n|---|---|")
    for name, median in medians.items():
        print(f"| {name} | {median:.4f} |")
    share = [b / f for f, b in zip(parts["training: fit"], parts["training: bare loop"])]
    print(f"computation in the training time: {statistics.median(share):.1%}")
    per_step = (medians["training: fit"] - medians["training: bare loop"]) / steps
    print(f"beyond it: {1000 * per_step:.2f} ms a step")


if __name__ == "__main__":
    main()
