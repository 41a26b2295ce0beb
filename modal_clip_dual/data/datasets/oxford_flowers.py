"""Oxford Flowers 102: flowers."""

from __future__ import annotations

from pathlib import Path

from ._dataset import Contents, Coop, DataSet, Torchvision, with_spaces
from ._layouts import array_of, read_mat

# The data set's own names, by label; the files that torchvision fetches number the classes only.
NAMES = """
pink primrose; hard-leaved pocket orchid; canterbury bells; sweet pea; english marigold; tiger
lily; moon orchid; bird of paradise; monkshood; globe thistle; snapdragon; colt's foot; king
protea; spear thistle; yellow iris; globe-flower; purple coneflower; peruvian lily; balloon
flower; giant white arum lily; fire lily; pincushion flower; fritillary; red ginger; grape
hyacinth; corn poppy; prince of wales feathers; stemless gentian; artichoke; sweet william;
carnation; garden phlox; love in the mist; mexican aster; alpine sea holly; ruby-lipped
cattleya; cape flower; great masterwort; siam tulip; lenten rose; barbeton daisy; daffodil;
sword lily; poinsettia; bolero deep blue; wallflower; marigold; buttercup; oxeye daisy; common
dandelion; petunia; wild pansy; primula; sunflower; pelargonium; bishop of llandaff; gaura;
geranium; orange dahlia; pink-yellow dahlia?; cautleya spicata; japanese anemone; black-eyed
susan; silverbush; californian poppy; osteospermum; spring crocus; bearded iris; windflower;
tree poppy; gazania; azalea; water lily; rose; thorn apple; morning glory; passion flower;
lotus; toad lily; anthurium; frangipani; clematis; hibiscus; columbine; desert-rose; tree
mallow; magnolia; cyclamen; watercress; canna lily; hippeastrum; bee balm; ball moss; foxglove;
bougainvillea; camellia; mallow; mexican petunia; bromelia; blanket flower; trumpet creeper;
blackberry lily
"""


def class_names() -> list[str]:
    """Return the 102 names by label."""
    return [name.strip() for name in " ".join(NAMES.split()).split(";")]


def read_torchvision(root: Path) -> Contents:
    """Read the authors' split from their MATLAB files."""
    folder = root / "flowers-102"
    target = read_mat(folder / "imagelabels.mat", "labels").ravel().astype(int) - 1
    images, labels = {}, {}
    for part, key in (("train", "trnid"), ("val", "valid"), ("test", "tstid")):
        chosen = read_mat(folder / "setid.mat", key).ravel().astype(int)
        if len(chosen) and not 1 <= chosen.min() <= chosen.max() <= len(target):
            raise ValueError(
                f"{str(folder / 'setid.mat')!r} has numbers from {chosen.min()} to {chosen.max()} in {key!r}; "
                f"expected 1 to {len(target)}, the number of labels"
            )
        images[part] = array_of(str(folder / "jpg" / f"image_{number:05d}.jpg") for number in chosen)
        labels[part] = target[chosen - 1]
    return Contents(images, labels, class_names(), "torchvision", str(folder / "setid.mat"))


def clean(name: str) -> str:
    """Leave out the question mark of a name."""
    return with_spaces(name.replace("?", " "))  # "pink-yellow dahlia?"


DATASET = DataSet(
    "oxford_flowers",
    "a photo of a {}, a type of flower.",
    Coop(
        folder="oxford_flowers",
        split="split_zhou_OxfordFlowers.json",
        images="jpg",
        needs=("jpg/", "split_zhou_OxfordFlowers.json"),
        anchor="flowers102",
    ),
    Torchvision(
        "Flowers102",
        tuple(f"flowers-102/{entry}" for entry in ("jpg/", "imagelabels.mat", "setid.mat")),
        read_torchvision,
    ),
    clean=clean,
    order=5,
)
