"""Pseudo-labels and estimated accuracy, round by round, of a file that the demo has written.

modal-clip-dual demo --full --learners prompts --csv FILE
python examples/summarize_full_loop.py FILE
"""

import sys

import pandas as pd


def summary(frame: pd.DataFrame) -> str:
    """Return means over strategies and seeds, a Markdown row per round."""
    frame = frame.assign(gap=frame["estimated_accuracy"] - frame["pool_accuracy"])
    lines = [
        "| labels | pseudo-labels | right | accuracy on the pool | estimated | estimated - true |",
        "|---|---|---|---|---|---|",
    ]
    for n_labels, rounds in frame.groupby("n_labels"):
        mean = rounds.mean(numeric_only=True)
        lines.append(
            f"| {n_labels} | {mean['n_pseudo']:.0f} | {mean['pseudo_accuracy']:.1%} | "
            f"{mean['pool_accuracy']:.1%} | {mean['estimated_accuracy']:.1%} | "
            f"{100 * mean['gap']:+.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(summary(pd.read_csv(sys.argv[1])))
