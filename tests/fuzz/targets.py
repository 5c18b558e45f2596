"""What is fuzzed: every reader of bytes that may come from anyone.

A target is called with bytes and returns, or raises `GazepackError`; anything else is a finding. `seeds` gives
what a fuzzer begins from: the golden files, and the checkpoint of the tests. While a target runs, `watched`
refuses what a reader must never do: open a file outside the folder, unpickle, start a program, connect.
"""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from gazepack.autogaze.config import AutoGazeConfig
from gazepack.autogaze.weights import load_checkpoint
from gazepack.errors import GazepackError
from gazepack.formats import (
    CODECS,
    DatasetDirectory,
    DatasetInfo,
    PlacesCodec,
    Sample,
    codec_from,
    summarise,
    verify_shard,
)
from gazepack.formats.arrow import ArrowContainer, batch_members
from gazepack.formats.failures import failures_from_bytes
from gazepack.formats.index import index_from_bytes, table_to_bytes
from gazepack.formats.members import from_npy, from_values
from gazepack.formats.meta import check_meta, parse_json
from gazepack.formats.webdataset import WebDatasetContainer, tar_members
from gazepack.jobs import list_sources, verify_totals
from gazepack.jobs.segment import SCHEMA
from gazepack.loader import GazeDataset
from gazepack.loader.state import LoaderState

TESTS = Path(__file__).resolve().parents[1]
GOLDEN = TESTS / "formats" / "golden"
CHECKPOINT = TESTS / "data" / "autogaze-tiny"
KEPT = tuple(sorted(folder.name for folder in GOLDEN.iterdir()))
FOLDER = Path(tempfile.gettempdir()) / f"gazepack-fuzz-{os.getpid()}"
"""Where targets put files; the only place that readers may open while they run."""
CODEC_NAMES = tuple(sorted(CODECS))

Target = Callable[[bytes], None]
TARGETS: dict[str, Target] = {}


def target(function: Target) -> Target:
    """Name a target after its function."""
    TARGETS[function.__name__] = function
    return function


# ------------------------------------------------------------------------------------------- targets


@target
def tar(data: bytes) -> None:
    """A stretch of a tar, listed and read as the index says."""
    row, _ = stored("zstd")
    tar_members(data, offset=row["offset"])
    container, codec = WebDatasetContainer(), codec_from("zstd")
    container.read(data, row=row, codec=codec, patch_size=14, place="p", kind=Sample)


@target
def npy(data: bytes) -> None:
    """An array, with a header and without."""
    for width in (6, None):
        for read in (from_npy, from_values):
            attempt(read, data, dtype="<u2", width=width)


@target
def arrow(data: bytes) -> None:
    """A record batch, with patches and without, and the end of a file."""
    for name, codec in (("arrow-zstd", codec_from("zstd")), ("arrow-places", PlacesCodec())):
        row, _ = stored(name)
        attempt(batch_members, data, offset=0, codec=codec)
        container = ArrowContainer()
        attempt(container.read, data, row=row, codec=codec, patch_size=14, place="p", kind=Sample)
        list(container.check_end(data, rows=[row]))


@target
def index(data: bytes) -> None:
    """The index of a shard."""
    index_from_bytes(data, place="p")


@target
def failures(data: bytes) -> None:
    """The failures of a shard."""
    failures_from_bytes(data, place="p")


@target
def info(data: bytes) -> None:
    """A dataset.json."""
    DatasetInfo.from_json(data).to_json()


@target
def meta(data: bytes) -> None:
    """The metadata of a sample."""
    check_meta(parse_json(data))


@target
def patches(data: bytes) -> None:
    """A member of any codec: the first byte says which."""
    codec = codec_from(CODEC_NAMES[data[0] % len(CODEC_NAMES)] if data else "raw")
    row, _ = stored("zstd")
    found = codec.decode(data[1:], num_patches=row["tokens"], patch_size=14)
    assert found.shape == (row["tokens"], 14, 14, 3)


@target
def places(data: bytes) -> None:
    """A member without patches, read with the metadata of the golden one."""
    views = check_meta(parse_json(member("places", "json"))).views
    found = PlacesCodec().decode(data, views=views)
    assert found.tokens_N6.shape == (sum(sum(view.tokens) for view in views), 6)


