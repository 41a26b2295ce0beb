"""What a process keeps of images."""

import numpy as np

from modal_clip_dual.data.cache import DiskCache
from modal_clip_dual.data.stores import MemoryStore, StackedStores


def arrays(keys, size=100):
    return {key: np.full(size, ord(key), dtype=np.uint8) for key in keys}


def kept(store, keys="abcdefgh"):
    return "".join(sorted(store.get(keys)))


def test_keeps_up_to_its_limit():
    store = MemoryStore(300)
    assert store.put(arrays("ab")) == 0
    assert store.put(arrays("cde")) == 2
    assert kept(store) == "abc"
    assert store.put(arrays("ab")) == 0  # there already
    assert store.get("b")["b"][0] == ord("b")
    assert len(store) == 3
    store.clear()
    assert kept(store) == ""
    assert store.put(arrays("cde")) == 0


def test_what_a_call_needs_stays_and_the_oldest_of_the_rest_gives_way():
    store = MemoryStore(300)
    store.put(arrays("abc"))
    store.expect("bde")
    assert store.put(arrays("d")) == 0
    assert kept(store) == "bcd"
    assert store.put(arrays("e")) == 0
    assert kept(store) == "bde"
    assert store.put(arrays("f")) == 1  # all others are needed
    assert kept(store) == "bde"


def test_passes_over_more_than_fits_do_not_push_each_other_out():
    store, read = MemoryStore(300), []
    for _ in range(3):
        store.expect("abcdef")
        for key in "abcdef":
            if not store.get(key):
                read.append(key)
                store.put(arrays(key))
    assert "".join(read) == "abcdef" + "def" + "def"


def test_larger_than_everything():
    store = MemoryStore(300)
    store.put(arrays("a"))
    store.expect("b")
    assert store.put(arrays("b", size=301)) == 1


def test_stack_asks_in_turn_and_copies_upwards(tmp_path):
    memory, disk = MemoryStore(1000), DiskCache(tmp_path, "pixels", "1", np.uint8)
    stack = StackedStores(memory, disk)
    keys = [b"a" * 16, b"b" * 16]
    items = {key: np.arange(4, dtype=np.uint8) for key in keys}
    disk.put({keys[0]: items[keys[0]]})
    stack.expect(keys)
    assert list(stack.get(keys)) == keys[:1]
    assert keys[0] in memory
    assert stack.put(items) == 0
    assert set(disk.get(keys)) == set(memory.get(keys)) == set(keys)
    assert StackedStores().put(items) == 2
    assert StackedStores().get(keys) == {}
    assert StackedStores(MemoryStore(4)).put(items) == 1
    assert StackedStores(MemoryStore(4), disk).put(items) == 0
