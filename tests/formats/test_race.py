"""Writers that begin in one place at the same moment: never two provenances in one directory."""

import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from gazepack.errors import ProvenanceError
from gazepack.formats import DatasetDirectory, DatasetInfo
from gazepack.formats.storage import LocalStorage, open_storage

BEGINNER = """
import sys, time
from gazepack.errors import GazepackError
from gazepack.formats import DatasetDirectory, DatasetInfo
who, shard, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
info = DatasetInfo(codec={"name": "raw"}, patch_size=16, provenance={"who": who})
print("ready", flush=True)
for line in sys.stdin:
    try:
        directory = DatasetDirectory.create_or_open(line.strip(), info)
        time.sleep(seconds)
        directory.write_shard(shard, [])
        print("committed", flush=True)
    except GazepackError as error:
        print(type(error).__name__, error, flush=True)
"""


def beginners(seconds: float) -> list[subprocess.Popen[str]]:
    """Start two processes that begin at each address they are told, and commit a shard so much later."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", BEGINNER, who, shard, str(seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for who, shard in (("one", "1"), ("two", "2"))
    ]
    assert [hear(process) for process in started] == ["ready\n"] * 2
    return started


def say(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def race(uris: list[str], *, seconds: float) -> None:
    """Have two provenances begin at every address at once; exactly one gets it, and only its shard is there."""
    processes = beginners(seconds)
    for uri in uris:
        for process in processes:
            say(process, uri)
        said = dict(zip(("one", "two"), map(hear, processes), strict=True))
        directory = DatasetDirectory.open(uri)
        winner = directory.info.provenance["who"]
        (loser,) = said.keys() - {winner}
        assert said[winner] == "committed\n", said
        assert said[loser].startswith("ProvenanceError"), said
        assert f"provenance.who: {winner!r} in the dataset, {loser!r} asked" in said[loser]
        assert directory.committed() == [{"one": 1, "two": 2}[winner]]
    for process in processes:
        process.communicate()


def test_one_of_two_gets_a_folder(tmp_path: Path) -> None:
    """Fifteen folders, each begun by two processes at once that commit at once."""
    race([f"{tmp_path}/out{number}" for number in range(15)], seconds=0.0)


@pytest.mark.usefixtures("s3_server")
def test_one_of_two_gets_a_prefix() -> None:
    """The same on a store that knows no conditions: the last writer wins, and a shard takes a second."""
    race([f"s3://bucket/race/out{number}" for number in range(3)], seconds=1.0)


@pytest.fixture
def conditional(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of a store that knows conditional puts, as S3 itself does; the environment points at it."""
    script = Path(__file__).parents[1] / "conditional_s3.py"
    server = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert server.stdout is not None
    port = int(server.stdout.readline())
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "verysecret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    clients = fsspec.get_filesystem_class("s3")
    clients.clear_instance_cache()
    fsspec.filesystem("s3").mkdir("bucket")
    yield "s3://bucket"
    clients.clear_instance_cache()
    server.terminate()
    server.communicate()


def test_one_of_two_gets_a_prefix_with_conditions(conditional: str) -> None:
    """Where a store knows conditional puts, one of two gets a prefix although both commit at once."""
    race([f"{conditional}/race/out{number}" for number in range(3)], seconds=0.0)


def test_a_name_is_taken_once_with_conditions(
    conditional: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second writer of a new object is refused by the store itself; nobody waits or tries again."""
    storage = open_storage(f"{conditional}/once")
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    storage.write_new("a/b.json", b"first")
    storage.write_new("a/b.json", b"second")
    assert storage.read_bytes("a/b.json") == b"first"
    assert storage.list() == ["a/b.json"]
    assert waits == []


def test_a_name_is_taken_once(tmp_path: Path) -> None:
    """A second writer of a new file leaves what is there, and no temporary file behind."""
    storage = LocalStorage(str(tmp_path), tmp_path)
    storage.write_new("a/b.json", b"first")
    storage.write_new("a/b.json", b"second")
    assert storage.read_bytes("a/b.json") == b"first"
    assert storage.list() == ["a/b.json"]


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP])
def test_without_hard_links_a_name_is_taken_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Where the file system refuses links, a free name is taken by renaming, and a taken one left alone."""

    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    test_a_name_is_taken_once(tmp_path)


def test_an_overwritten_writer_commits_nothing(tmp_path: Path, info: DatasetInfo) -> None:
    """Where the last writer of dataset.json wins, the first one finds out before its shard becomes visible."""
    first = DatasetDirectory.create_or_open(str(tmp_path), info)
    other = info.model_copy(update={"provenance": {"min_psnr": 77}})
    first.storage.write_atomic("dataset.json", other.to_json())
    with pytest.raises(ProvenanceError, match=r"min_psnr: 77 in the dataset"):
        first.write_shard(0, [])
    assert first.committed() == []
    DatasetDirectory.create_or_open(str(tmp_path), other).write_shard(0, [])
    assert first.committed() == [0]
