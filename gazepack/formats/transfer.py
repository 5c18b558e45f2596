"""Samples from datasets into a new one: another container, codec or shard size, several in one, a part of one.

No pixel changes: the target's codec loses nothing or is the source's own, whose bytes are then carried over as
they are. A lossy codec would make the stored errors untrue, and only packing again can measure new ones; so it
is refused. A shard is read one sample at a time, committed, and compared with what was read. An interrupted
transfer goes on behind its last committed shard; the sources' fingerprint in the target's provenance keeps that
honest. A repair is a transfer that leaves damaged samples out and puts them on record as failures.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gazepack.errors import DatasetError, ProvenanceError, UsageError
from gazepack.formats.codecs import AnyCodec, PlacesCodec, codec_from_settings
from gazepack.formats.codecs.places import pixels_crc32
from gazepack.formats.dataset import DatasetDirectory
from gazepack.formats.failures import Failure
from gazepack.formats.index import INDEX_SCHEMA, SHARD_FIELD
from gazepack.formats.info import DatasetInfo
from gazepack.formats.members import coded_field
from gazepack.formats.record import Sample
from gazepack.formats.shard import Row
from gazepack.formats.verify import Problem, verify_shard

NOTE = "transferred"
"""Where the provenance says what a dataset was made of; two that differ only here go together."""
_SOURCE = pa.field("source", pa.int32(), nullable=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSettings:
    """What becomes of the samples; what is `None` stays as it is."""

    container: str | None = None
    """`webdataset` or `arrow`."""
    codec: dict[str, Any] | None = None
    """Its `settings()`; those of `PlacesCodec` store no patches."""
    samples_per_shard: int | None = None
    """The most samples of a shard; if `None`, every shard of the sources becomes one."""
    drops_damaged: bool = False
    """Whether samples and indices that cannot be read are left out; else they end the transfer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Which videos are taken."""

    name: str
    """Stands in the provenance."""
    takes: Callable[[str], bool]
    """Whether a video's id belongs to the part."""


