"""Where a dataset lives: a local folder, or any object store that fsspec knows.

Every write appears whole or not at all: locally written beside its place, flushed and renamed; on
an object store one put. Names are relative, of safe characters, and cannot leave the root. What
goes wrong is said in one line: `StorageError` for what the owner of the storage can mend,
`DatasetError` for a file that should be there and is not. What it gives up: there is no append and
no lock, since nothing in a dataset is ever edited.
"""

import errno
import os
import re
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol

import fsspec

from gazepack.errors import DatasetError, GazepackError, StorageError, UsageError
from gazepack.formats.remote import filesystem, has_secrets, persistently, without_secrets

SETTLE_SECONDS = 1.0
"""How long writers of one name that began at once may take, on a store that lets the last one win."""
_PART = re.compile(r"[A-Za-z0-9_.-]{1,255}")
_REMEDIES = {
    errno.ENOSPC: "free some space and run the same command again: what was committed is kept",
    errno.EDQUOT: "free some quota and run the same command again: what was committed is kept",
    errno.EACCES: "give yourself permission, or choose another place",
    errno.EPERM: "give yourself permission, or choose another place",
    errno.EROFS: "choose a place that can be written",
    errno.ENOTDIR: "choose another place: a file is in the way",
    errno.EEXIST: "choose another place: a file is in the way",
    errno.EISDIR: "choose another place: a folder is in the way",
    errno.ENAMETOOLONG: "choose a shorter path",
}
_LINKLESS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)
"""What file systems without hard links answer."""
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

    def remove(self, name: str) -> None:
        """Remove a file; a missing one is no error."""
        ...


def open_storage(uri: str) -> Storage:
    """Return the storage of a path or URI; nothing is created or looked up yet.

    Raises:
        UsageError: no such kind of storage, its client is not installed, or the address carries a secret.
    """
    if not uri:
        raise UsageError("the place of the dataset is empty", remedy="name a folder or a URI")
    if has_secrets(uri):
        raise UsageError(
            f"the address {without_secrets(uri)!r} carries a password or signature, which would end up in "
            "messages and in the settings of workers",
            remedy="put credentials where the storage's client looks for them: environment, profile or role",
        )
    if "://" not in uri:
        return LocalStorage(uri, Path(uri))
    protocol, _, rest = uri.partition("://")
    if protocol in ("file", "local"):
        return LocalStorage(uri, Path("/" + rest.lstrip("/")))
    return ObjectStorage(uri)


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
        with _writing(self._uri, self._name):
            self._file.write(data)

    def flush(self) -> None:
        """Bring everything to the disk."""
        with _writing(self._uri, self._name):
            self._file.flush()
            os.fsync(self._file.fileno())