@target
def dataset(data: bytes) -> None:
    """A directory of which one file is what the fuzzer likes: listed, verified, read, and planned.

    The first byte says which golden dataset, the second which of its files.
    """
    kept = KEPT[data[0] % len(KEPT)] if data else KEPT[0]
    root = fresh(GOLDEN / kept)
    files = sorted(path for path in root.rglob("*") if path.is_file())
    at = data[1] % len(files) if len(data) > 1 else 0
    files[at].write_bytes(data[2:])
    directory = DatasetDirectory.open(str(root))
    for number in directory.committed():
        verify_shard(directory, number)
    list(verify_totals(directory))
    attempt(summarise, directory)
    if not directory.info.stores_patches:
        return
    for batch in GazeDataset(str(root), batch_tokens=1000, shuffle=False):
        assert batch.num_tokens == len(batch.loss)


@target
def rows(data: bytes) -> None:
    """An index of good form whose values are the fuzzer's: read, verified and loaded.

    Each five bytes put a strange value into one column of one row.
    """
    root = fresh(GOLDEN / "zstd")
    path = root / "index" / "000000.parquet"
    table, _ = index_from_bytes(path.read_bytes(), place="p")
    changed = table.to_pylist()
    for at in range(0, len(data) - 4, 5):
        row, column, how = (
            changed[data[at] % 2],
            table.column_names[data[at + 1] % 17],
            data[at + 2],
        )
        row[column] = strange(row[column], how, int.from_bytes(data[at + 3 : at + 5], "big"))
    try:
        forged = pa.Table.from_pylist(changed, schema=table.schema)
        path.write_bytes(table_to_bytes(forged.replace_schema_metadata(table.schema.metadata)))
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return  # no Parquet file can say so
    directory = DatasetDirectory.open(str(root))
    verify_shard(directory, 0)
    attempt(summarise, directory)
    for batch in GazeDataset(str(root), batch_tokens=1000, shuffle=False):
        assert batch.num_tokens == len(batch.loss)


