"""What is known of each benchmark data set: folders, files, class names, templates."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

COOP_PAGE = "https://github.com/KaiyangZhou/CoOp/blob/main/DATASETS.md"


def spaced(name: str) -> str:
    """Underscores become spaces, and runs of spaces one."""
    return " ".join(name.replace("_", " ").split())


def _renamed(new_names: dict[str, str]) -> Callable[[str], str]:
    return lambda name: spaced(new_names.get(name, name))


# As CoOp's datasets/eurosat.py and datasets/caltech101.py name them.  CoOp's split files hold the
# new names already; the folders of the images, which torchvision goes by, the old ones.
EUROSAT_NAMES = {
    "AnnualCrop": "Annual Crop Land",
    "HerbaceousVegetation": "Herbaceous Vegetation Land",
    "Highway": "Highway or Road",
    "Industrial": "Industrial Buildings",
    "Pasture": "Pasture Land",
    "PermanentCrop": "Permanent Crop Land",
    "Residential": "Residential Buildings",
    "SeaLake": "Sea or Lake",
}
CALTECH_NAMES = {
    "airplanes": "airplane",
    "Faces": "face",
    "Leopards": "leopard",
    "Motorbikes": "motorbike",
}
# No class of CoOp's: not a class at all, and the faces a second time, cropped.
CALTECH_IGNORED = ("BACKGROUND_Google", "Faces_easy")

# CLIP's names for ImageNet, which CoOp's classnames.txt copies, call two pairs of classes the same
# (n03773504 and n04008634 "missile", n04355933 and n04356056 "sunglasses").  Where they do,
# one of each pair gets the first word of its WordNet synset.
IMAGENET_TWINS = {"n04008634": "projectile", "n04355933": "sunglass"}

# The data set's own names, by label; the files that torchvision fetches number the classes only.
FLOWER_NAMES = """
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


def flower_names() -> list[str]:
    """The 102 names of Oxford Flowers, by label."""
    return [name.strip() for name in " ".join(FLOWER_NAMES.split()).split(";")]


def _flower(name: str) -> str:
    return spaced(name.replace("?", " "))  # "pink-yellow dahlia?"


def _breed(name: str) -> str:
    return spaced(name.lower())  # as in CoOp's split; the files' names tell cats by a capital


def _car(name: str) -> str:
    """The year comes first, as in CoOp's split: "Acura RL Sedan 2012" -> "2012 Acura RL Sedan"."""
    return spaced(re.sub(r"^(.*\S)\s+(\d{4})$", r"\2 \1", name))


def _action(name: str) -> str:
    """UCF101's "ApplyEyeMakeup", or CoOp's "Apply_Eye_Makeup" -> "Apply Eye Makeup"."""
    return spaced(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name))


def _scene(name: str) -> str:
    """SUN397's "/c/church/outdoor" -> "outdoor church", as in CoOp's split."""
    words = name.strip("/").split("/")
    if len(words) > 1 and len(words[0]) == 1:
        del words[0]
    return spaced(" ".join(reversed(words)))


@dataclass(frozen=True)
class Torchvision:
    """A data set of torchvision.

    Parameters
    ----------
    cls : str
        Its class in `torchvision.datasets`.
    needs : tuple of str
        What is read of it, relative to the root; folders end in "/".
    shared : bool
        CoOp's guide puts the images at the same place, so only the split file tells which
        of the two splits is meant.
    official : bool
        The data set's authors divide it into training and test images.
    same_split : bool
        Their split is the one that CoOp takes.
    fetches : bool
        torchvision can still download it.
    """

    cls: str
    needs: tuple[str, ...]
    shared: bool = False
    official: bool = True
    same_split: bool = False
    fetches: bool = True


@dataclass(frozen=True)
class Benchmark:
    """A data set by name.

    Parameters
    ----------
    name : str
        What `load_benchmark` calls it.
    template : str
        Hand-written prompt with one ``{}`` for the class name.
    folder : str
        The data set's folder in CoOp's layout; "" if CoOp has it not.
    split : str
        The file in ``folder`` that says which images belong to which split, or how the classes
        are called.  Where it is, CoOp's layout is meant.
    images : str
        Folder in ``folder`` that the split's paths start from.
    needs : tuple of str
        What is read of ``folder``; folders end in "/".
    anchor : str
        Section of CoOp's DATASETS.md.
    torchvision : Torchvision, optional
    clean : callable
        From a class name as written in files to the one for prompts.
    """

    name: str
    template: str
    folder: str = ""
    split: str = ""
    images: str = ""
    needs: tuple[str, ...] = ()
    anchor: str = ""
    torchvision: Torchvision | None = None
    clean: Callable[[str], str] = spaced

    @property
    def layouts(self) -> tuple[str, ...]:
        """Layouts that it may have on disk, the preferred one first."""
        return ("coop",) * bool(self.folder) + ("torchvision",) * (self.torchvision is not None)


# Folders and files: CoOp's DATASETS.md and datasets/*.py, and torchvision 0.29's datasets.
# Templates: CUSTOM_TEMPLATES of CoOp's trainers/zsclip.py; those of the last four entries are ours.
PHOTO = "a photo of a {}."
_AIRCRAFT = ("variants.txt", *(f"images_variant_{part}.txt" for part in ("train", "val", "test")))