@contextmanager
def _new_file(path: Path, uri: str, name: str) -> Iterator[Staged]:
    """Make a file that is on the disk when the block ends.

    Raises:
        StorageError: the disk refuses it, here or while it is written.
    """
    with _writing(uri, name):
        file = path.open("xb")
    staged = Staged(file, uri, name)
    try:
        yield staged
        staged.flush()
    finally:
        with suppress(OSError):  # what was refused once is refused again when the file is closed
            file.close()


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
        with _reading(self.uri, name):
            return self._path(name).read_bytes()

    def read_range(self, name: str, *, offset: int, size: int) -> bytes:
        """Return exactly `size` bytes from `offset` on; checked before it is allocated."""
        with _reading(self.uri, name):
            file = os.open(self.path(name), os.O_RDONLY)
            try:
                length = os.fstat(file).st_size
                if offset < 0 or size < 0 or offset + size > length:
                    raise _short(name, offset=offset, size=size, length=length)
                return _whole(name, os.pread(file, size, offset), offset=offset, size=size)
            finally:
                os.close(file)

    def size(self, name: str) -> int:
        """Return the length of a file in bytes."""
        with _reading(self.uri, name):
            return self._path(name).stat().st_size

    def write_atomic(self, name: str, data: bytes) -> None:
        """Write beside, flush, rename."""
        with self.staged(name) as file:
            file.write(data)

    def write_new(self, name: str, data: bytes) -> None:
        """Write beside, flush, link: of several writers at once exactly one gets the name."""
        folder, _, last = name.rpartition("/")
        mine = f"{folder}/.{last}.{secrets.token_hex(8)}.tmp".lstrip("/")
        self.write_atomic(mine, data)
        try:
            with _writing(self.uri, name), suppress(FileExistsError):
                _link(self._path(mine), self._path(name))
                _sync_folder(self._path(name).parent)
        finally:
            self.remove(mine)

    @contextmanager
    def staged(self, name: str) -> Iterator["Staged"]:
        """Open a sibling temporary file that is flushed and renamed when the block ends."""
        path = self._path(name)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
        with _writing(self.uri, name):
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with _new_file(temporary, self.uri, name) as staged:
                yield staged
            with _writing(self.uri, name):
                temporary.replace(path)
                _sync_folder(path.parent)
        finally:
            with suppress(OSError):
                temporary.unlink()

    def exists(self, name: str) -> bool:
        """Return whether there is a file of this name."""
        with _reading(self.uri, name):
            return self._path(name).is_file()

    def list(self, prefix: str = "") -> list[str]:
        """Return the sorted names of all files below a folder, not following links."""
        top = self._path(prefix) if prefix else self._root
        names: list[str] = []
        with _reading(self.uri, prefix):
            for folder, _, files in os.walk(top, onerror=_raise_unless_missing):
                relative = Path(folder).relative_to(self._root)
                names.extend((relative / file).as_posix() for file in files)
        return sorted(names)

    def is_empty(self) -> bool:
        """Return whether the folder is missing or empty, but for a killed writer's leavings."""
        with _writing(self.uri, ""):
            if not self._root.exists():
                return True
            return all(is_temporary(entry.name) for entry in self._root.iterdir())

    def remove(self, name: str) -> None:
        """Remove a file; a missing one is no error."""
        with _writing(self.uri, name):
            self._path(name).unlink(missing_ok=True)