def strange(value: Any, how: int, number: int) -> Any:
    """Return something else in place of a value of an index row."""
    if isinstance(value, list) and how % 2 and value:
        value[number % len(value)] = strange(value[number % len(value)], how // 2, number)
        return value
    if isinstance(value, dict):
        name = sorted(value)[how % len(value)]
        return value | {name: strange(value[name], how // 2, number)}
    if isinstance(value, str):
        return [value + "\x00", "../" + value, "", chr(number), None][how % 5]
    if isinstance(value, int | float):
        sizes = [number, -number, 2**31 - 1, 2**63 - 1, -(2**63), value + number % 7 - 3, 0, None]
        return type(value)(picked) if (picked := sizes[how % 8]) is not None else None
    return [None, [], number][how % 3]


@target
def listing(data: bytes) -> None:
    """The list of videos that a run froze in a dataset."""
    root = fresh(GOLDEN / "zstd")
    (root / "run").mkdir()
    (root / "run" / "sources.parquet").write_bytes(data)
    list(verify_totals(DatasetDirectory.open(str(root))))


@target
def checkpoint(data: bytes) -> None:
    """A checkpoint: the first byte says whether its settings or its weights are the fuzzer's."""
    root = fresh(CHECKPOINT)
    name = "config.json" if data and data[0] % 2 else "model.safetensors"
    (root / name).write_bytes(data[1:])
    if name == "config.json":
        AutoGazeConfig.from_json(data[1:])
    load_checkpoint(root)


@target
def manifest(data: bytes) -> None:
    """A manifest: the first byte says of which kind."""
    suffix = (".csv", ".jsonl", ".parquet")[data[0] % 3] if data else ".csv"
    root = fresh(None)
    (root / f"m{suffix}").write_bytes(data[1:])
    list_sources([str(root / f"m{suffix}")])


@target
def state(data: bytes) -> None:
    """The state of a loader."""
    LoaderState.from_dict(parse_json(data))


# --------------------------------------------------------------------------------------------- seeds


def seeds(name: str) -> list[bytes]:
    """Return what a fuzzer of a target begins from."""
    if name in ("tar", "npy", "arrow", "patches", "places", "meta"):
        return _member_seeds(name)
    if name in ("index", "failures"):
        folder = {"index": "index", "failures": "failures"}[name]
        return [(GOLDEN / kept / folder / "000000.parquet").read_bytes() for kept in KEPT]
    if name == "info":
        return [(GOLDEN / kept / "dataset.json").read_bytes() for kept in KEPT]
    if name == "dataset":
        return [
            bytes((number, at)) + path.read_bytes()
            for number, kept in enumerate(KEPT)
            for at, path in enumerate(sorted(p for p in (GOLDEN / kept).rglob("*") if p.is_file()))
        ]
    if name == "rows":
        return [bytes(5), bytes(range(40)), bytes((0, 6, 1, 0, 3, 1, 7, 5, 0, 4))]
    if name == "listing":
        return [_listing()]
    if name == "checkpoint":
        names = ("model.safetensors", "config.json")
        return [bytes((n,)) + (CHECKPOINT / file).read_bytes() for n, file in enumerate(names)]
    if name == "manifest":
        rows = [{"path": "a.mp4", "id": "x", "start": 1.5, "end": 2, "bytes": 7, "more": "ü"}]
        text = "\n".join(json.dumps(row) for row in rows).encode()
        return [
            b"\x00path,id,start\na.mp4,x,1\nb.mp4,y,\n",
            b"\x01" + text,
            b"\x02" + table_to_bytes(pa.Table.from_pylist(rows)),
        ]
    assert name == "state"
    loader = GazeDataset(str(GOLDEN / "zstd"), batch_size=1)
    return [json.dumps(loader.state_dict()).encode()]


def _member_seeds(name: str) -> list[bytes]:
    """Return stretches of golden shards, or members of them."""
    if name in ("tar", "arrow"):
        kept = [k for k in KEPT if k.startswith("arrow") == (name == "arrow")]
        ends = [
            (GOLDEN / k / "shards" / "000000.arrow").read_bytes()[-900:]
            for k in kept
            if name == "arrow"
        ]
        return [stored(k)[1] for k in kept] + ends
    if name == "npy":
        return [member("zstd", "tokens.npy"), member("zstd", "loss.npy")]
    if name == "meta":
        return [member("zstd", "json")]
    if name == "places":
        return [member("places", "places.zst")]
    return [
        bytes((number,)) + member(codec, f"patches.{CODECS[codec].extension}")
        for number, codec in enumerate(CODEC_NAMES)
    ]


def _listing() -> bytes:
    """Return a frozen listing."""
    row = {field.name: None for field in SCHEMA}
    row |= {"id": "bad", "key": "bad", "uri": "bad.mp4", "bytes": 3, "user": "{}", "first_clip": 0}
    return table_to_bytes(pa.Table.from_pylist([row], schema=SCHEMA))


@cache
def stored(kept: str) -> tuple[dict[str, Any], bytes]:
    """Return the first index row of a golden dataset, and its sample's bytes."""
    directory = DatasetDirectory.open(str(GOLDEN / kept))
    row: dict[str, Any] = directory.index(0).to_pylist()[0]
    return row, bytes(directory.read_stored(row))


@cache
def member(kept: str, name: str) -> bytes:
    """Return one member of the first sample of a golden dataset."""
    return DatasetDirectory.open(str(GOLDEN / kept)).read_member(stored(kept)[0], name)


# ------------------------------------------------------------------------------------------ watching


def fresh(template: Path | None) -> Path:
    """Return a folder that is a copy of another, or empty."""
    root = FOLDER / "root"
    shutil.rmtree(root, ignore_errors=True)
    if template is None:
        root.mkdir(parents=True)
        return root
    return Path(shutil.copytree(template, root))


def attempt(read: Callable[..., Any], *arguments: Any, **named: Any) -> None:
    """Call a reader that may refuse, when others are to be called after it."""
    try:
        read(*arguments, **named)
    except GazepackError:
        return


class ForbiddenError(Exception):
    """A reader did what no file may make it do."""


_FORBIDDEN = ("pickle.find_class", "subprocess.Popen", "os.system", "os.exec", "socket.connect")
_READABLE = tuple(
    map(os.path.realpath, (sys.prefix, sys.base_prefix, TESTS.parent, "/usr/share/zoneinfo"))
)
"""Where modules that are imported late, and their data, lie."""
_watching: list[bool] = []


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    """Raise for what is forbidden while a target runs."""
    if not _watching:
        return
    if event in _FORBIDDEN:
        raise ForbiddenError(f"{event} {arguments!r:.200}")
    if event == "open" and isinstance(arguments[0], str | bytes):
        place = os.path.realpath(os.fsdecode(arguments[0]))
        writes = isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        allowed = (str(FOLDER),) if writes else (str(FOLDER), "/proc", "/dev/shm", *_READABLE)
        if not place.startswith(allowed):
            raise ForbiddenError(f"open {place!r:.200} {arguments[1]}")


sys.addaudithook(_audit)


@contextmanager
def watched() -> Iterator[None]:
    """Refuse what a reader must never do, while this lasts."""
    _watching.append(True)
    try:
        yield
    finally:
        _watching.pop()


def run_once(name: str, data: bytes) -> None:
    """Run a target on some bytes.

    Raises:
        Exception: a finding.
    """
    with watched():
        attempt(TARGETS[name], data)
