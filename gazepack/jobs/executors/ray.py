"""The executor on a Ray cluster: many workers, any of which may die.

The driver keeps the units that are left, the largest first, so that the run does not end with one worker at
one long unit. It hands one to each free worker; when a worker or its node dies, a new worker is asked for and
the unit goes back in line. A unit gives the same bytes wherever and however often it is packed, so there is
nothing else to repair. When the driver dies, its workers die with it, and the same command goes on.

Actors rather than Ray Data: there is no data between the stages here but what stays inside a worker.
"""

import logging
import time
from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from gazepack.errors import GazepackError, UsageError
from gazepack.jobs.executors.cluster import ClusterSettings, cluster
from gazepack.jobs.executors.meter import RunGauges
from gazepack.jobs.executors.packer import Job, Packer, UnitEnd
from gazepack.jobs.ledger import Run
from gazepack.jobs.metrics import Meter, Tally
from gazepack.jobs.unit import Report, Resources, VideoDone

DEATHS = 4
"""Workers that a unit may take with it before it is set aside."""
ERRORS = 2
"""How often a unit, or the start of a worker, may meet trouble with storage before the run stops."""
FALSE_STARTS = 6
"""Workers that may die before they could begin, one after the other, before the run stops."""
TICK_SECONDS = 1.0
PATIENCE_SECONDS = 900.0
"""How long the first of `min_workers` may take to come; a cluster may have to rent machines first."""


def run_ray(
    run: Run,
    *,
    resources: Resources,
    report: Report,
    meter: Meter | None = None,
    settings: ClusterSettings | None = None,
) -> None:
    """Pack all pending units.

    Args:
        run: what to pack.
        resources: what decides the speed of one worker.
        report: told of every video as it ends.
        meter: told at the end of every unit how its worker's time was spent, if anybody wants to know.
        settings: where, and how many workers; this machine if `None`.

    Raises:
        StorageError: the output cannot be written; what was committed before stays.
        UsageError: there is no cluster, no worker can start, or a unit kills every worker that tries it.
    """
    if not run.pending:
        return
    settings = settings or ClusterSettings()
    job = Job(
        uri=run.directory.uri,
        settings=run.settings,
        codec=run.codec,
        resources=resources,
        num_threads=settings.cpus_per_worker,
    )
    with cluster(settings) as most:
        meter = Tally() if meter is None else meter
        driver = _Driver(run, job, settings, most, report, meter)
        try:
            driver.drive()
        finally:
            driver.close()


Ref = ray.ObjectRef[Any]

_log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True, eq=False)
class _Worker:
    """An actor, as the driver knows it."""

    actor: Any
    """Its handle: `Packer` with every method answered by a reference."""
    at: Ref | None
    """What it will answer next: that it has started, or how its unit ended. None when it is free."""
    unit: int | None = None
    """What it packs; None while it starts."""
    units: int = 0
    """How many it was given."""
    memory_bytes: int = 0
    """What it held when it last ended one."""
    asked: Ref | None = None
    """Its news, when they have been asked for."""


