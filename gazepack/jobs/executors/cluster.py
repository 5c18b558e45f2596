"""A Ray cluster to run on: one of one's own with nothing to set up, or one that is there.

The own one is this machine, without dashboard and with a small object store: gazepack puts no frames into it.
"""

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray

from gazepack.errors import UsageError

OBJECT_STORE_BYTES = 100 * 2**20
"""Of the own cluster; the units and news that pass through it are a few kilobytes each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """Where the workers are, how many, and how large."""

    address: str | None = None
    """Of a cluster that is there: `auto`, `host:6379` or `ray://host:10001`; an own one if `None`."""
    min_workers: int | None = None
    """The workers that must come before the run gives up waiting; 1 unless given."""
    max_workers: int | None = None
    """The most workers; as many as fit on the cluster as it is at the start if `None`."""
    cpus_per_worker: int = 1
    """Cores that each worker is given."""
    gpus_per_worker: float = 0.0
    """GPUs, or the share of one, that each worker is given."""
    units_per_worker: int = 50
    """Units after which a worker is replaced, so that a leak never grows for long."""
    worker_memory_bytes: int | None = None
    """A worker that holds more than this after a unit is replaced at once; its decoders do not count."""

    def __post_init__(self) -> None:
        least, most = self.min_workers or 1, self.max_workers
        if least < 1 or (most is not None and most < least):
            raise UsageError(
                f"workers {self.min_workers}:{self.max_workers} is not a range of at least one worker",
                remedy="give a number, or MIN:MAX",
            )


@contextmanager
def cluster(settings: ClusterSettings) -> Iterator[int]:
    """Start or join a cluster, and leave it at the end.

    Yields:
        The most workers to have.

    Raises:
        UsageError: there is no cluster at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if ray.is_initialized():  # by whoever calls us as a library: it is theirs to leave
        yield _most(settings)
        return
    if settings.address is None:
        wanted = (settings.max_workers or 1) * settings.cpus_per_worker
        _init(
            address="local",
            num_cpus=max(wanted, os.cpu_count() or 1),
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
        )
    else:
        _check_answer(settings.address)
        try:
            _init(address=settings.address)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise _no_answer(settings.address, error) from error
    try:
        yield _most(settings)
    finally:
        ray.shutdown()


def _init(**where: Any) -> None:
    """Connect, and leave SIGTERM to whoever had it: Ray takes it to end the process with a code of its own."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _check_answer(address: str) -> None:
    """Refuse an address where nobody listens; Ray itself would end the process from another thread.

    Raises:
        UsageError: nobody does.
    """
    host, colon, port = address.removeprefix("ray://").partition(":")
    if not colon:  # such as "auto", which is looked up on this machine
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise _no_answer(address, error) from error


def _no_answer(address: str, error: Exception) -> UsageError:
    """Return the error of an address without a cluster."""
    return UsageError(
        f"no Ray cluster answers at {address!r} ({str(error).splitlines()[0]})",
        remedy="check --ray-address, or leave it out to use this machine alone",
    )


def _most(settings: ClusterSettings) -> int:
    """Return the most workers: as asked, or as many as fit now."""
    if settings.max_workers is not None:
        return settings.max_workers
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]  # ray has no hints
    fitting = [resources.get("CPU", 1.0) / settings.cpus_per_worker]
    if settings.gpus_per_worker:
        fitting.append(resources.get("GPU", 0.0) / settings.gpus_per_worker)
    return max(int(min(fitting)), settings.min_workers or 1)
