"""From sources to committed shards: listing, plan, work units, executors."""

from gazepack.jobs.decoders import Decoders, DecoderSettings
from gazepack.jobs.executors import run_serial
from gazepack.jobs.ledger import Run, frozen_listing, open_run
from gazepack.jobs.metrics import Meter, Tally
from gazepack.jobs.models import build_selector
from gazepack.jobs.nursery import Nursery
from gazepack.jobs.plan import Plan, Unit, make_plan
from gazepack.jobs.replay import compare_with_source, refitted, repainted, verify_totals
from gazepack.jobs.settings import PackSettings
from gazepack.jobs.sources import Segment, list_sources
from gazepack.jobs.unit import Report, Resources, VideoDone, pack_unit

__all__ = [
    "DecoderSettings",
    "Decoders",
    "Meter",
    "Nursery",
    "PackSettings",
    "Plan",
    "Report",
    "Resources",
    "Run",
    "Segment",
    "Tally",
    "Unit",
    "VideoDone",
    "build_selector",
    "compare_with_source",
    "frozen_listing",
    "list_sources",
    "make_plan",
    "open_run",
    "pack_unit",
    "refitted",
    "repainted",
    "run_serial",
    "verify_totals",
]
