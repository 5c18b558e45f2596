"""Reading samples: the one place where a loader touches storage.

Clients of object stores hang when a process inherits them by fork, so directories are opened on
first use in each process, and none is carried along when a reader is pickled. Requests that fail
and may pass are tried again by the storage itself (`gazepack.formats.remote`).
"""

import os
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from gazepack.errors import DatasetError
from gazepack.formats import DatasetDirectory, LooseSample, PatchSource, Storage, are_whole
from gazepack.loader.batch import Batch, BatchBuilder
from gazepack.loader.cache import CachedStorage, Facts, ShardCache
from gazepack.loader.catalog import Catalog
from gazepack.loader.dials import Dials
from gazepack.loader.memory import BatchMemory

OnError = Literal["raise", "skip"]
Row = Mapping[str, Any]
"""An address of the catalog."""
_SHARD = re.compile(r"shards/(\d+)\.\w+")


class SampleReader:
    """Turns positions of a catalog into batches; several threads may read at a time.

    Args:
        catalog: the samples.
        tokens: what the dials keep of each at most, int64 of shape (samples,).
        dials: what to keep.
        on_error: whether a damaged sample is raised or skipped.
        pin_memory: whether batches lie in page-locked memory.
        cache: for the shards of object stores.
        patches_from: cuts patches that are not stored.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        tokens: npt.NDArray[np.int64],
        dials: Dials,
        on_error: OnError,
        pin_memory: bool = False,
        cache: ShardCache | None = None,
        patches_from: PatchSource | None = None,
    ) -> None:
        self.catalog = catalog
        self._dials = dials
        self._tokens = tokens
        self._memory = BatchMemory()
        self._on_error = on_error
        self._pin_memory = pin_memory
        self._cache = cache
        self._patches_from = patches_from
        self._opened: dict[int, DatasetDirectory] = {}
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": {}}

    def read(
        self, positions: npt.NDArray[np.int64], *, state: dict[str, Any] | None = None
    ) -> Batch:
        """Return the samples of some positions as a batch.

        Raises:
            DatasetError: a sample is damaged, unless these are skipped; names shard and sample.
            StorageError: the storage cannot be read.
        """
        rows = self.catalog.rows(positions)
        num_tokens = int(self._tokens[positions].sum())
        builder = self._read_together(rows, num_tokens) if self._dials.is_off else None
        if builder is not None:
            return builder.finish(state=state)
        builder, skipped = self._read_each(rows, num_tokens)
        return builder.finish(skipped=skipped, state=state)

    def _read_together(self, rows: Sequence[Row], num_tokens: int) -> BatchBuilder | None:
        """Read all tokens of all samples, straight to their place; None where one is damaged.

        The tokens are checked all at a time, which takes a fifth of the time.
        """
        builder = self._builder(num_tokens)
        samples = []
        try:
            for row in rows:
                sample = self._directory(row["dataset"]).read_loose(row, room=builder.room)
                builder.add(sample, meta=_meta(sample, row))
                samples.append(sample)
        except DatasetError:
            return None
        return builder if are_whole(samples) else None

    def _read_each(self, rows: Sequence[Row], num_tokens: int) -> tuple[BatchBuilder, list[str]]:
        """Read what the dials keep of each sample, and find out which are damaged."""
        builder = self._builder(num_tokens)
        skipped: list[str] = []
        for row in rows:
            try:
                sample = self._directory(row["dataset"]).read_sample(row)
                kept = self._dials.keep(sample.tokens_N6, sample.loss_N)
                builder.add(sample, meta=_meta(sample, row), kept=kept)
            except DatasetError as error:
                named = _in_dataset(error, self.catalog.uris[row["dataset"]])
                if self._on_error == "raise":
                    raise named from error
                skipped.append(str(named))
                warnings.warn(f"skipped a damaged sample: {named}", stacklevel=2)
        return builder, skipped

    def _builder(self, num_tokens: int) -> BatchBuilder:
        return BatchBuilder(
            num_tokens,
            patch_size=self.catalog.patch_size,
            memory=self._memory,
            pin_memory=self._pin_memory,
        )

    def _directory(self, number: int) -> DatasetDirectory:
        if self._process != os.getpid():
            self._opened, self._process = {}, os.getpid()
        if number not in self._opened:
            uri, patches_from = self.catalog.uris[number], self._patches_from
            directory = DatasetDirectory.open(uri, patches_from=patches_from)
            is_remote = "://" in directory.uri and not directory.uri.startswith(("file:", "local:"))
            if self._cache is not None and is_remote:
                directory = _cached(directory, self._cache, patches_from)
            self._opened[number] = directory
        return self._opened[number]


def _in_dataset(error: DatasetError, uri: str) -> DatasetError:
    """Return an error whose place begins with the dataset: shards of several have the same names."""
    if error.place.startswith(uri):
        return error
    problem = error.problem.removeprefix(f"{error.place}: ")
    place = f"{uri.rstrip('/')}/{error.place}"
    return DatasetError(problem, place=place, remedy=error.remedy)


def _meta(sample: LooseSample, row: Row) -> dict[str, Any]:
    """Return a sample's entry in `Batch.meta`."""
    joined = {"joined": row["joined"]} if "joined" in row else {}
    return {**sample.meta, "fields": dict(sample.fields), **joined}


def _cached(
    directory: DatasetDirectory, cache: ShardCache, patches_from: PatchSource | None
) -> DatasetDirectory:
    """Return the directory with its shards read through the cache."""

    def facts(name: str) -> Facts:
        match = _SHARD.fullmatch(name)
        assert match, f"{name} is no shard"
        return directory.shard_facts(int(match[1]))

    # It delegates what it does not do itself, which types cannot express.
    storage = cast("Storage", CachedStorage(directory.storage, cache, facts))
    return DatasetDirectory(storage, directory.info, patches_from=patches_from)
