"""What a run is: a dataset directory, the listing frozen in it, and the units that no index names yet.

Resuming needs no other memory: pending = plan minus index files. A retry is a run of its own over the videos
that failed, in shards that come after all others; its listing is frozen beside the first one, under the number
of its first shard.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gazepack.autogaze import AutoGaze
from gazepack.errors import DatasetError, NoDatasetError, ProvenanceError, SourceError, UsageError
from gazepack.formats import (
    AnyCodec,
    DatasetDirectory,
    open_storage,
    outstanding,
)
from gazepack.formats.index import refuse_nulls, table_from_bytes, table_to_bytes
from gazepack.formats.remote import BLOTTED, without_secrets
from gazepack.formats.transfer import NOTE
from gazepack.jobs.decoders import DecoderSettings
from gazepack.jobs.frames import ShardSettings
from gazepack.jobs.models import build_selector
from gazepack.jobs.nursery import Nursery
from gazepack.jobs.parts import divided, listed_rows, moved
from gazepack.jobs.plan import Plan, make_plan
from gazepack.jobs.segment import SCHEMA
from gazepack.jobs.settings import CodecSettings, PackSettings
from gazepack.jobs.sources import list_sources
from gazepack.selectors import Selector, SelectorSettings
from gazepack.units import counted

LISTING = "sources.parquet"
_RETRY = re.compile(r"run/retry-(\d{9})\.parquet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Everything that an executor needs."""

    directory: DatasetDirectory
    settings: PackSettings
    selector: Selector
    codec: AnyCodec
    plan: Plan
    pending: tuple[int, ...]
    """The units whose shards are not committed."""


def open_run(
    sources: Sequence[str],
    out: str,
    *,
    settings: PackSettings,
    selector: Selector,
    how: DecoderSettings | None = None,
    nursery: Nursery | None = None,
) -> Run:
    """Begin a run, or go on with one.

    Args:
        sources: what to pack; see `list_sources`. With none, the listing that an earlier run froze in `out`.
        out: path or URI of the dataset directory.
        settings: what decides the bytes.
        selector: made from `settings.selector`.
        how: how large files are looked into, the first time; see `parts.py`.
        nursery: where the decoders for that come from; an own one if `None`.

    Raises:
        SourceError: there is nothing to pack, or the sources must be named again as their addresses carry
            secrets. `out` is not touched then.
        ProvenanceError: `out` holds a dataset of other settings or other sources, or something else.
        StorageError: `out` cannot be written.
    """
    if sources:
        listed = list_sources(sources)
    else:
        _check_begun(out)
    directory = DatasetDirectory.create_or_open(out, settings.dataset_info(selector))
    if sources:
        listing = _frozen(directory, listed, settings, how or DecoderSettings(), nursery)
    else:
        listing = _read_listing(directory)
    return _run(directory, settings, selector, make_plan(listing, settings.shards))


def _run(
    directory: DatasetDirectory, settings: PackSettings, selector: Selector, plan: Plan
) -> Run:
    """Look up what is left of a plan.

    Raises:
        SourceError: something is, whose address is not whole.
    """
    committed = set(directory.committed())
    pending = tuple(number for number in plan.numbers if number not in committed)
    _check_addresses(plan, pending)
    return Run(
        directory=directory,
        settings=settings,
        selector=selector,
        codec=directory.info.make_codec(),
        plan=plan,
        pending=pending,
    )


def open_retry(
    out: str,
    *,
    model: str | None = None,
    device: str = "cpu",
    only: str | None = None,
    sources: Sequence[str] = (),
) -> Run:
    """Begin to pack again what failed, with the dataset's own settings, or go on with that.

    Args:
        out: path or URI of the dataset directory.
        model: checkpoint of the selector, if it has one: a dataset knows only its sha256.
        device: where the selector works.
        only: retry only failures of this stage.
        sources: where the videos are now, by their ids; where they were if empty.

    Returns:
        A run whose plan is empty if there is nothing to retry.

    Raises:
        DatasetError: there is no dataset, or no run has begun in it.
        UsageError: it was made of other datasets, so that there is no list of videos; or with a model that is
            not in the package, and none is given.
        SourceError: the sources must be named, as their addresses carried secrets.
        ProvenanceError: the model is another one.
    """
    directory = DatasetDirectory.open(out)
    _check_packed(directory)
    _check_model_is_known(directory, model)
    settings = settings_of(directory, model=model)
    selector = build_selector(settings.selector, device=device)
    if settings.provenance(selector) != directory.info.provenance:
        raise ProvenanceError(
            f"{out!r} was packed with model {directory.info.provenance.get('model_sha256')}",
            remedy="give the same checkpoint with --model",
        )
    committed = set(directory.committed())
    plan = plans(directory)[-1]
    if all(number in committed for number in plan.numbers):
        plan = _next_round(directory, settings, first=plan.numbers.stop, only=only)
    if sources:
        plan = replace(plan, listing=_elsewhere(plan.listing, list_sources(sources)))
    return _run(directory, settings, selector, plan)


