"""Files whose reading does to a process what a hostile video does to a decoder: really, not by pretending.

`poison://HOW/path/of/a/real/video`: its size is true, its bytes never come.
"""

import ctypes
import os
import signal
import time
from pathlib import Path
from typing import Any

from fsspec import AbstractFileSystem


def _parent_of(pid: int) -> int:
    """Return the parent of a process: of a decoder's parent, the nursery, it is the worker."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


class PoisonFileSystem(AbstractFileSystem):
    """Reads of `HOW/path` do HOW to the reader."""

    protocol = "poison"

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        how, real = self._parts(path)
        if how == "missing":
            raise FileNotFoundError(path)
        return {"name": path, "size": real.stat().st_size, "type": "file", "how": how}

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        how, real = self._parts(path)
        if how == "segv":
            ctypes.string_at(0)
        elif how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif how == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        elif how == "hang":
            time.sleep(3600)
        elif how == "worker":
            os.kill(_parent_of(os.getppid()), signal.SIGKILL)
            time.sleep(3600)  # the nursery ends with its worker, and this process with the nursery
        elif how == "memory":
            hoard = [bytes(2**26) for _ in range(10**6)]
            raise AssertionError(len(hoard))
        elif how == "once" and not (mark := real.with_suffix(".read")).exists():
            mark.touch()
            ctypes.string_at(0)
        return real.read_bytes()[start:end]

    def _parts(self, path: str) -> tuple[str, Path]:
        how, _, real = self._strip_protocol(path).partition("/")
        return how, Path("/" + real)
