"""Reading samples: the one place where a loader touches storage.

Clients of object stores hang when a process inherits them by fork, so directories are opened on
first use in each process, and none is carried along when a reader is pickled.
"""

import os
import warnings
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from gazepack.errors import DatasetError
from gazepack.formats import DatasetDirectory, Sample
from gazepack.loader.batch import Batch, Part, collate
from gazepack.loader.catalog import Catalog
from gazepack.loader.dials import Dials

OnError = Literal["raise", "skip"]


class SampleReader:
    """Turns positions of a catalog into batches."""

    def __init__(self, catalog: Catalog, *, dials: Dials, on_error: OnError) -> None:
        self.catalog = catalog
        self.dials = dials
        self._on_error = on_error
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
        parts: list[Part] = []
        skipped: list[str] = []
        for row in self.catalog.rows(positions):
            try:
                parts.append(self._part(row))
            except DatasetError as error:
                if self._on_error == "raise":
                    raise
                skipped.append(str(error))
                warnings.warn(f"skipped a damaged sample: {error}", stacklevel=2)
        return collate(parts, patch_size=self.catalog.patch_size, skipped=skipped, state=state)

    def _part(self, row: Mapping[str, Any]) -> Part:
        sample: Sample = self._directory(row["dataset"]).read_sample(row)
        kept = None if self.dials.is_off else self.dials.keep(sample.tokens_N6, sample.loss_N)
        joined = {"joined": row["joined"]} if "joined" in row else {}
        return Part(
            tokens_N6=sample.tokens_N6,
            loss_N=sample.loss_N,
            patches_NPP3=sample.patches_NPP3,
            kept=kept,
            meta={**sample.meta, "fields": dict(sample.fields), **joined},
        )

    def _directory(self, number: int) -> DatasetDirectory:
        if self._process != os.getpid():
            self._opened, self._process = {}, os.getpid()
        if number not in self._opened:
            self._opened[number] = DatasetDirectory.open(self.catalog.uris[number])
        return self._opened[number]
