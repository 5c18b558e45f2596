"""Files behind a URI: which client, how patient it is, and a video read by ranges.

Every request to an object store goes through `persistently`: throttling, server errors, broken and silent
connections and answers cut short are tried again, first by the client (each part of an upload by itself, four
times), then here, with growing pauses, for about `GAZEPACK_RETRY_SECONDS` (60) in all. An S3 that says nothing
at all is given a quarter of that each time. What will not change by waiting is not tried again: a missing file,
a missing permission, missing credentials. A web server has the same patience as an S3.

Credentials and endpoints come from the client's own places (environment, profile, role of the machine) and
are never looked at here; an address that carries a secret in itself is shown without it by `without_secrets`.
"""

import errno
import io
import os
import random
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

import fsspec
from fsspec.core import url_to_fs

from gazepack.errors import GazepackError, UsageError

PATIENCE = "GAZEPACK_RETRY_SECONDS"
PATIENCE_SECONDS = 60.0
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 20.0
BLOCK_BYTES = 4 * 2**20
NUM_BLOCKS = 4
"""What a remote video keeps in memory: the blocks it was last read from."""

CLIENT_TRIES = 2
"""Of a request to S3 by botocore, and of those by s3fs."""
LEAST_SILENCE_SECONDS = 3.0
_FINAL = (
    FileNotFoundError,
    FileExistsError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    ImportError,
    NotImplementedError,  # what fsspec raises where a kind of storage lacks an operation
    GazepackError,
    MemoryError,
    TypeError,
    ValueError,
)
"""What trying again would not mend."""
_FINAL_NAMES = frozenset(
    ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "ParamValidationError")
)
BLOT = "***"
"""Stands where a secret was."""
BLOTTED = r"(://|=)\*\*\*"
"""Matches an address that a secret was taken out of."""
_SECRET_USER = re.compile(r"(?<=://)[^/@\s'\"]+@|(?<=s3://)[^/:@\s'\"]+:[^@\s'\"]+@")
_SECRET_NAMES = (
    "X-(?:Amz|Goog)-(?:Signature|Credential|Security-Token)|(?:AWS|Google)AccessKey?Id|Signature|Policy"
    "|Key-Pair-Id|sig|hdnts|hdnea|auth|password|passwd|pwd|secret|key"
    "|(?:[a-z]+[_-])?token|(?:[a-z]+[_-])?secret|api[_-]?key|access[_-]?key"
)
_SECRET_QUERY = re.compile(rf"([?&;](?:{_SECRET_NAMES})=)[^&;#\s'\"]+", re.IGNORECASE)

_ONE_SLASH = re.compile(r"([a-z][a-z0-9+.-]+):/(?!/)")

T = TypeVar("T")


