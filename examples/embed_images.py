"""Embed a folder of images with any open_clip model, and write the .npz that the comparisons read.

    python examples/embed_images.py PHOTOS photos.npz --model ViT-B-16 --weights openai
    python examples/compare_heads.py --data photos.npz --model ViT-B-16 --weights openai

Each subfolder of the folder is a class, named after it (`--class-names` says it better).  The file holds x (n, D)
unit embeddings, y (n,) positions, names (C,), split (n,) "train" (the pool) or "test", t (C, D) text embeddings, and
tau, the temperature of the model.  `--test` images, drawn at random, are the test set; `--most` bounds the pool.
"""

import argparse
from pathlib import Path

import numpy as np

from modal_clip_dual import CLIPImageEncoder
from modal_clip_dual.clip.backbone import load_backbone
from modal_clip_dual.clip.templates import template_embeddings
from modal_clip_dual.data import load_image_folder


def main() -> None:
    """Embed the images and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with a subfolder per class")
    parser.add_argument("out", type=Path, help="file to write")
    parser.add_argument("--model", default="demo", help="open_clip's name of a CLIP, or local-dir:FOLDER")
    parser.add_argument("--weights", default=None, help="open_clip's tag of its weights, or a file")
    parser.add_argument("--template", default="a photo of a {}.")
    parser.add_argument("--class-names", nargs="+", help="in the order of the sorted folders")
    parser.add_argument("--test", type=int, default=2000, help="number of test images")
    parser.add_argument("--most", type=int, default=4000, help="number of images in the pool, at most")
    args = parser.parse_args()
    pretrained = args.weights or ("bundled" if args.model == "demo" else None)
    data = load_image_folder(args.folder)
    names = args.class_names or data.class_names
    if len(names) != len(data.class_names):
        parser.error(f"--class-names has {len(names)} names; the folder has {len(data.class_names)} classes")
    rows = np.random.default_rng(0).permutation(len(data.target))[: args.test + args.most]
    paths = [data.paths[row] for row in rows]
    embeddings = CLIPImageEncoder(args.model, pretrained).transform(paths)
    backbone = load_backbone(args.model, pretrained)
    split = np.where(np.arange(len(rows)) < args.test, "test", "train")
    np.savez_compressed(
        args.out,
        x=embeddings.astype(np.float16),
        y=np.asarray(data.target)[rows],
        names=names,
        split=split,
        t=template_embeddings(backbone, names, [args.template]).cpu().numpy(),
        tau=1 / float(backbone.logit_scale),
    )
    print(f"{args.out}: {(split == 'train').sum()} images in the pool, {args.test} to test on, {len(names)} classes")


if __name__ == "__main__":
    main()
