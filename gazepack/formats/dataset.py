"""The dataset directory: shards, their indices and failures, committed one shard at a time.

The order of writing is the whole protocol: shard, failures, index. A shard exists from the moment
its index does; whatever a killed writer left before that moment no reader sees, and the next writer
of that shard replaces it. Many writers may work in one directory as long as no two have the same
shard number (and if two do, both write the same bytes).
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
from zlib_ng import zlib_ng

from gazepack.errors import (
    DatasetError,
    NoDatasetError,
    ProvenanceError,
    StorageError,
    UsageError,
)
from gazepack.formats.codecs.base import Room, Stored
from gazepack.formats.codecs.places import MAX_TOKENS
from gazepack.formats.failures import (
    FAILURES_SCHEMA,
    Failure,
    failures_from_bytes,
    failures_to_bytes,
)
from gazepack.formats.index import (
    INDEX_SCHEMA,
    SHARD_FIELD,
    ShardFacts,
    index_from_bytes,
    index_to_bytes,
)
from gazepack.formats.info import INFO_NAME, DatasetInfo
from gazepack.formats.mapped import MappedFiles
from gazepack.formats.members import SampleT
from gazepack.formats.patch_source import PatchSource, cut_patches
from gazepack.formats.record import LooseSample, Sample
from gazepack.formats.shard import ShardWriter
from gazepack.formats.storage import LocalStorage, Storage, is_temporary, open_storage

__all__ = ["DatasetDirectory", "DatasetInfo", "Failure"]

_INDEX = re.compile(r"index/(\d{6,9})\.parquet")
TOKEN_BYTES = 14
"""What a token takes in a sample at least, beside its patch."""
_READERS = 8
"""Index files read at a time: hides the latency of an object store."""


class DatasetDirectory:
    """A dataset on local disk or an object store; make one with `create_or_open` or `open`.

    Args:
        storage: its files.
        info: what it is.
        patches_from: cuts the patches of samples that are stored without; such samples are read without
            patches if `None`.
    """

    def __init__(
        self, storage: Storage, info: DatasetInfo, *, patches_from: PatchSource | None = None
    ) -> None:
        self._storage = storage
        self._patches_from = patches_from
        self._codec = info.make_codec()
        self._container = info.make_container()
        local = isinstance(storage, LocalStorage) and self._container.is_mapped
        self._mapped = MappedFiles() if local else None
        self.info = info

    @property
    def uri(self) -> str:
        """Where it is, as the user wrote it."""
        return self._storage.uri

    @property
    def cuts_patches(self) -> bool:
        """Whether samples that are stored without patches are read with them."""
        return self._patches_from is not None

    @property
    def storage(self) -> Storage:
        """The files below it."""
        return self._storage

    @classmethod
    def create_or_open(cls, uri: str, info: DatasetInfo) -> Self:
        """Open the dataset of these settings, or start it where there is nothing yet.

        Raises:
            ProvenanceError: there is a dataset of other settings, or something that is no dataset, or the
                place lies in the folder of another dataset; nothing is touched.
            DatasetError: its `dataset.json` is damaged.
            StorageError: the place cannot be read or written.
        """
        storage = open_storage(uri)
        if not storage.exists(INFO_NAME):
            # looked at twice, as another writer may begin between the two looks
            if not storage.is_empty() and not storage.exists(INFO_NAME):
                raise ProvenanceError(
                    f"{uri} is not empty and holds no dataset", remedy="choose an empty place"
                )
            if outer := _enclosing(storage):
                raise ProvenanceError(
                    f"{uri} lies inside the dataset {outer}", remedy="choose a place outside it"
                )
            storage.write_new(INFO_NAME, info.to_json())
        found = cls.open(uri)
        found.info.check_same(info, uri=uri)
        return found

    @classmethod
    def open(cls, uri: str, *, patches_from: PatchSource | None = None) -> Self:
        """Open a dataset to read it.

        Args:
            uri: where it is.
            patches_from: cuts the patches of samples that are stored without.

        Raises:
            NoDatasetError: there is none.
            DatasetError: its `dataset.json` is damaged, or lost while shards are there.
            FormatVersionError: a newer gazepack wrote it.
            StorageError: the place cannot be read.
        """
        storage = open_storage(uri)
        if not storage.exists(INFO_NAME):
            problem = f"{uri} is not a gazepack dataset: it has no {INFO_NAME}"
            if storage.list("index"):
                raise DatasetError(f"{problem}, though it has indices", remedy="restore that file")
            raise NoDatasetError(problem, remedy="check the address")
        return cls(storage, _read_info(storage), patches_from=patches_from)

    @property
    def sha256(self) -> str:
        """Of dataset.json as it is now, in hexadecimal."""
        return hashlib.sha256(self._storage.read_bytes(INFO_NAME)).hexdigest()

    def shard_name(self, number: int) -> str:
        """Return the name of a shard below the root.

        Raises:
            UsageError: the number is negative or has more than nine digits.
        """
        return f"shards/{_digits(number)}.{self._container.extension}"

    def index_name(self, number: int) -> str:
        """Return the name of a shard's index below the root."""
        return f"index/{_digits(number)}.parquet"

    def failures_name(self, number: int) -> str:
        """Return the name of a shard's failures below the root."""
        return f"failures/{_digits(number)}.parquet"

    def committed(self) -> list[int]:
        """Return the numbers of the shards that exist, ascending; one listing."""
        matches = (_INDEX.fullmatch(name) for name in self._storage.list("index"))
        return sorted(int(match[1]) for match in matches if match)

    def is_committed(self, number: int) -> bool:
        """Return whether a shard exists."""
        return self._storage.exists(self.index_name(number))

    def index(self, number: int) -> pa.Table:
        """Return the index of one shard: `INDEX_SCHEMA` with an int64 column `shard` in front.

        Raises:
            DatasetError: it is missing or damaged.
        """
        table, _ = self._read_index(number)
        shard = pa.array([number] * table.num_rows, type=SHARD_FIELD.type)
        return table.add_column(0, SHARD_FIELD, shard).replace_schema_metadata(None)

    def shard_facts(self, number: int) -> ShardFacts:
        """Return what the index says of the shard as a whole.

        Raises:
            DatasetError: the index is missing or damaged.
        """
        return self._read_index(number)[1]

    def _read_index(self, number: int) -> tuple[pa.Table, ShardFacts]:
        name = self.index_name(number)
        data = self._storage.read_bytes(name)
        try:
            table, facts = index_from_bytes(data, place=name)
        except DatasetError as error:
            error.remedy = (
                "restore it from a copy, or remove it and run the same pack command again"
            )
            raise
        if facts.name != self.shard_name(number):
            raise DatasetError(f"it is the index of {facts.name!r}", place=name)
        most = pa.scalar(MAX_TOKENS)
        if self.info.stores_patches:  # else they are compressed
            most = pc.divide(table["size"], TOKEN_BYTES)
        if not pc.all(pc.less_equal(table["tokens"], most), min_count=0).as_py():
            raise DatasetError("it counts more tokens than its samples can hold", place=name)
        return table, facts

    def read_index(self) -> pa.Table:
        """Return the indices of all shards, one after the other in the order of their numbers.

        Raises:
            DatasetError: an index is damaged.
        """
        with ThreadPoolExecutor(_READERS) as pool:
            tables = list(pool.map(self.index, self.committed()))
        empty = pa.schema([SHARD_FIELD, *INDEX_SCHEMA]).empty_table()
        return pa.concat_tables([empty, *tables])

    def failures(self) -> pa.Table:
        """Return all failures of committed shards: `FAILURES_SCHEMA`, an int64 `shard` in front.

        Raises:
            DatasetError: a failures file is damaged.
        """
        present = set(self._storage.list("failures"))
        numbers = [n for n in self.committed() if self.failures_name(n) in present]
        tables = [pa.schema([SHARD_FIELD, *FAILURES_SCHEMA]).empty_table()]
        for number in numbers:
            name = self.failures_name(number)
            table = failures_from_bytes(self._storage.read_bytes(name), place=name)
            shard = pa.array([number] * table.num_rows, type=SHARD_FIELD.type)
            tables.append(table.add_column(0, SHARD_FIELD, shard))
        return pa.concat_tables(tables)

    def write_shard(
        self,
        number: int,
        samples: Iterable[Sample],
        failures: Callable[[], Sequence[Failure]] | Sequence[Failure] = (),
    ) -> pa.Table:
        """Write and commit one shard; a unit whose videos all failed commits an empty one.

        Args:
            number: the shard's number.
            samples: taken one at a time; if this raises, nothing becomes visible and nothing is
                left.
            failures: the videos that could not be packed; a function is asked after the last
                sample.

        Returns:
            The shard's index, as `index` returns it.

        Raises:
            UsageError: the shard is committed already, two samples have one key, or a sample has
                another patch size than the dataset.
            ProvenanceError: another writer has made the place another dataset; nothing becomes visible.
            StorageError: the place cannot be written.
        """
        # 1. the shard
        name = self.shard_name(number)
        if self.is_committed(number):
            raise UsageError(f"shard {number} of {self.uri} is committed already")
        with self._storage.staged(name) as file:
            writer = ShardWriter(file, self._container.encoder(self._codec))
            for sample in self._checked(samples):
                writer.write(sample)
            writer.finish()
        # 2. its failures; those of a killed writer go
        failed = failures() if callable(failures) else failures
        if failed:
            self._storage.write_atomic(self.failures_name(number), failures_to_bytes(failed))
        else:
            self._storage.remove(self.failures_name(number))
        # 3. the index: the commit, unless two writers began at once where the last one wins
        _read_info(self._storage).check_same(self.info, uri=self.uri)
        facts = ShardFacts(
            name=name,
            size=writer.size,
            sha256=writer.sha256,
            failures=len(failed),
            dataset_sha256=self.sha256,
        )
        self._storage.write_atomic(self.index_name(number), index_to_bytes(writer.rows, facts))
        return self.index(number)

    def _checked(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """Yield the samples, refusing a key that occurs twice and a foreign patch size."""
        keys: set[str] = set()
        for sample in samples:
            if sample.key in keys:
                raise UsageError(f"two samples of one shard have the key {sample.key!r}")
            if sample.patch_size != self.info.patch_size:
                raise UsageError(
                    f"sample {sample.key} has patches of {sample.patch_size} px, the dataset of "
                    f"{self.info.patch_size} px"
                )
            keys.add(sample.key)
            yield sample

    def read_sample(self, row: Mapping[str, Any]) -> Sample:
        """Return the sample of a row of `index` or `read_index`, by one range read.

        Args:
            row: a dictionary with shard, key, offset, size, crc32 and members.

        Returns:
            The sample; without patches where they are not stored and nobody cuts them.

        Raises:
            DatasetError: the shard is missing, the sample is damaged, or its patches cannot be cut; names
                shard, sample and field.
        """
        return self._read(row, kind=Sample)

    def read_loose(self, row: Mapping[str, Any], *, room: Room | None = None) -> LooseSample:
        """Return the same with its tokens unchecked: ask `are_whole` of all that were read.

        Args:
            row: as for `read_sample`.
            room: gives the memory that the patches are decoded into, uint8 N x P x P x 3; new memory by
                default.

        Raises:
            DatasetError: as `read_sample`.
        """
        return self._read(row, kind=LooseSample, room=room)

    def _read(
        self, row: Mapping[str, Any], *, kind: type[SampleT], room: Room | None = None
    ) -> SampleT:
        name = self.shard_name(row["shard"])
        stored = self.read_stored(row)
        if zlib_ng.crc32(stored) != row["crc32"]:
            raise DatasetError(
                "the checksum is wrong: the bytes are not those that were written",
                place=f"{name}: sample {row['key']}",
                remedy="restore the shard from a copy, or pack it again",
            )
        sample = self._container.read(
            stored,
            row=row,
            codec=self._codec,
            patch_size=self.info.patch_size,
            place=name,
            kind=kind,
            room=room,
        )
        if sample.patches_NPP3 is not None or self._patches_from is None:
            return sample
        place = f"{name}: sample {row['key']}"
        out = None if room is None else room(sample.num_tokens)
        cut = cut_patches(self._patches_from, sample, self.info, place=place, out=out)
        return replace(sample, patches_NPP3=cut)

    def read_member(self, row: Mapping[str, Any], name: str) -> bytes:
        """Return one member of a sample as it is stored, by one range read, unchecked.

        Raises:
            DatasetError: the index lists no such member, or the shard is missing.
        """
        for member in row["members"]:
            if member["name"] == name:
                return self._storage.read_range(
                    self.shard_name(row["shard"]), offset=member["offset"], size=member["size"]
                )
        place = f"{self.shard_name(row['shard'])}: sample {row['key']}: {name}"
        raise DatasetError("the field is missing", place=place)

    def read_stored(self, row: Mapping[str, Any]) -> Stored:
        """Return a sample's bytes in the shard, unchecked; of a shard that is mapped, the bytes themselves."""
        name, offset, size = self.shard_name(row["shard"]), row["offset"], row["size"]
        if self._mapped is not None and isinstance(self._storage, LocalStorage):
            found = self._mapped.read(self._storage.path(name), offset=offset, size=size)
            if found is not None:
                return found
        return self._storage.read_range(name, offset=offset, size=size)

    def iter_samples(self, number: int) -> Iterator[Sample]:
        """Yield the samples of one shard in their order.

        Raises:
            DatasetError: the index, the shard or a sample is damaged.
        """
        for batch in self.index(number).to_batches(max_chunksize=256):
            for row in batch.to_pylist():
                yield self.read_sample(row)

    def leftovers(self) -> list[str]:
        """Return the names of files below the root that no index names: what killed writers left.

        Only while nobody writes: a shard that is being written has no index yet.
        """
        named = {INFO_NAME}
        for number in self.committed():
            named |= {
                self.index_name(number),
                self.shard_name(number),
                self.failures_name(number),
            }
        return [
            name
            for name in self._storage.list()
            if name not in named and (is_temporary(name) or _is_ours(name))
        ]

    def remove_leftovers(self) -> list[str]:
        """Remove what `leftovers` names, and return it."""
        names = self.leftovers()
        for name in names:
            self._storage.remove(name)
        return names

    def write_run_file(self, name: str, data: bytes) -> None:
        """Write one of the writer's own papers, `run/NAME`, atomically.

        Raises:
            UsageError: the name is not safe.
            StorageError: the place cannot be written.
        """
        self._storage.write_atomic(f"run/{name}", data)

    def read_run_file(self, name: str) -> bytes:
        """Return one of the writer's own papers.

        Raises:
            DatasetError: it is missing.
        """
        return self._storage.read_bytes(f"run/{name}")


def _enclosing(storage: Storage) -> str | None:
    """Return the dataset in whose folder or prefix another would lie."""
    for outer in storage.above():
        with suppress(StorageError, DatasetError):  # others may call a file of theirs dataset.json
            if outer.exists(INFO_NAME) and _read_info(outer):
                return outer.uri
    return None


def _read_info(storage: Storage) -> DatasetInfo:
    """Return what the directory says it is; the errors are those of `DatasetDirectory.open`."""
    place = f"{storage.uri}/{INFO_NAME}"
    return DatasetInfo.from_json(storage.read_bytes(INFO_NAME), place=place)


def _digits(number: int) -> str:
    if not 0 <= number < 10**9:
        raise UsageError(f"shard number {number} is not in 0..999999999")
    return f"{number:06d}"


def _is_ours(name: str) -> bool:
    """Return whether a file without an index lies where a writer would have put it."""
    return name.split("/")[0] in ("shards", "index", "failures") and "/" in name
