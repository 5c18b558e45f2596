"""What every storage can do, the names it takes, and the file that a shard is written into."""

import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol

from gazepack.errors import UsageError
from gazepack.formats.storage.errors import writing

_PART = re.compile(r"[A-Za-z0-9_.-]{1,255}")
_TEMPORARY = re.compile(r"\.[A-Za-z0-9_.-]+\.[0-9a-f]{16}\.tmp")


class Storage(Protocol):
    """Named bytes below one root."""

    uri: str
    """The root, as the user wrote it."""

    def read_bytes(self, name: str) -> bytes:
        """Return a whole file."""
        ...

    def read_range(self, name: str, *, offset: int, size: int) -> bytes:
        """Return exactly `size` bytes from `offset` on."""
        ...

    def size(self, name: str) -> int:
        """Return the length of a file in bytes."""
        ...

    def write_atomic(self, name: str, data: bytes) -> None:
        """Write a file so that it appears whole or not at all."""
        ...

    def write_new(self, name: str, data: bytes) -> None:
        """Write a file, unless there is one: read it to see whose it is."""
        ...

    def staged(self, name: str) -> AbstractContextManager["Staged"]:
        """Open a file that takes its name when the block ends, and vanishes if it raises."""
        ...

    def exists(self, name: str) -> bool:
        """Return whether there is a file of this name."""
        ...

    def list(self, prefix: str = "") -> list[str]:
        """Return the sorted names of all files below a folder, the root by default."""
        ...

    def is_empty(self) -> bool:
        """Return whether there is nothing at the root; cheaper than a list."""
        ...

    def above(self) -> Iterator["Storage"]:
        """Yield the folders or prefixes that the root lies in, the nearest first."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file; a missing one is no error."""
        ...


def check_name(name: str) -> str:
    """Return a name that stays below the root.

    Raises:
        UsageError: it is absolute, has a `..`, or characters beyond `A-Z a-z 0-9 _ . -`.
    """
    parts = name.split("/")
    if any(not _PART.fullmatch(part) or part in (".", "..") for part in parts):
        raise UsageError(f"{name!r} is not a safe name below a dataset")
    return name


def is_temporary(name: str) -> bool:
    """Return whether this is a file that a killed writer left behind before it got its name."""
    return _TEMPORARY.fullmatch(name.rsplit("/", 1)[-1]) is not None


class Staged:
    """A temporary file that is being written; what the disk refuses becomes a `StorageError`."""

    def __init__(self, file: BinaryIO, uri: str, name: str) -> None:
        self._file = file
        self._uri = uri
        self._name = name

    def write(self, data: bytes) -> None:
        """Append to the file."""
        with writing(self._uri, self._name):
            self._file.write(data)

    def flush(self) -> None:
        """Bring everything to the disk."""
        with writing(self._uri, self._name):
            self._file.flush()
            os.fsync(self._file.fileno())


@contextmanager
def new_file(path: Path, uri: str, name: str) -> Iterator[Staged]:
    """Make a file that is on the disk when the block ends.

    Raises:
        StorageError: the disk refuses it, here or while it is written.
    """
    with writing(uri, name):
        file = path.open("xb")
    staged = Staged(file, uri, name)
    try:
        yield staged
        staged.flush()
    finally:
        with suppress(OSError):  # what was refused once is refused again when the file is closed
            file.close()
