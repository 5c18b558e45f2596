"""Looking for damage: everything a shard and its index claim, checked against the bytes.

One pass over the shard, one sample in memory at a time. Every problem is reported, not only the
first, since the reader of the report wants to know whether one sample or the whole shard is lost.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import pyarrow as pa
from zlib_ng import zlib_ng

from gazepack.errors import DatasetError
from gazepack.formats.codecs.base import Stored
from gazepack.formats.dataset import DatasetDirectory
from gazepack.formats.failures import failures_again, failures_from_bytes
from gazepack.formats.index import (
    Member,
    ShardFacts,
    index_row,
    is_as_written,
    rows_to_table,
    table_to_index,
)
from gazepack.formats.info import INFO_NAME
from gazepack.formats.record import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong with a dataset."""

    place: str
    """The file, and the sample and field where known."""
    problem: str
    """What is wrong."""

    @classmethod
    def of(cls, error: DatasetError, place: str = "") -> Self:
        """Return the problem of an error, whose own place is the better one."""
        if not error.place:
            return cls(place=place, problem=error.problem)
        return cls(place=error.place, problem=error.problem.removeprefix(f"{error.place}: "))

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}"


def verify_shard(directory: DatasetDirectory, number: int) -> list[Problem]:
    """Return everything that is wrong with a committed shard; nothing when it is whole.

    Checked: size and SHA-256 of the shard, the checksum of each sample, that tar and index agree on
        every member, that every field and patch decodes, that tokens lie in their grids with a gaze
        order without gaps, that every number in the index is the one the sample gives, and that the
        failures are as many as the index says.

    Raises:
        StorageError: the place cannot be read.
    """
    name = directory.shard_name(number)
    try:
        table = directory.index(number)
        rows, facts = table.to_pylist(), directory.shard_facts(number)
        size = directory.storage.size(name)
        container, codec = directory.info.make_container(), directory.info.make_codec()
        head = container.head(directory.storage, name, codec=codec)
    except DatasetError as error:
        return [Problem.of(error, directory.index_name(number))]
    problems = list(_index(directory, number, table.drop_columns("shard"), facts))
    sha256 = hashlib.sha256(head)
    position = len(head)
    for row in rows:
        place = f"{name}: sample {row['key']}"
        if row["offset"] != position:
            problem = f"it starts at byte {row['offset']}, the one before ends at {position}"
            problems.append(Problem(place=place, problem=problem))
        position = row["offset"] + row["size"]
        try:
            stored = directory.read_stored(row)
        except DatasetError as error:
            problems.append(Problem.of(error, place))
            continue
        sha256.update(stored)
        problems += _sample(directory, row, stored)
    problems += _end(
        directory, number, facts, rows=rows, size=size, position=position, sha256=sha256
    )
    for key, count in Counter(row["key"] for row in rows).items():
        if count > 1:
            problems.append(Problem(place=f"{name}: sample {key}", problem=f"{count} of this key"))
    return problems + list(_failures(directory, number, facts))


def _index(
    directory: DatasetDirectory, number: int, table: pa.Table, facts: ShardFacts
) -> Iterator[Problem]:
    """Check that the index is to the bit what its rows give, and dataset.json what it was at the commit."""
    name = directory.index_name(number)
    if not is_as_written(directory.storage.read_bytes(name), table_to_index(table, facts)):
        yield Problem(place=name, problem="its bytes are not those that its rows give")
    if facts.dataset_sha256 not in (None, directory.sha256):
        yield Problem(place=INFO_NAME, problem=f"its SHA-256 is not {facts.dataset_sha256}")


def _end(
    directory: DatasetDirectory,
    number: int,
    facts: ShardFacts,
    *,
    rows: Sequence[Mapping[str, Any]],
    size: int,
    position: int,
    sha256: "hashlib._Hash",
) -> Iterator[Problem]:
    """Check what follows the last sample, the size and the hash; `sha256` has seen all samples."""
    name, container = directory.shard_name(number), directory.info.make_container()
    if size != facts.size:
        yield Problem(place=name, problem=f"it has {size} bytes, the index says {facts.size}")
        return
    if not 0 <= size - position <= container.most_end_bytes(len(rows)):
        yield Problem(place=name, problem=f"it has {size} bytes, its samples end at {position}")
        return
    end = directory.storage.read_range(name, offset=position, size=size - position)
    for problem in container.check_end(end, rows=rows):
        yield Problem(place=name, problem=problem)
    sha256.update(end)
    if sha256.hexdigest() != facts.sha256:
        yield Problem(place=name, problem=f"its SHA-256 is not {facts.sha256}")


def _sample(directory: DatasetDirectory, row: Mapping[str, Any], stored: Stored) -> list[Problem]:
    """Return what is wrong with one sample."""
    name = directory.shard_name(row["shard"])
    place = f"{name}: sample {row['key']}"
    problems: list[Problem] = []
    crc32 = zlib_ng.crc32(stored)
    if crc32 != row["crc32"]:
        problem = f"its CRC-32 is {crc32:08x}, the index says {row['crc32']:08x}"
        problems.append(Problem(place=place, problem=problem))
    container, codec = directory.info.make_container(), directory.info.make_codec()
    try:
        for problem in container.check_sample(stored, row=row, codec=codec):
            problems.append(Problem(place=place, problem=problem))
        sample = container.read(
            stored,
            row=row,
            codec=codec,
            patch_size=directory.info.patch_size,
            place=name,
            kind=Sample,
        )
    except DatasetError as error:
        return [*problems, Problem.of(error, place)]
    return problems + list(_row(row, sample, stored, place))


def _row(row: Mapping[str, Any], sample: Sample, stored: Stored, place: str) -> Iterator[Problem]:
    """Compare the index row with the one the sample gives."""
    members = [Member(**member) for member in row["members"]]
    rows = [index_row(sample, stored=stored, offset=row["offset"], members=members)]
    expected = rows_to_table(rows).to_pylist()[0]
    for column, value in expected.items():
        if column != "crc32" and row[column] != value:
            problem = f"the index says {column} {row[column]}, the sample gives {value}"
            yield Problem(place=place, problem=problem)


def _failures(directory: DatasetDirectory, number: int, facts: ShardFacts) -> Iterator[Problem]:
    """Check that the failures are there, and as many as the index says."""
    name = directory.failures_name(number)
    if not facts.failures and not directory.storage.exists(name):
        return
    try:
        data = directory.storage.read_bytes(name)
        table = failures_from_bytes(data, place=name)
    except DatasetError as error:
        yield Problem.of(error, name)
        return
    if not is_as_written(data, failures_again(data, place=name)):
        yield Problem(place=name, problem="its bytes are not those that its rows give")
    if table.num_rows != facts.failures:
        problem = f"{table.num_rows} failures, the index says {facts.failures}"
        yield Problem(place=name, problem=problem)
