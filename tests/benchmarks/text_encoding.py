"""Seconds and memory of one dual-prompt training step of the text side.

    python tests/benchmarks/text_encoding.py --model ViT-B-16 --classes 50
    python tests/benchmarks/text_encoding.py --model ViT-B-16 --classes 1000 --paths prefix-sharing --repeats 1

Encodes both prompts of C classes through the text tower of a model with random weights and
back-propagates to the contexts: at full length, as open_clip does; cut behind the longest class
name; with the prefix shared.  The paths are timed in turns, in one run; ratios are of medians.
Memory, where one path is measured alone, is what is resident at most during a step, the model and
the libraries included.
"""

import argparse
import statistics
import time
import warnings

import torch

from modal_clip_dual.clip.backbone import load_backbone
from modal_clip_dual.evaluation.costs import PeakMemory, resident_mib
from modal_clip_dual.nn.text_encoder import PromptedTextEncoder

WORDS = "river highway forest meadow orchard harbour station market garden tower".split()
NAMES = [f"{a} {b}" for a in WORDS for b in WORDS]


def step(encoder, contexts, weight):
    """Seconds, peak memory in MiB, embeddings and gradient of a step."""
    with PeakMemory() as memory:
        start = time.perf_counter()
        embeddings = encoder(contexts)
        (gradient,) = torch.autograd.grad((embeddings * weight).sum(), contexts)
        seconds = time.perf_counter() - start
    return seconds, memory.mib, embeddings.detach(), gradient


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--classes", type=int, default=50)
    parser.add_argument("--context", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--paths", nargs="+", default=["full", "truncated", "prefix-sharing"])
    parser.add_argument("--text-batch-size", type=int, default=None, help="default: 256")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    backbone = load_backbone(args.model, None, "cpu")
    names = NAMES if args.classes <= 100 else [f"{a} {b}" for a in NAMES for b in WORDS]
    names = names[: args.classes]
    at_once = args.text_batch_size or "auto"
    encoders = {
        path: PromptedTextEncoder(backbone, names, args.context, path, at_once)
        for path in args.paths
    }
    width = next(iter(encoders.values())).width
    generator = torch.Generator().manual_seed(0)
    contexts = (torch.randn(2, args.context, width, generator=generator) * 0.02).requires_grad_()
    weight = torch.randn(2, len(names), backbone.embed_dim, generator=generator)
    print(f"text tower of {args.model}, C = {len(names)}, M = {args.context}, torch "
          f"{torch.__version__}, {torch.get_num_threads()} threads; loaded: {resident_mib():.0f} MiB")  # fmt: skip
    seconds = {path: [] for path in encoders}
    results, peaks = {}, {}
    for repeat in range(args.repeats + 1):
        for path, encoder in encoders.items():
            spent, peaks[path], *results[path] = step(encoder, contexts, weight)
            if repeat:  # the first round warms up
                seconds[path].append(spent)
    medians = {path: statistics.median(values) for path, values in seconds.items()}
    base, (output, gradient) = args.paths[0], results[args.paths[0]]
    print(f"| path | s per step | {base} / path | peak, MiB | outputs differ | gradients, relative |")
    print("|---|---|---|---|---|---|")
    for path, median in medians.items():
        off = (results[path][0] - output).abs().max()
        turned = (results[path][1] - gradient).norm() / gradient.norm()
        peak = f"{peaks[path]:.0f}" if len(medians) == 1 else ""  # else another path's may linger
        print(f"| {path} | {median:.3f} | {medians[base] / median:.1f} | {peak} | "
              f"{off:.1e} | {turned:.1e} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
