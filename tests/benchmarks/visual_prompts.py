"""Images per second of pool scoring beside open_clip's bare encode_image, and training steps.

    python tests/benchmarks/visual_prompts.py --model ViT-B-16 --images 4096
    python tests/benchmarks/visual_prompts.py --model ViT-B-32 --images 256 --batch 32

Random weights, random uint8 images of the model's own size, 50 classes.  "bare" is open_clip's
encode_image on tensors that are preprocessed already; "frozen" and "vpt-deep" are
predict_proba on the images, hashing, preprocessing and the comparison with the prompts
included.  All are measured in turns, in one run; the figures are medians.
"""

import argparse
import statistics
import time
import warnings

import numpy as np
import torch

from modal_clip_dual import DualPromptClassifier

WORDS = "river highway forest meadow orchard harbour station market garden tower".split()
NAMES = [f"{a} {b}" for a in WORDS for b in WORDS][:50]


def timed(function, device):
    """Seconds of a call, all kernels finished."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def bare(backbone, batches):
    """open_clip alone."""
    with torch.inference_mode():
        for batch in batches:
            backbone.model.encode_image(batch.to(backbone.device, non_blocking=True))


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="ViT-B-16")
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    learners = {}
    for kind in (None, "vpt-deep", "maple"):
        learners[kind] = DualPromptClassifier(
            NAMES, model_name=args.model, pretrained=None, visual_prompts=kind, max_epochs=2,
            encode_batch_size=args.batch, device=args.device, precision=args.precision, cache=None,
            verbose=0, random_state=0,
        )  # fmt: skip
    backbone = learners[None]._load_backbone(args.model, None)
    size = backbone.preprocessing.size
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (args.images, *size, 3), dtype=np.uint8)
    labels = np.arange(64) % 50
    device = backbone.device
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{args.model}, {backbone.precision}, {where}, torch {torch.__version__}")

    for kind, learner in learners.items():
        learner.fit(images[:64], labels)  # warm
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds = [timed(lambda: learner.fit(images[:64], labels), device) for _ in range(args.repeats)]
        memory = ""
        if device.type == "cuda":
            memory = f", peak memory {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB"
        per_step = statistics.median(seconds) / 8  # 2 epochs of 4 steps
        print(f"training, {kind}: {per_step:.3f} s per step of 16{memory}", flush=True)

    cpu = torch.from_numpy(images).split(args.batch)
    ready = [backbone.to_input(batch).cpu() for batch in cpu]
    if device.type == "cuda":
        ready = [batch.pin_memory() for batch in ready]
    frozen, moved = learners[None], learners["vpt-deep"]

    def score_moved():
        moved.__dict__.pop("_prompted_embeddings", None)
        moved.predict_proba(images)

    rows = {
        "bare encode_image": lambda: bare(backbone, ready),
        "predict_proba, frozen": lambda: frozen.predict_proba(images),
        "predict_proba, vpt-deep": score_moved,
    }
    seconds = {name: [] for name in rows}
    for turn in range(args.repeats + 1):
        for name, function in rows.items():
            elapsed = timed(function, device)
            if turn:  # the first warms up
                seconds[name].append(elapsed)
    base = statistics.median(seconds["bare encode_image"])
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"{name}: {args.images / median:.1f} images/s, {base / median:.1%} of bare", flush=True)


if __name__ == "__main__":
    main()
