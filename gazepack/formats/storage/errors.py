"""What a disk or an object store can refuse, in one line and with a remedy.

`StorageError` for what the owner of the storage can mend, `DatasetError` for a file that should be there and
is not. Object stores have exception trees of their own, so it is what was being done that tells them apart.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from gazepack.errors import DatasetError, GazepackError, StorageError, UsageError
from gazepack.formats.remote import without_secrets

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
_DAMAGED = "restore the file from a copy, or pack the shard again"


def short(name: str, *, offset: int, size: int, length: int | None) -> DatasetError:
    """Return the error of a range that a file does not have; its length is `None` if nobody asked."""
    has = "" if length is None else f" of a file of {length} bytes"
    return DatasetError(
        f"bytes {offset} to {offset + size}{has} cannot be read", place=name, remedy=_DAMAGED
    )


def whole(name: str, data: bytes, *, offset: int, size: int) -> bytes:
    """Return the bytes of a range.

    Raises:
        DatasetError: they are fewer or more than were asked for.
    """
    if len(data) != size:
        raise short(name, offset=offset, size=size, length=offset + len(data))
    return data


@contextmanager
def reading(uri: str, name: str) -> Iterator[None]:
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
def writing(uri: str, name: str) -> Iterator[None]:
    """Turn what a write can raise into one line."""
    try:
        yield
    except GazepackError:
        raise
    except Exception as error:
        raise _storage_error("written", uri, name, error) from error


@contextmanager
def opening(uri: str) -> Iterator[None]:
    """Turn what making a client can raise into one line."""
    try:
        yield
    except ImportError as error:
        is_s3 = uri.startswith(("s3:", "s3a:"))
        raise UsageError(
            f"{uri!r} cannot be opened ({error})",
            remedy="pip install 'gazepack[s3]'" if is_s3 else "install the package that it names",
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
