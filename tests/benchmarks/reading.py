"""Memory and speed of scoring a pool of image files, beyond the model.

    python tests/benchmarks/reading.py --images 10000 --side 512
    python tests/benchmarks/reading.py --images 10000 --visual-prompts vpt-deep --cache memory

The model is a small ViT of random weights on 224 x 224 pixels, so that reading is what is
measured.  Resident memory is that of this process and all its workers, sampled every 20 ms;
what was resident when the model had encoded one image is taken off.
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

CONFIG = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 224, "patch_size": 32, "width": 64, "layers": 2, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
}


def write_model(folder: Path) -> str:
    """Write a small random CLIP as open_clip loads it from a folder; return its name."""
    import open_clip
    import torch

    torch.manual_seed(0)
    folder.mkdir()
    config = {"model_cfg": CONFIG, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.save(open_clip.CLIP(**CONFIG).state_dict(), folder / "open_clip_pytorch_model.bin")
    return f"local-dir:{folder}"


def write_images(folder: Path, n: int, side: int) -> list[str]:
    """Write n JPEG files, 100 different ones under many names."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    paths = [str(folder / f"{k}.jpg") for k in range(n)]
    for k, path in enumerate(paths):
        if k < 100:  # noise of a coarse and a fine scale: files as large as photographs
            coarse = rng.integers(0, 256, (side // 16, side // 16, 3), dtype=np.uint8)
            image = np.asarray(Image.fromarray(coarse).resize((side, side))).astype(int)
            image = np.clip(image + rng.integers(-20, 20, image.shape), 0, 255).astype(np.uint8)
            Image.fromarray(image).save(path, quality=90)
        else:
            try:
                os.link(paths[k % 100], path)
            except OSError:
                shutil.copy(paths[k % 100], path)
    return paths


def report_workers(paths, preprocessing):
    """Print what it takes to start two workers, and what they hold."""
    from joblib.externals.loky import get_reusable_executor

    from modal_clip_dual.data.reading import ImageSource

    start = time.perf_counter()
    next(ImageSource(paths, preprocessing, n_jobs=2).read([np.arange(32)]))
    seconds = time.perf_counter() - start
    workers = [p for p in psutil.Process().children() if "LokyProcess" in " ".join(p.cmdline())]
    held = [p.memory_info().rss / 2**20 for p in workers]
    print(
        f"{len(workers)} workers started and read 32 files in {seconds:.1f} s; "
        f"they hold {' and '.join(f'{mib:.0f}' for mib in held)} MiB",
        flush=True,
    )
    get_reusable_executor().shutdown(wait=True)


def main():
    """Measure and print one line per pass."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--n-jobs", default="auto", help='"auto" or a number')
    parser.add_argument("--cache", choices=("memory", "disk", "none"), default="none")
    parser.add_argument("--visual-prompts", choices=("vpt-deep", "vpt-shallow", "maple"), default=None)
    args = parser.parse_args()
    args.n_jobs = args.n_jobs if args.n_jobs == "auto" else int(args.n_jobs)
    from modal_clip_dual import DualPromptClassifier
    from modal_clip_dual.evaluation.costs import PeakMemory, resident_mib

    with tempfile.TemporaryDirectory() as folder:
        model_name = write_model(Path(folder, "model"))
        paths = np.array(write_images(Path(folder, "images"), args.images, args.side))
        size = np.mean([os.path.getsize(path) for path in paths[:100]]) / 1024
        cache = {"none": None, "disk": Path(folder, "cache")}.get(args.cache, args.cache)
        clf = DualPromptClassifier(
            ["cat", "dog"],
            model_name=model_name,
            pretrained=None,
            visual_prompts=args.visual_prompts,
            n_jobs=args.n_jobs,
            cache=cache,
            max_epochs=1,
            verbose=0,
        )
        clf.fit(paths[:16], np.arange(16) % 2).predict_proba(paths[:1])
        if args.n_jobs != 1:
            report_workers(paths, clf.net_.module_.text_encoder.backbone.preprocessing)
        before = resident_mib(children=True)
        for turn in ("first", "second"):
            if args.visual_prompts is None:
                clf.net_.module_.text_encoder.backbone.embedding_cache.clear()
            else:
                clf.__dict__.pop("_prompted_embeddings", None)
            with PeakMemory(children=True) as memory:
                start = time.perf_counter()
                clf.predict_proba(paths)
                seconds = time.perf_counter() - start
            print(
                f"{turn} pass: {args.images} files of {args.side} x {args.side} ({size:.0f} KiB each), "
                f"n_jobs={args.n_jobs}, cache={args.cache}, visual_prompts={args.visual_prompts}: "
                f"{args.images / seconds:.0f} images/s, "
                f"{memory.mib - before:.0f} MiB beyond the model ({before:.0f} MiB)",
                flush=True,
            )


if __name__ == "__main__":
    main()
