"""The command ``modal-clip-dual benchmark``."""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..utils.validation import PRECISIONS
from .parsing import (
    LEARNERS,
    LINEAR,
    PROMPTS,
    add_model_arguments,
    add_prompt_arguments,
    check_output_folder,
    find_own_strategies,
    jobs,
    learner,
    listed,
    positive_int,
    refuse,
    reword,
    strategy,
)

if TYPE_CHECKING:
    import pandas as pd

    from ..evaluation.plan import Plan, Run

BENCHMARK = """\
Compare query strategies on a data set: every strategy with every seed and kind of learner, on
the same splits and first rounds.  Results are stored run by run in the folder of --out; the same
command goes on where it was stopped.  At the end: a table in the layout of the paper's Table 1,
tests of all differences, results.csv (and results.parquet, where pandas can write it), figures,
and report.html, one page with all of it that needs no network.
"""

MOST_COLUMNS = 6  # strategies side by side in a terminal
SECONDS_TO_CONNECT = 30

EXAMPLES = """\
examples:
  modal-clip-dual benchmark --data digits --model demo --strategies negative-prompt,random --seeds 2
  modal-clip-dual benchmark --data eurosat --root DATA --strategies negative-prompt,entropy,coreset \\
      --protocol paper --loop full --device cuda
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    benchmark = commands.add_parser(
        "benchmark",
        help="compare strategies on a benchmark data set or a folder of images",
        description=BENCHMARK,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = benchmark.add_argument
    add("--data", required=True, metavar="NAME", help="a name of available_benchmarks(); 'folder' for your own")
    add("--root", type=Path, metavar="DIR", help="folder with the data set")
    add("--download", action="store_true", help="let torchvision fetch the data set into --root")
    add("--layout", choices=("coop", "torchvision"), help="whose folders and split, where both are possible")
    add("--strategies", nargs="+", action=listed(lambda name: name if name == "all" else strategy(name)),
        default=["negative-prompt", "entropy", "random"], metavar="A,B,...",
        help="what to compare (default: negative-prompt,entropy,random); 'all' that the learners can do")  # fmt: skip
    add("--learners", nargs="+", action=listed(learner), default=["prompts"], metavar="A,B",
        help=f"what learns: {', '.join(LEARNERS)} (default: prompts)")  # fmt: skip
    add("--loop", nargs="+", action=listed(_loop), default=["selection"], metavar="selection,full",
        help="selection: a plain loop trains on the labels; full: pseudo-labels too (default selection)")  # fmt: skip
    add("--protocol", choices=("paper", "pcb"), default="paper",
        help="paper: 6 rounds of 1%% of the pool; pcb: 8 rounds, a label per class")  # fmt: skip
    add("--rounds", type=positive_int, help="rounds, if not those of the protocol")
    add("--first-query", choices=("random", "strategy"), default="random",
        help="who chooses the first labels (default: random, the same for all)")  # fmt: skip
    add("--seeds", type=positive_int, default=3, help="repetitions (default: 3)")
    add("--model", default="ViT-B-16", help="open_clip's name of the CLIP, or demo (default: ViT-B-16)")
    add("--pretrained", help="open_clip's tag of its weights (default: openai)")
    add_model_arguments(benchmark)
    add_prompt_arguments(benchmark)
    add("--epochs", type=positive_int, default=20, help="passes over the labels (default: 20)")
    add("--lr", type=float, default=0.01, help="learning rate (default: 0.01)")
    add("--precision", choices=PRECISIONS, default="auto", help="precision of the towers (default: auto)")
    add("--cache", choices=("memory", "disk", "none"), default="memory", help="where embeddings are kept")
    add("--n-jobs", type=jobs, default=None, help="runs at a time (default: 1)")
    add("--scheduler", metavar="HOST:PORT",
        help="let the workers of this Dask scheduler do the runs; they have to see the folder of --out")  # fmt: skip
    add("--out", type=Path, metavar="DIR", help="folder of the results (default: results/NAME)")
    add("--dry-run", action="store_true", help="print what would run and about how long, and stop")
    benchmark.set_defaults(run=run_benchmark)


def _loop(name: str) -> str:
    if name not in ("selection", "full"):
        raise argparse.ArgumentTypeError(f"{name!r} is neither 'selection' nor 'full'")
    return name


def run_benchmark(args: argparse.Namespace) -> int:
    """Run the benchmark; return the exit status."""
    from ..clip.templates import check_class_names
    from ..data import load_benchmark
    from ..evaluation import write_report
    from ..evaluation.compare import run_plan
    from ..evaluation.plan import find_samples, make_plan
    from ..evaluation.results import write_table

    try:
        data = load_benchmark(args.data, args.root, download=args.download, layout=args.layout)
        reword(data, args)
        plan = make_plan(find_samples(data=data), **_arguments(args))
        out = args.out or Path("results") / data.name
        check_output_folder(out, "--out")
        if _left(plan, out):
            check_class_names(data.class_names, data.template, args.model)
        workers = nullcontext() if args.dry_run or not args.scheduler else _workers(args.scheduler)
    except (TypeError, ValueError, OSError) as error:
        return refuse(error)
    print(
        f"{args.data}: pool {plan.n_pool:,}, test {plan.n_test:,}, {plan.n_classes} classes; "
        f"{len(plan.runs)} runs of {plan.n_rounds} rounds of {plan.n_instances} labels; results in {out}",
        flush=True,
    )
    if args.dry_run:
        _dry_run(plan, out)
        return 0
    with workers:
        frame = run_plan(plan, out.resolve(), args.n_jobs or (-1 if args.scheduler else None))
    files = write_table(frame, out)
    files += _write_figures(frame, out)
    published = (args.model, args.pretrained or "openai", args.visual_prompts, data.split)
    print("\n" + text_tables(frame, with_paper=published == ("ViT-B-16", "openai", None, "coop")))
    files.append(write_report(frame, out / "report.html"))
    print("\nwritten: " + ", ".join(str(file) for file in files))
    return 0


def _workers(scheduler: str) -> AbstractContextManager[Any]:
    """Connect with a Dask scheduler; in the context its workers are joblib's processes."""
    from joblib import parallel_config

    try:
        from dask.distributed import Client
    except ImportError:
        raise ValueError('--scheduler needs Dask: pip install "dask[distributed]"') from None
    context = ExitStack()
    context.enter_context(Client(scheduler, timeout=SECONDS_TO_CONNECT))
    context.enter_context(parallel_config(backend="dask"))
    return context


