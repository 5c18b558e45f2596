"""Sources and output on a real S3 server, behind a network that fails."""

import errno
import http.server
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import pytest
from botocore.exceptions import ClientError
from fsspec.asyn import AsyncFileSystem
from s3fs.errors import translate_boto_error

from gazepack.errors import ProvenanceError, StorageError
from gazepack.formats import DatasetDirectory, open_storage
from gazepack.formats.remote import (
    RemoteFile,
    filesystem,
    may_pass,
    persistently,
    without_secrets,
)
from gazepack.jobs import PackSettings, Resources, open_run, run_serial
from gazepack.jobs.status import status_of
from gazepack.selectors import build

Contents = Callable[[Path], dict[str, bytes]]


@pytest.fixture
def client(s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Give a function that points every new client, here and in processes started later, at a port."""

    def point(port: int) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        fsspec.get_filesystem_class("s3").clear_instance_cache()

    point(s3_server.port)
    yield point
    fsspec.get_filesystem_class("s3").clear_instance_cache()


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
    s3_server: Any, source: str, packed: Path, pack: Callable[..., Any], contents: Contents
) -> None:
    """Through AWS_ENDPOINT_URL and back, shards and indices are those of the local run; no secret is stored."""
    done = pack(source, "s3://bucket/plain", own_nursery=True)
    assert {video.id for video in done if video.error} == {"empty.mp4", "text.mkv"}
    got = contents(s3_server.bucket / "plain")
    assert shards(got) == shards(contents(packed))
    assert not any(b"verysecret" in data for data in got.values())
    status = status_of(DatasetDirectory.open("s3://bucket/plain"))
    assert (status.videos, status.failures, status.is_complete) == (7, 2, True)


@pytest.mark.usefixtures("client")
def test_a_dataset_is_not_begun_inside_another(
    s3_server: Any, packed: Path, contents: Contents
) -> None:
    """A prefix below a dataset, at any depth, is refused untouched; a neighbour with a like name is not."""
    info = DatasetDirectory.open(str(packed)).info
    DatasetDirectory.create_or_open("s3://bucket/whole", info)
    before = contents(s3_server.bucket / "whole")
    inside = "s3://bucket/whole/shards/deeper/"
    with pytest.raises(ProvenanceError, match="lies inside the dataset s3://bucket/whole; choose"):
        DatasetDirectory.create_or_open(inside, info)
    assert contents(s3_server.bucket / "whole") == before
    assert DatasetDirectory.create_or_open("s3://bucket/whole2/a", info).committed() == []


@pytest.fixture
def nowhere(client: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment that knows neither keys nor an endpoint, nor files of either."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    assert client


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize("secret", ["verysecret", "wrongsecret"])
def test_keys_and_endpoint_of_a_profile(
    s3_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    """A profile named in the environment is enough; one whose key is refused is a line without the key."""
    monkeypatch.setenv("AWS_PROFILE", "packer")
    monkeypatch.setenv("GAZEPACK_RETRY_SECONDS", "0")
    endpoint = f"endpoint_url = http://127.0.0.1:{s3_server.port}"
    (tmp_path / "config").write_text(f"[profile packer]\n{endpoint}\n")
    keys = f"aws_access_key_id = key\naws_secret_access_key = {secret}\n"
    (tmp_path / "credentials").write_text(f"[packer]\n{keys}")
    storage = open_storage("s3://bucket/profile")
    if secret == "verysecret":
        storage.write_atomic("a", b"data")
        assert (s3_server.bucket / "profile" / "a").read_bytes() == b"data"
        return
    with pytest.raises(StorageError, match=r"s3://bucket/.* cannot be written") as caught:
        storage.write_atomic("a", b"data")
    assert secret not in str(caught.value)


@pytest.mark.usefixtures("nowhere")
def test_keys_of_the_machines_role(s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine with a role, whose keys its metadata service gives, nothing needs to be set."""
    with metadata_service({"AccessKeyId": "key", "SecretAccessKey": "verysecret"}) as address:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", address)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{s3_server.port}")
        open_storage("s3://bucket/role").write_atomic("a", b"data")
    assert (s3_server.bucket / "role" / "a").read_bytes() == b"data"