_ALL = (
    Benchmark(
        "caltech101",
        PHOTO,
        folder="caltech-101",
        split="split_zhou_Caltech101.json",
        images="101_ObjectCategories",
        needs=("101_ObjectCategories/", "split_zhou_Caltech101.json"),
        anchor="caltech101",
        torchvision=Torchvision(
            "Caltech101", ("caltech101/101_ObjectCategories/",), official=False
        ),
        clean=_renamed(CALTECH_NAMES),
    ),
    Benchmark(
        "dtd",
        "{} texture.",
        folder="dtd",
        split="split_zhou_DescribableTextures.json",
        images="images",
        needs=("images/", "split_zhou_DescribableTextures.json"),
        anchor="dtd",
        torchvision=Torchvision(
            "DTD",
            (
                "dtd/dtd/images/",
                *(f"dtd/dtd/labels/{part}1.txt" for part in ("train", "val", "test")),
            ),
        ),
    ),
    Benchmark(
        "eurosat",
        "a centered satellite photo of {}.",
        folder="eurosat",
        split="split_zhou_EuroSAT.json",
        images="2750",
        needs=("2750/", "split_zhou_EuroSAT.json"),
        anchor="eurosat",
        torchvision=Torchvision("EuroSAT", ("eurosat/2750/",), shared=True, official=False),
        clean=_renamed(EUROSAT_NAMES),
    ),
    Benchmark(
        "fgvc_aircraft",
        "a photo of a {}, a type of aircraft.",
        folder="fgvc_aircraft",
        split="variants.txt",
        images="images",
        needs=("images/", *_AIRCRAFT),
        anchor="fgvcaircraft",
        torchvision=Torchvision(
            "FGVCAircraft",
            tuple(f"fgvc-aircraft-2013b/data/{entry}" for entry in ("images/", *_AIRCRAFT)),
            same_split=True,
        ),
    ),
    Benchmark(
        "oxford_flowers",
        "a photo of a {}, a type of flower.",
        folder="oxford_flowers",
        split="split_zhou_OxfordFlowers.json",
        images="jpg",
        needs=("jpg/", "split_zhou_OxfordFlowers.json"),
        anchor="flowers102",
        torchvision=Torchvision(
            "Flowers102",
            tuple(f"flowers-102/{entry}" for entry in ("jpg/", "imagelabels.mat", "setid.mat")),
        ),
        clean=_flower,
    ),
    Benchmark(
        "ucf101",
        "a photo of a person doing {}.",
        folder="ucf101",
        split="split_zhou_UCF101.json",
        images="UCF-101-midframes",
        needs=("UCF-101-midframes/", "split_zhou_UCF101.json"),
        anchor="ucf101",
        clean=_action,
    ),
    Benchmark(
        "oxford_pets",
        "a photo of a {}, a type of pet.",
        folder="oxford_pets",
        split="split_zhou_OxfordPets.json",
        images="images",
        needs=("images/", "split_zhou_OxfordPets.json"),
        anchor="oxfordpets",
        torchvision=Torchvision(
            "OxfordIIITPet",
            tuple(
                f"oxford-iiit-pet/{entry}"
                for entry in ("images/", "annotations/trainval.txt", "annotations/test.txt")
            ),
        ),
        clean=_breed,
    ),
    Benchmark(
        "food101",
        "a photo of {}, a type of food.",
        folder="food-101",
        split="split_zhou_Food101.json",
        images="images",
        needs=("images/", "split_zhou_Food101.json"),
        anchor="food101",
        torchvision=Torchvision(
            "Food101",
            ("food-101/images/", "food-101/meta/train.json", "food-101/meta/test.json"),
            shared=True,
        ),
    ),
    Benchmark(
        "stanford_cars",
        PHOTO,
        folder="stanford_cars",
        split="split_zhou_StanfordCars.json",
        needs=("cars_train/", "cars_test/", "split_zhou_StanfordCars.json"),
        anchor="stanfordcars",
        torchvision=Torchvision(
            "StanfordCars",
            tuple(
                f"stanford_cars/{entry}"
                for entry in (
                    "cars_train/",
                    "cars_test/",
                    "devkit/cars_meta.mat",
                    "devkit/cars_train_annos.mat",
                    "cars_test_annos_withlabels.mat",
                )
            ),
            shared=True,
            fetches=False,  # its address is gone
        ),
        clean=_car,
    ),
    Benchmark(
        "sun397",
        PHOTO,
        folder="sun397",
        split="split_zhou_SUN397.json",
        images="SUN397",
        needs=("SUN397/", "split_zhou_SUN397.json"),
        anchor="sun397",
        torchvision=Torchvision("SUN397", ("SUN397/a/", "SUN397/ClassName.txt"), official=False),
        clean=_scene,
    ),
    Benchmark(
        "imagenet",
        PHOTO,
        folder="imagenet",
        split="classnames.txt",
        images="images",
        needs=("images/train/", "images/val/", "classnames.txt"),
        anchor="imagenet",
    ),
    Benchmark("cifar10", PHOTO, torchvision=Torchvision("CIFAR10", ("cifar-10-batches-py/",))),
    Benchmark("cifar100", PHOTO, torchvision=Torchvision("CIFAR100", ("cifar-100-python/",))),
    Benchmark("digits", PHOTO),
    Benchmark("folder", PHOTO),
)
BENCHMARKS = {benchmark.name: benchmark for benchmark in _ALL}
