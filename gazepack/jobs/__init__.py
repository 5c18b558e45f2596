"""From sources to committed shards: listing, plan, work units, executors.

The public names are loaded on first use, so that a decoder, of which there are many, starts without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gazepack.jobs.decoders import Decoders, DecoderSettings
    from gazepack.jobs.executors import run_serial
    from gazepack.jobs.ledger import Run, begun_settings, frozen_listing, open_run
    from gazepack.jobs.metrics import Meter, Tally
    from gazepack.jobs.models import build_selector
    from gazepack.jobs.nursery import Nursery
    from gazepack.jobs.plan import Plan, Unit, make_plan
    from gazepack.jobs.replay import compare_with_source, refitted, repainted, verify_totals
    from gazepack.jobs.runlog import RunLog, write_log
    from gazepack.jobs.segment import Segment
    from gazepack.jobs.settings import PackSettings
    from gazepack.jobs.source_patches import SourcePatches
    from gazepack.jobs.sources import list_packed, list_sources
    from gazepack.jobs.unit import Report, Resources, VideoDone, pack_unit

_HOMES = {
    "DecoderSettings": "decoders",
    "Decoders": "decoders",
    "Meter": "metrics",
    "Nursery": "nursery",
    "PackSettings": "settings",
    "Plan": "plan",
    "Report": "unit",
    "Resources": "unit",
    "Run": "ledger",
    "RunLog": "runlog",
    "Segment": "segment",
    "SourcePatches": "source_patches",
    "Tally": "metrics",
    "Unit": "plan",
    "VideoDone": "unit",
    "begun_settings": "ledger",
    "build_selector": "models",
    "compare_with_source": "replay",
    "frozen_listing": "ledger",
    "list_packed": "sources",
    "list_sources": "sources",
    "make_plan": "plan",
    "open_run": "ledger",
    "pack_unit": "unit",
    "refitted": "replay",
    "repainted": "replay",
    "run_serial": "executors",
    "verify_totals": "replay",
    "write_log": "runlog",
}

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
    "RunLog",
    "Segment",
    "SourcePatches",
    "Tally",
    "Unit",
    "VideoDone",
    "begun_settings",
    "build_selector",
    "compare_with_source",
    "frozen_listing",
    "list_packed",
    "list_sources",
    "make_plan",
    "open_run",
    "pack_unit",
    "refitted",
    "repainted",
    "run_serial",
    "verify_totals",
    "write_log",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gazepack.jobs' has no attribute {name!r}")
    return getattr(import_module(f"gazepack.jobs.{_HOMES[name]}"), name)
