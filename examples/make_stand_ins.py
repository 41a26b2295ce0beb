"""Write small stand-ins for CoOp's data sets and for ViT-B/16, to rehearse a long run without any download.

    python examples/make_stand_ins.py --out stand-ins
    python examples/reproduce_table1.py --root stand-ins/data --model local-dir:stand-ins/model --out rehearsal

Each data set has the folders, the split file and a few of the class names of the real one; its images are noise in
a color of their class.  The model has the layers, patches, image size and vocabulary of open_clip's ViT-B-16, is
eight times narrower, and its weights are random.  Accuracies on these say nothing about any method.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from modal_clip_dual.data.datasets.loading import data_sets

# Class names as the files write them, and where an image lies; {n} is its number, {half} is train or test.
FILES = {
    "dtd": ("banded blotchy braided bubbly bumpy", "{name}/{name}_{n:04d}.jpg"),
    "caltech101": ("face leopard motorbike accordion airplane", "{name}/image_{n:04d}.jpg"),
    "eurosat": ("Annual_Crop_Land Forest Pasture_Land River Sea_or_Lake", "{name}/{name}_{n}.jpg"),
    "fgvc_aircraft": ("707-320 727-200 A300B4 Cessna_172 DC-3", "{n:07d}.jpg"),
    "oxford_flowers": ("sunflower water_lily rose tiger_lily sweet_pea", "image_{n:05d}.jpg"),
    "ucf101": ("Apply_Eye_Makeup Archery Basketball Biking Diving", "{name}/v_{name}_g01_c{n:02d}.jpg"),
    "oxford_pets": ("abyssinian beagle birman boxer pug", "{name}_{n}.jpg"),
    "stanford_cars": ("BMW_M3_2012 Audi_A4_2008 Fiat_500_2012 Ford_GT_2006 Opel_GT_1970", "cars_{half}/{n:05d}.jpg"),
}
VIT_B_16 = "ViT-B-16"


def write_data(root: Path, names=tuple(FILES), per_class: tuple[int, int, int] = (20, 2, 8), side: int = 32) -> None:
    """Write data sets below a folder, with so many images per class for training, validation and testing."""
    for name in names:
        classes, pattern = FILES[name]
        coop = data_sets()[name].coop
        images = coop.images if coop.split.endswith(".json") else "images"
        rng = np.random.default_rng(len(name))
        split: dict[str, list] = {"train": [], "val": [], "test": []}
        number = 0
        for label, written in enumerate(classes.split()):
            color = rng.integers(40, 216, 3)
            for part, count in zip(split, per_class):
                for _ in range(count):
                    number += 1
                    half = "test" if part == "test" else "train"
                    path = pattern.format(name=written, n=number, half=half)
                    split[part].append([path, label, written])
                    file = root / coop.folder / images / path
                    file.parent.mkdir(parents=True, exist_ok=True)
                    pixels = rng.normal(color, 40, (side, side, 3)).clip(0, 255).astype(np.uint8)
                    Image.fromarray(pixels).save(file, quality=90)
        write_split(root / coop.folder, coop.split, split, classes.split())


def write_split(folder: Path, file: str, split: dict[str, list], classes: list[str]) -> None:
    """Write CoOp's split file, or the lists of FGVC Aircraft's authors, which CoOp takes."""
    if file.endswith(".json"):
        (folder / file).write_text(json.dumps(split))
        return
    (folder / file).write_text("\n".join(classes) + "\n")
    for part, entries in split.items():
        lines = (f"{Path(path).stem} {name}\n" for path, _, name in entries)
        (folder / f"images_variant_{part}.txt").write_text("".join(lines))


def write_model(folder: Path, narrower: int = 8, image_size: int | None = None, layers: int | None = None) -> None:
    """Write a model of the same layout as ViT-B/16, in the form that open_clip reads as ``local-dir:FOLDER``."""
    import open_clip
    import torch

    config = open_clip.get_model_config(VIT_B_16)
    config["embed_dim"] //= narrower
    vision, text = config["vision_cfg"], config["text_cfg"]
    for tower in (vision, text):
        tower["width"] //= narrower
        tower["layers"] = layers or tower["layers"]
    vision |= {"head_width": vision["width"] // 3, "image_size": image_size or vision["image_size"]}
    text["heads"] = 2
    torch.manual_seed(0)
    model = open_clip.CLIP(**config)
    model.logit_scale.data.fill_(np.log(100.0))  # that of OpenAI's weights
    folder.mkdir(parents=True, exist_ok=True)
    mean_std = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": mean_std}))
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("stand-ins"), help="folder for data/ and model/")
    parser.add_argument("--per-class", type=int, nargs=3, default=(20, 2, 8), metavar=("TRAIN", "VAL", "TEST"))
    args = parser.parse_args()
    write_data(args.out / "data", per_class=tuple(args.per_class))
    write_model(args.out / "model")
    print(f"{len(FILES)} data sets in {args.out / 'data'}, and --model local-dir:{args.out / 'model'}")


if __name__ == "__main__":
    main()
