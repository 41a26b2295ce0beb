"""Run the paper's protocol, or PCB's, on the data sets of its tables, and lay the results beside the paper's.

    python examples/reproduce_table1.py --root DATA --dry-run
    python examples/reproduce_table1.py --root DATA --protocol paper --out results/table1
    python examples/reproduce_table1.py --root DATA --protocol pcb --out results/pcb

DATA has the folders and split files of CoOp (docs/datasets.md).  Data sets that are missing are named first, with
the way to get them, and left out.  Runs are stored one by one in --out: the same command goes on where it was
stopped, and takes in data sets that have come since.  docs/reproduce.md says where each setting comes from.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd
from sklearn import config_context
from sklearn.base import clone

from modal_clip_dual import PAPER_SETTINGS, DualPromptClassifier
from modal_clip_dual.active import PROTOCOLS, Protocol
from modal_clip_dual.cli.estimates import duration, estimate_seconds
from modal_clip_dual.cli.parsing import positive_int, refuse
from modal_clip_dual.clip.names import check_model_name, resolve_device
from modal_clip_dual.data import load_benchmark
from modal_clip_dual.evaluation import reproduction_table
from modal_clip_dual.evaluation.compare import run_plan
from modal_clip_dual.evaluation.plan import Plan, find_samples, make_plan
from modal_clip_dual.evaluation.results import write_csv, write_table
from modal_clip_dual.evaluation.tables import label_table

DATA = {
    "paper": ("dtd", "caltech101", "eurosat", "fgvc_aircraft", "oxford_flowers", "ucf101"),
    "pcb": ("oxford_flowers", "dtd", "oxford_pets", "eurosat", "caltech101", "stanford_cars", "fgvc_aircraft"),
}
SETTINGS = {
    "paper": {
        **PAPER_SETTINGS,  # 16 context vectors drawn at random, L1 + L2, learning rate 0.01, 20 epochs
        "batch_size": 16,
        "gradient_clip_value": 5.0,
        "net_params": {
            "optimizer__momentum": 0.9,
            "optimizer__weight_decay": 5e-4,
            "iterator_train__pseudo_batch_size": 64,
        },
    },
    "pcb": {
        "n_context": 16,
        "context_init": None,
        "criterion": "dual",
        "lr": 0.002,
        "max_epochs": 200,
        "batch_size": 32,
        "gradient_clip_value": None,
        "net_params": {
            "module__class_specific_context": True,
            "optimizer__momentum": 0.9,
            "optimizer__weight_decay": 5e-4,
            "callbacks__cosine_decay__warmup": True,
        },
    },
}
COOP = {"negative_weight": 0.0}  # one prompt
DUAL = {"negative_weight": 1.0, "complement": "uniform"}  # two prompts; L2 reaches both
DETACHED = {"module__detach_positive": True}  # L2 reaches the negative prompt alone, so that the other one is CoOp's
N_PER_CLASS = 16  # pseudo-labels
# Per protocol: name of the learner, the kind of loop, who chooses the first labels, strategies.
PARTS = {
    "paper": [
        ("CoOp", "selection", "random", ("random", "coreset", "alfa-mix", "core-gcn", "uncertain-gcn")),
        ("CoOp", "selection", "strategy", ("entropy", "badge", "cec")),
        ("CoOp + negative prompt", "selection", "strategy", ("negative-prompt",)),
        ("dual prompts", "full", "strategy", ("negative-prompt",)),
    ],
    "pcb": [
        ("CoOp", "selection", "random",
         ("random", "entropy", "coreset", "badge", "pcb-entropy", "pcb-coreset", "pcb-badge")),
        ("CoOp + negative prompt", "selection", "random", ("negative-prompt",)),
    ],
}  # fmt: skip


def learners(args: argparse.Namespace) -> dict[str, DualPromptClassifier]:
    """Return the unfitted learners by name."""
    pretrained = args.pretrained or (None if ":" in args.model else "openai")
    settings = SETTINGS[args.protocol]
    settings = settings | {"max_epochs": args.epochs or settings["max_epochs"], "lr": args.lr or settings["lr"]}
    coop = DualPromptClassifier(
        model_name=args.model, pretrained=pretrained, device=args.device, precision=args.precision, cache=args.cache,
        verbose=0, **settings, **COOP,
    )  # fmt: skip
    coop.initialize()  # checks the settings
    check_model_name(args.model, pretrained)
    resolve_device(args.device)
    dual = clone(coop).set_params(**DUAL)
    detached = clone(dual).set_params(net_params=settings["net_params"] | DETACHED)
    return {"CoOp": coop, "CoOp + negative prompt": detached, "dual prompts": dual}


def find_data(args: argparse.Namespace) -> tuple[dict, dict]:
    """Return the data sets that are there, and what is missing of the others, by name."""
    found, missing = {}, {}
    for name in DATA[args.protocol]:
        try:
            data = load_benchmark(name, args.root)
        except (OSError, ValueError):
            data = None
        try:  # another split than CoOp's is no help; the error says what is missing
            found[name] = data if data and data.split == "coop" else load_benchmark(name, args.root, layout="coop")
        except (OSError, ValueError) as error:
            missing[name] = str(error)
    return found, missing


def plan_of(data, args: argparse.Namespace) -> Plan:
    """Return all runs on one data set as one plan."""
    protocol = PROTOCOLS[args.protocol]
    if args.rounds:
        protocol = Protocol(**vars(protocol) | {"n_rounds": args.rounds})
    samples, by_name, plans = find_samples(data=data), learners(args), []
    for name, loop, first, strategies in PARTS[args.protocol]:
        chosen = [strategy for strategy in strategies if not args.strategies or strategy in args.strategies]
        if chosen:
            learner = {name: by_name[name]}
            arguments = (samples, learner, chosen, protocol, loop, N_PER_CLASS, args.seeds, first)
            plans.append(make_plan(*arguments, from_zero=True))
    return Plan(**vars(plans[0]) | {"runs": [run for plan in plans for run in plan.runs]})


def write(frames: list, args: argparse.Namespace) -> str:
    """Write the tables of all runs so far; return the one to print."""
    frame = pd.concat(frames, ignore_index=True)
    write_table(frame, args.out)
    if args.protocol == "paper":
        text = reproduction_table(frame)
        write_csv(reproduction_table(frame, format="frame"), args.out / "table.csv")
    else:
        text = label_table(frame[frame["round"] > 0])
    (args.out / "table.md").write_text(text + "\n", encoding="utf-8")
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--root", type=Path, required=True, help="folder that has the folders of the data sets")
    add("--protocol", choices=tuple(DATA), default="paper")
    add("--seeds", type=positive_int, default=3, help="repetitions (default: 3, the paper's)")
    add("--out", type=Path, help="folder of the results (default: results/PROTOCOL)")
    add("--dry-run", action="store_true", help="say what would run and about how long, and stop")
    add("--model", default="ViT-B-16", help="open_clip's name of the CLIP (default: ViT-B-16)")
    add("--pretrained", help="open_clip's tag or a file of its weights (default: openai)")
    add("--device", default="auto", help="torch device (default: auto)")
    add("--precision", default="fp32", help="precision of the towers (default: fp32)")
    add("--cache", default="disk", help="where embeddings are kept: disk, memory or a folder (default: disk)")
    add("--n-jobs", type=int, help="runs at a time (default: 1)")
    add("--strategies", nargs="+", metavar="NAME", help="some of the protocol's strategies (default: all)")
    add("--rounds", type=positive_int, help="rounds, if not those of the protocol")
    add("--epochs", type=positive_int, help="passes over the labels, if not those of the protocol")
    add("--lr", type=float, help="learning rate, if not that of the protocol")
    args = parser.parse_args()
    strategies = {name for *_, part in PARTS[args.protocol] for name in part}
    if not strategies.issuperset(args.strategies or ()):
        parser.error(f"--strategies {' '.join(args.strategies)}; expected some of {', '.join(sorted(strategies))}")
    args.out = args.out or Path("results") / args.protocol
    found, missing = find_data(args)
    for name, why in missing.items():
        print(f"{name} is left out. {why}\n")
    if not found:
        return refuse(f"--root {args.root} has none of {', '.join(DATA[args.protocol])}")
    try:
        plans = {name: plan_of(data, args) for name, data in found.items()}
        if args.out.exists() and not args.out.is_dir():
            raise ValueError(f"--out {args.out} is no folder")
    except (TypeError, ValueError, OSError) as error:
        return refuse(error)
    with config_context(print_changed_only=False):
        for name, learner in learners(args).items():
            print(f"{name}: {learner}")
    to_do, total = {}, 0.0
    for name, plan in plans.items():
        to_do[name] = left = [run for run in plan.runs if not (args.out / "runs" / run.file_name).exists()]
        print(
            f"{name}: pool {plan.n_pool:,}, test {plan.n_test:,}, {plan.n_classes} classes; {len(plan.runs)} runs of "
            f"{plan.n_rounds} rounds of {plan.n_instances} labels, {len(plan.runs) - len(left)} of them done",
            flush=True,
        )
        if args.dry_run and left:
            total += (seconds := estimate_seconds(plan, left))
            print(f"  about {duration(seconds)}", flush=True)
    if args.dry_run:
        print(f"about {duration(total)} of training and encoding, one run at a time; strategies come on top")
        return 0
    frames, text = [], ""
    for name, plan in plans.items():
        frames.append(run_plan(plan, args.out, args.n_jobs))
        if to_do[name] or len(frames) == len(plans):
            text = write(frames, args)
    print(f"\n{args.protocol}'s protocol, {args.model}, {args.seeds} seeds\n\n{text}\n\nwritten in {args.out}")
    if missing:
        print(f"left out: {', '.join(missing)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
