"""Images of X in batches: read ahead of the model, in worker processes, each file once."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from joblib import Parallel, cpu_count, delayed, effective_n_jobs
from joblib.parallel import BACKENDS, get_active_backend
from PIL import Image

from .augmentation import RandomResizedCrop, augmented
from .files import digests_of
from .images import HIGHEST, UnreadableImagesError, image_key, kind_of, read_image, unreadable_error
from .ranges import DARK, warn_of_dark_files, warn_of_range
from .stores import MemoryStore

if TYPE_CHECKING:
    import torch

    from .cache import DiskCache
    from .preprocessing import OpenClipPreprocessing, Preprocessing
    from .stores import StackedStores

    Form: TypeAlias = "Preprocessing | OpenClipPreprocessing | Decoded"

# Fewer files than this are read sooner than worker processes start.
FILES_FOR_WORKERS = 512
MOST_WORKERS = 8  # of n_jobs="auto"
CHUNK = 16  # images per task of a worker
CHECKED = 256  # images that are read at a time before training
PIXEL_BYTES = 1 << 30

# Decoded pixels depend on the file and the preprocessing alone, so all models share them.
memory_of_pixels = MemoryStore(PIXEL_BYTES)


class Decoded:
    """An image as RGB pixels, for random crops: as large as crops of it can use.

    The smallest crop shows 28% of a side, so beyond 4 times the model's input a larger
    image has no detail that a crop could show.
    """

    def __init__(self, size: tuple[int, int]):
        self.shorter_side = 4 * max(size)
        self.fingerprint = f"decoded-1-{self.shorter_side}"

    def __call__(self, image: Image.Image) -> np.ndarray:
        """RGB image -> pixels (h, w, 3), uint8."""
        scale = self.shorter_side / min(image.size)
        if scale < 1:
            smaller = [max(1, round(scale * side)) for side in image.size]
            image = image.resize(smaller, Image.Resampling.BICUBIC)
        return np.array(image)


class ImageSource:
    """The images of an X, read in batches of pixels for a model.

    Parameters
    ----------
    array : ndarray
        Images or paths, as `images.as_array` returns them.
    preprocessing : Preprocessing, OpenClipPreprocessing or None
        What the model wants; see `preprocessing.preprocessing_of`.  None is enough for `unreadable`.
    batch_size : int, default=256
        Images per batch where the caller of `batches` says none.
    augment : callable or None, default=None
        Random change of training images; see `augmentation.augmented`.
    store : MemoryStore, DiskCache, StackedStores or None, default=None
        Keeps pixels by key, so that a later pass reads no file.
    digests : DiskCache or None, default=None
        Keeps checksums of files, by which their images are known.
    n_jobs : "auto", int or None, default="auto"
        See `resolve_n_jobs`.
    pin : bool, default=False
        Put batches into page-locked memory, from which a GPU copies while it computes.
    """

    def __init__(
        self,
        array: np.ndarray,
        preprocessing: Any,
        *,
        batch_size: int = 256,
        augment: Callable[..., Any] | None = None,
        store: MemoryStore | DiskCache | StackedStores | None = None,
        digests: DiskCache | None = None,
        n_jobs: int | str | None = "auto",
        pin: bool = False,
    ):
        self.array = array
        self.preprocessing = preprocessing
        self.batch_size = batch_size
        self.augment = augment
        self.store = store
        self.digests = digests
        self.n_jobs = n_jobs
        self.pin = pin
        self.numbers = np.arange(len(array))  # what messages call the rows
        self._keys: dict[str, np.ndarray] = {}
        self._threads = False
        self._highest: list[int] = []  # the largest number of each file of 16 bits
        self._n_dark = 0  # files that were read while none was brighter than black
        self._brightest = 0  # of their pixels

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, rows: Any) -> torch.Tensor | ImageSource:
        """Row of the batch that a plain DataLoader collates, or a source of these rows."""
        if isinstance(rows, (int, np.integer)):
            return next(self.read([np.array([rows])]))[0]
        part = ImageSource.__new__(ImageSource)
        rows = np.arange(len(self))[rows]
        part.__dict__.update(self.__dict__, array=self.array[rows], numbers=self.numbers[rows])
        part._highest, part._n_dark, part._brightest = [], 0, 0
        part._keys = {fingerprint: keys[rows] for fingerprint, keys in self._keys.items()}
        return part

    def read(self, batches: Sequence[np.ndarray], seed: int | None = None) -> Iterator[torch.Tensor]:
        """Yield the images of each batch of rows, in order.

        Memory is bounded by two windows of batches, whatever their number.

        Parameters
        ----------
        batches : sequence of ndarray of int
            Row numbers.
        seed : int or None, default=None
            Decides the augmentation, together with the row and how often the row came before;
            None leaves it out.

        Yields
        ------
        torch.Tensor
            (b, h, w, 3) uint8; or (b, 3, h, w) float32 from an augmentation that
            preprocesses by itself.

        Raises
        ------
        UnreadableImagesError
            If a file cannot be read as an image.  All others that are still to be read are
            tried then, so that it names all that cannot.
        """
        augment = None if seed is None else self.augment
        form = self.preprocessing if augment is None else Decoded(self.preprocessing.size)
        n_jobs = resolve_n_jobs(self.n_jobs, self._n_to_read(batches, form))
        # Asked here because joblib's configuration is that of the calling thread.
        self._threads = type(get_active_backend()[0]) is BACKENDS["threading"]
        # A callable of the user's may draw from global generators: it runs in this thread.
        ahead = augment is None or isinstance(augment, RandomResizedCrop)
        turns: Counter[int] = Counter()  # of each row; one thread alone counts, in order

        def read_window(window: list[np.ndarray]) -> list[Any]:
            pixels = self._pixels(np.concatenate(window), form, n_jobs)
            parts = np.split(np.arange(len(pixels)), np.cumsum([len(rows) for rows in window])[:-1])
            images = [[pixels[k] for k in part] for part in parts]
            if not ahead:
                return images
            return [self._finish(*pair, augment, seed, turns) for pair in zip(images, window)]

        windows = _windows(batches, at_least=2 * CHUNK * n_jobs if n_jobs > 1 else 1)
        thread = ThreadPoolExecutor(1, "reading images")
        try:
            coming: Any = thread.submit(read_window, windows[0]) if windows else None
            for k, window in enumerate(windows):
                try:
                    parts = coming.result()
                except UnreadableImagesError as error:
                    raise self.all_unreadable(windows[k:], error) from error
                if k + 1 < len(windows):
                    coming = thread.submit(read_window, windows[k + 1])
                for part, rows in zip(parts, window):
                    yield part if ahead else self._finish(part, rows, augment, seed, turns)
            thread.shutdown()
        finally:
            # Nobody waits here: the garbage collector may close a generator that was left half-way in any thread, the
            # reading one among them, and with locks held which that one needs to end.
            thread.shutdown(wait=False, cancel_futures=True)
        warn_of_range(self._highest)
        if not self._highest and self._brightest:
            warn_of_dark_files(self._n_dark, self._brightest)

    def check(self, seed: int | None = None) -> None:
        """Read all images, in the form that training with this seed takes, into the store.

        Raises
        ------
        UnreadableImagesError
            Naming all files that cannot be read as images.
        """
        form = self.preprocessing if self.augment is None or seed is None else Decoded(self.preprocessing.size)
        if kind_of(self.array) == "images":
            return
        n_jobs = resolve_n_jobs(self.n_jobs, self._n_to_read([np.arange(len(self))], form))
        self._threads = type(get_active_backend()[0]) is BACKENDS["threading"]
        windows = [rows for rows in np.array_split(np.arange(len(self)), -(-len(self) // CHECKED)) if len(rows)]
        for k, rows in enumerate(windows):
            try:
                self._pixels(rows, form, n_jobs)
            except UnreadableImagesError as error:
                raise self.all_unreadable([windows[k:]], error) from error

    def unreadable(self, rows: np.ndarray | None = None) -> dict[int, str]:
        """Try to read files; return what is wrong with those that cannot be, by what messages call them."""
        rows = np.arange(len(self)) if rows is None else np.unique(rows)
        n_jobs = resolve_n_jobs(self.n_jobs, len(rows))
        backend = None if uses_engine() or n_jobs == 1 else "loky"
        chunks = np.array_split(rows, -(-len(rows) // CHUNK))
        found = run_tasks(reasons_in_chunk, self.array, chunks, (), n_jobs, backend, self.numbers)
        return {row: reason for part in found for row, reason in part.items()}

    def all_unreadable(self, windows: Sequence[Sequence[np.ndarray]], error: Exception) -> Exception:
        """Return the error of all files that cannot be read in what is left, or else the one at hand."""
        if kind_of(self.array) == "images":
            return error
        found = self.unreadable(np.concatenate([rows for window in windows for rows in window]))
        if not found:
            return error
        # Files of the same bytes are read once, but each of them is named.
        identities = np.array(self._identities(), dtype=object)
        broken = set(identities[np.isin(self.numbers, list(found))])
        found |= self.unreadable(np.flatnonzero([identity in broken for identity in identities]))
        files = dict(zip(self.numbers.tolist(), self.array))
        return unreadable_error(dict(sorted(found.items())), len(self), files=files)

    def _finish(
        self,
        pixels: list[np.ndarray],
        rows: np.ndarray,
        augment: Callable[..., Any] | None,
        seed: int | None,
        turns: Counter[int],
    ) -> torch.Tensor:
        """A batch as a tensor, augmented if need be."""
        import torch

        if augment is not None:
            seeds: list[Any] = []
            for row in map(int, rows):
                seeds.append((seed, row, turns[row]))
                turns[row] += 1
            images = map(Image.fromarray, pixels)
            pixels = [augmented(augment, *pair, self.preprocessing) for pair in zip(images, seeds)]
        kind = torch.uint8 if pixels[0].dtype == np.uint8 else torch.float32
        batch = torch.empty((len(pixels), *pixels[0].shape), dtype=kind, pin_memory=self.pin)
        np.stack(pixels, out=batch.numpy())
        return batch

    def keys(self, form: Form) -> np.ndarray:
        """Keys of all rows in a form, (n,) of bytes; each file is looked at once."""
        if form.fingerprint not in self._keys:
            salt = blake2b(form.fingerprint.encode(), digest_size=16).digest()
            keys = np.empty(len(self.array), dtype=object)
            keys[:] = [blake2b(key, digest_size=16, key=salt).digest() for key in self._identities()]
            self._keys[form.fingerprint] = keys
        return self._keys[form.fingerprint]

    def _identities(self) -> list[bytes]:
        """What every image is known by, whatever its form."""
        if kind_of(self.array) == "paths":
            return digests_of(self.array, self.digests)
        with ThreadPoolExecutor(min(cpu_count(), MOST_WORKERS)) as threads:  # hashing lets others run
            chunks = np.array_split(np.arange(len(self.array)), -(-len(self.array) // 256))
            parts = threads.map(lambda rows: [image_key(self.array, row) for row in rows], chunks)
            return [key for part in parts for key in part]

    def _n_to_read(self, batches: Sequence[np.ndarray], form: Form) -> int:
        rows = np.unique(np.concatenate(list(batches))) if len(batches) else np.empty(0, dtype=np.intp)
        if self.store is not None and len(rows):
            keys = self.keys(form)[rows]
            if hasattr(self.store, "expect"):
                self.store.expect(keys)
        return len(rows)

    def _pixels(self, rows: np.ndarray, form: Form, n_jobs: int) -> list[np.ndarray]:
        """Pixels of the rows in a form, from the store or read."""
        if self.store is None or (kind_of(self.array) == "images" and isinstance(form, Decoded)):
            return self._read(rows, form, n_jobs)  # the latter are in memory as they are
        keys = self.keys(form)[rows]
        found = self.store.get(keys)
        first: dict[bytes, int] = {}
        for key, row in zip(keys, rows):
            if key not in found:
                first.setdefault(key, row)
        if first:
            fresh = dict(zip(first, self._read(np.array(list(first.values())), form, n_jobs)))
            self.store.put(fresh)
            found |= fresh
        return [found[key] for key in keys]

    def _read(self, rows: np.ndarray, form: Form, n_jobs: int) -> list[np.ndarray]:
        if n_jobs == 1 or len(rows) <= CHUNK:
            pixels, highest = read_chunk(self.array[rows], self.numbers[rows], form)
            self._note_range(pixels, highest)
            return pixels
        # Pillow lets other threads run while it resizes, and arrays need no decoding.
        backend = "threading" if self._threads or kind_of(self.array) == "images" else "loky"
        chunks = np.array_split(rows, -(-len(rows) // CHUNK))
        try:
            tasks = run_tasks(read_chunk, self.array, chunks, (form,), n_jobs, backend, self.numbers)
        except BrokenExecutor as error:
            raise RuntimeError(
                f"a worker process died while it read images among X[{rows.min()}] to "
                f"X[{rows.max()}]: it was killed, for lack of memory perhaps, or a file crashed its "
                f"decoder. Try fewer workers than n_jobs={n_jobs}; n_jobs=1 reads in this process. What "
                "was read before is kept"
            ) from error
        images = [pixels for chunk, _ in tasks for pixels in chunk]
        self._note_range(images, [high for _, highest in tasks for high in highest])
        return images

    def _note_range(self, pixels: list[np.ndarray], highest: list[int]) -> None:
        """Note what `read` warns of: numbers of files that do not fill their type."""
        self._highest += highest
        if self._brightest < DARK and kind_of(self.array) == "paths":
            self._n_dark += len(pixels)
            brightest = (int(image.max()) for image in pixels if image.dtype == np.uint8)
            self._brightest = max(self._brightest, *brightest, 0)


def read_chunk(array: np.ndarray, numbers: np.ndarray, form: Form) -> tuple[list[np.ndarray], list[int]]:
    """Read images, which messages call by ``numbers``, into a form: the task of a worker.

    Returns the pixels, and the largest number of each file of 16 bits.
    """
    pixels, highest = [], []
    for row, number in enumerate(numbers):
        image = read_image(array, row, number=number)
        if image.info.get(HIGHEST) is not None:
            highest.append(image.info[HIGHEST])
        try:
            pixels.append(form(image))
        except ValueError as error:
            what = "the image" if kind_of(array) == "images" else repr(str(array[row]))
            raise ValueError(
                f"X[{number}]: cannot bring {what} of {image.width} x {image.height} pixels to the "
                f"model's size ({error})"
            ) from error
    return pixels, highest


def reasons_in_chunk(array: np.ndarray, numbers: np.ndarray) -> dict[int, str]:
    """What is wrong with files that cannot be read, by number: the task of a worker."""
    found = {}
    for row, number in enumerate(numbers):
        try:
            read_image(array, row, number=number)
        except UnreadableImagesError as error:
            found[int(number)] = error.reasons[0]
    return found


def run_tasks(
    task: Callable[..., Any],
    array: np.ndarray,
    chunks: Sequence[np.ndarray],
    arguments: tuple[Any, ...],
    n_jobs: int,
    backend: str | None = None,
    numbers: np.ndarray | None = None,
) -> list[Any]:
    """Results of ``task(array[rows], numbers[rows], *arguments)`` for each chunk of rows.

    Computed by the workers of joblib's backend; ``numbers`` are the rows themselves if None.
    """
    names = chunks if numbers is None else [numbers[rows] for rows in chunks]
    results: list[Any] = Parallel(n_jobs=n_jobs, backend=backend)(
        delayed(task)(_absolute(array[rows]), name, *arguments)
        for rows, name in zip(chunks, names)
    )
    return results


def _absolute(array: np.ndarray) -> np.ndarray:
    """Paths that mean the same in a worker, whose folder may be another by now."""
    if kind_of(array) == "images":
        return array
    return np.array([os.path.abspath(path) for path in array], dtype=object)


def _windows(batches: Sequence[np.ndarray], at_least: int) -> list[list[np.ndarray]]:
    """Runs of batches of at least so many images each, but for the last."""
    windows: list[list[np.ndarray]] = [[]]
    for batch in batches:
        if sum(map(len, windows[-1])) >= at_least:
            windows.append([])
        windows[-1].append(batch)
    return windows if windows[-1] else []


def uses_engine() -> bool:
    """Whether joblib's active backend is one of another library: Dask, Ray, Spark."""
    local = [BACKENDS[name] for name in ("loky", "multiprocessing", "threading", "sequential")]
    return type(get_active_backend()[0]) not in local


def resolve_n_jobs(n_jobs: int | str | None, n_files: int) -> int:
    """Number of workers that read images.

    ``"auto"``: one per core, 8 at most, where there are files enough to be worth the start
    of processes; none inside another parallel loop.  An integer or None as in joblib.
    """
    if n_jobs != "auto":
        asked: int = effective_n_jobs(n_jobs)
        return asked
    backend, _ = get_active_backend()
    if n_files < FILES_FOR_WORKERS or backend.nesting_level:
        return 1
    cores: int = cpu_count()
    return min(cores, MOST_WORKERS)