class Transfer:
    """A transfer that is ready to run: everything is checked, and the target begun.

    Args:
        sources: the datasets, in the order in which their samples follow each other.
        out: path or URI of the target.
        settings: what becomes of the samples.
        part: which videos are taken; all if `None`.

    Raises:
        UsageError: a lossy codec that is not the sources' own, places of patches that a lossy codec changed,
            patches of which only the places are stored and that nobody cuts, or a key that two sources have.
        ProvenanceError: the sources were made with different settings, or the target is another dataset.
        DatasetError: a source's index is damaged.
        StorageError: a place cannot be read or written.
    """

    def __init__(
        self,
        sources: Sequence[DatasetDirectory],
        out: str,
        *,
        settings: TransferSettings,
        part: Part | None = None,
    ) -> None:
        self.sources: tuple[DatasetDirectory, ...] = tuple(sources)
        self._part, self._drops = part, settings.drops_damaged
        self.dropped: list[Problem] = []
        """What was left out, so far."""
        _check_same(self.sources)
        index = self._joined_index()
        self._shards = _cut(index, self.sources, settings.samples_per_shard, part)
        first = self.sources[0].info
        codec = codec_from_settings(settings.codec or first.codec)
        self._carried = codec.settings() == first.codec
        _check_pixels(self.sources, codec, carried=self._carried)
        provenance = {key: value for key, value in first.provenance.items() if key != NOTE}
        note: dict[str, Any] = {
            "sha256": _fingerprint(index),
            "samples_per_shard": settings.samples_per_shard,
        }
        if part is not None:
            note["part"] = part.name
        info = DatasetInfo.model_validate(
            first.model_dump()
            | {"container": settings.container or first.container, "codec": codec.settings()}
            | {"provenance": provenance | {NOTE: note}}
        )
        self.target: DatasetDirectory = DatasetDirectory.create_or_open(out, info)
        done = set(self.target.committed())
        self.pending: tuple[int, ...] = tuple(n for n in range(len(self._shards)) if n not in done)

    def __len__(self) -> int:
        return len(self._shards)

    def run(self) -> Iterator[int]:
        """Write and check what is pending, and yield each shard's number once it stands.

        Raises:
            DatasetError: a sample of a source is damaged, or the shard does not hold what was read.
            StorageError: a place cannot be read or written.
        """
        for number in self.pending:
            digests: list[str] = []
            failures = self._failures() if number == 0 else []
            samples = self._samples(number, digests, failures)
            self.target.write_shard(number, samples, failures.copy)  # asked after the last sample
            self._check(number, digests)
            yield number

    def _samples(
        self, number: int, digests: list[str], failures: list[Failure]
    ) -> Iterator[Sample]:
        """Yield the samples of one shard of the target, and note their digests and what is left out."""
        for row in self._rows(number):
            try:
                sample = self._read(row)
            except DatasetError as error:
                if not self._drops:
                    raise
                self.dropped.append(Problem.of(error))
                failures.append(_failure(row, error))
                continue
            if not self.target.info.stores_patches:
                sample = without_patches(sample)
            digests.append(_digest(sample))
            yield sample

    def _read(self, row: Row) -> Sample:
        """Return a sample, with its patches as they are stored where the target stores them alike."""
        source = self.sources[row["source"]]
        sample = source.read_sample(row)
        if not self._carried:
            return sample
        name = coded_field(source.info.make_codec())
        return replace(sample, encoded=source.read_member(row, name))

    def _rows(self, number: int) -> Iterator[Row]:
        for batch in self._shards[number].to_batches(max_chunksize=256):
            yield from batch.to_pylist()

    def _failures(self) -> list[Failure]:
        """Return the failures of all sources; they go with the first shard."""
        rows = [row for source in self.sources for row in self._failures_of(source)]
        return [
            Failure(**{name: value for name, value in row.items() if name != "shard"})
            for row in rows
            if self._part is None or self._part.takes(row["id"])
        ]

    def _failures_of(self, source: DatasetDirectory) -> list[dict[str, Any]]:
        try:
            rows: list[dict[str, Any]] = source.failures().to_pylist()
        except DatasetError as error:
            if not self._drops:
                raise
            self.dropped.append(Problem.of(error))
            return []
        return rows

    def _joined_index(self) -> pa.Table:
        """Return the indices of all sources, with a column `source` in front.

        Raises:
            UsageError: two samples have one key.
        """
        tables = [pa.schema([_SOURCE, SHARD_FIELD, *INDEX_SCHEMA]).empty_table()]
        for number, source in enumerate(self.sources):
            for shard in source.committed():
                try:
                    table = source.index(shard)
                except DatasetError as error:
                    if not self._drops:
                        raise
                    self.dropped.append(Problem.of(error))
                    continue
                column = pa.array([number] * table.num_rows, type=_SOURCE.type)
                tables.append(table.add_column(0, _SOURCE, column))
        index = pa.concat_tables(tables)
        counts = pc.value_counts(index["key"].combine_chunks())
        twice = counts.filter(pc.greater(counts.field("counts"), 1))
        if len(twice):
            raise UsageError(
                f"{len(twice)} keys occur more than once, such as "
                f"{twice.field('values')[0].as_py()!r}",
                remedy="merge datasets of different videos",
            )
        return index

    def _check(self, number: int, digests: list[str]) -> None:
        """Compare a committed shard with what was read."""
        problems = [str(problem) for problem in verify_shard(self.target, number)]
        found = [_digest(sample) for sample in self.target.iter_samples(number)]
        if problems or found != digests:
            problem = problems[0] if problems else "its samples are not those that were read"
            raise DatasetError(
                f"the shard just written is damaged: {problem}",
                place=self.target.shard_name(number),
                remedy="check the disk; remove the target and start anew",
            )


def _check_same(sources: Sequence[DatasetDirectory]) -> None:
    """Refuse sources that were made with different settings."""
    infos = [_without_note(source.info) for source in sources]
    for source, info in zip(sources[1:], infos[1:], strict=True):
        if differences := infos[0].differences(info):
            raise ProvenanceError(
                f"{sources[0].uri} and {source.uri} were made with different settings: "
                f"{'; '.join(differences)}",
                remedy="a loader can read both side by side",
            )


