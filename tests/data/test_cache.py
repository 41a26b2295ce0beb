"""Arrays on disk: whole after kills, safe for several processes, refused when stale."""

import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from modal_clip_dual.data.cache import DiskCache, default_cache_folder

KEYS = [bytes([k]) * 16 for k in range(20)]


def vectors(n=3, seed=0):
    values = np.random.default_rng(seed).normal(size=(n, 8)).astype(np.float32)
    return dict(zip(KEYS, values))


@pytest.fixture
def cache(tmp_path):
    return DiskCache(tmp_path / "a" / "b", "embeddings", "f00", np.float32)


def assert_same(actual, expected):
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        assert actual[key].dtype == value.dtype
        np.testing.assert_array_equal(actual[key], value)


def test_round_trip(cache):
    items = vectors()
    cache.put(items)
    assert_same(cache.get(KEYS), items)
    assert cache.get([]) == {}
    cache.put({})
    again = DiskCache(cache.path.parent, "embeddings", "f00", np.float32)
    assert_same(again.get(KEYS[1:]), {key: items[key] for key in KEYS[1:3]})
    assert_same(pickle.loads(pickle.dumps(cache)).get(KEYS), items)
    assert again.get(KEYS[:1])[KEYS[0]].flags.writeable


def test_images_of_any_shape(tmp_path):
    cache = DiskCache(tmp_path, "pixels", "1", np.uint8)
    shapes = [(4, 5, 3), (1, 1, 3), (7, 2, 3)]
    items = {key: np.full(shape, 7, dtype=np.uint8) for key, shape in zip(KEYS, shapes)}
    items[KEYS[0]] = items[KEYS[0]][::-1]
    cache.put(items)
    assert_same(cache.get(KEYS), items)


def test_first_value_stays(cache):
    cache.put(vectors(seed=0))
    cache.put(vectors(n=4, seed=1))
    assert_same(cache.get(KEYS[:3]), vectors(seed=0))
    assert len(cache.get(KEYS)) == 4


def test_many_keys(cache):
    keys = [k.to_bytes(16, "big") for k in range(3000)]
    cache.put(dict.fromkeys(keys[::2], np.zeros(8, np.float32)))
    assert list(cache.get(keys)) == keys[::2] or set(cache.get(keys)) == set(keys[::2])


def test_other_settings_are_other_files(cache):
    cache.put(vectors())
    for settings in (("embeddings", "f01", np.float32), ("pixels", "f00", np.float32)):
        assert DiskCache(cache.path.parent, *settings).get(KEYS) == {}


def test_stale_file_is_refused(cache):
    cache.put(vectors())
    cache.path.rename(cache.path.with_name("embeddings-f01.sqlite"))
    with pytest.raises(ValueError, match=r"cache.*f01.sqlite.*'f00'.*expected.*'f01'"):
        DiskCache(cache.path.parent, "embeddings", "f01", np.float32)
    cache.path.with_name("embeddings-f01.sqlite").rename(cache.path)
    with pytest.raises(ValueError, match=r"cache.*<f4.*expected.*\|u1"):
        DiskCache(cache.path.parent, "embeddings", "f00", np.uint8)


def test_damaged_file_is_refused(cache):
    cache.put(vectors())
    cache.path.write_bytes(b"not a database" * 1000)
    for use in (
        lambda: DiskCache(cache.path.parent, "embeddings", "f00", np.float32),
        lambda: cache.get(KEYS),
        lambda: cache.put(vectors()),
    ):
        with pytest.raises(ValueError, match=r"cache.*damaged.*delete the file"):
            use()


@pytest.mark.parametrize(
    "damage", ["data = x'00'", "shape = '9'", "shape = 'x'", "shape = NULL", "data = NULL"]
)
def test_row_that_is_not_whole_counts_as_missing(cache, damage):
    cache.put(vectors())
    connection = sqlite3.connect(cache.path)
    connection.execute(f"UPDATE arrays SET {damage} WHERE key = ?", (KEYS[0],))
    connection.commit()
    connection.close()
    assert set(cache.get(KEYS)) == set(KEYS[1:3])