def _next_round(
    directory: DatasetDirectory, settings: PackSettings, *, first: int, only: str | None
) -> Plan:
    """Freeze what failed and is to be tried again, and plan it."""
    failures = outstanding(directory)
    if only is not None:
        failures = failures.filter(pc.equal(failures["stage"], only))
    listing = _read_listing(directory)
    named = listing.filter(pc.is_in(listing["id"], value_set=failures["id"].combine_chunks()))
    failed = set(zip(failures["id"].to_pylist(), failures["window"].to_pylist(), strict=True))
    rows = zip(named["id"].to_pylist(), named["first_clip"].to_pylist(), strict=True)
    again = named.filter(pa.array([row in failed for row in rows], pa.bool_()))
    if again.num_rows:
        directory.write_run_file(f"retry-{first:09d}.parquet", table_to_bytes(again))
    return make_plan(again, settings.shards, first=first)


def plans(directory: DatasetDirectory) -> list[Plan]:
    """Return the plan of the run and of each retry, in order.

    Raises:
        DatasetError: no run has begun in this dataset.
        UsageError: it was made of other datasets.
    """
    _check_packed(directory)
    listing = _read_listing(directory)
    shards = ShardSettings.model_validate(directory.info.provenance["shards"])
    found = [make_plan(listing, shards)]
    for name in directory.storage.list("run"):
        if match := _RETRY.fullmatch(name):
            data = directory.storage.read_bytes(name)
            again = table_from_bytes(data, place=name)
            found.append(make_plan(again, shards, first=int(match[1])))
    return found


def begun_settings(out: str, *, model: str | None = None) -> PackSettings:
    """Return the settings with which a run was begun in `out`, to go on with it.

    Args:
        out: path or URI of the dataset directory.
        model: checkpoint of the selector, if it has one of its own: a dataset knows only its sha256.

    Raises:
        SourceError: none was.
        UsageError: it was a model that is not in the package, and none is given.
    """
    _check_begun(out)
    directory = DatasetDirectory.open(out)
    _check_model_is_known(directory, model)
    return settings_of(directory, model=model)


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
    stored: dict[str, Any] = {"store": "places"}
    if directory.info.stores_patches:
        known = CodecSettings.model_fields
        codec = {name: value for name, value in directory.info.codec.items() if name in known}
        stored = {"codec": codec}
    container = directory.info.container
    return PackSettings.parse({**given, **stored, "selector": selector, "container": container})


def _check_begun(out: str) -> None:
    """Refuse to go on where nothing was begun."""
    if not open_storage(out).exists(f"run/{LISTING}"):
        raise SourceError(
            f"no source is named, and no run has begun in {out!r}",
            remedy="name the videos to pack, or a folder, glob or manifest of them",
        )


def _check_model_is_known(directory: DatasetDirectory, model: str | None) -> None:
    """Refuse to take the network in the package for another one, whose settings mean nothing to it."""
    packed_with = directory.info.provenance.get("model_sha256")
    if model is not None or packed_with is None:
        return
    if packed_with != AutoGaze.bundled().sha256:
        raise UsageError(
            f"{directory.uri!r} was packed with model {packed_with}, which is not the one in the package",
            remedy="give the same checkpoint with --model",
        )


def _check_packed(directory: DatasetDirectory) -> None:
    """Refuse a dataset whose samples come from other datasets."""
    if NOTE in directory.info.provenance and frozen_listing(directory) is None:
        raise UsageError(
            f"{directory.uri!r} was made of other datasets by convert, merge, split or a repair, and has "
            "no list of videos",
            remedy="retry in the dataset that was packed, then make this one again from it",
        )