@contextmanager
def metadata_service(keys: dict[str, str]) -> Iterator[str]:
    """Run what answers on a cloud machine when it is asked for the keys of its role."""
    top = "/latest/meta-data/iam/security-credentials/"
    role = {**keys, "Code": "Success", "Token": "", "Expiration": "2100-01-01T00:00:00Z"}
    answers = {"/latest/api/token": "token", top: "packer", f"{top}packer": json.dumps(role)}

    class Service(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            data = answers.get(self.path, "").encode()
            self.send_response(200 if data else 404)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PUT = answer

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_one_request_in_twenty_may_fail(
    s3_server: Any,
    source: str,
    packed: Path,
    start_proxy: Callable[..., Any],
    client: Callable[[int], None],
    pack: Callable[..., Any],
    contents: Contents,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """500, 503, resets, silences and answers cut short are survived: same bytes, nothing lost."""
    monkeypatch.setenv("GAZEPACK_RETRY_SECONDS", "12")  # a silence is then over after 3
    proxy = start_proxy()
    client(proxy.port)
    pack(source, "s3://bucket/faulty", own_nursery=True)
    for _ in range(4):  # and read it again and again, until every kind of fault has been met
        DatasetDirectory.open("s3://bucket/faulty").read_index()
    met = proxy.stop()
    assert shards(contents(s3_server.bucket / "faulty")) == shards(contents(packed))
    assert set(met) == {"good", "500", "503", "reset", "cut", "silence"}


def test_an_upload_in_parts_that_fails_is_aborted(
    s3_server: Any,
    start_proxy: Callable[..., Any],
    client: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A shard of 100 MiB goes in parts; when they are refused for good, the server is told to forget them."""
    monkeypatch.setenv("GAZEPACK_RETRY_SECONDS", "0")
    proxy = start_proxy("--faults", "part")
    client(proxy.port)
    storage = open_storage("s3://bucket/parts")
    with (
        pytest.raises(StorageError, match=r"s3://bucket/parts/large cannot be written"),
        storage.staged("large") as file,
    ):
        file.write(bytes(100 * 2**20))
    met = proxy.stop()
    assert met["part"] >= 2
    assert met["aborted"] == 1
    client(s3_server.port)
    assert open_storage("s3://bucket/parts").list() == []


def test_an_outage_is_one_line_and_resumable(
    s3_server: Any,
    source: str,
    packed: Path,
    client: Callable[[int], None],
    pack: Callable[..., Any],
    contents: Contents,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the server gone for good the run ends with an error that names the place; then it goes on."""
    monkeypatch.setenv("GAZEPACK_RETRY_SECONDS", "2")
    settings = PackSettings.parse(
        {
            "shards": {"samples_per_shard": 2},
            "fit": {"max_tiles": 2},
            "selector": {"name": "greedy"},
        }
    )
    selector = build(settings.selector, device="cpu")
    run = open_run([source], "s3://bucket/outage", settings=settings, selector=selector)
    storage = run.directory.storage
    client(1)  # nobody answers there
    monkeypatch.setattr(storage, "_fs", filesystem(storage.uri)[0])
    with pytest.raises(StorageError, match=r"s3://bucket/outage/.*; check the address") as caught:
        run_serial(run, resources=Resources(), report=lambda _: None)
    assert "\n" not in str(caught.value)
    client(s3_server.port)
    pack(source, "s3://bucket/outage", own_nursery=True)
    assert shards(contents(s3_server.bucket / "outage")) == shards(contents(packed))


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

    invalid = OSError(errno.EINVAL, "InvalidRange")
    taken = from_s3("PreconditionFailed", Condition="If-None-Match")
    for final in (FileNotFoundError(), invalid, MemoryError(), taken, from_s3("AccessDenied")):
        tries.clear()
        with pytest.raises(type(final)):
            persistently(lambda error=final: fail(error))
        assert len(tries) == 1
    at_once = from_s3("ConditionalRequestConflict")  # another writer of the same name is at it
    for passing in (ConnectionResetError(), at_once, from_s3("SlowDown")):
        tries.clear()
        persistently(lambda error=passing: fail(error))
        assert len(tries) == 2


def from_s3(code: str, **fields: str) -> Exception:
    """Return what the client makes of an error that S3 answers with."""
    error: Exception = translate_boto_error(ClientError({"Error": {"Code": code, **fields}}, "Put"))
    return error


def test_what_a_kind_of_storage_cannot_do_is_not_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fsspec says so with NotImplementedError, which is told after one try and no wait."""
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    with pytest.raises(NotImplementedError):
        persistently(lambda: AsyncFileSystem().pipe_file("a", b""))
    assert waits == []


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
