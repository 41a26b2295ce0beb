"""The command ``modal-clip-dual demo``."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..strategies.registry import available_strategies
from .parsing import (
    LEARNERS,
    LINEAR,
    PROMPTS,
    add_model_arguments,
    check_output,
    find_own_strategies,
    fraction,
    learner,
    listed,
    positive_int,
    refuse,
    strategy,
)

if TYPE_CHECKING:
    import pandas as pd

    from ..evaluation.plan import Plan, Run

DEFAULT_STRATEGIES = {LINEAR: ["auto", "random"], PROMPTS: ["negative-prompt", "random"]}

DEMO = """\
Active learning on 1,797 handwritten digits (scikit-learn's, real scans) with the small
CLIP that ships with the package.  Nothing is downloaded.

Two learners side by side: DualLinearClassifier, a linear head on frozen embeddings that
learns from the whole pool, and the paper's DualPromptClassifier.  A third of the scans is
held out as test set; the rest is the pool.  A run starts at 0 labels: DualLinear has then
seen the pool and the class names; the prompts are zero-shot CLIP, or with --full have been
trained on its surest labels for the pool.

In each round a strategy chooses images, their labels are revealed, and the learner trains
anew on all labels so far.  DualLinear's strategies choose from the first round on.  Round 1
of the prompts labels the same random images for every strategy, unless --full lets the
strategy choose.  A line is printed per round, a table at the end, and the learning curves
are saved as a picture.

The table: test accuracy after each round, in percent, mean +- standard deviation over the
seeds; then, after the last round, what the learner itself takes its accuracy for (the mean
of P(correct)), and how well a score tells right predictions from wrong ones (AUROC, 50 is
chance): P(correct), and the largest softmax probability of the same model.
"""

WHICH = """\
Frozen embeddings: take DualLinearClassifier; it learns from the whole pool, and labels come on top.
To adapt the image tower, or to study the paper: take DualPromptClassifier (here: --visual-prompts maple, --full)."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    demo = commands.add_parser(
        "demo",
        help="active learning on handwritten digits, offline, in about a minute",
        description=DEMO,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: modal-clip-dual demo --rounds 3 --seeds 1 --learners dual-linear --strategies auto,coreset",
    )
    add = demo.add_argument
    add("--rounds", type=positive_int, default=6,
        help="rounds that label (default: %(default)s)")  # fmt: skip
    add("--seeds", type=positive_int, default=3,
        help="repetitions, each with its own split, first round and prompts (default: %(default)s)")  # fmt: skip
    add("--budget", type=fraction, default=0.01, metavar="FRACTION",
        help="labels per round, as a fraction of the pool (default: 0.01)")  # fmt: skip
    add("--learners", nargs="+", action=listed(learner), default=list(LEARNERS), metavar="A,B",
        help=f"what learns: {', '.join(LEARNERS)} (default: {','.join(LEARNERS)})")  # fmt: skip
    add("--strategies", nargs="+", action=listed(strategy), default=None, metavar="A,B,...",
        help=f"what every learner chooses by: {', '.join(available_strategies())}, or your own function as "
             "package.module:function (default: auto,random for dual-linear, negative-prompt,random for prompts)"
    )  # fmt: skip
    add_model_arguments(demo)
    add("--full", action="store_true",
        help="train the prompts in the paper's whole loop: a first round without labels, then "
             "pseudo-labels (default: selection only)")  # fmt: skip
    add("--figure", type=Path, default=Path("demo-learning-curves.png"), metavar="FILE",
        help="where to save the learning curves (default: %(default)s)")  # fmt: skip
    add("--csv", type=Path, default=None, metavar="FILE",
        help="also write every round of every run here")  # fmt: skip
    demo.set_defaults(run=run_demo)


def run_demo(args: argparse.Namespace) -> int:
    """Run the demo with one thread, as the tables of the docs were made; return the exit status."""
    from ..utils.threads import one_thread

    with one_thread():
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    try:
        _check_files(args)
        plan = _plan(args)
        start = time.perf_counter()
        print(_headline(plan, args.full), flush=True)
        accuracy = _zero_shot_accuracy(plan)
    except (TypeError, ValueError) as error:  # a folder, a device or a function that is not there
        return refuse(error)
    print(
        f"{time.perf_counter() - start:.0f} s.  Zero-shot CLIP, all images: accuracy {accuracy:.1%}\n",
        flush=True,
    )

    from ..evaluation import plot_learning_curves
    from ..evaluation.compare import run_plan
    from ..evaluation.results import write_csv

    # The classifier's cache keeps the embeddings, as when the tables of the docs were made.
    frame = run_plan(plan, verbose=0, on_round=_print_round, embed=False)
    print("\n" + demo_table(frame))
    ax: Any = plot_learning_curves(frame)
    ax.figure.savefig(args.figure, dpi=150)
    print(f"\n{WHICH}\n\nLearning curves: {args.figure}")
    if args.csv is not None:
        write_csv(frame, args.csv)
        print(f"Every round of every run: {args.csv}")
    print(f"Total {time.perf_counter() - start:.0f} s")
    return 0


