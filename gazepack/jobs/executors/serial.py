"""The executor that needs nothing: one unit after the other, in this process."""

from gazepack.jobs.ledger import Run
from gazepack.jobs.unit import Report, Resources, pack_unit


def run_serial(run: Run, *, resources: Resources, report: Report) -> None:
    """Pack all pending units.

    Args:
        run: what to pack.
        resources: what decides the speed.
        report: told of every video as it ends.

    Raises:
        StorageError: the output cannot be written; what was committed before stays.
    """
    for unit in run.plan.units(run.pending):
        if run.directory.is_committed(unit.number):  # by another run on the same directory
            continue
        pack_unit(
            unit,
            run.directory,
            settings=run.settings,
            selector=run.selector,
            codec=run.codec,
            resources=resources,
            report=report,
        )