def _arguments(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `make_plan`."""
    from .. import PAPER_SETTINGS, DualLinearClassifier, DualPromptClassifier, get_strategy
    from ..active import PROTOCOLS
    from ..clip.names import check_model_name, resolve_device
    from ..strategies import available_strategies

    find_own_strategies(args.strategies)
    protocol = PROTOCOLS[args.protocol]
    if args.rounds is not None:
        protocol = type(protocol)(**vars(protocol) | {"n_rounds": args.rounds})
    model = {
        "model_name": args.model,
        "pretrained": args.pretrained or ("bundled" if args.model == "demo" else "openai"),
        "device": args.device,
        "precision": args.precision,
        "cache": None if args.cache == "none" else args.cache,
    }
    augment = {"augment": None} if args.data == "digits" else {}  # a mirrored digit is no digit
    clf = DualPromptClassifier(
        visual_prompts=args.visual_prompts,
        complement=args.complement,
        negative_weight=args.negative_weight,
        **PAPER_SETTINGS | {"max_epochs": args.epochs, "lr": args.lr} | augment,
        **model,
    )
    clf.initialize()
    check_model_name(clf.model_name, clf.pretrained)
    resolve_device(clf.device)
    loops = list(dict.fromkeys(args.loop))
    learners = {PROMPTS: clf, LINEAR: DualLinearClassifier(**model)}
    estimators = {LEARNERS[name]: learners[LEARNERS[name]] for name in args.learners}
    if list(estimators) == [PROMPTS]:  # named as in results that are stored already
        estimators = {args.model if len(loops) > 1 else loops[0]: clf}
    names = args.strategies
    if names == ["all"]:
        able = [set(available_strategies(estimator)) for estimator in estimators.values()]
        names = [name for name in available_strategies() if all(name in each for each in able)]
    strategies = {name: get_strategy(name) for name in names}
    if args.score != "clean" and "negative-prompt" in strategies:
        strategies["negative-prompt"] = partial(strategies["negative-prompt"], score=args.score)
    return {
        "estimators": estimators,
        "strategies": strategies,
        "protocol": protocol,
        "loop": loops,
        "seeds": args.seeds,
        "first_query": args.first_query,
    }


def _left(plan: Plan, out: Path) -> list[Run]:
    """Return the runs that are not done already."""
    return [run for run in plan.runs if not (out / "runs" / run.file_name).exists()]


def _dry_run(plan: Plan, out: Path) -> None:
    from .estimates import crowded, duration, estimate_seconds

    left = _left(plan, out)
    counted: dict[tuple[str, str], int] = {}
    for run in plan.runs:
        key = (run.names["estimator"], run.names["strategy"])
        counted[key] = counted.get(key, 0) + 1
    for (estimator, name), n in counted.items():
        print(f"  {estimator}: {name}, {n} seeds")
    print(f"{len(plan.runs) - len(left)} of {len(plan.runs)} runs are done already")
    if left:
        seconds = estimate_seconds(plan, left)
        print(
            f"about {duration(seconds)} for the others, one at a time: training of prompts and encoding, estimated "
            "from a few steps and images; what strategies and other classifiers compute is not in it"
        )
        advice = crowded()
        if advice is not None:
            print(f"note: {advice}")


def text_tables(frame: pd.DataFrame, with_paper: bool = False) -> str:
    """The final tables in Markdown; ``with_paper`` where the paper's CLIP and splits are those of the runs."""
    from ..evaluation import compare_pairs, paper_table
    from ..evaluation.tables import label_table

    parts = []
    try:
        paper = dict(zip(frame["estimator"], frame["loop"])) if with_paper else False
        if paper or frame["strategy"].nunique() <= MOST_COLUMNS:
            parts.append(paper_table(frame, with_paper=paper))
    except ValueError:  # no round has 1, 2 or 5% of the pool
        pass
    parts.append(label_table(frame))
    if frame["strategy"].nunique() > 1:
        reference = "random" if "random" in set(frame["strategy"]) else None
        for estimator, rows in frame.groupby("estimator", sort=False):
            pairs = compare_pairs(rows, reference=reference)
            found = pairs[pairs["p_corrected"] <= 0.05]
            parts.append(
                f"{estimator}: areas under the learning curves{' against random' if reference else ''}, "
                f"{pairs['n_pairs'].iloc[0]} pairs of runs, permutation test, Holm's correction for "
                f"{len(pairs)} comparisons: p <= 0.05 for {_listed_differences(found)}. The smallest p "
                f"that could have come out is {pairs['min_p_corrected'].min():.2g}."
            )
    return "\n\n".join(parts)


def _listed_differences(pairs: pd.DataFrame) -> str:
    return ", ".join(
        f"{row.strategy} - {row.other} ({100 * row.mean_difference:+.1f} points)"
        for row in pairs.itertuples()
    ) or "none"


def _write_figures(frame: pd.DataFrame, out: Path) -> list[Path]:
    from ..evaluation import plot_learning_curves, plot_win_matrix
    from ..evaluation.plots.learning_curves import drawn_together

    files = []
    for data, rows in frame.groupby("data", sort=False):
        for name, part in drawn_together(rows):
            files.append(out / f"learning-curves-{_slug(f'{data} {name}')}.png")
            band = "std" if name == "all" else None
            _save(plot_learning_curves(part, band=band), files[-1])
    for estimator, rows in frame.groupby("estimator", sort=False):
        if rows["strategy"].nunique() > 1:
            files.append(out / f"wins-{_slug(estimator)}.png")
            _save(plot_win_matrix(rows), files[-1])
    return files


def _save(ax: Any, file: Path) -> None:
    ax.figure.savefig(file, dpi=150, bbox_inches="tight")


def _slug(name: str) -> str:
    return "".join(char if char.isalnum() else "_" for char in name)
