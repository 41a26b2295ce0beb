"""What bfloat16 saves on a processor, and what it changes.

    OMP_NUM_THREADS=1 python tests/benchmarks/bfloat16.py --model ViT-B-32
    python tests/benchmarks/bfloat16.py --model demo

Encodes images, and takes training steps of text prompts, with the towers in float32 and in bfloat16, in turns.
Weights and images are random (but the weights of "demo").  For "demo" it also trains a `DualLinearClassifier` on the
digits in both.
"""

import argparse
import statistics
import time
import warnings

import numpy as np
import torch
from PIL import Image

from modal_clip_dual import DualLinearClassifier
from modal_clip_dual.clip.backbone import load_backbone
from modal_clip_dual.data import load_digits_images
from modal_clip_dual.nn.text_encoder import PromptedTextEncoder

PRECISIONS = "fp32", "bf16"
NAMES = [f"{a} {b}" for a in "river forest meadow orchard station".split() for b in "harbor market".split()]


def seconds_of(function, turns):
    """Return median seconds of each precision, timed in turns, and the last results."""
    spent, results = {name: [] for name in PRECISIONS}, {}
    for turn in range(turns + 1):
        for name in PRECISIONS:
            start = time.perf_counter()
            results[name] = function(name)
            if turn:  # the first warms up
                spent[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in spent.items()}, results


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    pretrained = "bundled" if args.model == "demo" else None
    torch.manual_seed(0)
    whole = load_backbone(args.model, pretrained, "cpu", "fp32")
    half = load_backbone(args.model, pretrained, "cpu", "bf16")
    half.model.load_state_dict(whole.model.state_dict())  # random weights are drawn anew for each
    backbones = {"fp32": whole, "bf16": half}
    if args.model == "demo":
        images = load_digits_images().images[: args.images]
        pixels = np.stack([whole.preprocessing(Image.fromarray(image).convert("RGB")) for image in images])
    else:
        pixels = np.random.default_rng(0).integers(256, size=(args.images, 224, 224, 3), dtype=np.uint8)
    pixels = torch.from_numpy(pixels)
    encode, embeddings = seconds_of(lambda name: backbones[name].encode_images(pixels.clone()).float(), args.turns)
    encoders = {name: PromptedTextEncoder(one, NAMES, 16, "auto", "auto") for name, one in backbones.items()}
    context = torch.randn(2, 16, encoders["fp32"].width) * 0.02

    def step(name):
        contexts = context.clone().requires_grad_()
        encoders[name](contexts).float()[..., 0].sum().backward()

    train, _ = seconds_of(step, args.turns)
    cosine = torch.nn.functional.cosine_similarity(*embeddings.values()).min()
    print(f"{args.model}, torch {torch.__version__}, {torch.get_num_threads()} threads, bfloat16 instructions: "
          f"{sorted(k for k, v in torch.cpu.get_capabilities().items() if 'bf16' in k and v)}")  # fmt: skip
    print("| | fp32 | bf16 | ratio |\n|---|---|---|---|")
    for title, spent, n in (("encoding an image, ms", encode, args.images), ("training step of text, ms", train, 1)):
        one, other = (1000 * spent[name] / n for name in PRECISIONS)
        print(f"| {title} | {one:.1f} | {other:.1f} | {one / other:.1f} |")
    print(f"\nlowest cosine between the embeddings of an image: {cosine:.5f}")
    if args.model == "demo":
        digits = load_digits_images()
        order = np.random.default_rng(0).permutation(len(digits.target))
        test, pool = order[:599], order[599:]
        for name in PRECISIONS:
            clf = DualLinearClassifier(
                digits.class_names, model_name="demo", pretrained="bundled", device="cpu", precision=name, verbose=0
            ).fit_unlabeled(digits.images[pool])
            scores = [clf.score(digits.images[test], digits.target[test])]
            clf.fit(digits.images[pool[:40]], digits.target[pool[:40]])
            scores.append(clf.score(digits.images[test], digits.target[test]))
            print(f"{name}: {scores[0]:.1%} right without labels, {scores[1]:.1%} with 40")


if __name__ == "__main__":
    main()
