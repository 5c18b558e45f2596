"""A folder of whole shards, copied from an object store the first time that a sample of theirs is read.

A shard is named by its SHA-256, which is checked when it is copied: a copy is never out of date, and
loaders, processes and datasets share one folder. When the limit is reached nothing is thrown out;
further shards are read by ranges. A shuffled epoch asks for all shards equally often, so throwing
out would copy a whole shard for nearly every sample, and keeping what is there saves just as many
requests. What it gives up: to make room for another dataset, empty the folder yourself.
"""

import fcntl
import hashlib
import os
import re
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from gazepack.errors import DatasetError, UsageError
from gazepack.formats import Storage
from gazepack.loader.whole import whole

_SHA256 = re.compile(r"[0-9a-f]{64}")
CHUNK_BYTES = 16 * 2**20
"""A shard is copied in requests of so many bytes."""


class Facts(Protocol):
    """What must be known of a shard to copy it."""

    @property
    def size(self) -> int:
        """In bytes."""
        ...

    @property
    def sha256(self) -> str:
        """In hexadecimal."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardCache:
    """A folder of this machine for whole shards; any number of processes may use it at a time.

    Raises:
        UsageError: the limit is no size, or there cannot be such a folder.
    """

    folder: Path
    """Made where it is missing."""
    max_bytes: int
    """Most bytes of all files in it, whoever put them there."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "max_bytes", whole("cache_bytes", self.max_bytes, least=1))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"cache_dir {str(self.folder)!r} cannot be made ({error.strerror})",
                remedy="choose another folder",
            ) from error

    def path(self, facts: Facts) -> Path:
        """Return where a shard lies if it is there.

        Raises:
            DatasetError: the index gives something else than a SHA-256.
        """
        if not _SHA256.fullmatch(facts.sha256):
            raise DatasetError(f"the index gives {facts.sha256[:80]!r} as the SHA-256 of a shard")
        return self.folder / f"{facts.sha256}.shard"

    def fetch(self, storage: Storage, name: str, facts: Facts) -> bool:
        """Copy a shard unless it is there, there is no room, or another process is at it.

        Returns:
            Whether it may never be there: there was no room, or the copy was not what it must be.

        Raises:
            StorageError: the shard cannot be read.
            DatasetError: it is missing, or shorter than its index says.
        """
        part = self.path(facts).with_suffix(".part")
        try:
            with part.open("a+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                try:
                    if self.path(facts).exists():
                        return False
                    if not self._reserve(file, part, facts.size):
                        return True
                    return not self._copy(storage, name, facts, part)
                finally:
                    part.unlink(missing_ok=True)
        except BlockingIOError:
            return False
        except OSError as error:
            warnings.warn(f"no shard is cached in {self.folder}: {error}", stacklevel=2)
            return True

    def _reserve(self, file: BinaryIO, part: Path, num_bytes: int) -> bool:
        """Give a file its full size if there is room; one process at a time."""
        with (self.folder / "lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self._used(but=part) + num_bytes > self.max_bytes:
                return False
            file.truncate(num_bytes)
            return True

    def _copy(self, storage: Storage, name: str, facts: Facts, part: Path) -> bool:
        """Copy, check and give the copy its name; return whether it is what the index says."""
        digest = hashlib.sha256()
        with part.open("r+b") as file:
            for start in range(0, facts.size, CHUNK_BYTES):
                size = min(CHUNK_BYTES, facts.size - start)
                chunk = storage.read_range(name, offset=start, size=size)
                file.write(chunk)
                digest.update(chunk)
        if digest.hexdigest() != facts.sha256:
            return False
        part.replace(self.path(facts))
        return True

    def _used(self, *, but: Path) -> int:
        """Return the bytes of all files in the folder, one left out."""
        used = 0
        for entry in os.scandir(self.folder):
            if entry.name != but.name:
                with suppress(FileNotFoundError):
                    used += entry.stat().st_size
        return used


class CachedStorage:
    """A storage whose shards are read from a cache; in all else the storage itself."""

    def __init__(self, storage: Storage, cache: ShardCache, facts: Callable[[str], Facts]) -> None:
        self._storage = storage
        self._cache = cache
        self._facts = facts
        self._known: dict[str, Facts] = {}
        self._refused: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def read_range(self, name: str, *, offset: int, size: int) -> bytes:
        """Return exactly `size` bytes from `offset` on, as the storage does."""
        if name in self._refused:
            return self._storage.read_range(name, offset=offset, size=size)
        if name not in self._known:
            self._known[name] = self._facts(name)
        facts = self._known[name]
        found = self._from_copy(facts, offset, size)
        if found is None:
            if self._cache.fetch(self._storage, name, facts):
                self._refused.add(name)
            found = self._from_copy(facts, offset, size)
        if found is None:
            return self._storage.read_range(name, offset=offset, size=size)
        return found

    def _from_copy(self, facts: Facts, offset: int, size: int) -> bytes | None:
        """Return a range of the copy, or None where there is none of it."""
        if offset < 0 or size < 0 or offset + size > facts.size:
            return None
        try:
            with self._cache.path(facts).open("rb") as file:
                found = os.pread(file.fileno(), size, offset)
        except FileNotFoundError:
            return None
        return found if len(found) == size else None