class ObjectStorage:
    """A prefix of an object store; credentials, endpoints and patience are as `remote.py` says."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        with _opening(uri):
            fs, root = filesystem(uri)
        self._fs: fsspec.AbstractFileSystem = fs
        self._root: str = root.rstrip("/")

    def _path(self, name: str) -> str:
        return f"{self._root}/{check_name(name)}"

    def read_bytes(self, name: str) -> bytes:
        """Return a whole object."""
        with _reading(self.uri, name):
            path = self._path(name)
            return bytes(persistently(lambda: self._fs.cat_file(path)))

    def read_range(self, name: str, *, offset: int, size: int) -> bytes:
        """Return exactly `size` bytes from `offset` on, by one range request."""
        if offset < 0 or size < 0:
            raise _short(name, offset=offset, size=size, length=None)
        if not size:
            return b""
        path, end = self._path(name), offset + size
        try:
            with _reading(self.uri, name):
                data = persistently(lambda: self._fs.cat_file(path, start=offset, end=end))
        except StorageError as error:
            length = self.size(name)
            if offset + size > length:
                raise _short(name, offset=offset, size=size, length=length) from error
            raise
        return _whole(name, bytes(data), offset=offset, size=size)

    def size(self, name: str) -> int:
        """Return the length of an object in bytes."""
        with _reading(self.uri, name):
            path = self._path(name)
            return int(persistently(lambda: self._fs.size(path)))

    def write_atomic(self, name: str, data: bytes) -> None:
        """Put one object."""
        with _writing(self.uri, name):
            path = self._path(name)
            persistently(lambda: self._fs.pipe_file(path, data))

    def write_new(self, name: str, data: bytes) -> None:
        """Put one object on the condition that there is none.

        A store that does not know conditions lets the last of several writers win. Then the others are given
        time to finish, so that all of them read the same afterwards.
        """
        with _writing(self.uri, name):
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
        with _writing(tempfile.gettempdir(), "gazepack-*"):
            folder = tempfile.TemporaryDirectory(prefix="gazepack-")
        with folder:
            local = Path(folder.name) / "staged"
            with _new_file(local, folder.name, "staged") as staged:
                yield staged
            with _writing(self.uri, name):
                persistently(lambda: self._fs.put_file(str(local), path))

    def exists(self, name: str) -> bool:
        """Return whether there is an object of this name."""
        with _reading(self.uri, name):
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
        with _reading(self.uri, prefix):
            self._fs.invalidate_cache()
            found = persistently(lambda: self._fs.find(top))
        start = len(self._root) + 1
        return sorted(str(path)[start:] for path in found)

    def is_empty(self) -> bool:
        """Return whether no object lies below the root."""
        with _writing(self.uri, ""):
            try:
                below = persistently(lambda: self._fs.ls(self._root, detail=False))
                return not [path for path in below if path != self._root]
            except FileNotFoundError:
                return True

    def remove(self, name: str) -> None:
        """Remove an object; a missing one is no error."""
        with _writing(self.uri, name), suppress(FileNotFoundError):
            path = self._path(name)
            persistently(lambda: self._fs.rm_file(path))


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _link(new: Path, path: Path) -> None:
    """Give a file a further name that must be free, or rename it where there are no links.

    Raises:
        FileExistsError: the name is taken.
    """
    try:
        os.link(new, path)
    except OSError as error:
        if error.errno not in _LINKLESS:
            raise
        if path.exists():
            raise FileExistsError(path) from error
        new.replace(path)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _short(name: str, *, offset: int, size: int, length: int | None) -> DatasetError:
    has = "" if length is None else f" of a file of {length} bytes"
    return DatasetError(
        f"bytes {offset} to {offset + size}{has} cannot be read", place=name, remedy=_DAMAGED
    )


def _whole(name: str, data: bytes, *, offset: int, size: int) -> bytes:
    if len(data) != size:
        raise _short(name, offset=offset, size=size, length=offset + len(data))
    return data


_DAMAGED = "restore the file from a copy, or pack the shard again"


@contextmanager
def _reading(uri: str, name: str) -> Iterator[None]:
    """Turn what a read can raise into one line; object stores have exception trees of their own."""
    try:
        yield
    except GazepackError:
        raise
    except FileNotFoundError as error:
        raise DatasetError(
            "the file is missing", place=_join(uri, name), remedy=_DAMAGED
        ) from error
    except Exception as error:
        raise _storage_error("read", uri, name, error) from error


@contextmanager
def _writing(uri: str, name: str) -> Iterator[None]:
    """Turn what a write can raise into one line."""
    try:
        yield
    except GazepackError:
        raise
    except Exception as error:
        raise _storage_error("written", uri, name, error) from error


@contextmanager
def _opening(uri: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise UsageError(
            f"{uri!r} cannot be opened ({error})", remedy="for S3: pip install 'gazepack[s3]'"
        ) from error
    except ValueError as error:
        raise UsageError(
            f"{uri!r} cannot be opened ({error})",
            remedy="use a folder, or a URI such as s3://bucket/dir",
        ) from error


def _storage_error(action: str, uri: str, name: str, error: Exception) -> StorageError:
    code = error.errno if isinstance(error, OSError) else None
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    remedy = _REMEDIES.get(code or 0, "check the address, the credentials and the network")
    return StorageError(
        without_secrets(
            f"{_join(uri, name)} cannot be {action} ({reason or type(error).__name__})"
        ),
        remedy=remedy,
    )


def _join(uri: str, name: str) -> str:
    return f"{uri.rstrip('/')}/{name}" if name else uri
