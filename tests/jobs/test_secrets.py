"""Passwords and signatures in addresses: used, never stored, never shown."""

import http.server
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gazepack.cli.main import run
from gazepack.errors import SourceError, UsageError
from gazepack.formats import DatasetDirectory, open_storage, outstanding
from gazepack.formats.remote import has_secrets, lasting, without_secrets
from gazepack.jobs import Nursery, Resources, list_sources, run_serial
from gazepack.jobs.ledger import open_retry

SECRET = "hunter2hunter2"
VALUES = {
    "shards": {"samples_per_shard": 2},
    "fit": {"fit": "square"},
    "sampling": {"num_frames": 1},
    "selector": {"name": "greedy"},
}
Contents = Callable[[Path], dict[str, bytes]]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def site(videos: Path, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server over a folder with two of the videos, and its address without http://."""
    folder = tmp_path / "site"
    folder.mkdir()
    for name in ("clip0.mp4", "clip1.mp4", "text.mkv"):
        shutil.copy(videos / name, folder / name)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}", folder
    server.shutdown()
    thread.join()
    server.server_close()


def manifest(tmp_path: Path, host: str, secret: str) -> Path:
    """Write a manifest whose addresses and whose other columns carry a secret."""
    signed = f"X-Amz-Signature={secret}"
    path = tmp_path / "m.csv"
    path.write_text(
        "path,thumb\n"
        f"http://me:{secret}@{host}/clip0.mp4,x\n"
        f"http://{host}/clip1.mp4?{signed}&X-Amz-Date=1,https://elsewhere/t.jpg?{signed}\n"
        f"http://{host}/gone.mp4?X-Amz-Date=1&{signed},y\n"
        f"http://{host}/text.mkv?{signed},z\n"
    )
    return path


def test_no_file_and_no_line_holds_a_secret(
    site: tuple[str, Path],
    tmp_path: Path,
    pack: Callable[..., Any],
    contents: Contents,
    nursery: Nursery,
) -> None:
    """Videos are read through signed addresses; shards, indices, failures, listing and reports know none.

    To go on or to retry, the sources are named again, signed anew: ids do not depend on signatures.
    """
    host, folder = site
    out = tmp_path / "out"
    done = pack(manifest(tmp_path, host, SECRET), out, VALUES)
    assert sorted(video.id for video in done if not video.error) == [
        f"http://{host}/clip0.mp4",
        f"http://{host}/clip1.mp4",
    ]
    errors = [str(video.error) for video in done if video.error]
    assert len(errors) == 2
    assert not any(SECRET in text for text in [*errors, repr(done)])
    files = contents(out)
    assert {name.split("/")[0] for name in files} >= {"shards", "index", "failures", "run"}
    assert [name for name, data in files.items() if SECRET.encode() in data] == []
    assert b"X-Amz-Signature=***" in b"".join(files.values())
    tables = [
        DatasetDirectory.open(str(out)).failures(),
        DatasetDirectory.open(str(out)).read_index(),
    ]
    assert not any(SECRET in repr(table.to_pylist()) for table in tables)
    # going on and trying again
    with pytest.raises(SourceError, match=r"addresses such as .*\*\*\*.* name the sources again"):
        open_retry(str(out))
    shutil.copy(folder / "clip1.mp4", folder / "gone.mp4")
    anew = manifest(tmp_path, host, "another" + SECRET)
    assert pack(anew, out, VALUES) == []
    again = open_retry(str(out), sources=[str(anew)])
    run_serial(again, resources=Resources(), report=lambda _: None, nursery=nursery)
    rows = outstanding(DatasetDirectory.open(str(out))).to_pylist()
    assert [row["id"] for row in rows] == [f"http://{host}/text.mkv"]
    assert [name for name, data in contents(out).items() if SECRET.encode() in data] == []


def test_an_unfinished_run_needs_its_sources_again(
    site: tuple[str, Path],
    tmp_path: Path,
    pack: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without sources a run cannot go on with addresses that were not stored; a finished one needs none."""
    out = tmp_path / "out"
    pack(manifest(tmp_path, site[0], SECRET), out, VALUES)
    options = [
        "--samples-per-shard",
        "2",
        "--fit",
        "square",
        "--num-frames",
        "1",
        "--selector",
        "greedy",
    ]
    assert run(["pack", "--out", str(out), *options]) == 3
    (out / "index" / "000000.parquet").unlink()
    assert run(["pack", "--out", str(out), *options]) == 2
    said = capsys.readouterr().err
    assert "carried a password or signature, which is never stored; name the sources again" in said
    assert SECRET not in said


@pytest.mark.parametrize(
    "uri",
    [f"s3://key:{SECRET}@bucket/out", f"https://h/out?sig={SECRET}", f"ftp://me:{SECRET}@h/out"],
)
def test_a_dataset_with_a_secret_in_its_address_is_refused(
    uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The address of a dataset goes into messages and to workers, so credentials belong elsewhere."""
    with pytest.raises(
        UsageError, match=r"carries a password or signature.*environment, profile"
    ) as caught:
        open_storage(uri)
    assert SECRET not in str(caught.value)
    for command in (["info", uri], ["pack", "x.mp4", "--out", uri], ["status", uri]):
        assert run(command) == 2
        captured = capsys.readouterr()
        assert SECRET not in captured.out + captured.err


@pytest.mark.parametrize(
    "source",
    [
        f"http://127.0.0.1:1/a.mp4?X-Amz-Signature={SECRET}",
        f"http://me:{SECRET}@127.0.0.1:1/m.csv",
        f"http://127.0.0.1:1/m.csv?token={SECRET}",
        f"nosuch://me:{SECRET}@h/a.mp4",
    ],
)
def test_what_cannot_be_listed_is_named_without_its_secret(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients put whole addresses into their errors; ours do not."""
    monkeypatch.setenv("GAZEPACK_RETRY_SECONDS", "0")
    with pytest.raises(SourceError, match=r"cannot be (listed|read)|no video") as caught:
        list_sources([source])
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "shown", "stays"),
    [
        ("ftp://me:pw@h/a.mp4", "ftp://***@h/a.mp4", "ftp://h/a.mp4"),
        ("s3://KEY:a/b+c@bucket/a.mp4", "s3://***@bucket/a.mp4", "s3://bucket/a.mp4"),
        (
            "https://h/a.mp4?b=1&X-Goog-Signature=s#t",
            "https://h/a.mp4?b=1&X-Goog-Signature=***#t",
            "https://h/a.mp4",
        ),
        ("https://h/a.mp4?sv=1&sig=x%2By", "https://h/a.mp4?sv=1&sig=***", "https://h/a.mp4"),
        ("https://h/a.mp4?access_token=x", "https://h/a.mp4?access_token=***", "https://h/a.mp4"),
        ("https://h/a.mp4?t=1", "https://h/a.mp4?t=1", "https://h/a.mp4?t=1"),
        ("s3://bucket/a:b/c@d.mp4", "s3://bucket/a:b/c@d.mp4", "s3://bucket/a:b/c@d.mp4"),
        ("/videos/me:pw@h.mp4", "/videos/me:pw@h.mp4", "/videos/me:pw@h.mp4"),
    ],
)
def test_what_of_an_address_is_secret(uri: str, shown: str, stays: str) -> None:
    """Users and signatures are blotted out of what is shown; ids keep what outlives a signature."""
    assert without_secrets(uri) == shown
    assert lasting(uri) == stays
    assert has_secrets(uri) == (uri != shown)
