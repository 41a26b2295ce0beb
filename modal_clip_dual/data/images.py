"""What X may be, and how one row of it becomes an image."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..utils.arrays import Rows, as_sequence
from .files import digests_of, look_at, other_than_binary
from .ranges import as_uint8, warn_if_dark, warn_of_range

# What files may be.  Among Pillow's other formats is EPS, for which it starts Ghostscript.
# HEIF is what the package pillow-heif adds to Pillow.
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "HEIF")
WITH_ALPHA = ("RGBA", "LA", "PA")  # modes of images
HEIF_EXTENSIONS = (".heic", ".heif", ".hif")
# Resizing the shorter side to what a model takes would need gigabytes beyond this.
MOST_ELONGATED = 1000

EXPECTED = (
    "expected image embeddings (n, D) of numbers, images (n, H, W) or (n, H, W, 3) of uint8, a list "
    "of PIL images, or a 1-d array of file paths"
)
SHOWN = 3  # files that a message names


class UnreadableImagesError(ValueError):
    """Some files of a call cannot be read as images; one error names them all.

    Parameters
    ----------
    message : str
        The text of the error.
    rows : sequence of int
        Rows of the files in X, ascending.
    reasons : sequence of str
        What is wrong with each file.
    paths : sequence of str, default=()
        The files.

    Attributes
    ----------
    rows : ndarray of int
        Rows of the files in the argument that the message names, ascending.
    reasons : list of str
        What is wrong with each file.
    paths : list of str
        The files.

    See Also
    --------
    drop_unreadable : Leaves such files out of paths and labels.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from modal_clip_dual import CLIPImageEncoder
    >>> from modal_clip_dual.data import UnreadableImagesError
    >>> encoder = CLIPImageEncoder("demo", "bundled", device="cpu", verbose=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     paths = [Path(folder, f"{k}.png") for k in range(2)]
    ...     _ = [path.write_bytes(b"no image") for path in paths]
    ...     try:
    ...         encoder.transform(paths)
    ...     except UnreadableImagesError as error:
    ...         error.rows
    array([0, 1])
    """

    def __init__(self, message: str, rows: Sequence[int], reasons: Sequence[str], paths: Sequence[str] = ()):
        super().__init__(message)
        self.rows = np.array(rows, dtype=np.intp)
        self.reasons = list(reasons)
        self.paths = list(paths)

    def __reduce__(self) -> Any:
        return type(self), (str(self), self.rows.tolist(), self.reasons, self.paths)


def unreadable_error(
    found: dict[int, str], n: int, name: str = "X", files: Mapping[int, Any] | None = None
) -> UnreadableImagesError:
    """Return the error that names all unreadable images among n; ``found`` says by row what is wrong.

    ``files`` has their paths by row; None for images that are no files.
    """
    rows = sorted(found)
    reasons, paths = [found[row] for row in rows], [] if files is None else [str(files[row]) for row in rows]
    if len(rows) == 1:
        return UnreadableImagesError(f"{name}[{rows[0]}]: {reasons[0]}", rows, reasons, paths)
    shown = "; ".join(f"{name}[{row}]: {found[row]}" for row in rows[:SHOWN])
    more = f"; and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    what = "images cannot be converted" if files is None else "files cannot be read as images"
    advice = "To go on without them, modal_clip_dual.data.drop_unreadable leaves them out of paths and labels"
    return UnreadableImagesError(
        f"{len(rows)} of {n} {what}: {shown}{more}. All rows: {_listed(rows)}"
        + ("" if files is None else f". {advice}"),
        rows,
        reasons,
        paths,
    )


@contextmanager
def rows_called(name: str, array: Any) -> Iterator[None]:
    """Let errors name files that cannot be read by their rows in an argument, of which a part may have been read.

    Errors about other files pass unchanged.
    """
    try:
        yield
    except UnreadableImagesError as error:
        reasons = dict(zip(error.paths, error.reasons))
        files = {} if kind_of(array) != "paths" else dict(enumerate(map(str, array)))
        found = {row: reasons[path] for row, path in files.items() if path in reasons}
        if not found:
            raise
        raise unreadable_error(found, len(array), name, files) from error


def _listed(rows: list[int], most: int = 20) -> str:
    shown = ", ".join(map(str, rows[:most]))
    return f"{shown}, ... ({len(rows)} in all, in the error's attribute rows)" if len(rows) > most else shown


def as_array(X: Any, name: str = "X") -> Any:
    """Return X as an array whose kind `kind_of` tells, without copying what is one already.

    A DataFrame or a 2-d array with a single column of strings is a column of paths; a column of lists or arrays, as
    tables hold embeddings, is one of its rows each.

    Raises
    ------
    TypeError
        If X is sparse, or holds something that is no number and no path.
    ValueError
        If X is empty, or its shape or type is none of the three kinds.
    """
    if isinstance(X, Rows):
        return X
    if hasattr(X, "toarray"):
        raise TypeError(f"{name} is a sparse matrix, which is not supported; {EXPECTED}")
    if isinstance(X, Image.Image):
        raise TypeError(f"{name} is one PIL image; {EXPECTED}. A single image goes in as a list of one")
    given = X = as_sequence(X, name, EXPECTED)
    X = _only_column(X)
    one_column = X is not given
    if type(X).__module__.partition(".")[0] == "torch":
        X = X.detach().cpu()
        if X.ndim == 3 and X.shape[0] == 3 and not X.is_floating_point():
            raise ValueError(
                f"{name} is a tensor of shape {tuple(X.shape)}, which looks like one color image, channels first; "
                f"{EXPECTED}: {name}.permute(1, 2, 0)[None] is an array of one image"
            )
        X = (X.float() if X.is_floating_point() else X).numpy()
    column = _column_of_objects(X, name)
    if column is not None:
        return column
    try:
        array = X if isinstance(X, np.ndarray) else np.asarray(X)
    except ValueError as error:  # of NumPy, about rows of several lengths
        raise ValueError(
            f"{name} holds things of different shapes; {EXPECTED}. Images of several sizes go in as paths or "
            "as PIL images"
        ) from error
    if array.dtype == object:
        array = _stacked(array, name)
    if one_column and array.ndim == 1:  # of numbers
        array = array[:, None]
    # modAL turns lists of images into nested lists of integers when it adds to them.
    nested = isinstance(X, (list, tuple)) and array.ndim in (3, 4) and array.dtype.kind in "iu"
    if nested and array.size and 0 <= array.min() and array.max() <= 255:
        array = array.astype(np.uint8)
    if np.iscomplexobj(array):
        raise ValueError(f"Complex data not supported: {name} has dtype {array.dtype}; {EXPECTED}")
    if array.dtype.kind in "OUS" and array.ndim > 1:
        _refuse_text(array, name, given)
    if array.ndim in (3, 4):
        _check_images(array, name, given)
    elif array.ndim != 2:
        raise ValueError(
            f"{name} has shape {array.shape} and dtype {array.dtype}; {EXPECTED}. Reshape your "
            "data: a single sample needs a leading axis of length 1"
        )
    if len(array) == 0:
        raise ValueError(f"{name} is empty: found array with 0 sample(s), at least 1 is required")
    if array.ndim == 2 and not array.shape[1]:
        raise ValueError(
            f"{name} has no columns: 0 feature(s) (shape={array.shape}) while a minimum of 1 is "
            f"required; {EXPECTED}"
        )
    return array


def _refuse_text(array: np.ndarray, name: str, given: Any) -> None:
    """Refuse a table with text that is no number; told by its first row."""
    first = list(array.reshape(len(array), -1)[0]) if array.size else []
    texts = [isinstance(entry, (str, bytes, os.PathLike)) and not _is_number(entry) for entry in first]
    if array.ndim == 2 and any(texts):
        k = texts.index(True)
        names = list(getattr(given, "column_names", getattr(given, "columns", ())))
        one = f"[row[{k}] for row in {name}]" if isinstance(given, (list, tuple)) else f"{name}[:, {k}]"
        one = f"{name}[{names[k]!r}]" if len(names) == len(first) else one
        raise ValueError(
            f"{name} has {len(first)} columns, and text in column {k} ({str(first[k])!r}); expected one column of "
            f"file paths, as {one} may be, or numbers"
        )
    if array.dtype.kind in "US":
        raise ValueError(f"{name} holds text of shape {array.shape}; {EXPECTED}")


def _is_number(entry: Any) -> bool:
    try:
        float(entry)
    except (TypeError, ValueError):
        return False
    return True


def kind_of(array: np.ndarray) -> str:
    """Tell "embeddings", "images" or "paths" of what `as_array` returned."""
    if array.ndim == 1:
        return "images" if len(array) and isinstance(array[0], Image.Image) else "paths"
    return {2: "embeddings", 3: "images", 4: "images"}[array.ndim]


def _only_column(X: Any) -> Any:
    """Return the column of a table that has one, which may hold lists or arrays; anything else as it is."""
    shape: Any = getattr(X, "shape", ())
    if not hasattr(X, "columns") or len(shape) != 2 or shape[1] != 1:
        return X
    return X.column(0) if hasattr(X, "column") else X[X.columns[0]]  # of pyarrow; of pandas and polars


def _stacked(array: np.ndarray, name: str) -> np.ndarray:
    """Return a column of lists or arrays as one array; anything else as it is."""
    column = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if column.ndim != 1 or not len(column) or not isinstance(column[0], (list, tuple, np.ndarray)):
        return array
    rows = [np.asarray(entry) for entry in column]
    for row, part in enumerate(rows):
        if part.shape != rows[0].shape:
            shown = "is None" if column[row] is None else f"has the shape {part.shape}"
            raise ValueError(f"{name}[{row}] {shown}, {name}[0] the shape {rows[0].shape}; {EXPECTED}")
    return np.stack(rows)


def _column_of_objects(X: Any, name: str) -> np.ndarray | None:
    """Return a column of paths as an array of str, or of PIL images as images; None if X is neither."""
    if isinstance(X, (list, tuple)):
        if not X or not isinstance(X[0], (str, bytes, os.PathLike, Image.Image)):
            return None
        column = _objects(X)
    else:
        column = np.asarray(X)
    if column.dtype.kind not in "OUST":
        return None
    if column.size and isinstance(column.flat[0], bytes):
        raise TypeError(
            f"{name} holds bytes; {EXPECTED}. Paths become text by os.fsdecode(path), encoded images become PIL "
            "images by PIL.Image.open(io.BytesIO(image))"
        )
    if column.ndim == 2 and column.shape[1] == 1:
        column = column[:, 0]
    if column.ndim != 1:
        return None
    kinds: Any = (((str, os.PathLike), "file path", _texts), (Image.Image, "PIL image", _pictures))
    for types, what, convert in kinds:
        fits = [isinstance(entry, types) for entry in column]
        if all(fits) and len(column):
            converted: np.ndarray = convert(column, name)
            return converted
        if any(fits) and isinstance(column[0], types):
            row = fits.index(False)
            raise TypeError(
                f"{name}[{row}] is {column[row]!r} ({type(column[row]).__name__}); expected a {what} "
                "like the other rows"
            )
    return None


def _objects(entries: Sequence[Any]) -> np.ndarray:
    """A column of things of which NumPy asks nothing: a PIL image would be asked for its pixels."""
    column = np.empty(len(entries), dtype=object)
    for row, entry in enumerate(entries):
        column[row] = entry
    return column


def _texts(column: np.ndarray, name: str) -> np.ndarray:
    # plain strings, also of NumPy's, whose repr in messages is longer
    return np.array([str(os.fspath(entry)) for entry in column], dtype=object)


def _pictures(column: np.ndarray, name: str) -> np.ndarray:
    """PIL images as one array of pixels, or if their sizes differ as an array of RGB images."""
    converted, wrong = [], dict[int, str]()
    for row, image in enumerate(column):
        try:
            if 0 in image.size:
                raise ValueError(f"it has {image.width} x {image.height} pixels")
            converted.append(_as_rgb(ImageOps.exif_transpose(image)))
        except Exception as error:  # images that are closed or broken make Pillow raise nearly anything
            wrong[row] = f"a PIL image that cannot be converted: {error}"
    if wrong:
        raise unreadable_error(wrong, len(column), name)
    highest = [image.info[HIGHEST] for image in converted if image.info[HIGHEST] is not None]
    if highest:
        warn_of_range(highest, f"images of {name}")
    if len({image.size for image in converted}) == 1 and min(converted[0].size):
        pixels = np.stack([np.asarray(image) for image in converted])
        if highest:  # what is dark there is told above
            return pixels
        _check_images(pixels, name)
        return pixels
    return _objects(converted)


def _check_images(array: np.ndarray, name: str, given: Any = None) -> None:
    if array.dtype != np.uint8:
        low, high = (array.min(), array.max()) if array.size else (None, None)
        raise ValueError(
            f"{name} has shape {array.shape}, so it holds images, but dtype {array.dtype} with "
            f"values from {low} to {high}; expected uint8 from 0 to 255, {as_uint8(array, name, given)}"
        )
    if array.ndim == 3 and array.shape[2] in (3, 4) and array.shape[1] > 4:
        raise ValueError(
            f"{name} has shape {array.shape}, which looks like one color image (H, W, {array.shape[2]}); expected "
            f"images (n, H, W) or (n, H, W, 3): {name}[None] is an array of one image, {name}[..., None] "
            f"holds gray ones that are {array.shape[2]} pixels wide"
        )
    if 0 in array.shape[1:]:
        raise ValueError(f"{name} has shape {array.shape}: its images have no pixels")
    if max(array.shape[1:3]) > MOST_ELONGATED * min(array.shape[1:3]):
        raise ValueError(
            f"{name} has shape {array.shape}: its images are too elongated; expected a longer side "
            f"of at most {MOST_ELONGATED} times the shorter"
        )
    if array.ndim == 4 and array.shape[3] not in (1, 3, 4):
        hint = "; it looks like channels first" if array.shape[1] in (1, 3, 4) else ""
        raise ValueError(
            f"{name} has shape {array.shape}; expected images (n, H, W) or (n, H, W, 3), "
            f"channels last{hint}"
        )
    warn_if_dark(array, name)


def check_files(paths: np.ndarray, name: str = "X") -> None:
    """Refuse paths of which one does not exist, before any is read.

    Raises
    ------
    FileNotFoundError
        Naming the first missing files, their rows, and how many are missing.
    """
    missing = [row for row, look in enumerate(look_at(paths)) if look is None]
    if missing:
        shown = ", ".join(f"{name}[{row}]: {str(paths[row])!r}" for row in missing[1:SHOWN])
        more = f" ({len(missing)} of {len(paths)} are missing; {shown})" if shown else ""
        row = missing[0]
        raise FileNotFoundError(f"{name}[{row}]: {_no_file(str(paths[row]))}{more}")


def _no_file(path: str) -> str:
    if os.path.isdir(path):
        return f"{path!r} is a folder; expected files, which modal_clip_dual.data.list_images(folder) lists"
    if os.path.islink(path):
        return f"{path!r} is a link to {os.readlink(path)!r}, which is not there"
    if os.path.exists(path):
        return f"{path!r} is no regular file (a device, a pipe or a socket)"
    if re.match("[A-Za-z][A-Za-z0-9+.-]+://", path):
        return f"{path!r} is an address; expected files on this machine, nothing is downloaded"
    meant = {path.replace("\\", "/"), os.path.expanduser(path), path.strip(), path.strip().strip("\"'")}
    there = sorted(other for other in meant - {path} if os.path.isfile(other))
    hint = f"; {there[0]!r} is one" if there else ""
    return f"there is no file {path!r}{hint}"


def read_image(
    array: np.ndarray, row: int, name: str = "X", number: int | None = None
) -> Image.Image:
    """Return one row of images or paths as an RGB image.

    Transparent images are laid on black, so that a color that nobody can see decides nothing; rotations that
    a camera noted are applied, and of an animation the first picture is taken.  Of an array's four channels the
    last is dropped.

    Parameters
    ----------
    array : ndarray
        As `as_array` returns it.
    row : int
    name : str, default="X"
        What messages call the array.
    number : int, optional
        What messages call the row, where the array is a part of another.

    Raises
    ------
    UnreadableImagesError
        If a file cannot be read as an image; names it and its row.
    """
    number = row if number is None else number
    if kind_of(array) == "images":
        pixels = array[row]
        if isinstance(pixels, Image.Image):
            if max(pixels.size) > MOST_ELONGATED * min(pixels.size):
                raise ValueError(f"{name}[{number}]: {pixels.width} x {pixels.height} pixels: too elongated")
            return pixels
        if pixels.ndim == 3 and pixels.shape[2] == 1:
            pixels = pixels[:, :, 0]
        return Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
    path = str(array[row])
    try:
        with Image.open(path, formats=_formats(path)) as image:
            short, long = sorted(image.size)
            if long > MOST_ELONGATED * short:
                raise ValueError(f"{image.width} x {image.height} pixels: too elongated")
            deep = _is_deep(image)  # asked before it is decoded
            return _as_rgb(ImageOps.exif_transpose(image), deep)
    except Exception as error:  # broken files make Pillow raise nearly anything
        hint = ""
        if isinstance(error, UnidentifiedImageError):
            hint = f"; expected one of {', '.join(FORMATS)}"
            what = other_than_binary(path)
            if what is not None:
                hint = f": it {what}{hint}"
            elif path.lower().endswith(HEIF_EXTENSIONS) and "HEIF" not in Image.OPEN:
                hint = "; HEIC files are read where the package pillow-heif is installed: pip install pillow-heif"
        reason = f"cannot read {path!r} as an image ({error}){hint}"
        raise unreadable_error({number: reason}, 1, name, {number: path}) from error


def _formats(path: str) -> list[str]:
    """Those of the formats that this Pillow was built with, or has been taught."""
    Image.init()
    if path.lower().endswith(HEIF_EXTENSIONS):
        reads_heif()  # registered here, as workers are other processes
    return [name for name in FORMATS if name in Image.OPEN]


def reads_heif() -> bool:
    """Whether HEIC files can be read: pillow-heif is registered, or installed and registered now."""
    if "HEIF" not in Image.OPEN:
        try:
            from pillow_heif import register_heif_opener
        except ImportError:
            return False
        register_heif_opener()
    return "HEIF" in Image.OPEN


def _is_deep(image: Image.Image) -> bool:
    """Whether a file has 16 bits per channel of color, of which Pillow will take the high 8."""
    return any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def _as_rgb(image: Image.Image, deep: bool = False) -> Image.Image:
    if image.mode in WITH_ALPHA or (image.mode == "P" and "transparency" in image.info):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    converted, highest = _eight_bit(image)
    converted = converted.convert("RGB")
    if highest is None and deep:
        highest = 256 * int(np.max(converted.getextrema()))
    converted.info[HIGHEST] = highest  # for the warning of `reading.warn_of_range`
    return converted


HIGHEST = "modal_clip_dual_highest"  # the largest number of an image of 16 bits, None for others


def _eight_bit(image: Image.Image) -> tuple[Image.Image, int | None]:
    """Scale 16-bit gray to 8 bits, which Pillow's own conversion would clip; and its largest number."""
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() > 65535:
            raise ValueError(
                f"mode {image.mode!r} with values from {values.min():g} to {values.max():g}; expected 8 or 16 bits, "
                f"{as_uint8(values, 'values')}"
            )
        return Image.fromarray((values // 257).astype(np.uint8)), int(values.max())
    return image, None


def image_key(array: np.ndarray, row: int) -> bytes:
    """Identity of an image: its pixels, or the bytes of the file, wherever it lies."""
    if kind_of(array) == "images":
        pixels = np.ascontiguousarray(array[row])
        return blake2b(pixels.data, digest_size=16, salt=repr(pixels.shape).encode()[:16]).digest()
    return digests_of(array[row : row + 1])[0]