def _check_pixels(sources: Sequence[DatasetDirectory], codec: AnyCodec, *, carried: bool) -> None:
    """Refuse a codec under which the stored errors would not be those of the patches that a reader gets."""
    if carried:
        return
    if not codec.lossless:
        raise UsageError(
            f"codec {codec.settings()} changes pixels, and with them the errors that are stored",
            remedy="pack the videos again with it, or convert to one that loses nothing",
        )
    before = sources[0].info.make_codec()
    if isinstance(codec, PlacesCodec) and not before.lossless:
        raise UsageError(
            f"{sources[0].uri} holds patches of codec {before.settings()}, which are not those of the videos",
            remedy="pack the videos again with --store places",
        )
    if isinstance(before, PlacesCodec) and not all(source.cuts_patches for source in sources):
        raise UsageError(
            f"{sources[0].uri} stores places alone",
            remedy="name the videos with --source, to cut patches",
        )


def without_patches(sample: Sample) -> Sample:
    """Return a sample whose patches are known by their checksum alone."""
    patches_NPP3 = sample.patches_NPP3
    if patches_NPP3 is None:
        return sample
    return replace(sample, patches_NPP3=None, pixels_crc32=pixels_crc32(patches_NPP3))


def _without_note(info: DatasetInfo) -> DatasetInfo:
    provenance = {key: value for key, value in info.provenance.items() if key != NOTE}
    return info.model_copy(update={"provenance": provenance})


def _failure(row: Row, error: DatasetError) -> Failure:
    """Put a sample that was left out on record."""
    return Failure(
        id=row["id"],
        uri=f"{error.place or row['key']}",
        stage="encode",
        error=type(error).__name__,
        message=str(error),
        attempts=1,
        window=row["window"],
    )


def _fingerprint(index: pa.Table) -> str:
    """Return a hash of the keys and checksums of all samples, in their order."""
    sha256 = hashlib.sha256()
    for batch in index.select(["key", "crc32"]).to_batches():
        for row in batch.to_pylist():
            sha256.update(f"{row['key']} {row['crc32']}\n".encode())
    return sha256.hexdigest()


def _cut(
    index: pa.Table,
    sources: Sequence[DatasetDirectory],
    samples_per_shard: int | None,
    part: Part | None,
) -> list[pa.Table]:
    """Return the rows of every shard of the target; at least one shard, so that failures have a place."""
    if part is not None:
        index = index.filter(
            pa.array([part.takes(id) for id in index["id"].to_pylist()], pa.bool_())
        )
    if samples_per_shard is not None:
        starts = range(0, index.num_rows, samples_per_shard)
        shards = [index.slice(start, samples_per_shard) for start in starts]
    else:
        shards = [
            index.filter((pc.field("source") == number) & (pc.field("shard") == shard))
            for number, source in enumerate(sources)
            for shard in source.committed()
        ]
    return shards or [index.slice(0, 0)]


def _digest(sample: Sample) -> str:
    """Return a hash of everything in a sample, with the checksum of patches that it does not have."""
    sha256 = hashlib.sha256(repr((sample.meta, sorted(sample.fields.items()))).encode())
    for array in (sample.tokens_N6, sample.loss_N, sample.patches_NPP3):
        if array is None:
            sha256.update(f"{sample.pixels_crc32:08x}".encode())
        else:
            sha256.update(np.ascontiguousarray(array).tobytes())
    return sha256.hexdigest()


def parts_by_share(shares: dict[str, float], *, seed: int) -> list[Part]:
    """Return parts that share out the videos by a hash of their ids.

    A video stays in its part when others come or go, and all its samples stay together.

    Args:
        shares: of each part, by name; they add up to 1.
        seed: another one shares out differently.

    Raises:
        UsageError: shares that are not positive or do not add up to 1.
    """
    if any(not 0 < share <= 1 for share in shares.values()) or abs(sum(shares.values()) - 1) > 1e-9:
        raise UsageError(f"the shares {shares} are not positive numbers that add up to 1")
    ends = np.cumsum(list(shares.values()))
    ends[-1] = 1.0
    parts = []
    for number, name in enumerate(shares):
        low, high = (0.0 if number == 0 else float(ends[number - 1])), float(ends[number])
        parts.append(Part(name=name, takes=_between(low, high, seed)))
    return parts


def _between(low: float, high: float, seed: int) -> Callable[[str], bool]:
    """Return whether the hash of an id, as a number from 0 to 1, lies in a range."""

    def takes(id: str) -> bool:
        digest = hashlib.sha256(f"{seed}:{id}".encode()).digest()
        return low <= int.from_bytes(digest[:6], "big") / 2**48 < high

    return takes