def _check_addresses(plan: Plan, pending: Sequence[int]) -> None:
    """Refuse pending units whose videos have addresses that were stored without their secrets."""
    uris = plan.listing["uri"]
    rows = np.flatnonzero(pc.match_substring_regex(uris, BLOTTED).to_numpy())
    if not len(rows):
        return
    units = np.searchsorted(plan.starts, rows, side="right") - 1 + plan.first
    missing = rows[np.isin(units, pending)]
    if len(missing):
        raise SourceError(
            f"{len(missing)} addresses such as {uris[missing[0]].as_py()!r} carried a password or signature, "
            "which is never stored",
            remedy="name the sources again",
        )


def _frozen(
    directory: DatasetDirectory,
    listed: pa.Table,
    settings: PackSettings,
    how: DecoderSettings,
    nursery: Nursery | None,
) -> pa.Table:
    """Return the rows to pack: those frozen in the directory, which are made of `listed` the first time.

    Where the files lie is not compared: a corpus may move, or be named by another path.

    Raises:
        ProvenanceError: what is frozen was made of other sources.
    """
    frozen = frozen_listing(directory)
    if frozen is None:
        rows = divided(listed, settings, how, nursery=nursery)
        sink = io.BytesIO()
        pq.write_table(moved(rows, _without_secrets(listed["uri"])), sink, compression="zstd")
        directory.storage.write_new(f"run/{LISTING}", sink.getvalue())
        frozen = _read_listing(directory)  # of another run, if that was faster
    before = listed_rows(frozen)
    now = listed.select(before.column_names)
    if not before.drop_columns("uri").equals(now.drop_columns("uri")):
        ids_before, ids_now = set(before["id"].to_pylist()), set(now["id"].to_pylist())
        new, gone = sorted(ids_now - ids_before), sorted(ids_before - ids_now)
        raise ProvenanceError(
            f"{directory.uri!r} was begun with {counted(len(ids_before), 'video')},"
            f" the sources now hold {len(ids_now)}"
            f" ({_some(new, 'new')}, {_some(gone, 'gone')}, sizes or rows may differ)",
            remedy="name the sources as they were, or pack into another --out",
        )
    return moved(frozen, listed["uri"])


def _without_secrets(uris: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return addresses as they may be stored; most have nothing that could be a secret."""
    if not pc.any(pc.match_substring_regex(uris, "[@=]")).as_py():
        return uris
    return pa.chunked_array([pa.array(map(without_secrets, uris.to_pylist()), pa.string())])


def _elsewhere(listing: pa.Table, listed: pa.Table) -> pa.Table:
    """Return a listing with the addresses that another one has for the same ids."""
    now = dict(zip(listed["id"].to_pylist(), listed["uri"].to_pylist(), strict=True))
    uris = [
        now.get(video, uri)
        for video, uri in zip(listing["id"].to_pylist(), listing["uri"].to_pylist(), strict=True)
    ]
    column = listing.schema.get_field_index("uri")
    return listing.set_column(column, listing.field(column), pa.array(uris, pa.string()))


def _some(ids: list[str], word: str) -> str:
    """Count ids and name the first."""
    return f"{len(ids)} {word}" + (f" such as {ids[0]!r}" if ids else "")


def frozen_listing(directory: DatasetDirectory) -> pa.Table | None:
    """Return the listing that a run froze, or `None` before it did.

    Raises:
        DatasetError: it is damaged.
    """
    if not directory.storage.exists(f"run/{LISTING}"):
        return None
    place = f"run/{LISTING}"
    listing = table_from_bytes(directory.read_run_file(LISTING), place=place)
    if not listing.schema.equals(SCHEMA):
        raise DatasetError("the columns are not those of a listing", place=place)
    refuse_nulls(listing, place=place)
    return listing


def _read_listing(directory: DatasetDirectory) -> pa.Table:
    """Return the listing that a run froze.

    Raises:
        DatasetError: none did.
    """
    listing = frozen_listing(directory)
    if listing is None:
        raise NoDatasetError(
            f"{directory.uri}: no run has begun here, run/{LISTING} is missing",
            remedy="run gazepack pack first, or name the dataset that this is a copy of",
        )
    return listing
