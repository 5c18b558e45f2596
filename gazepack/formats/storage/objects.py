"""A prefix of an object store: one put a file, one range request a read."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import fsspec

from gazepack.errors import StorageError
from gazepack.formats.remote import filesystem, persistently
from gazepack.formats.storage.base import Staged, check_name, new_file
from gazepack.formats.storage.errors import opening, reading, short, whole, writing

SETTLE_SECONDS = 1.0
"""How long writers of one name that began at once may take, on a store that lets the last one win."""


class ObjectStorage:
    """A prefix of an object store; credentials, endpoints and patience are as `remote.py` says."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        with opening(uri):
            fs, root = filesystem(uri)
        self._fs: fsspec.AbstractFileSystem = fs
        self._root: str = root.rstrip("/")

    def _path(self, name: str) -> str:
        return f"{self._root}/{check_name(name)}"

    def read_bytes(self, name: str) -> bytes:
        """Return a whole object."""
        with reading(self.uri, name):
            path = self._path(name)
            return bytes(persistently(lambda: self._fs.cat_file(path)))

    def read_range(self, name: str, *, offset: int, size: int) -> bytes:
        """Return exactly `size` bytes from `offset` on, by one range request."""
        if offset < 0 or size < 0:
            raise short(name, offset=offset, size=size, length=None)
        if not size:
            return b""
        path, end = self._path(name), offset + size
        try:
            with reading(self.uri, name):
                data = persistently(lambda: self._fs.cat_file(path, start=offset, end=end))
        except StorageError as error:
            length = self.size(name)
            if offset + size > length:
                raise short(name, offset=offset, size=size, length=length) from error
            raise
        return whole(name, bytes(data), offset=offset, size=size)

    def size(self, name: str) -> int:
        """Return the length of an object in bytes."""
        with reading(self.uri, name):
            path = self._path(name)
            return int(persistently(lambda: self._fs.size(path)))

    def write_atomic(self, name: str, data: bytes) -> None:
        """Put one object."""
        with writing(self.uri, name):
            path = self._path(name)
            persistently(lambda: self._fs.pipe_file(path, data))

    def write_new(self, name: str, data: bytes) -> None:
        """Put one object on the condition that there is none.

        A store that does not know conditions lets the last of several writers win. Then the others are given
        time to finish, so that all of them read the same afterwards.
        """
        with writing(self.uri, name):
            path = self._path(name)
            if self._put_new(path, data) and self._put_new(path, data):  # twice: no conditions
                time.sleep(SETTLE_SECONDS)

    def _put_new(self, path: str, data: bytes) -> bool:
        """Put an object if there is none; return whether it was put."""
        try:
            persistently(lambda: self._fs.pipe_file(path, data, mode="create"))
        except Exception:  # clients say in many ways that there is one
            if not persistently(lambda: self._is_file(path)):
                raise
            return False
        return True

    @contextmanager
    def staged(self, name: str) -> Iterator["Staged"]:
        """Open a temporary file of this machine that is put as one object when the block ends."""
        path = self._path(name)
        with writing(tempfile.gettempdir(), "gazepack-*"):
            folder = tempfile.TemporaryDirectory(prefix="gazepack-")
        with folder:
            local = Path(folder.name) / "staged"
            with new_file(local, folder.name, "staged") as staged:
                yield staged
            with writing(self.uri, name):
                persistently(lambda: self._fs.put_file(str(local), path))

    def exists(self, name: str) -> bool:
        """Return whether there is an object of this name."""
        with reading(self.uri, name):
            path = self._path(name)
            return bool(persistently(lambda: self._is_file(path)))

    def _is_file(self, path: str) -> bool:
        """Return whether there is an object; unlike `isfile` of fsspec, an outage is not a no."""
        try:
            return bool(self._fs.info(path)["type"] == "file")
        except FileNotFoundError:
            return False

    def list(self, prefix: str = "") -> list[str]:
        """Return the sorted names of all objects below a prefix."""
        top = self._path(prefix) if prefix else self._root
        with reading(self.uri, prefix):
            self._fs.invalidate_cache()
            found = persistently(lambda: self._fs.find(top))
        start = len(self._root) + 1
        return sorted(str(path)[start:] for path in found)

    def is_empty(self) -> bool:
        """Return whether no object lies below the root."""
        with writing(self.uri, ""):
            try:
                below = persistently(lambda: self._fs.ls(self._root, detail=False))
                return not [path for path in below if path != self._root]
            except FileNotFoundError:
                return True

    def above(self) -> Iterator["ObjectStorage"]:
        """Yield the prefixes that the root lies in, down to the whole bucket, the nearest first."""
        protocol, _, place = self.uri.rstrip("/").partition("://")
        while "/" in place:
            place = place.rpartition("/")[0]
            yield ObjectStorage(f"{protocol}://{place}")

    def remove(self, name: str) -> None:
        """Remove an object; a missing one is no error."""
        with writing(self.uri, name), suppress(FileNotFoundError):
            path = self._path(name)
            persistently(lambda: self._fs.rm_file(path))
