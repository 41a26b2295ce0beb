"""Reading in batches: the right images in the right order, by workers, each file once."""

import gc
import os
import subprocess
import sys
import threading
import time
import weakref

import joblib
import numpy as np
import pytest
import torch
from joblib import parallel_config
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms as T

from modal_clip_dual.data import reading
from modal_clip_dual.data.augmentation import RandomResizedCrop
from modal_clip_dual.data.cache import DiskCache
from modal_clip_dual.data.images import as_array
from modal_clip_dual.data.preprocessing import Preprocessing
from modal_clip_dual.data.reading import Decoded, ImageSource, resolve_n_jobs, uses_engine
from modal_clip_dual.data.stores import MemoryStore

PREPROCESSING = Preprocessing((16, 16), False, int(Image.Resampling.BICUBIC), (0.5,) * 3, (0.5,) * 3)
N = 40


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (N, 20, 30, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def paths(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for k, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{k}.png")
    return as_array([str(folder / f"{k}.png") for k in range(N)])


@pytest.fixture
def read_rows(monkeypatch):
    """Rows that were read in this process, in order."""
    rows = []
    original = reading.read_image

    def counted(array, row, **kwargs):
        rows.append(kwargs["number"])
        return original(array, row, **kwargs)

    monkeypatch.setattr(reading, "read_image", counted)
    return rows


def expected(images, rows):
    return np.stack([PREPROCESSING(Image.fromarray(images[row])) for row in rows])


BATCHES = [np.array([3, 1, 2]), np.array([0]), np.array([7, 7, 39, 20]), np.arange(10, 30)]


@pytest.mark.parametrize("kind", ["images", "paths"])
@pytest.mark.parametrize("n_jobs", [1, 2, "auto"])
def test_batches(images, paths, kind, n_jobs):
    array = images if kind == "images" else paths
    got = list(ImageSource(array, PREPROCESSING, n_jobs=n_jobs).read(BATCHES))
    assert len(got) == len(BATCHES)
    for batch, rows in zip(got, BATCHES):
        assert batch.dtype == torch.uint8
        np.testing.assert_array_equal(batch.numpy(), expected(images, rows))
    assert list(ImageSource(array, PREPROCESSING).read([])) == []


def test_workers_are_other_processes(paths):
    class Where:
        fingerprint = "where"
        size = (1, 1)

        def __call__(self, image):
            time.sleep(0.01)  # else one worker may be done before the other has begun
            return np.array([os.getpid(), threading.get_ident() % 10**6])

    here = os.getpid()
    whole = [np.arange(N)]
    processes = {int(row[0]) for row in next(ImageSource(paths, Where(), n_jobs=2).read(whole))}
    assert here not in processes
    with parallel_config(backend="threading"):  # what the user chose counts
        rows = next(ImageSource(paths, Where(), n_jobs=2).read(whole))
    assert {int(row[0]) for row in rows} == {here}
    assert len({int(row[1]) for row in rows}) == 2


def test_few_files_start_no_workers(paths, monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("workers were asked")

    monkeypatch.setattr(reading, "run_tasks", fail)
    list(ImageSource(paths, PREPROCESSING).read(BATCHES))
    monkeypatch.setattr(reading, "FILES_FOR_WORKERS", 10)
    monkeypatch.setattr(reading, "cpu_count", lambda: 2)
    with pytest.raises(AssertionError, match="workers were asked"):
        list(ImageSource(paths, PREPROCESSING).read(BATCHES))


def test_number_of_workers(monkeypatch):
    monkeypatch.setattr(reading, "cpu_count", lambda: 64)
    assert resolve_n_jobs("auto", 10**6) == 8
    assert resolve_n_jobs("auto", 10) == 1
    assert resolve_n_jobs(3, 10) == 3
    assert resolve_n_jobs(None, 10**6) == 1
    assert resolve_n_jobs(-1, 10) == joblib.effective_n_jobs(-1)
    with parallel_config(n_jobs=5):
        assert resolve_n_jobs(None, 10) == 5
    nested = joblib.Parallel(2, backend="threading")(
        joblib.delayed(resolve_n_jobs)("auto", 10**6) for _ in range(2)
    )
    assert nested == [1, 1]


def test_own_backends_are_no_engine():
    assert not uses_engine()
    for backend in ("threading", "loky", "multiprocessing", "sequential"):
        with parallel_config(backend=backend, n_jobs=2):
            assert not uses_engine()


def test_relative_paths_mean_the_same_in_workers(images, tmp_path, monkeypatch):
    """The workers of one call serve the next, in whatever folder that is made."""
    for k in range(2):
        folder = tmp_path / str(k)
        folder.mkdir()
        for j in range(20):
            Image.fromarray(images[20 * k + j]).save(folder / f"{j}.png")
        monkeypatch.chdir(folder)
        array = as_array([f"{j}.png" for j in range(20)])
        pixels = next(ImageSource(array, PREPROCESSING, n_jobs=2).read([np.arange(20)]))
        np.testing.assert_array_equal(pixels.numpy(), expected(images, range(20 * k, 20 * k + 20)))


def test_killed_worker_is_an_error_and_the_next_call_works(paths):
    class Kill:
        fingerprint = "kill"
        size = (1, 1)

        def __call__(self, image):
            os.kill(os.getpid(), 9)

    advice = r"worker process died .* among X\[0\] to X\[39\].*fewer workers than n_jobs=2; n_jobs=1 reads"
    with pytest.raises(RuntimeError, match=advice):
        list(ImageSource(paths, Kill(), n_jobs=2).read([np.arange(N)]))
    pixels = next(ImageSource(paths, PREPROCESSING, n_jobs=2).read([np.arange(N)]))
    assert pixels.shape == (N, 16, 16, 3)


def test_parts_of_a_source(images):
    source = ImageSource(images, PREPROCESSING)
    mask = np.arange(N) % 2 == 0
    for rows in (slice(3, 9), [4, 2], np.array([4, 2]), mask):
        part = source[rows]
        whole = np.arange(N)[rows]
        assert len(part) == len(whole)
        pixels = next(part.read([np.arange(len(part))]))
        np.testing.assert_array_equal(pixels.numpy(), expected(images, whole))
    np.testing.assert_array_equal(source[5].numpy(), expected(images, [5])[0])


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_broken_file_is_named_by_its_row_after_what_came_before(paths, tmp_path, n_jobs):
    (tmp_path / "bad.png").touch()
    array = paths.copy()
    array[33] = str(tmp_path / "bad.png")
    source = ImageSource(array, PREPROCESSING, n_jobs=n_jobs)
    batches = source.read([np.arange(0, 32), np.arange(32, 40)])
    if n_jobs == 1:
        assert len(next(batches)) == 32
    with pytest.raises(ValueError, match=r"X\[33\]: cannot read .*bad\.png"):
        list(batches)
    with pytest.raises(ValueError, match=r"X\[33\]"):  # also of a part of the source
        list(source[np.array([5, 33])].read([np.arange(2)]))


def test_error_of_the_form_names_the_image(paths):
    def form(image):
        raise ValueError("height and width must be > 0")

    with pytest.raises(ValueError, match=r"X\[0\]: .*0\.png' of 30 x 20 pixels.*height and width"):
        reading.read_chunk(paths, np.arange(1), form)


def test_memory_is_bounded_by_windows(paths, read_rows):
    """Not more than the window at hand and the next one are read ahead of the consumer."""
    batches = ImageSource(paths, PREPROCESSING, n_jobs=1).read(np.arange(N).reshape(-1, 4))
    for k in range(N // 4):
        next(batches)
        assert len(read_rows) <= 4 * (k + 2)


def reading_threads(before):
    return [thread for thread in threading.enumerate() if thread not in before]


def test_abandoned_reading_ends(paths):
    before = threading.enumerate()
    batches = ImageSource(paths, PREPROCESSING).read(np.arange(N).reshape(-1, 4))
    next(batches)
    batches.close()
    for thread in reading_threads(before):
        thread.join(60)
    assert reading_threads(before) == []


def test_reading_to_the_end_leaves_no_thread(paths):
    before = threading.enumerate()
    list(ImageSource(paths, PREPROCESSING).read(np.arange(N).reshape(-1, 4)))
    assert reading_threads(before) == []


def test_abandoned_reading_is_collected_in_any_thread(paths, monkeypatch):
    """The reading thread itself may be the one in which the garbage collector runs: it cannot wait for itself."""
    before, errors, calls, dropped = threading.enumerate(), [], [], threading.Event()
    monkeypatch.setattr(sys, "unraisablehook", errors.append)
    pixels = ImageSource._pixels

    def collecting(*args):
        calls.append(args)
        if len(calls) == 2:
            assert dropped.wait(60)
            gc.collect()
        return pixels(*args)

    monkeypatch.setattr(ImageSource, "_pixels", collecting)
    batches = ImageSource(paths, PREPROCESSING).read(np.arange(N).reshape(-1, 4))
    next(batches)
    ended = weakref.ref(batches)
    cycle = [batches]
    cycle.append(cycle)
    del batches, cycle
    dropped.set()
    for thread in reading_threads(before):
        thread.join(60)
    assert reading_threads(before) == [] and errors == [] and len(calls) == 2
    assert ended() is None


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_store_saves_reading(images, paths, read_rows, tmp_path, kind):
    store = MemoryStore(10**7) if kind == "memory" else DiskCache(tmp_path, "pixels", "1", np.uint8)
    batches = [np.arange(N), np.array([0, 0, 5])]
    for _ in range(2):
        source = ImageSource(paths, PREPROCESSING, store=store)
        for batch, rows in zip(source.read(batches), batches):
            np.testing.assert_array_equal(batch.numpy(), expected(images, rows))
        assert len(read_rows) == N
    augmenting = ImageSource(paths, PREPROCESSING, store=store, augment=RandomResizedCrop((16, 16)))
    first = [batch.numpy() for batch in augmenting.read(batches, seed=0)]
    second = [batch.numpy() for batch in augmenting.read(batches, seed=1)]
    assert len(read_rows) == 2 * N  # once more in full size, then never again
    assert (first[0] != second[0]).any()


def test_changed_file_is_read_again(images, tmp_path, read_rows):
    path = tmp_path / "a.png"
    store = MemoryStore(10**7)
    for k in range(2):
        Image.fromarray(images[k, :, : 20 + k]).save(path)
        source = ImageSource(as_array([str(path)]), PREPROCESSING, store=store)
        pixels = next(source.read([np.arange(1)]))[0].numpy()
        image = Image.fromarray(images[k, :, : 20 + k])
        np.testing.assert_array_equal(pixels, PREPROCESSING(image))


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("augment", [RandomResizedCrop((16, 16)), T.RandomRotation(90)])
def test_augmentation_follows_seed_and_row_alone(paths, augment, n_jobs):
    source = ImageSource(paths, PREPROCESSING, augment=augment, n_jobs=n_jobs)
    reference = ImageSource(paths, PREPROCESSING, augment=augment, n_jobs=1)
    whole = next(reference.read([np.arange(N)], seed=3))
    parts = torch.cat(list(source.read([np.arange(30), np.arange(30, N)], seed=3)))
    assert torch.equal(parts, whole)
    assert not torch.equal(next(source.read([np.arange(N)], seed=4)), whole)
    plain = next(source.read([np.arange(N)]))
    assert torch.equal(plain, next(ImageSource(paths, PREPROCESSING).read([np.arange(N)])))


@pytest.mark.parametrize("augment", [RandomResizedCrop((16, 16)), T.RandomRotation(90)])
def test_repeated_rows_are_augmented_anew(paths, augment):
    """As pseudo-labels make a small labelled set go round and round in an epoch."""
    source = ImageSource(paths, PREPROCESSING, augment=augment)
    batches = [np.array([3, 1]), np.array([1, 3, 3])]
    first, second = source.read(batches, seed=0)
    of_three = [first[0], *second[1:]]
    assert not any(torch.equal(of_three[i], of_three[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    assert all(torch.equal(*pair) for pair in zip(source.read(batches, seed=0), (first, second)))


def test_augmentation_sees_the_whole_image(paths, images):
    seen = []
    source = ImageSource(paths, PREPROCESSING, augment=lambda im: seen.append(im) or im)
    list(source.read([np.array([4])], seed=0))
    np.testing.assert_array_equal(np.asarray(seen[0]), images[4])


def test_large_images_are_shrunk_before_they_are_kept():
    form = Decoded((16, 16))
    big = Image.fromarray(np.random.default_rng(0).integers(0, 256, (640, 1000, 3), dtype=np.uint8))
    assert form(big).shape == (64, 100, 3)
    small = big.crop((0, 0, 64, 30))
    np.testing.assert_array_equal(form(small), np.asarray(small))


def test_works_in_a_plain_data_loader(images, paths):
    loader = DataLoader(ImageSource(paths, PREPROCESSING), batch_size=7)
    batches = torch.cat(list(loader))
    np.testing.assert_array_equal(batches.numpy(), expected(images, range(N)))


SCRIPT = """
import sys
import numpy as np
from modal_clip_dual.data.preprocessing import Preprocessing
from modal_clip_dual.data.reading import ImageSource
paths = np.array(sys.argv[1:], dtype=object)
source = ImageSource(paths, Preprocessing((16, 16), False, 3, (0.5,) * 3, (0.5,) * 3), n_jobs=2)
print("ran", next(source.read([np.arange(len(paths))])).shape)
"""


def test_script_needs_no_main_guard(paths, tmp_path):
    """Workers start by spawning or the like, and do not run the user's script again."""
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py"), *paths[:20]]
    output = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert output.stdout.split() == ["ran", "torch.Size([20,", "16,", "16,", "3])"], output.stderr
