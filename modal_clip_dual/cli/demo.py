"""The command ``modal-clip-dual demo``."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..strategies.registry import available_strategies
from .parsing import (
    add_model_arguments,
    find_own_strategies,
    fraction,
    listed,
    positive_int,
    refuse,
    strategy,
)

if TYPE_CHECKING:
    import pandas as pd

    from ..evaluation.plan import Plan, Run

DEFAULT_STRATEGIES = ["negative-prompt", "entropy", "random"]

DEMO = """\
Active learning on 1,797 handwritten digits (scikit-learn's, real scans) with the small
CLIP that ships with the package.  Nothing is downloaded.

A third of the scans is held out as test set; the rest is the pool.  Round 1 labels the
same random images for every strategy; each later round lets the strategy choose, through
modAL's ActiveLearner, and re-trains the two prompts on all labels so far.  A line is
printed per round, a table at the end, and the learning curves are saved as a picture.

Columns of the table: test accuracy after each round, in percent, mean +- standard
deviation over the seeds; then, after the last round, how well a score tells right
predictions from wrong ones (AUROC, 50 is chance): P(correct), from the negative prompt,
and the largest softmax probability of the same model.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    demo = commands.add_parser(
        "demo",
        help="active learning on handwritten digits, offline, in a minute or two",
        description=DEMO,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: modal-clip-dual demo --rounds 3 --seeds 1 --strategies negative-prompt",
    )
    add = demo.add_argument
    add("--rounds", type=positive_int, default=6,
        help="rounds, the random first one included (default: 6)")  # fmt: skip
    add("--seeds", type=positive_int, default=3,
        help="repetitions, each with its own split, first round and prompts (default: 3)")  # fmt: skip
    add("--budget", type=fraction, default=0.01, metavar="FRACTION",
        help="labels per round, as a fraction of the pool (default: 0.01)")  # fmt: skip
    add("--strategies", nargs="+", action=listed(strategy), default=DEFAULT_STRATEGIES, metavar="A,B,...",
        help=f"what to compare: {', '.join(available_strategies())}, or your own function as "
             f"package.module:function (default: {','.join(DEFAULT_STRATEGIES)})")  # fmt: skip
    add_model_arguments(demo)
    add("--full", action="store_true",
        help="the paper's whole loop: a first round without labels, then pseudo-labels "
             "(default: selection only)")  # fmt: skip
    add("--figure", type=Path, default=Path("demo-learning-curves.png"), metavar="FILE",
        help="where to save the learning curves (default: %(default)s)")  # fmt: skip
    add("--csv", type=Path, default=None, metavar="FILE",
        help="also write every round of every run here")  # fmt: skip
    demo.set_defaults(run=run_demo)


def run_demo(args: argparse.Namespace) -> int:
    """Run the demo; return the exit status."""
    try:
        _check_files(args)
        plan = _plan(args)
        start = time.perf_counter()
        print("Loading torch, open_clip and the bundled CLIP ...", flush=True)
        accuracy = _zero_shot_accuracy(plan)
    except (TypeError, ValueError) as error:  # a folder, a device or a function that is not there
        return refuse(error)
    print(
        f"{time.perf_counter() - start:.0f} s.  Pool {plan.n_pool}, test {plan.n_test} images, "
        f"{plan.n_instances} labels per round.  Zero-shot accuracy, all images: {accuracy:.1%}",
        flush=True,
    )

    from ..evaluation import plot_learning_curves
    from ..evaluation.compare import run_plan
    from ..evaluation.results import write_csv

    # The classifier's cache keeps the embeddings, as when the tables of docs/results.md were made.
    frame = run_plan(plan, verbose=0, on_round=_print_round, embed=False)
    print("\n" + demo_table(frame))
    ax: Any = plot_learning_curves(frame)
    ax.figure.savefig(args.figure, dpi=150)
    print(f"\nLearning curves: {args.figure}")
    if args.csv is not None:
        write_csv(frame, args.csv)
        print(f"Every round of every run: {args.csv}")
    print(f"Total {time.perf_counter() - start:.0f} s")
    return 0


def _check_files(args: argparse.Namespace) -> None:
    for path in filter(None, (args.figure, args.csv)):
        if not path.absolute().parent.is_dir():
            raise ValueError(f"there is no folder {path.absolute().parent} to write to")
    if args.figure.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise ValueError(f"--figure {args.figure}: expected .png, .pdf or .svg")


def _plan(args: argparse.Namespace) -> Plan:
    """Return the comparison that `compare_strategies` would make of the arguments."""
    from .. import DualPromptClassifier
    from ..active import Protocol
    from ..data import load_digits_images
    from ..evaluation.plan import find_samples, make_plan

    digits = load_digits_images()
    classifier = DualPromptClassifier(
        digits.class_names,
        model_name="demo",
        pretrained="bundled",
        negative_weight=args.negative_weight,
        complement=args.complement,
        visual_prompts=args.visual_prompts,
        augment=None,  # a mirrored digit is no digit
        device=args.device,
    )
    find_own_strategies(args.strategies)
    plan = make_plan(
        find_samples(digits.images, digits.target),
        classifier,
        list(dict.fromkeys(args.strategies)),
        Protocol(args.rounds, fraction=args.budget),
        "full" if args.full else "selection",
        seeds=args.seeds,
        first_query="strategy" if args.full else "random",
    )
    plan.runs = [_as_published(run, plan, args.score) for run in plan.runs]
    return plan


def _as_published(run: Run, plan: Plan, score: str) -> Run:
    """Return a run with the draws that the tables of docs/results.md were made with.

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
    first_query = run.first_query if run.n_per_class else np.arange(plan.n_instances)
    return replace(run, strategy=get_strategy(name, **params), first_query=first_query)


def _zero_shot_accuracy(plan: Plan) -> float:
    classifier: Any = plan.runs[0].estimator
    return float((plan.y == classifier.zero_shot_proba(plan.X).argmax(axis=1)).mean())


def _print_round(row: dict[str, Any]) -> None:
    print(
        f"seed {row['seed']}  {row['strategy']:<15}  round {row['round']}  "
        f"{row['n_labels']:3d} labels  accuracy {row['accuracy']:6.1%}  "
        f"AUROC of P(correct) {row['auroc_clean']:6.1%}  "
        f"{sum(row[f'{part}_seconds'] for part in ('train', 'score', 'select')):4.1f} s",
        flush=True,
    )


def demo_table(frame: pd.DataFrame) -> str:
    """Return the final table, in Markdown, of the demo's records."""
    from ..evaluation.text import markdown_table, percent

    rounds = frame.groupby("round")["n_labels"].first()
    header = ["strategy", *(f"{n} labels" for n in rounds), "AUROC P(correct)", "AUROC max softmax"]
    lines = []
    for name, runs in frame.groupby("strategy", sort=False):
        cells = [percent(runs.loc[runs["round"] == round_, "accuracy"]) for round_ in rounds.index]
        last = runs[runs["round"] == rounds.index[-1]]
        cells += [percent(last[column]) for column in ("auroc_clean", "auroc_max_proba")]
        lines.append([name, *cells])
    return markdown_table(header, lines)
