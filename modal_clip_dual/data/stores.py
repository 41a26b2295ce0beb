"""Where what was made of an image is kept: this process's memory, or both it and the disk."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

EMBEDDING_BYTES = 1 << 30  # what the embeddings that a process keeps of a model may take


class MemoryStore:
    """Arrays by key, up to a number of bytes.

    What the call at hand needs is never dropped for what it needs too, so a pool larger
    than the store is half kept rather than read anew at every pass; what other calls left
    gives way, the oldest first.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self._arrays: dict[bytes, np.ndarray] = {}
        self._size = 0
        self._dispensable: list[bytes] = []
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._arrays)

    def __contains__(self, key: bytes) -> bool:
        return key in self._arrays

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._arrays.clear()
            self._dispensable.clear()
            self._size = 0

    def expect(self, keys: Iterable[bytes]) -> None:
        """Announce the keys of a call: none of them gives way to another."""
        with self._lock:
            needed = set(keys)
            self._dispensable = [key for key in self._arrays if key not in needed][::-1]

    def get(self, keys: Iterable[bytes]) -> dict[bytes, np.ndarray]:
        """Return those that are there."""
        with self._lock:
            return {key: self._arrays[key] for key in keys if key in self._arrays}

    def put(self, items: Mapping[bytes, np.ndarray]) -> int:
        """Keep what there is room for; return how many found none."""
        left_out = 0
        with self._lock:
            for key, array in items.items():
                if key in self._arrays:
                    continue
                while self._size + array.nbytes > self.limit and self._dispensable:
                    old = self._arrays.pop(self._dispensable.pop(), None)
                    self._size -= 0 if old is None else old.nbytes
                if self._size + array.nbytes > self.limit:
                    left_out += 1
                    continue
                self._arrays[key] = array
                self._size += array.nbytes
        return left_out


class StackedStores:
    """Stores asked one after the other; what a later one has is copied to the earlier ones."""

    def __init__(self, *stores: Any):
        self.stores = stores

    def expect(self, keys: Iterable[bytes]) -> None:
        """See `MemoryStore.expect`."""
        for store in self.stores:
            if hasattr(store, "expect"):
                store.expect(keys)

    def get(self, keys: Iterable[bytes]) -> dict[bytes, np.ndarray]:
        """Return those that any store has."""
        missing = list(keys)
        found: dict[bytes, np.ndarray] = {}
        for k, store in enumerate(self.stores):
            part = store.get(missing) if missing else {}
            for earlier in self.stores[:k]:
                earlier.put(part)
            found |= part
            missing = [key for key in missing if key not in part]
        return found

    def put(self, items: Mapping[bytes, np.ndarray]) -> int:
        """Keep in every store; return how many found no room in any."""
        left_out = [store.put(items) or 0 for store in self.stores]
        return min(left_out, default=len(items))

