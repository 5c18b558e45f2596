"""What a run is: a dataset directory, the listing frozen in it, and the units that no index names yet.

Resuming needs no other memory: pending = plan minus index files.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from gazepack import __version__
from gazepack.errors import ProvenanceError
from gazepack.formats import Codec, DatasetDirectory, DatasetInfo, codec_from_settings
from gazepack.geometry import CLIP_FRAMES, SCALE_SIDES
from gazepack.jobs.plan import Plan, make_plan
from gazepack.jobs.settings import PackSettings
from gazepack.jobs.sources import list_sources
from gazepack.selectors import Selector

LISTING = "sources.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Everything that an executor needs."""

    directory: DatasetDirectory
    settings: PackSettings
    selector: Selector
    codec: Codec
    plan: Plan
    pending: tuple[int, ...]
    """The units whose shards are not committed."""


def open_run(
    sources: Sequence[str], out: str, *, settings: PackSettings, selector: Selector
) -> Run:
    """Begin a run, or go on with one.

    Args:
        sources: what to pack; see `list_sources`.
        out: path or URI of the dataset directory.
        settings: what decides the bytes.
        selector: made from `settings.selector`.

    Raises:
        SourceError: there is nothing to pack. `out` is not touched then.
        ProvenanceError: `out` holds a dataset of other settings or other sources, or something else.
        StorageError: `out` cannot be written.
    """
    listing = list_sources(sources)
    codec_settings = settings.codec.options()
    info = DatasetInfo(
        writer=f"gazepack {__version__}",
        codec=codec_settings,
        patch_size=settings.fit.patch_size,
        clip_frames=CLIP_FRAMES,
        scale_sides=SCALE_SIDES,
        provenance=settings.provenance(selector),
    )
    directory = DatasetDirectory.create_or_open(out, info)
    _freeze(directory, listing)
    plan = make_plan(listing, settings.shards)
    committed = set(directory.committed())
    return Run(
        directory=directory,
        settings=settings,
        selector=selector,
        codec=codec_from_settings(codec_settings),
        plan=plan,
        pending=tuple(n for n in range(len(plan)) if n not in committed),
    )


def _freeze(directory: DatasetDirectory, listing: pa.Table) -> None:
    """Write the listing into the directory, or refuse one that differs from what is there.

    Where the files lie is not compared: a corpus may move, or be named by another path.
    """
    frozen = frozen_listing(directory)
    if frozen is None:
        sink = io.BytesIO()
        pq.write_table(listing, sink, compression="zstd")
        directory.write_run_file(LISTING, sink.getvalue())
    elif not frozen.drop_columns("uri").equals(listing.drop_columns("uri")):
        before, now = set(frozen["id"].to_pylist()), set(listing["id"].to_pylist())
        new, gone = sorted(now - before), sorted(before - now)
        raise ProvenanceError(
            f"{directory.uri!r} was begun with {len(before)} videos, the sources now hold {len(now)}"
            f" ({_some(new, 'new')}, {_some(gone, 'gone')}, sizes or rows may differ)",
            remedy="name the sources as they were, or pack into another --out",
        )


def _some(ids: list[str], word: str) -> str:
    """Count ids and name the first."""
    return f"{len(ids)} {word}" + (f" such as {ids[0]!r}" if ids else "")


def frozen_listing(directory: DatasetDirectory) -> pa.Table | None:
    """Return the listing that a run froze, or `None` before it did."""
    if not directory.storage.exists(f"run/{LISTING}"):
        return None
    return pq.read_table(pa.BufferReader(directory.read_run_file(LISTING)))
