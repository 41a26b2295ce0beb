"""The command line: ``modal-clip-dual`` and ``python -m modal_clip_dual``."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

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


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    from . import __version__, _benchmark
    from .scores import SCORES
    from .strategies.registry import available_strategies

    parser = argparse.ArgumentParser(
        prog="modal-clip-dual",
        description="Active learning for CLIP with dual prompt tuning, as a plugin for modAL.",
    )
    parser.add_argument("--version", action="version", version=f"modal-clip-dual {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _benchmark.add_parsers(commands, _positive_int, _strategy)
    demo = commands.add_parser(
        "demo",
        help="active learning on handwritten digits, offline, in a minute or two",
        description=DEMO,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: modal-clip-dual demo --rounds 3 --seeds 1 --strategies negative-prompt",
    )
    add = demo.add_argument
    add("--rounds", type=_positive_int, default=6,
        help="rounds, the random first one included (default: 6)")  # fmt: skip
    add("--seeds", type=_positive_int, default=3,
        help="repetitions, each with its own split, first round and prompts (default: 3)")  # fmt: skip
    add("--budget", type=_fraction, default=0.01, metavar="FRACTION",
        help="labels per round, as a fraction of the pool (default: 0.01)")  # fmt: skip
    add("--strategies", nargs="+", type=_strategy, default=DEFAULT_STRATEGIES, metavar="NAME",
        help=f"what to compare: {', '.join(available_strategies())}, or your own function as "
             f"package.module:function (default: {' '.join(DEFAULT_STRATEGIES)})")  # fmt: skip
    add("--score", choices=tuple(SCORES), default="clean",
        help="what negative-prompt ranks by (default: clean, the paper's)")  # fmt: skip
    add("--complement", choices=("uniform", "all", "hard"), default="uniform",
        help="wrong labels that train the negative prompt (default: uniform, the paper's)")  # fmt: skip
    add("--negative-weight", type=_weight, default=1.0, metavar="LAMBDA",
        help="weight of the negative prompt's loss; 0 is plain CoOp (default: 1)")  # fmt: skip
    add("--full", action="store_true",
        help="the paper's whole loop: a first round without labels, then pseudo-labels "
             "(default: selection only)")  # fmt: skip
    add("--visual-prompts", choices=("vpt-deep", "vpt-shallow", "maple"), default=None,
        help="also train tokens in the image tower (default: text prompts alone)")  # fmt: skip
    add("--device", default="auto", help='torch device (default: auto: "cuda" if there is one)')
    add("--figure", type=Path, default=Path("demo-learning-curves.png"), metavar="FILE",
        help="where to save the learning curves (default: %(default)s)")  # fmt: skip
    add("--csv", type=Path, default=None, metavar="FILE",
        help="also write every round of every run here")  # fmt: skip
    demo.set_defaults(run=run_demo)
    return parser


def _positive_int(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 1")
    return value


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def _strategy(text: str) -> str:
    from .strategies.registry import available_strategies

    if text not in available_strategies() and ":" not in text:
        raise argparse.ArgumentTypeError(
            f"{text!r} is none of {', '.join(available_strategies())}, nor package.module:function"
        )
    return text


def _weight(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of at least 0")
    return value


def run_demo(args: argparse.Namespace) -> int:
    """Run the demo; return the exit status."""
    args.strategies = list(dict.fromkeys(args.strategies))
    for path in filter(None, (args.figure, args.csv)):
        if not path.absolute().parent.is_dir():
            print(f"error: there is no folder {path.absolute().parent} to write to", file=sys.stderr)
            return 2
    if args.figure.suffix.lower() not in (".png", ".pdf", ".svg"):
        print(f"error: --figure {args.figure}: expected .png, .pdf or .svg", file=sys.stderr)
        return 2
    n_digits, n_test = 1797, 599
    n_pool = n_digits - n_test
    n_instances = max(1, round(args.budget * n_pool))
    if n_instances * args.rounds > n_pool:
        print(
            f"error: {args.rounds} rounds of {n_instances} labels are more than the pool of "
            f"{n_pool} images",
            file=sys.stderr,
        )
        return 2
    print("Loading torch, open_clip and the bundled CLIP ...", flush=True)
    start = time.perf_counter()
    from inspect import signature

    import numpy as np
    import pandas as pd

    from . import DualPromptClassifier, get_strategy
    from .data import load_digits_images
    from .evaluation import run_active_learning
    from .evaluation.compare import write_csv
    from .evaluation.plots import plot_learning_curves

    digits = load_digits_images()
    classifier = DualPromptClassifier(
        digits.class_names,
        model_name="demo",
        pretrained="bundled",
        negative_weight=args.negative_weight,
        complement=args.complement,
        visual_prompts=args.visual_prompts,
        augment=None,  # a mirrored digit is none
        device=args.device,
    )
    try:
        if any(":" in name for name in args.strategies):
            sys.path.insert(0, str(Path.cwd()))  # the user's own module
        takes = {name: signature(get_strategy(name)).parameters for name in args.strategies}
        zero_shot = digits.target == classifier.zero_shot_proba(digits.images).argmax(axis=1)
    except (TypeError, ValueError) as error:  # a device or a function that is not there
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{time.perf_counter() - start:.0f} s.  Pool {n_pool}, test {n_test} images, "
          f"{n_instances} labels per round.  Zero-shot accuracy, all images: "
          f"{zero_shot.mean():.1%}", flush=True)  # fmt: skip

    rows = []
    for seed in range(args.seeds):
        order = np.random.default_rng(seed).permutation(n_digits)
        test, pool = order[:n_test], order[n_test:]
        for name in args.strategies:
            params = {"score": args.score} if name == "negative-prompt" else {}
            if "random_state" in takes[name]:
                params["random_state"] = np.random.default_rng(seed)
            strategy = get_strategy(name, **params)

            def on_round(record: dict[str, Any], name: str = name, seed: int = seed) -> None:
                rows.append({"strategy": name, "seed": seed, **record})
                print(
                    f"seed {seed}  {name:<15}  round {record['round']}  "
                    f"{record['n_labels']:3d} labels  accuracy {record['accuracy']:6.1%}  "
                    f"AUROC of P(correct) {record['auroc_clean']:6.1%}  "
                    f"{sum(record[f'{part}_seconds'] for part in ('train', 'score', 'select')):4.1f} s",
                    flush=True,
                )

            run_active_learning(
                classifier,
                strategy,
                digits.images[pool],
                digits.target[pool],
                digits.images[test],
                digits.target[test],
                n_instances=n_instances,
                n_rounds=args.rounds,
                first_rows=None if args.full else np.arange(n_instances),
                n_pseudo=16 if args.full else 0,
                random_state=seed,
                on_round=on_round,
            )
    frame = pd.DataFrame(rows)
    print("\n" + demo_table(frame))
    ax: Any = plot_learning_curves(frame)
    ax.figure.savefig(args.figure, dpi=150)
    print(f"\nLearning curves: {args.figure}")
    if args.csv is not None:
        write_csv(frame, args.csv)
        print(f"Every round of every run: {args.csv}")
    print(f"Total {time.perf_counter() - start:.0f} s")
    return 0


def demo_table(frame: pd.DataFrame) -> str:
    """The final table, in Markdown, of the demo's records."""
    rounds = frame.groupby("round")["n_labels"].first()
    header = [f"{n} labels" for n in rounds]
    header = ["strategy", *header, "AUROC P(correct)", "AUROC max softmax"]
    lines = [header, ["---"] * len(header)]
    for strategy, runs in frame.groupby("strategy", sort=False):
        cells = [_mean_std(runs.loc[runs["round"] == r, "accuracy"]) for r in rounds.index]
        last = runs[runs["round"] == rounds.index[-1]]
        aurocs = [_mean_std(last[column]) for column in ("auroc_clean", "auroc_max_proba")]
        lines.append([strategy, *cells, *aurocs])
    widths = [max(len(line[k]) for line in lines) for k in range(len(header))]
    padded = (" | ".join(cell.ljust(width) for cell, width in zip(line, widths)) for line in lines)
    return "\n".join(f"| {line} |" for line in padded)


def _mean_std(values: pd.Series) -> str:
    spread = f" +- {100 * values.std():.1f}" if len(values) > 1 else ""
    return f"{100 * values.mean():.1f}{spread}"


def main(argv: list[str] | None = None) -> int:
    """Entry point of the console script."""
    args = build_parser().parse_args(argv)
    try:
        status: int = args.run(args)
        return status
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