def test_row_with_truncated_data_is_replaced(cache):
    cache.put(vectors())
    connection = sqlite3.connect(cache.path)
    connection.execute("UPDATE arrays SET data = x'00' WHERE key = ?", (KEYS[0],))
    connection.commit()
    connection.close()
    cache.put(vectors())
    assert_same(cache.get(KEYS), vectors())


def test_folder_that_cannot_be_used(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="cache=.*file.* cannot be created"):
        DiskCache(tmp_path / "file", "embeddings", "f00", np.float32)


def test_folder_that_cannot_be_written_to(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ValueError, match="cache=.* cannot be written to"):
        DiskCache(tmp_path, "embeddings", "f00", np.float32)


def test_text_names_the_file(cache):
    assert repr(cache) == f"DiskCache({str(cache.path)!r}, float32)"


def test_full_disk_warns_once_and_keeps_what_was_there(cache, monkeypatch):
    cache.put(vectors())
    connect = sqlite3.connect

    def small(*args, **kwargs):  # SQLite itself reports a full database beyond these pages
        connection = connect(*args, **kwargs)
        connection.execute("PRAGMA max_page_count = 6")
        return connection

    monkeypatch.setattr(sqlite3, "connect", small)
    big = {key: np.zeros(20_000, np.float32) for key in KEYS[5:8]}
    with pytest.warns(UserWarning, match="cannot be written to .*full") as record:
        cache.put(big)
        cache.put(big)
    assert len(record) == 1
    monkeypatch.undo()
    assert_same(cache.get(KEYS), vectors())
    cache.put(big)
    assert len(cache.get(KEYS)) == 6


WRITER = """
import sys
import numpy as np
from modal_clip_dual.data.cache import DiskCache
cache = DiskCache(sys.argv[1], "embeddings", "f00", np.float32)
start, n = int(sys.argv[2]), int(sys.argv[3])
print("ready", flush=True)
for k in range(start, start + n):
    numbers = range(10 * k, 10 * k + 10)
    cache.put({j.to_bytes(16, "big"): np.full(500, j, np.float32) for j in numbers})
"""


def writer(folder, start, n):
    command = [sys.executable, "-c", WRITER, str(folder), str(start), str(n)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def check_written(cache, n):
    """Every array that is there is the one that was put; return their number."""
    found = cache.get([k.to_bytes(16, "big") for k in range(10 * n)])
    for key, array in found.items():
        np.testing.assert_array_equal(array, np.full(500, int.from_bytes(key, "big"), np.float32))
    return len(found)


def test_two_processes_write_at_once(cache):
    processes = [writer(cache.path.parent, start, 40) for start in (0, 20)]  # half of them shared
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert check_written(cache, 60) == 600


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_killed_writer_leaves_whole_transactions(cache):
    process = writer(cache.path.parent, 0, 100_000)
    process.stdout.readline()
    deadline = time.monotonic() + 30
    while check_written(cache, 30) < 30 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    n = check_written(cache, 1000)
    assert n >= 30
    assert n % 10 == 0
    cache.put(vectors())
    assert_same(cache.get(KEYS[:3]), vectors())


def test_locked_file_is_waited_for_and_then_done_without(cache, monkeypatch):
    cache.put(vectors())
    lock = sqlite3.connect(cache.path, isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr("modal_clip_dual.data.cache.BUSY_SECONDS", 0.1)
    with pytest.warns(UserWarning, match="cannot be read .*locked"):
        assert cache.get(KEYS) == {}
    with pytest.raises(ValueError, match="cache: .*cannot be opened for writing.*locked"):
        DiskCache(cache.path.parent, "embeddings", "f00", np.float32)
    lock.close()
    assert_same(cache.get(KEYS), vectors())


def test_threads(cache):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: cache.put({key: np.full(4, key[0], np.float32)}), KEYS))
    assert set(cache.get(KEYS)) == set(KEYS)


def test_default_folder(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_cache_folder() == Path("/somewhere/modal_clip_dual")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_folder() == Path.home() / ".cache" / "modal_clip_dual"
