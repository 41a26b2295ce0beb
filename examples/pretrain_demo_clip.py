"""Pre-train the small CLIP that ships with modal-clip-dual.

The model sees glyph images only: digits, capital and small letters, drawn with the
fonts that matplotlib ships, distorted at random, each matched with captions of many
templates.  It never sees a scan.  It can still read scikit-learn's handwritten
digits zero-shot, so it is a fair stand-in for a real CLIP in the demo and the tests.

Run it with ``python examples/pretrain_demo_clip.py --output DIR``.  On 2 CPU cores it
takes about half an hour; the same seed on the same machine gives the same weights.
It needs modal-clip-dual with the ``examples`` extra.
"""

from __future__ import annotations

import argparse
import json
import math
import string
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import get_data_path
from open_clip import CLIP
from open_clip.model import text_global_pool
from open_clip.tokenizer import SimpleTokenizer
from PIL import Image, ImageDraw, ImageFont
from safetensors.torch import save_file

CONFIG = Path(__file__).parents[1] / "modal_clip_dual/assets/demo_clip/open_clip_config.json"
CANVAS = 64  # pixels; glyphs are drawn this large and shrunk by the distortion
CHARACTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase
FONTS = [
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")),
    "cmr10", "cmb10", "cmss10", "cmtt10", "cmti10",  # the last from matplotlib 3.11 on
]  # fmt: skip
DIGIT_WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
# Short and long ones: the learnable contexts of prompt tuning put the class name at
# positions up to 17 and beyond, so the text tower must see names there.
TEMPLATES = [
    "{}", "{}.", "a {}.", "the {}.", "a photo of {}.", "a photo of a {}.", "a photo of the {}.",
    "an image of a {}.", "a picture of the {}.", "a drawing of a {}.", "a handwritten {}.",
    "a printed {}.", "a scan of a {}.", "a blurry photo of a {}.", "a bold {}.", "a thin {}.",
    "a small picture of the {} written by hand.", "a low resolution scan of a single {}.",
    "a black and white picture of the {} on a plain background.",
    "this is one character cut out of a page of text, and it is the {}.",
    "a close up photo of a sheet of paper on which somebody wrote the {}.",
    "a grey scale image of a letter or a digit, written with a pen or printed, namely a {}.",
    "in this small and noisy picture of a printed or handwritten sign you can see the {}.",
]  # fmt: skip


def names_of(character: str) -> list[str]:
    """Return the ways in which captions call a character."""
    if character.isdigit():
        word = DIGIT_WORDS[int(character)]
        names = (character, word, f"digit {character}", f"digit {word}", f"number {word}")
        return [*names, f"number {character}", word, word]
    size = "capital" if character.isupper() else "small"
    case = "upper case" if character.isupper() else "lower case"
    letter = character.lower()
    return [f"letter {letter}", f"{size} letter {letter}", f"{case} letter {letter}", letter]


