"""Who packs what is pending: this process or workers on Ray, on which device, and how hard each video is tried.

The options of the program and of `gazepack.pack` both end here, so they pack in the same way. Nothing of it
shows in the bytes. Importing it costs nothing: torch and Ray come when somebody packs.
"""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gazepack.jobs.choices import Executor
    from gazepack.jobs.decoders import DecoderSettings
    from gazepack.jobs.executors.cluster import ClusterSettings
    from gazepack.jobs.ledger import Run
    from gazepack.jobs.metrics import Meter
    from gazepack.jobs.unit import Report, Resources

MOST_DECODERS = 4
"""Of a process that packs alone; more would wait for its one chooser."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """The fields are named as the options of `gazepack pack`, and their defaults are its defaults."""

    executor: "Executor | None" = None
    """As `choose_executor` finds if `None`."""
    device: str = "auto"
    """Where patches are chosen: `auto`, `cpu`, `cuda` or `cuda:N`."""
    decode_device: str = "cpu"
    """Where videos are decoded that can be decoded exactly there: `cpu`, `cuda` or `cuda:N`."""
    batch_size: int = 32
    """Tiles of clips that are chosen for at once."""
    video_timeout: float = 600.0
    """Seconds after which the decoding of one video is given up."""
    video_memory: int = 4 * 2**30
    """Bytes beyond which the decoding of one video is given up."""
    attempts: int = 2
    """Tries of a video before it goes on record."""
    workers: tuple[int, int] | None = None
    """The least and the most workers on Ray; as many as fit if `None`."""
    cpus_per_worker: int = 1
    """Cores of each worker, each of which decodes a video."""
    gpus_per_worker: float | None = None
    """GPUs, or the share of one, of each worker; 1 with cuda, else 0, if `None`."""
    units_per_worker: int = 50
    """Units after which a worker is replaced."""
    worker_memory: int | None = None
    """Bytes that a worker may hold after a unit without being replaced."""
    ray_address: str | None = None
    """Of a cluster that is there; an own one if `None`."""

    @property
    def own_device(self) -> str:
        """The device of this process; with `gpus_per_worker` the GPUs are the workers'.

        Raises:
            UsageError: it does not exist.
        """
        from gazepack.jobs.choices import choose_device

        return "cpu" if self.gpus_per_worker else choose_device(self.device)

    def check(self) -> None:
        """Refuse a decode device before anything is begun; the machines of a cluster look for themselves.

        Raises:
            UsageError: PyAV does not know it, or it cannot be opened.
        """
        from gazepack.jobs.choices import check_decode_device

        elsewhere = self.ray_address is not None or bool(self.gpus_per_worker)
        check_decode_device(self.decode_device, is_here=not elsewhere)

    def executor_of(self, run: "Run") -> "Executor":
        """Return who packs what is pending.

        Raises:
            UsageError: Ray was asked for and is not installed.
        """
        from gazepack.jobs.choices import choose_executor

        return choose_executor(self.executor, num_units=len(run.pending), address=self.ray_address)

    def pack(self, run: "Run", *, report: "Report", meter: "Meter | None" = None) -> None:
        """Pack what is pending.

        Args:
            run: what to pack.
            report: told of every video as it ends.
            meter: told how the time is spent, if anybody wants to know.

        Raises:
            StorageError: the output cannot be written; what was committed before stays.
            UsageError: see `executor_of` and `run_ray`.
        """
        if self.executor_of(run) == "serial":
            from gazepack.jobs.executors.serial import run_serial

            alone = self._resources(self.own_device, self.own_decoders)
            run_serial(run, resources=alone, report=report, meter=meter)
            return
        from gazepack.jobs.executors.ray import run_ray

        cluster = self._cluster()
        each = self._resources(
            "cuda" if cluster.gpus_per_worker else "cpu", self._decoders(self.cpus_per_worker)
        )
        run_ray(run, resources=each, report=report, meter=meter, settings=cluster)

    @property
    def own_decoders(self) -> "DecoderSettings":
        """How many videos this process decodes side by side, and how hard each is tried."""
        return self._decoders(min(MOST_DECODERS, os.cpu_count() or 1))

    def _decoders(self, num: int) -> "DecoderSettings":
        from gazepack.jobs.decoders import DecoderSettings

        return DecoderSettings(
            num=num,
            timeout_seconds=self.video_timeout,
            memory_bytes=self.video_memory,
            attempts=self.attempts,
            device=self.decode_device,
        )

    def _resources(self, device: str, decoders: "DecoderSettings") -> "Resources":
        from gazepack.jobs.unit import Resources

        return Resources(device=device, batch_size=self.batch_size, decoders=decoders)

    def _cluster(self) -> "ClusterSettings":
        from gazepack.jobs.executors.cluster import ClusterSettings

        gpus = self.gpus_per_worker
        if gpus is None:
            gpus = float(self.own_device.startswith("cuda"))
        least, most = self.workers or (None, None)
        return ClusterSettings(
            address=self.ray_address,
            min_workers=least,
            max_workers=most,
            cpus_per_worker=self.cpus_per_worker,
            gpus_per_worker=gpus,
            units_per_worker=self.units_per_worker,
            worker_memory_bytes=self.worker_memory,
        )
