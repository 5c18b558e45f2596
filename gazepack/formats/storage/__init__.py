"""Where a dataset lives: a local folder, or any object store that fsspec knows.

Every write appears whole or not at all: locally written beside its place, flushed and renamed; on
an object store one put. Names are relative, of safe characters, and cannot leave the root. What
goes wrong is said in one line. What it gives up: there is no append and no lock, since nothing in a
dataset is ever edited.
"""

from pathlib import Path

from gazepack.errors import UsageError
from gazepack.formats.remote import has_secrets, local_path, without_secrets
from gazepack.formats.storage.base import Staged, Storage, is_temporary
from gazepack.formats.storage.local import LocalStorage
from gazepack.formats.storage.objects import ObjectStorage

__all__ = ["LocalStorage", "Staged", "Storage", "is_temporary", "open_storage"]


def open_storage(uri: str) -> Storage:
    """Return the storage of a path or URI; nothing is created or looked up yet.

    Raises:
        UsageError: no such kind of storage, its client is not installed, the address carries a secret, or it is
            neither a path nor a URI.
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
        return LocalStorage(uri, local_path(uri))
    protocol, _, rest = uri.partition("://")
    if protocol in ("file", "local"):
        return LocalStorage(uri, Path("/" + rest.lstrip("/")))
    return ObjectStorage(uri)