def draw_glyphs() -> torch.Tensor:
    """Draw every character in every font: (fonts, characters, CANVAS, CANVAS), ink = 1."""
    folder = Path(get_data_path()) / "fonts" / "ttf"
    files = [folder / f"{name}.ttf" for name in FONTS]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        print(f"no {', '.join(missing)} in this matplotlib: weights will differ from the bundled")
    files = [file for file in files if file.is_file()]
    glyphs = np.zeros((len(files), len(CHARACTERS), CANVAS, CANVAS), dtype=np.float32)
    for i, file in enumerate(files):
        font = ImageFont.truetype(str(file), size=44)
        for j, character in enumerate(CHARACTERS):
            image = Image.new("L", (CANVAS, CANVAS))
            # Centered on its own ink, so that size and place come from the distortion alone.
            ImageDraw.Draw(image).text((32, 32), character, fill=255, font=font, anchor="mm")
            box = image.getbbox()
            centered = Image.new("L", (CANVAS, CANVAS))
            width, height = box[2] - box[0], box[3] - box[1]
            centered.paste(image.crop(box), ((CANVAS - width) // 2, (CANVAS - height) // 2))
            glyphs[i, j] = np.asarray(centered, dtype=np.float32) / 255
    return torch.from_numpy(glyphs)


def uniform(n: int, low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(n, generator=generator) * (high - low) + low


def distort(
    glyphs: torch.Tensor, size: int, strength: float, generator: torch.Generator
) -> torch.Tensor:
    """Turn drawn glyphs (n, CANVAS, CANVAS) into images (n, 3, size, size) in [-1, 1].

    Slant, rotation, stretch and a smooth random displacement imitate a hand; dilation
    and erosion a pen; shrinking to 8-24 pixels a coarse scan; then contrast and noise.
    ``strength`` from 0 to 1 scales all of it.
    """
    n = len(glyphs)
    images = glyphs[:, None]
    pen = torch.rand(n, generator=generator)
    thick = F.max_pool2d(images, 5, stride=1, padding=2)
    thin = -F.max_pool2d(-images, 3, stride=1, padding=1)
    images = torch.where((pen < 0.35 * strength)[:, None, None, None], thick, images)
    # Erosion may erase a stroke that is already hair-thin: keep such glyphs as they are.
    survives = thin.sum((1, 2, 3)) > 0.5 * images.sum((1, 2, 3))
    images = torch.where(((pen > 1 - 0.25 * strength) & survives)[:, None, None, None], thin, images)

    angle = uniform(n, -0.3, 0.3, generator) * strength
    slant = uniform(n, -0.3, 0.3, generator) * strength
    stretch_x = 0.7 + uniform(n, -0.15, 0.6, generator) * strength
    stretch_y = 0.6 + uniform(n, -0.1, 0.3, generator) * strength
    affine = torch.zeros(n, 2, 3)
    affine[:, 0, 0] = angle.cos() * stretch_x
    affine[:, 0, 1] = (slant - angle.sin()) * stretch_x
    affine[:, 1, 0] = angle.sin() * stretch_y
    affine[:, 1, 1] = angle.cos() * stretch_y
    affine[:, :, 2] = (torch.rand(n, 2, generator=generator) - 0.5) * 0.2 * strength
    grid = F.affine_grid(affine, [n, 1, CANVAS, CANVAS], align_corners=False)
    bumps = torch.randn(n, 2, 5, 5, generator=generator)
    height = uniform(n, 0.0, 0.05 * strength, generator)[:, None, None, None]
    wobble = F.interpolate(bumps, size=(CANVAS, CANVAS), mode="bicubic") * height
    grid = grid + wobble.permute(0, 2, 3, 1)
    images = F.grid_sample(images, grid, align_corners=False)

    # One scan resolution per slice of the batch keeps this a handful of calls.
    pieces = []
    for piece in images.chunk(8):
        fewest = round(24 - 16 * strength)
        pixels = int(torch.randint(fewest, 25, (1,), generator=generator))
        coarse = F.interpolate(piece, size=(pixels, pixels), mode="area")
        pieces.append(F.interpolate(coarse, size=(size, size), mode="bicubic"))
    images = torch.cat(pieces)

    gain = 1 + uniform(n, -0.3, 0.5, generator)[:, None, None, None]
    images = (images * (1 + (gain - 1) * strength)).clamp(0, 1)
    noise = uniform(n, 0.0, 0.12 * strength, generator)[:, None, None, None]
    images = images + torch.randn(images.shape, generator=generator) * noise
    dark_on_light = (torch.rand(n, generator=generator) < 0.25 * strength)[:, None, None, None]
    images = torch.where(dark_on_light, 1 - images, images).clamp(0, 1)
    return images.expand(-1, 3, -1, -1) * 2 - 1


def encode_text(model: CLIP, tokens: torch.Tensor) -> torch.Tensor:
    """Do open_clip's encode_text, cut after the longest text (exact under the causal mask)."""
    length = int(tokens.argmax(dim=1).max()) + 1
    tokens = tokens[:, :length]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    x = text_global_pool(model.ln_final(x), tokens, "argmax")
    return F.normalize(x @ model.text_projection, dim=-1)


def train(n_images: int, batch_size: int, lr: float, seed: int) -> tuple[CLIP, torch.Tensor]:
    """Pre-train; return the model and the vocabulary rows that captions use."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    config = json.loads(CONFIG.read_text())["model_cfg"]
    model = CLIP(**config)
    size = config["vision_cfg"]["image_size"]

    tokenizer = SimpleTokenizer(context_length=config["text_cfg"]["context_length"])
    captions = [
        tokenizer([template.format(name) for template in TEMPLATES for name in names_of(character)])
        for character in CHARACTERS
    ]
    used_rows = torch.cat([tokens.flatten() for tokens in captions]).unique()
    glyphs = draw_glyphs()

    # Decaying the embedding would shrink the rows that no caption uses.
    decayed = [p for name, p in model.named_parameters() if p.ndim >= 2 and "embedding" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim < 2 or "embedding" in name]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98))
    n_steps = math.ceil(n_images / batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=lr, total_steps=n_steps, pct_start=0.05
    )
    start = time.perf_counter()
    model.train()
    for step in range(n_steps):
        fonts = torch.randint(len(glyphs), (batch_size,), generator=generator)
        target = torch.randint(len(CHARACTERS), (batch_size,), generator=generator)
        # Full distortion from the start keeps the loss at log(62): all texts collapse
        # onto one before an image says anything.  So it grows over the first 30%.
        strength = min(1.0, step / (0.3 * n_steps))
        images = distort(glyphs[fonts, target], size, strength, generator)
        chosen = [
            tokens[int(torch.randint(len(tokens), (1,), generator=generator))]
            for tokens in captions
        ]
        text = encode_text(model, torch.stack(chosen))
        image = F.normalize(model.encode_image(images), dim=-1)
        loss = F.cross_entropy(model.logit_scale.exp() * image @ text.T, target)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():  # CLIP's own bound: the scale never exceeds 100
            model.logit_scale.clamp_(max=math.log(100))
        if (step + 1) % 100 == 0 or step + 1 == n_steps:
            print(
                f"step {step + 1:5d}/{n_steps}  loss {loss.item():.3f}  scale "
                f"{model.logit_scale.exp().item():5.1f}  {time.perf_counter() - start:6.0f} s",
                flush=True,
            )
    return model.eval(), used_rows


def save(model: CLIP, used_rows: torch.Tensor, folder: Path) -> Path:
    """Write half-precision weights with only the vocabulary rows that captions use."""
    state = {
        key: value.half() for key, value in model.state_dict().items() if key != "token_embedding.weight"
    }
    state["token_embedding.rows"] = used_rows.to(torch.int32)
    state["token_embedding.weight"] = model.token_embedding.weight.detach()[used_rows].half()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "open_clip_model.safetensors"
    save_file({key: value.contiguous() for key, value in state.items()}, path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("demo_clip"), help="folder for the weights")
    parser.add_argument("--images", type=int, default=600_000, help="glyph images to train on")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    model, used_rows = train(args.images, args.batch_size, args.lr, args.seed)
    path = save(model, used_rows, args.output)
    print(f"wrote {path}: {path.stat().st_size / 1e6:.2f} MB, {len(used_rows)} vocabulary rows")


if __name__ == "__main__":
    main()
