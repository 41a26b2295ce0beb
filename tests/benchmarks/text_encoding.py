"""Seconds of one text-side training step: prefix sharing beside the full-length forward.

Encodes both prompts of C classes through the text tower of a model with random weights
and back-propagates to the contexts.  Both paths are timed in turns, in one run; the ratio
is of the medians.

    python tests/benchmarks/text_encoding.py --model ViT-B-32 --classes 50
"""

import argparse
import statistics
import time
import warnings

import torch

from modal_clip_dual.nn.backbone import load_backbone
from modal_clip_dual.nn.text_prompts import PromptedTextEncoder

WORDS = "river highway forest meadow orchard harbour station market garden tower".split()


def step(encoder, contexts, weight):
    start = time.perf_counter()
    embeddings = encoder(contexts)
    (gradient,) = torch.autograd.grad((embeddings * weight).sum(), contexts)
    return time.perf_counter() - start, embeddings.detach(), gradient


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--classes", type=int, default=50)
    parser.add_argument("--context", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    backbone = load_backbone(args.model, None, "cpu")
    names = [f"{a} {b}" for a in WORDS for b in WORDS][: args.classes]
    encoders = {
        path: PromptedTextEncoder(backbone, names, args.context, path)
        for path in ("full", "prefix-sharing")
    }
    width = next(iter(encoders.values())).width
    generator = torch.Generator().manual_seed(0)
    contexts = (torch.randn(2, args.context, width, generator=generator) * 0.02).requires_grad_()
    weight = torch.randn(2, len(names), backbone.embed_dim, generator=generator)
    seconds = {path: [] for path in encoders}
    results = {}
    for repeat in range(args.repeats + 1):
        for path, encoder in encoders.items():
            spent, *results[path] = step(encoder, contexts, weight)
            if repeat:  # the first round warms up
                seconds[path].append(spent)
    medians = {path: statistics.median(values) for path, values in seconds.items()}
    for path, median in medians.items():
        print(f"{path:<15} {median:8.3f} s")
    (output, gradient), (shared_output, shared_gradient) = results.values()
    print(f"ratio {medians['full'] / medians['prefix-sharing']:.1f}")
    print(f"largest difference of outputs {(output - shared_output).abs().max():.1e}")
    difference = (gradient - shared_gradient).norm() / gradient.norm()
    print(f"relative difference of gradients {difference:.1e}")


if __name__ == "__main__":
    main()
