"""The executor that needs nothing: one unit after the other, chosen for in this process."""

from gazepack.jobs.decoders import Decoders
from gazepack.jobs.ledger import Run
from gazepack.jobs.metrics import Meter
from gazepack.jobs.nursery import Nursery
from gazepack.jobs.unit import Report, Resources, pack_unit


def run_serial(
    run: Run,
    *,
    resources: Resources,
    report: Report,
    meter: Meter | None = None,
    nursery: Nursery | None = None,
) -> None:
    """Pack all pending units. Videos are decoded in processes of their own, as everywhere.

    Args:
        run: what to pack.
        resources: what decides the speed.
        report: told of every video as it ends.
        meter: told how the time is spent, if anybody wants to know.
        nursery: where decoders come from; an own one if `None`.

    Raises:
        StorageError: the output cannot be written; what was committed before stays.
    """
    with Decoders(run.settings, resources.decoders, nursery=nursery) as decoders:
        for unit in run.plan.units(run.pending):
            pack_unit(
                unit,
                run.directory,
                settings=run.settings,
                selector=run.selector,
                codec=run.codec,
                decoders=decoders,
                resources=resources,
                report=report,
                meter=meter,
            )
