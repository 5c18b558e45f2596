"""What a run is: a dataset directory, the listing frozen in it, and the units that no index names yet.

Resuming needs no other memory: pending = plan minus index files. A retry is a run of its own over the videos
that failed, in shards that come after all others; its listing is frozen beside the first one, under the number
of its first shard.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gazepack import __version__
from gazepack.errors import DatasetError, ProvenanceError, SourceError
from gazepack.formats import (
    Codec,
    DatasetDirectory,
    DatasetInfo,
    codec_from_settings,
    open_storage,
    outstanding,
)
from gazepack.formats.index import table_from_bytes, table_to_bytes
from gazepack.geometry import CLIP_FRAMES, SCALE_SIDES
from gazepack.jobs.plan import Plan, make_plan
from gazepack.jobs.settings import CodecSettings, PackSettings, ShardSettings
from gazepack.jobs.sources import list_sources
from gazepack.selectors import Selector, SelectorSettings, build

LISTING = "sources.parquet"
_RETRY = re.compile(r"run/retry-(\d{9})\.parquet")


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
        sources: what to pack; see `list_sources`. With none, the listing that an earlier run froze in `out`.
        out: path or URI of the dataset directory.
        settings: what decides the bytes.
        selector: made from `settings.selector`.

    Raises:
        SourceError: there is nothing to pack. `out` is not touched then.
        ProvenanceError: `out` holds a dataset of other settings or other sources, or something else.
        StorageError: `out` cannot be written.
    """
    listing = list_sources(sources) if sources else _found_listing(out)
    codec_settings = settings.codec.options()
    info = DatasetInfo(
        writer=f"gazepack {__version__}",
        container=settings.container,
        codec=codec_settings,
        patch_size=settings.fit.patch_size,
        clip_frames=CLIP_FRAMES,
        scale_sides=SCALE_SIDES,
        provenance=settings.provenance(selector),
    )
    try:
        directory = DatasetDirectory.create_or_open(out, info)
    except (
        ProvenanceError
    ):  # unless another run began the same dataset between two looks at the place
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
        pending=tuple(n for n in plan.numbers if n not in committed),
    )


def open_retry(
    out: str, *, model: str | None = None, device: str = "cpu", only: str | None = None
) -> Run:
    """Begin to pack again what failed, with the dataset's own settings, or go on with that.

    Args:
        out: path or URI of the dataset directory.
        model: checkpoint of the selector, if it has one: a dataset knows only its sha256.
        device: where the selector works.
        only: retry only failures of this stage.

    Returns:
        A run whose plan is empty if there is nothing to retry.

    Raises:
        DatasetError: there is no dataset, or no run has begun in it.
        ProvenanceError: the model is another one.
    """
    directory = DatasetDirectory.open(out)
    settings = settings_of(directory, model=model)
    selector = build(settings.selector, device=device)
    if settings.provenance(selector) != directory.info.provenance:
        raise ProvenanceError(
            f"{out!r} was packed with model {directory.info.provenance.get('model_sha256')}",
            remedy="give the same checkpoint with --model",
        )
    committed = set(directory.committed())
    plan = plans(directory)[-1]
    if all(number in committed for number in plan.numbers):
        plan = _next_round(directory, settings, first=plan.numbers.stop, only=only)
    return Run(
        directory=directory,
        settings=settings,
        selector=selector,
        codec=directory.info.make_codec(),
        plan=plan,
        pending=tuple(n for n in plan.numbers if n not in committed),
    )


def _next_round(
    directory: DatasetDirectory, settings: PackSettings, *, first: int, only: str | None
) -> Plan:
    """Freeze what failed and is to be tried again, and plan it."""
    failures = outstanding(directory)
    if only is not None:
        failures = failures.filter(pc.equal(failures["stage"], only))
    listing = frozen_listing(directory)
    assert listing is not None
    again = listing.filter(pc.is_in(listing["id"], value_set=failures["id"].combine_chunks()))
    if again.num_rows:
        directory.write_run_file(f"retry-{first:09d}.parquet", table_to_bytes(again))
    return make_plan(again, settings.shards, first=first)


def plans(directory: DatasetDirectory) -> list[Plan]:
    """Return the plan of the run and of each retry, in order.

    Raises:
        DatasetError: no run has begun in this dataset.
    """
    listing = frozen_listing(directory)
    if listing is None:
        raise DatasetError(
            f"{directory.uri}: no run has begun here, run/{LISTING} is missing",
            remedy="run gazepack pack first",
        )
    shards = ShardSettings.model_validate(directory.info.provenance["shards"])
    found = [make_plan(listing, shards)]
    for name in directory.storage.list("run"):
        if match := _RETRY.fullmatch(name):
            data = directory.storage.read_bytes(name)
            again = table_from_bytes(data, place=name)
            found.append(make_plan(again, shards, first=int(match[1])))
    return found


def settings_of(directory: DatasetDirectory, *, model: str | None = None) -> PackSettings:
    """Return the settings that a dataset was packed with, from its own account.

    Raises:
        UsageError: the selector needs a model and none is given.
    """
    given = dict(directory.info.provenance)
    chooser = given.pop("selector", {})
    selector = {name: chooser[name] for name in SelectorSettings.model_fields if name in chooser}
    selector |= {"min_psnr": given.pop("min_psnr", None), "model": model}
    del given["model_sha256"]
    known = CodecSettings.model_fields
    codec = {name: value for name, value in directory.info.codec.items() if name in known}
    container = directory.info.container
    return PackSettings.parse(
        {**given, "selector": selector, "container": container, "codec": codec}
    )


def _found_listing(out: str) -> pa.Table:
    """Return the listing frozen in a dataset, for a run that names no sources."""
    storage = open_storage(out)
    if not storage.exists(f"run/{LISTING}"):
        raise SourceError(
            f"no source is named, and no run has begun in {out!r}",
            remedy="name the videos to pack, or a folder, glob or manifest of them",
        )
    return pq.read_table(pa.BufferReader(storage.read_bytes(f"run/{LISTING}")))


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