def filesystem(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return the client for a URI and what the client calls the place.

    Raises:
        ValueError: no such kind of storage.
        ImportError: its client is not installed.
    """
    silence = max(LEAST_SILENCE_SECONDS, _patience_seconds() / CLIENT_TRIES**2)
    if uri.startswith(("http://", "https://")):
        from aiohttp import ClientTimeout

        timeout = ClientTimeout(total=None, sock_connect=silence, sock_read=silence)
        fs, path = url_to_fs(uri, use_listings_cache=False, client_kwargs={"timeout": timeout})
        return fs, path
    if not uri.startswith(("s3://", "s3a://")):
        fs, path = url_to_fs(uri, use_listings_cache=False)
        return fs, path
    config = {
        "retries": {"mode": "standard", "total_max_attempts": CLIENT_TRIES},
        "connect_timeout": silence,
        "read_timeout": silence,
    }
    fs, path = url_to_fs(uri, use_listings_cache=False, config_kwargs=config)
    fs.retries = CLIENT_TRIES
    return fs, path


def _patience_seconds() -> float:
    return float(os.environ.get(PATIENCE, PATIENCE_SECONDS))


def persistently(action: Callable[[], T]) -> T:
    """Return `action()`, tried again as long as it fails for a reason that may pass.

    Raises:
        Exception: what the last attempt raised.
    """
    until = time.monotonic() + _patience_seconds()
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            return action()
        except Exception as error:
            if not may_pass(error) or time.monotonic() + pause > until:
                raise
        time.sleep(pause * random.uniform(0.5, 1.0))  # apart from the other workers
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def may_pass(error: Exception) -> bool:
    """Return whether the same request might succeed later."""
    if isinstance(error, FileNotFoundError) and _is_outage(error.__cause__):
        return True
    names = {kind.__name__ for kind in type(error).__mro__}
    refused = isinstance(error, OSError) and error.errno == errno.EINVAL  # such as a range outside
    return not isinstance(error, _FINAL) and not names & _FINAL_NAMES and not refused


def _is_outage(fault: BaseException | None) -> bool:
    """Return whether a web server is away or overloaded, which fsspec's client calls a missing file."""
    names = {kind.__name__ for kind in type(fault).__mro__}
    status = getattr(fault, "status", 0)
    return "ClientConnectionError" in names or status == 429 or status >= 500


def without_secrets(text: str) -> str:
    """Return a text with the passwords and signatures in its URIs blotted out."""
    if "@" not in text and "=" not in text:  # most, and there may be millions
        return text
    return _SECRET_QUERY.sub(rf"\1{BLOT}", _SECRET_USER.sub(f"{BLOT}@", text))


def has_secrets(uri: str) -> bool:
    """Return whether a URI carries a password or a signature in itself."""
    return "://" in uri and without_secrets(uri) != uri


def lasting(uri: str) -> str:
    """Return what stays the same of a URI when it is signed anew: no user, and no query if that is signed."""
    if "@" not in uri and "=" not in uri:
        return uri
    public = _SECRET_USER.sub("", uri)
    return public.split("?", 1)[0] if _SECRET_QUERY.search(public) else public


def is_remote(uri: str) -> bool:
    """Return whether a path or URI lies outside this machine's file system."""
    return "://" in uri and not uri.startswith(("file://", "local://"))


def local_path(place: str) -> Path:
    """Return a path of this machine, `~` in front being the user's home.

    A shell writes `~` out in `--out ~/packed`, but bash does not in `--out=~/packed`, nor Python anywhere.

    Raises:
        UsageError: it is a URI that lost a slash, as `str(pathlib.Path("s3://bucket"))` does.
    """
    found = _ONE_SLASH.match(place)
    if found and found[1] in fsspec.available_protocols():
        raise UsageError(
            f"{place!r} is no URI: it has one slash for two, as pathlib.Path leaves it",
            remedy=f"write {found[1]}://..., as a string",
        )
    return Path(os.path.expanduser(place))  # noqa: PTH111 (which raises where there is no such user)


@contextmanager
def opened_source(uri: str) -> Iterator[str | BinaryIO]:
    """Give a local path as it is, and open a remote file to be read by ranges.

    Raises:
        Exception: whatever the storage's client raises; storage clients have exceptions of their own.
    """
    if not is_remote(uri):
        yield uri
        return
    with RemoteFile(uri) as raw:
        yield raw  # type: ignore[misc]  # it has all that a decoder asks of a binary file


class RemoteFile(io.RawIOBase):
    """A remote file, read in blocks of `BLOCK_BYTES` of which the last `NUM_BLOCKS` are kept."""

    def __init__(self, uri: str) -> None:
        self.name: str = without_secrets(uri)
        self._fs, self._path = filesystem(uri)
        self._size = self._ask_size()
        self._position = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    def _ask_size(self) -> int:
        try:
            size = persistently(lambda: self._fs.size(self._path))
        except FileNotFoundError as error:  # whose text is the address
            reason = str(error.__cause__) if _is_outage(error.__cause__) else "no such file"
            raise OSError(reason) from error
        if size is None:
            raise OSError("the server does not tell its size, so that it cannot be read by ranges")
        return int(size)

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position; nothing is read."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Return `size` bytes from the position on, fewer only at the end."""
        end = self._size if size is None or size < 0 else min(self._size, self._position + size)
        parts = []
        while self._position < end:
            number, start = divmod(self._position, BLOCK_BYTES)
            part = self._block(number)[start : start + end - self._position]
            parts.append(part)
            self._position += len(part)
        return b"".join(parts)

    def _block(self, number: int) -> bytes:
        """Return a block, from memory or by one request."""
        if number not in self._blocks:
            start = number * BLOCK_BYTES
            end = min(self._size, start + BLOCK_BYTES)
            self._blocks[number] = persistently(lambda: self._fetch(start, end))
            if len(self._blocks) > NUM_BLOCKS:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(number)
        return self._blocks[number]

    def _fetch(self, start: int, end: int) -> bytes:
        data = bytes(self._fs.cat_file(self._path, start=start, end=end))
        if len(data) != end - start:
            raise OSError(f"{len(data)} bytes came where {end - start} were asked for by range")
        return data