class _Driver:
    """The units that are left, and the workers."""

    def __init__(
        self,
        run: Run,
        job: Job,
        settings: ClusterSettings,
        most: int,
        report: Report,
        meter: Meter,
    ) -> None:
        self._run, self._settings, self._most = run, settings, most
        self._report, self._meter, self._gauges = report, meter, RunGauges()
        self._job = ray.put(job)
        self._actor: Any = ray.remote(Packer).options(
            num_cpus=settings.cpus_per_worker,
            num_gpus=settings.gpus_per_worker,
            max_concurrency=2,
            max_restarts=0,
            max_task_retries=0,
        )
        self._line = deque(run.plan.largest_first(run.pending))
        self._workers: list[_Worker] = []
        self._deaths: Counter[int] = Counter()
        self._errors: Counter[int] = Counter()
        self._aside: list[int] = []
        self._reported: defaultdict[int, set[str]] = defaultdict(set)
        """Videos of each unit at work, which another worker may have begun before."""
        self._false_starts = 0
        self._began = time.monotonic()
        self._started = 0

    def drive(self) -> None:
        """Go on until every unit is committed or set aside."""
        while self._line or any(worker.unit is not None for worker in self._workers):
            self._staff()
            waited = [worker.at for worker in self._workers if worker.at is not None]
            ready, _ = ray.wait(waited, num_returns=1, timeout=TICK_SECONDS)
            for worker in [worker for worker in self._workers if worker.at in ready]:
                self._answered(worker)
            self._gather_news()
            busy = sum(worker.unit is not None for worker in self._workers)
            self._gauges.show(units=len(self._line), workers=busy)
            self._check_arrivals()
        if self._aside:
            raise UsageError(
                f"units {sorted(self._aside)} ended their workers {DEATHS} times each, the rest is packed",
                remedy="give workers more memory or a smaller --batch-size, then run the same command",
            )

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers:
            ray.kill(worker.actor)
        self._workers.clear()

    def _staff(self) -> None:
        """Have as many workers as are of use, and a unit for every free one."""
        for worker in [worker for worker in self._workers if worker.at is None]:
            if not self._line or self._has_done_enough(worker):
                self._dismiss(worker)
            else:
                unit = self._run.plan.unit(self._line.popleft())
                worker.unit, worker.units = unit.number, worker.units + 1
                worker.at = worker.actor.pack.remote(unit)
        starting = sum(worker.unit is None for worker in self._workers)
        while starting < len(self._line) and len(self._workers) < self._most:
            actor = self._actor.remote(self._job)
            self._workers.append(_Worker(actor=actor, at=actor.begin.remote()))
            starting += 1

    def _has_done_enough(self, worker: _Worker) -> bool:
        """Return whether a worker is to be replaced before it leaks further."""
        limit = self._settings.worker_memory_bytes
        grown = limit is not None and worker.memory_bytes > limit
        return grown or worker.units >= self._settings.units_per_worker

    def _dismiss(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        ray.kill(worker.actor)

    def _answered(self, worker: _Worker) -> None:
        """Take the answer of a worker: it has started, its unit ended, or it is dead."""
        assert worker.at is not None
        try:
            answer = ray.get(worker.at)
        except RayError as error:
            if isinstance(error, RayTaskError):  # a bug of ours inside the worker
                raise
            self._died(worker, error)
            return
        unit, worker.at = worker.unit, None
        if unit is None:
            self._began_or_not(worker, answer)
            return
        assert isinstance(answer, UnitEnd)
        worker.memory_bytes = answer.memory_bytes
        for stage, seconds in answer.seconds.items():
            self._meter.spent(stage, seconds)
        self._meter.wrote(answer.bytes)
        self._meter.fell_back(answer.fallbacks)
        if answer.error is not None:
            self._refused(unit, answer.error)
        else:
            self._tell(worker)
            self._reported.pop(unit, None)
        worker.unit = None

    def _began_or_not(self, worker: _Worker, trouble: GazepackError | None) -> None:
        """Count a worker in, or try on another machine what this one could not open; stop when none can."""
        if trouble is None:
            self._started += 1
            self._false_starts = 0
            return
        self._dismiss(worker)
        self._false_starts += 1
        if self._false_starts >= ERRORS:
            raise trouble

    def _refused(self, unit: int, error: GazepackError) -> None:
        """Try a unit again on another worker, whose disk or network may be better, or stop."""
        self._errors[unit] += 1
        if self._errors[unit] >= ERRORS:
            raise error
        self._line.append(unit)

    def _died(self, worker: _Worker, error: RayError) -> None:
        """Put the unit of a dead worker back in line, behind the others."""
        self._workers.remove(worker)
        if worker.unit is None:
            self._false_starts += 1
            if self._false_starts >= FALSE_STARTS:
                raise UsageError(
                    f"{FALSE_STARTS} workers died before they could begin ({str(error).splitlines()[0]})",
                    remedy="see that gazepack is installed on every node, and that a worker's memory fits",
                )
            return
        self._deaths[worker.unit] += not getattr(error, "preempted", False)
        if self._deaths[worker.unit] >= DEATHS:
            self._aside.append(worker.unit)
        else:
            self._line.append(worker.unit)
        _log.warning("a worker died at unit %d, which is packed again", worker.unit)

    def _gather_news(self) -> None:
        """Ask the workers at work, without waiting, and pass on what came."""
        busy = [worker for worker in self._workers if worker.unit is not None]
        asked = [worker for worker in busy if worker.asked is not None]
        refs = [worker.asked for worker in asked]
        ready = set(ray.wait(refs, num_returns=len(refs), timeout=0)[0]) if refs else set()
        for worker in busy:
            if worker.asked in ready:
                self._hear(worker)
            if worker.asked is None:
                worker.asked = worker.actor.news.remote()

    def _tell(self, worker: _Worker) -> None:
        """Pass on all that a worker has to say at the end of a unit."""
        if worker.asked is not None:
            self._hear(worker)
        worker.asked = worker.actor.news.remote()
        self._hear(worker)

    def _hear(self, worker: _Worker) -> None:
        """Report each video once, however often its unit was packed."""
        assert worker.asked is not None
        assert worker.unit is not None
        asked, worker.asked = worker.asked, None
        try:
            videos: list[VideoDone] = ray.get(asked)
        except RayError:
            return  # it died; whoever packs the unit again will tell
        reported = self._reported[worker.unit]
        for video in videos:
            if video.id not in reported:
                reported.add(video.id)
                self._report(video)

    def _check_arrivals(self) -> None:
        """Stop when the workers that must come do not."""
        least = self._settings.min_workers or 1
        if self._started < least and time.monotonic() - self._began > PATIENCE_SECONDS:
            raise UsageError(
                f"{self._started} of {least} workers came within {PATIENCE_SECONDS:g} s; each needs"
                f" {self._settings.cpus_per_worker} CPUs and {self._settings.gpus_per_worker:g} GPUs",
                remedy="ask for fewer or smaller workers, or look at the cluster with `ray status`",
            )
