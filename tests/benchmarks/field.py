"""A whole round of active learning against the field's own way, as ratios of one run.

    python tests/benchmarks/field.py                            # ViT-B-32, C = 20, 5 epochs
    python tests/benchmarks/field.py --model demo --pool 1000
    python tests/benchmarks/field.py --precision bf16           # ours; the field's way stays in float32

The field's way is written out below as a loop of torch, as code published with papers on prompt learning has
it: text at all positions of the window, images encoded again in every epoch, the pool's images encoded again in
every round and the text with every batch of them.  Ours is `fit` and `negative_prompt_sampling` on images.  Both
train two prompts for the same epochs, and query the lowest clean probability class by class.  A round is training
on all labels so far and one query.  The images are random, as are the weights (but for "demo").
"""

import argparse
import time
import warnings

import numpy as np
import torch
from modAL.models import ActiveLearner
from PIL import Image

from modal_clip_dual import PAPER_SETTINGS, DualPromptClassifier, negative_prompt_sampling
from modal_clip_dual.clip.backbone import load_backbone
from modal_clip_dual.nn.criteria.dual import DualPromptLoss
from modal_clip_dual.nn.module import DualPromptModule
from modal_clip_dual.utils.selection import select_per_class

PLACES = "river forest meadow orchard station".split()
NAMES = [f"{a} {b}" for a in PLACES for b in "harbor market garden tower".split()]


class FieldsWay:
    """Prompts trained and the pool scored as the published codes do it."""

    def __init__(self, backbone, images, y, args):
        self.backbone, self.images, self.y, self.args = backbone, images, torch.from_numpy(y), args

    def encode(self, rows):
        pixels = [self.backbone.preprocessing(Image.fromarray(self.images[row])) for row in rows]
        return self.backbone.encode_images(torch.from_numpy(np.stack(pixels))).clone()

    def round(self, labeled, unlabeled, n):
        """Train on the labeled rows, return n of the unlabeled ones."""
        module = DualPromptModule(self.backbone, NAMES, text_encoding="full")
        loss, prompts = DualPromptLoss(), [p for p in module.parameters() if p.requires_grad]
        sgd = torch.optim.SGD(prompts, lr=0.002, momentum=0.9)
        for _ in range(self.args.epochs):
            for part in np.array_split(np.random.permutation(labeled), -(-len(labeled) // self.args.batch)):
                sgd.zero_grad()
                loss(module(self.encode(part)), self.y[part]).backward()
                sgd.step()
        predicted, clean = [], []
        with torch.no_grad():
            for part in np.array_split(unlabeled, -(-len(unlabeled) // self.args.test_batch)):
                module.train()  # so that no text embeddings are kept
                logits, z = module(self.encode(part))[:2]
                predicted.append(logits.argmax(1))
                clean.append(z.gather(1, predicted[-1][:, None])[:, 0])
        predicted, clean = torch.cat(predicted).numpy(), torch.cat(clean).numpy()
        return unlabeled[select_per_class(clean, predicted, n, len(NAMES))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--pool", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32, help="labeled images per step")
    parser.add_argument(
        "--test-batch", type=int, default=100, help="images of the pool at a time, in the field's way"
    )
    parser.add_argument("--precision", default="fp32", help="of our towers")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    model = {"model_name": args.model, "pretrained": "bundled" if args.model == "demo" else None}
    backbone = load_backbone(**model)
    rng = np.random.default_rng(0)
    side = 28 if args.model == "demo" else 224
    images = rng.integers(256, size=(args.pool, side, side, 3), dtype=np.uint8)
    y = rng.integers(len(NAMES), size=args.pool)
    n = len(NAMES)
    field = FieldsWay(backbone, images, y, args)
    settings = PAPER_SETTINGS | {"max_epochs": args.epochs, "batch_size": args.batch, "lr": 0.002}
    clf = DualPromptClassifier(NAMES, **model, **settings, precision=args.precision, random_state=0, verbose=0)
    order = rng.permutation(args.pool)
    load_backbone(**model, device="cpu", precision=args.precision)  # not a part of the first round
    print(f"{args.model}, pool of {args.pool}, C = {n}, {n} labels a round, {args.epochs} epochs, {args.precision}, "
          f"torch {torch.__version__}, {torch.get_num_threads()} threads")  # fmt: skip
    print("| round | labels | field's way, s | ours, s | ratio |\n|---|---|---|---|---|")
    for k in range(1, args.rounds + 1):
        labeled, unlabeled = np.sort(order[: k * n]), np.sort(order[k * n :])
        start = time.perf_counter()
        rows = field.round(labeled, unlabeled, n)
        middle = time.perf_counter()
        learner = ActiveLearner(clf, negative_prompt_sampling, images[labeled], y[labeled])
        ours = learner.query(images[unlabeled], n_instances=n)[0]
        end = time.perf_counter()
        assert len(set(rows)) == len(set(ours)) == n
        theirs, own = middle - start, end - middle
        print(f"| {k} | {len(labeled)} | {theirs:.1f} | {own:.2f} | {theirs / own:.1f} |", flush=True)


if __name__ == "__main__":
    main()