def _check_files(args: argparse.Namespace) -> None:
    check_output(args.figure, "--figure")
    if args.csv is not None:
        check_output(args.csv, "--csv")
    if args.figure.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise ValueError(f"--figure {args.figure}: expected .png, .pdf or .svg")


def _headline(plan: Plan, full: bool) -> str:
    learners = {run.names["estimator"]: f"{run.names['estimator']}Classifier" for run in plan.runs}
    loop = " in the paper's whole loop" if full and PROMPTS in learners else ""
    return (
        f"Handwritten digits, {plan.n_classes} classes: a pool of {plan.n_pool} images, {plan.n_test} to test on, "
        f"{plan.n_instances} labels per round.\n"
        f"The small CLIP that ships with the package, and on top {' and '.join(learners.values())}{loop}.\n"
        "Loading torch, open_clip and the CLIP ..."
    )


def _plan(args: argparse.Namespace) -> Plan:
    """Return the comparison that `compare_strategies` would make of the arguments, learner by learner."""
    from ..active import Protocol
    from ..data import load_digits_images
    from ..evaluation.plan import find_samples, make_plan

    digits = load_digits_images()
    find_own_strategies(args.strategies or [])
    samples = find_samples(digits.images, digits.target)
    plans = []
    for name in dict.fromkeys(LEARNERS[name] for name in args.learners):
        # DualLinear has learned from the pool before the first query, so the strategy chooses that one, too.
        full = args.full or name == LINEAR
        plans.append(
            make_plan(
                samples,
                {name: _classifier(name, digits.class_names, args)},
                list(dict.fromkeys(args.strategies or DEFAULT_STRATEGIES[name])),
                Protocol(args.rounds, fraction=args.budget),
                "full" if full else "selection",
                seeds=args.seeds,
                first_query="strategy" if full else "random",
                from_zero=True,
            )
        )
    runs = [_as_published(run, plan, args.score) for plan in plans for run in plan.runs]
    runs.sort(key=lambda run: int(run.names["seed"]))  # so that the learners' lines are near each other
    return replace(plans[0], runs=runs)


def _classifier(name: str, class_names: list[str], args: argparse.Namespace) -> Any:
    from .. import PAPER_SETTINGS, DualLinearClassifier, DualPromptClassifier

    model = {"model_name": "demo", "pretrained": "bundled", "device": args.device}
    if name == LINEAR:
        return DualLinearClassifier(class_names, **model)
    return DualPromptClassifier(
        class_names,
        negative_weight=args.negative_weight,
        complement=args.complement,
        visual_prompts=args.visual_prompts,
        **PAPER_SETTINGS | {"augment": None},  # a mirrored digit is no digit
        **model,
    )


def _as_published(run: Run, plan: Plan, score: str) -> Run:
    """Return a run with the draws that the tables of the docs were made with.

    Round 1 has the first rows of the pool, which the split has shuffled; and what a strategy
    draws comes from one generator for all of its rounds.
    """
    from inspect import signature

    import numpy as np

    from .. import get_strategy

    name = run.names["strategy"]
    params: dict[str, Any] = {"score": score} if name == "negative-prompt" else {}
    if "random_state" in signature(run.strategy).parameters:
        params["random_state"] = np.random.default_rng(run.names["seed"])
    first_query = np.arange(plan.n_instances) if run.n_per_class == 0 else run.first_query
    return replace(run, strategy=get_strategy(name, **params), first_query=first_query)


def _zero_shot_accuracy(plan: Plan) -> float:
    classifier: Any = plan.runs[0].estimator
    return float((plan.y == classifier.zero_shot_proba(plan.X).argmax(axis=1)).mean())


def _print_round(row: dict[str, Any]) -> None:
    believed = row["mean_correct"]
    says = "zero-shot CLIP" if believed is None else f"believes {believed:6.1%}"
    print(
        f"seed {row['seed']}  {row['estimator']:<10}  {row['strategy']:<15}  {row['n_labels']:3d} labels  "
        f"accuracy {row['accuracy']:6.1%}, {says:<15}  "
        f"{sum(row[f'{part}_seconds'] for part in ('train', 'score', 'select')):4.1f} s",
        flush=True,
    )


def demo_table(frame: pd.DataFrame) -> str:
    """Return the final table, in Markdown, of the demo's records: curves side by side, a line per round."""
    from ..evaluation.text import markdown_table, percent

    curves = dict(list(frame.groupby(["estimator", "strategy"], sort=False)))
    rounds = frame.groupby("round")["n_labels"].first()
    lines = [
        [f"{n} labels", *(percent(runs.loc[runs["round"] == round_, "accuracy"]) for runs in curves.values())]
        for round_, n in rounds.items()
    ]
    last = {
        "it believes": "mean_correct",
        "AUROC P(correct)": "auroc_clean",
        "AUROC max softmax": "auroc_max_proba",
    }
    for heading, column in last.items():
        at_end = (runs.loc[runs["round"] == rounds.index[-1], column] for runs in curves.values())
        lines.append([heading, *map(percent, at_end)])
    return markdown_table(["accuracy", *(f"{estimator}, {name}" for estimator, name in curves)], lines)
