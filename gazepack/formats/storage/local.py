"""A folder of this machine: files are written beside their place, flushed and renamed."""

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from gazepack.formats.storage.base import Staged, check_name, is_temporary, new_file
from gazepack.formats.storage.errors import reading, short, whole, writing

_LINKLESS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)
"""What file systems without hard links answer."""


class LocalStorage:
    """A folder of this machine."""

    def __init__(self, uri: str, root: Path) -> None:
        self.uri = uri
        self._root = root.absolute()

    def _path(self, name: str) -> Path:
        return self._root / check_name(name)

    def path(self, name: str) -> str:
        """Return where a file lies."""
        return f"{self._root}/{check_name(name)}"

    def read_bytes(self, name: str) -> bytes:
        """Return a whole file."""
        with reading(self.uri, name):
            return self._path(name).read_bytes()

    def read_range(self, name: str, *, offset: int, size: int) -> bytes:
        """Return exactly `size` bytes from `offset` on; checked before it is allocated."""
        with reading(self.uri, name):
            file = os.open(self.path(name), os.O_RDONLY)
            try:
                length = os.fstat(file).st_size
                if offset < 0 or size < 0 or offset + size > length:
                    raise short(name, offset=offset, size=size, length=length)
                return whole(name, os.pread(file, size, offset), offset=offset, size=size)
            finally:
                os.close(file)

    def size(self, name: str) -> int:
        """Return the length of a file in bytes."""
        with reading(self.uri, name):
            return self._path(name).stat().st_size

    def write_atomic(self, name: str, data: bytes) -> None:
        """Write beside, flush, rename."""
        with self.staged(name) as file:
            file.write(data)

    def write_new(self, name: str, data: bytes) -> None:
        """Write beside, flush, link: of several writers at once exactly one gets the name."""
        with self._beside(name, _link_unless_there) as file:
            file.write(data)

    def staged(self, name: str) -> AbstractContextManager["Staged"]:
        """Open a sibling temporary file that is flushed and renamed when the block ends."""
        return self._beside(name, Path.replace)

    @contextmanager
    def _beside(self, name: str, take: Callable[[Path, Path], object]) -> Iterator["Staged"]:
        """Open a sibling temporary file that is flushed when the block ends and `take` gives its name."""
        path = self._path(name)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
        with writing(self.uri, name):
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with new_file(temporary, self.uri, name) as staged:
                yield staged
            with writing(self.uri, name):
                take(temporary, path)
                _sync_folder(path.parent)
        finally:
            with suppress(OSError):
                temporary.unlink()

    def exists(self, name: str) -> bool:
        """Return whether there is a file of this name."""
        with reading(self.uri, name):
            return self._path(name).is_file()

    def list(self, prefix: str = "") -> list[str]:
        """Return the sorted names of all files below a folder, not following links."""
        top = self._path(prefix) if prefix else self._root
        names: list[str] = []
        with reading(self.uri, prefix):
            for folder, _, files in os.walk(top, onerror=_raise_unless_missing):
                relative = Path(folder).relative_to(self._root)
                names.extend((relative / file).as_posix() for file in files)
        return sorted(names)

    def is_empty(self) -> bool:
        """Return whether the folder is missing or empty, but for a killed writer's leavings."""
        with writing(self.uri, ""):
            if not self._root.exists():
                return True
            return all(is_temporary(entry.name) for entry in self._root.iterdir())

    def above(self) -> Iterator["LocalStorage"]:
        """Yield the folders that the root lies in, wherever links lead, the nearest first."""
        for folder in self._root.resolve().parents:
            yield LocalStorage(str(folder), folder)

    def remove(self, name: str) -> None:
        """Remove a file; a missing one is no error."""
        with writing(self.uri, name):
            self._path(name).unlink(missing_ok=True)


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _link_unless_there(new: Path, path: Path) -> None:
    """Give a file a further name if that is free, or rename it where there are no links."""
    try:
        os.link(new, path)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno not in _LINKLESS:
            raise
        if not path.exists():
            new.replace(path)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
