"""The catalog: the index rows of one or several datasets, filtered, joined, and ready to be pickled.

Everything stays in Arrow, about 300 bytes a sample; rows become Python objects only when they are
read. A catalog opens no file after it is made, so it may be sent to worker processes.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from gazepack.errors import DatasetError, UsageError
from gazepack.formats import DatasetDirectory

_ADDRESS = ("dataset", "shard", "key", "offset", "size", "crc32", "members")
_DATASET_FIELD = pa.field("dataset", pa.int32(), nullable=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Catalog:
    """The samples that a loader may give out, in the order of the index."""

    uris: tuple[str, ...]
    """The datasets."""
    patch_size: int
    """Side of every patch, in pixels."""
    addresses: pa.Table
    """One row a sample: what `DatasetDirectory.read_sample` needs, and `dataset`, the position in
    `uris`."""
    without_patches: tuple[str, ...]
    """The datasets that store places alone."""
    joined: pa.Table | None
    """One row a sample: the joined columns."""
    fingerprint: str
    """Of the keys and their order, 16 hexadecimal digits."""

    def __len__(self) -> int:
        return int(self.addresses.num_rows)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Samples of each dataset."""
        numbers = self.addresses["dataset"].to_numpy()
        return tuple(np.bincount(numbers, minlength=len(self.uris)).tolist())

    def rows(self, positions: npt.NDArray[np.int64]) -> list[dict[str, Any]]:
        """Return the addresses of some samples; with the joined columns under `joined`."""
        rows: list[dict[str, Any]] = self.addresses.take(positions).to_pylist()
        if self.joined is not None:
            for row, joined in zip(rows, self.joined.take(positions).to_pylist(), strict=True):
                row["joined"] = joined
        return rows

    def position(self, key: str) -> int:
        """Return where a sample stands.

        Raises:
            KeyError: there is none of this key.
        """
        found = int(pc.index(self.addresses["key"], key).as_py())
        if found < 0:
            raise KeyError(key)
        return found


def open_catalog(
    uris: Sequence[str], *, filter: pc.Expression | None = None, join: pa.Table | None = None
) -> tuple[Catalog, pa.Table]:
    """Read the indices of the datasets.

    Args:
        uris: of the datasets; their samples follow each other in this order.
        filter: keeps the rows for which it is true; on the columns of the index.
        join: a table with a column `key` or `id`; its row goes with each sample of that key or id.

    Returns:
        The catalog, and the filtered index with all its columns.

    Raises:
        UsageError: a filter or join that does not fit, or datasets that do not go together.
        DatasetError: a dataset is missing or damaged.
        StorageError: it cannot be read.
    """
    if not uris:
        raise UsageError("no dataset is named", remedy="give its folder or URI")
    directories = [DatasetDirectory.open(uri) for uri in uris]
    patch_size = _common_patch_size(directories)
    tables = []
    for number, directory in enumerate(directories):
        table = directory.read_index()
        column = pa.array(np.full(table.num_rows, number, dtype=np.int32))
        tables.append(table.add_column(0, _DATASET_FIELD, column))
    index = pa.concat_tables(tables)
    _refuse_duplicates(index["key"], uris)
    index = _filtered(index, filter).combine_chunks()
    catalog = Catalog(
        uris=tuple(uris),
        patch_size=patch_size,
        addresses=index.select(_ADDRESS),
        without_patches=tuple(d.uri for d in directories if not d.info.stores_patches),
        joined=None if join is None else _joined(index, join),
        fingerprint=_fingerprint(index["key"]),
    )
    return catalog, index


def _common_patch_size(directories: Sequence[DatasetDirectory]) -> int:
    sizes = {directory.uri: directory.info.patch_size for directory in directories}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{uri} has {size} px" for uri, size in sizes.items())
        raise UsageError(
            f"the datasets have patches of different sizes: {listed}",
            remedy="load them one by one",
        )
    return directories[0].info.patch_size


def _refuse_duplicates(keys: pa.ChunkedArray, uris: Sequence[str]) -> None:
    """Refuse a key that occurs twice: one sample would be given out twice in an epoch."""
    if pc.count_distinct(keys).as_py() == len(keys):
        return
    counts = pc.value_counts(keys)
    key = counts.field("values").filter(pc.greater(counts.field("counts"), 1))[0].as_py()
    if len(uris) == 1:
        raise DatasetError(
            f"the key {key!r} occurs twice", place=f"{uris[0]}/index", remedy="pack it again"
        )
    raise UsageError(
        f"the key {key!r} occurs twice in {', '.join(uris)}",
        remedy="name each dataset once, and load datasets of the same videos one by one",
    )


def _filtered(index: pa.Table, filter: pc.Expression | None) -> pa.Table:
    if filter is None:
        return index
    if not isinstance(filter, pc.Expression):
        raise UsageError(
            f"filter {filter!r} is not a pyarrow expression",
            remedy='write for example pyarrow.compute.field("frames") >= 16',
        )
    try:
        return index.filter(filter)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise UsageError(
            f"filter {filter} does not fit the index ({str(error).splitlines()[0]})",
            remedy=f"its columns are {', '.join(index.column_names)}",
        ) from error


def _joined(index: pa.Table, join: pa.Table) -> pa.Table:
    """Return the rows of `join` in the order of the index."""
    if not isinstance(join, pa.Table):
        raise UsageError(f"join is {type(join).__name__}, not a pyarrow.Table")
    on = next((name for name in ("key", "id") if name in join.column_names), None)
    if on is None:
        raise UsageError(
            f"join has the columns {', '.join(join.column_names) or 'none'}",
            remedy="name one key (of the sample) or id (of the video)",
        )
    names = join[on].combine_chunks().cast(pa.string())
    if pc.count_distinct(names).as_py() != len(names):
        raise UsageError(f"join has a {on} that occurs twice", remedy="give each one row")
    positions = pc.index_in(index[on], value_set=names)
    if positions.null_count:
        missing = index[on].filter(pc.is_null(positions))
        raise UsageError(
            f"join has no row for {len(missing)} of {index.num_rows} samples, "
            f"among them {on} {missing[0].as_py()!r}",
            remedy=f'add them, or use filter=pyarrow.compute.field("{on}").isin(table["{on}"])',
        )
    return join.drop_columns([on]).take(positions).combine_chunks()


def _fingerprint(keys: pa.ChunkedArray) -> str:
    digest = hashlib.sha256()
    for start in range(0, len(keys), 65536):
        part = keys.slice(start, 65536).to_pylist()
        digest.update("".join(f"{key}\n" for key in part).encode())
    return digest.hexdigest()[:16]
