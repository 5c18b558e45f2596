"""The dataset directory: records, codecs, containers, indices."""

from gazepack.formats.codecs import (
    CODECS,
    AnyCodec,
    Codec,
    PlacesCodec,
    codec_from,
    codec_from_settings,
)
from gazepack.formats.dataset import DatasetDirectory
from gazepack.formats.failures import FAILURES_SCHEMA, Failure
from gazepack.formats.index import INDEX_SCHEMA
from gazepack.formats.info import DatasetInfo
from gazepack.formats.meta import FORMAT_VERSION, MAX_PSNR, SampleMeta
from gazepack.formats.patch_source import PatchSource
from gazepack.formats.record import TOKEN_FIELDS, LooseSample, Sample, are_whole
from gazepack.formats.storage import Storage, open_storage
from gazepack.formats.summary import outstanding, summarise
from gazepack.formats.verify import Problem, verify_shard

__all__ = [
    "CODECS",
    "FAILURES_SCHEMA",
    "FORMAT_VERSION",
    "INDEX_SCHEMA",
    "MAX_PSNR",
    "TOKEN_FIELDS",
    "AnyCodec",
    "Codec",
    "DatasetDirectory",
    "DatasetInfo",
    "Failure",
    "LooseSample",
    "PatchSource",
    "PlacesCodec",
    "Problem",
    "Sample",
    "SampleMeta",
    "Storage",
    "are_whole",
    "codec_from",
    "codec_from_settings",
    "open_storage",
    "outstanding",
    "summarise",
    "verify_shard",
]
