"""Whether this machine can do what gazepack will ask of it: every answer is tried, not looked up.

Ray is started, patches go through each codec and back, the network is loaded, an object is put into the place,
listed, read and deleted. What is wrong comes with what to do about it.
"""

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np

from gazepack.errors import GazepackError
from gazepack.formats import CODECS, codec_from, open_storage
from gazepack.formats.remote import PATIENCE, is_remote
from gazepack.units import size

Verdict = Literal["ok", "note", "bad"]
"""`note`: it works, but not as well as it could."""

RAY_SECONDS = 120
"""The longest that Ray may take to start and to answer."""
STORE_SECONDS = "10"
"""How long the object store is tried again; a run is more patient."""
FREE_BYTES = 5 * 10**9
"""Less free space than this is worth a note."""
VIDEO_CODECS = ("h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "prores", "mjpeg")
_RAY = """
import logging, ray
ray.init(address="local", num_cpus=1, include_dashboard=False, object_store_memory=100 * 2**20,
         log_to_driver=False, logging_level=logging.ERROR)
answer = ray.remote(lambda: 42).remote()
assert ray.get(answer) == 42
print(ray.__version__)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One answer."""

    name: str
    """What was looked at."""
    verdict: Verdict
    """How it is."""
    says: str
    """What was found."""
    remedy: str = ""
    """What to do; empty where nothing is."""


def examine(uri: str | None = None) -> Iterator[Check]:
    """Yield one check after the other.

    Args:
        uri: where a dataset is to be; its storage is tried if it is remote, its disk if it is not.
    """
    checks: list[tuple[str, Callable[[], Check]]] = [
        ("torch", _torch),
        ("video codecs", _video_codecs),
        ("patch codecs", _patch_codecs),
        ("network", _network),
        ("ray", _ray),
    ]
    if uri is not None and is_remote(uri):
        checks.append(("storage", lambda: _storage(uri)))
    else:
        checks.append(("disk", lambda: _disk(Path((uri or ".").removeprefix("file://")))))
    for name, check in checks:
        try:
            yield check()
        except (GazepackError, OSError, RuntimeError, ImportError) as error:
            remedy = error.remedy if isinstance(error, GazepackError) else ""
            problem = error.problem if isinstance(error, GazepackError) else str(error)
            first = (problem.strip() or type(error).__name__).splitlines()[0]
            yield Check(name=name, verdict="bad", says=first, remedy=remedy)


def _torch() -> Check:
    """See whether there is a GPU that works."""
    import torch

    version = torch.__version__
    if not torch.cuda.is_available():
        built = "this build is for CPUs" if torch.version.cuda is None else "no driver or no GPU"
        return Check(
            name="torch",
            verdict="note",
            says=f"{version}, no CUDA ({built}); everything runs on the CPU",
            remedy="on a machine with a GPU: a CUDA build of torch, and a driver (nvidia-smi)",
        )
    device = torch.device("cuda")
    assert int(torch.ones(8, device=device).sum()) == 8
    free, total = torch.cuda.mem_get_info()
    name, num = torch.cuda.get_device_name(device), torch.cuda.device_count()
    return Check(
        name="torch",
        verdict="ok",
        says=f"{version}, {num} x {name}, {size(free)} of {size(total)} free",
    )


def _video_codecs() -> Check:
    """See which videos can be decoded."""
    import av

    missing = [name for name in VIDEO_CODECS if not _can_decode(name)]
    if missing:
        return Check(
            name="video codecs",
            verdict="note",
            says=f"PyAV {av.__version__} cannot decode {', '.join(missing)}",
            remedy="install PyAV from its own wheels: pip install --force-reinstall av",
        )
    return Check(
        name="video codecs",
        verdict="ok",
        says=f"PyAV {av.__version__} decodes {', '.join(VIDEO_CODECS)}",
    )


def _can_decode(name: str) -> bool:
    import av

    try:
        return bool(av.codec.Codec(name, "r"))
    except av.codec.codec.UnknownCodecError:
        return False


def _patch_codecs() -> Check:
    """Send patches through every codec."""
    patches_NPP3 = np.arange(8 * 16 * 16 * 3, dtype=np.uint32).reshape(8, 16, 16, 3)
    patches = (patches_NPP3 // 97 % 256).astype(np.uint8)
    for name in CODECS:
        codec = codec_from(name)
        back = codec.decode(codec.encode(patches), num_patches=8, patch_size=16)
        if abs(back.astype(int) - patches).mean() > 8:
            return Check(
                name="patch codecs",
                verdict="bad",
                says=f"{name} gives back other patches than it was given",
                remedy="pip install --force-reinstall pillow zstandard",
            )
    return Check(name="patch codecs", verdict="ok", says=", ".join(CODECS))


def _network() -> Check:
    """Load the network that comes with the package."""
    from gazepack.autogaze import AutoGaze

    AutoGaze.bundled(device="cpu")
    return Check(name="network", verdict="ok", says="the bundled weights load")


def _ray() -> Check:
    """Start a cluster of one worker and have it answer."""
    if find_spec("ray") is None:
        return Check(
            name="ray",
            verdict="note",
            says="not installed; pack works in one process",
            remedy="pip install 'gazepack[ray]' packs on every core and on clusters",
        )
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", _RAY],
            capture_output=True,
            text=True,
            timeout=RAY_SECONDS,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        problem = f"does not start within {RAY_SECONDS} s"
    else:
        if done.returncode == 0:
            return Check(name="ray", verdict="ok", says=f"{done.stdout.strip()} starts and answers")
        problem = f"does not start ({(done.stderr.strip() or 'no word').splitlines()[-1][:200]})"
    return Check(
        name="ray",
        verdict="bad",
        says=problem,
        remedy="free memory and /dev/shm, or pack with --executor serial",
    )


def _disk(place: Path) -> Check:
    """See whether there is room, and the right to write."""
    there = place.absolute()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if not there.is_dir() or not os.access(there, os.W_OK):
        return Check(
            name="disk",
            verdict="bad",
            says=f"{there} cannot be written",
            remedy="choose another folder, or mend its rights",
        )
    if free < FREE_BYTES:
        return Check(
            name="disk",
            verdict="note",
            says=f"{size(free)} free at {there}",
            remedy="`gazepack plan` says how much a corpus will need",
        )
    return Check(name="disk", verdict="ok", says=f"{size(free)} free at {there}")


def _storage(uri: str) -> Check:
    """Put an object, list it, read it, delete it.

    Raises:
        StorageError: one of these does not work; the message names it.
    """
    name, data = f"run/probe-{uuid.uuid4().hex}", b"gazepack doctor"
    with _impatient():
        storage = open_storage(uri)
        storage.write_atomic(name, data)
        try:
            listed, read = name in storage.list("run"), storage.read_bytes(name)
        finally:
            storage.remove(name)
        gone = not storage.exists(name)
    if listed and read == data and gone:
        return Check(name="storage", verdict="ok", says=f"{uri}: puts, lists, reads and deletes")
    problem = "list" if not listed else "read back" if read != data else "delete"
    return Check(
        name="storage",
        verdict="bad",
        says=f"{uri} takes an object but does not {problem} it",
        remedy="the credentials need list, get, put and delete below this address",
    )


@contextmanager
def _impatient() -> Iterator[None]:
    """Give up on an object store sooner than a run would."""
    before = os.environ.get(PATIENCE)
    os.environ[PATIENCE] = before or STORE_SECONDS
    try:
        yield
    finally:
        if before is None:
            del os.environ[PATIENCE]
