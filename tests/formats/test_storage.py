"""Local folders, fsspec's memory, and a real S3 server."""

import errno
import os
import resource
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import pytest

from gazepack.errors import DatasetError, StorageError, UsageError
from gazepack.formats import DatasetDirectory, open_storage, verify_shard
from gazepack.formats.storage import is_temporary


@pytest.fixture(params=["local", "file", "memory", "s3"])
def uri(request, tmp_path):
    """A new root of every kind of storage."""
    if request.param == "s3":
        request.getfixturevalue("s3_server")
    return {
        "local": str(tmp_path / "a folder, ü"),
        "file": f"file://{tmp_path}/folder",
        "memory": f"memory://{uuid.uuid4().hex}/deep",
        "s3": f"s3://bucket/{uuid.uuid4().hex}/deep",
    }[request.param]


def test_files_come_back(uri):
    """Bytes, ranges, sizes, listings and removal agree on every storage."""
    storage = open_storage(uri)
    assert storage.is_empty()
    assert storage.list() == []
    storage.write_atomic("run/a.txt", b"0123456789")
    storage.write_atomic("index/000000.parquet", b"")
    assert not storage.is_empty()
    assert storage.read_bytes("run/a.txt") == b"0123456789"
    assert storage.read_range("run/a.txt", offset=3, size=4) == b"3456"
    assert storage.read_range("run/a.txt", offset=10, size=0) == b""
    assert storage.size("run/a.txt") == 10
    assert storage.list() == ["index/000000.parquet", "run/a.txt"]
    assert storage.list("run") == ["run/a.txt"]
    assert storage.exists("run/a.txt")
    storage.remove("run/a.txt")
    storage.remove("run/a.txt")
    assert not storage.exists("run/a.txt")


def test_a_staged_file_appears_when_the_block_ends(uri):
    """Nothing is there before; all of it is there after, replacing what was."""
    storage = open_storage(uri)
    storage.write_atomic("shards/000000.tar", b"old")
    with storage.staged("shards/000000.tar") as file:
        file.write(b"new")
        file.write(b" bytes")
        assert storage.read_bytes("shards/000000.tar") == b"old"
    assert storage.read_bytes("shards/000000.tar") == b"new bytes"


def test_a_staged_file_vanishes_when_the_block_raises(uri):
    """The caller's own error passes unchanged and leaves no file."""
    storage = open_storage(uri)

    def fail():
        with storage.staged("shards/000000.tar") as file:
            file.write(b"half")
            raise OSError(errno.EIO, "a video's own trouble")

    with pytest.raises(OSError, match="a video's own trouble"):
        fail()
    assert storage.list() == []


def test_a_missing_file_is_damage(uri):
    """Reading what should be there and is not names the file."""
    with pytest.raises(DatasetError, match=r"shards/000000.tar: the file is missing"):
        open_storage(uri).read_bytes("shards/000000.tar")


@pytest.mark.parametrize(("offset", "size"), [(8, 5), (20, 2), (-1, 2), (3, -1), (0, 10**15)])
def test_a_range_outside_the_file_is_damage(uri, offset, size):
    """A range is never returned short, nor allocated before it is known to exist."""
    storage = open_storage(uri)
    storage.write_atomic("a", b"0123456789")
    with pytest.raises(DatasetError, match=r"a: bytes .* cannot be read"):
        storage.read_range("a", offset=offset, size=size)


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b", "", "a//b", "a\n", "ü", ".", "a/."])
def test_names_cannot_leave_the_root(uri, name):
    """A name that a file might give is refused before it is used."""
    storage = open_storage(uri)
    with pytest.raises(UsageError, match="is not a safe name"):
        storage.read_bytes(name)
    with pytest.raises(UsageError, match="is not a safe name"):
        storage.write_atomic(name, b"")


def test_a_dataset_is_the_same_bytes_on_every_storage(uri, info, make_sample, tmp_path):
    """A shard on an object store is byte for byte the local one, and verifies."""
    samples = [make_sample("a"), make_sample("b", seed=1)]
    local = DatasetDirectory.create_or_open(str(tmp_path / "twin"), info)
    other = DatasetDirectory.create_or_open(uri, info)
    for directory in (local, other):
        directory.write_shard(0, samples)
    assert other.committed() == [0]
    assert verify_shard(other, 0) == []
    names = local.storage.list()
    assert other.storage.list() == names
    for name in names:
        assert other.storage.read_bytes(name) == local.storage.read_bytes(name)


@pytest.mark.usefixtures("s3_server")
def test_a_missing_bucket_is_one_line(info):
    """A bucket that does not exist is a StorageError that names the place."""
    with pytest.raises(StorageError, match=r"s3://no-such-bucket/x/dataset.json cannot be written"):
        DatasetDirectory.create_or_open("s3://no-such-bucket/x", info)


def test_an_unknown_kind_of_storage_is_one_line():
    """The error says what may be used."""
    with pytest.raises(
        UsageError, match=r"'nosuch://x' cannot be opened.*; use a folder, or a URI"
    ):
        open_storage("nosuch://x")
    with pytest.raises(UsageError, match="is empty; name a folder"):
        open_storage("")


def test_a_client_that_is_not_installed_is_one_line(monkeypatch):
    """The error names the package and says to install it."""
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(
        UsageError, match=r"'gs://b/x' cannot be opened \(.*gcsfs.*\); install the package"
    ):
        open_storage("gs://b/x")


def test_a_uri_that_lost_a_slash_is_no_folder():
    """`Path("s3://bucket/x")` must not become a folder `s3:` of this machine."""
    with pytest.raises(
        UsageError, match=r"'s3:/bucket/x' is no URI.*write s3://\.\.\., as a string"
    ):
        open_storage(str(Path("s3://bucket/x")))


def test_the_home_folder_is_known(tmp_path, monkeypatch):
    """Bash leaves `~` as it is in `--out=~/x`, and Python always does; no folder `~` is made."""
    monkeypatch.setenv("HOME", str(tmp_path))
    open_storage("~/x").write_atomic("a", b"1")
    assert (tmp_path / "x" / "a").read_bytes() == b"1"
    assert open_storage("~/x").uri == "~/x"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_one_line(tmp_path):
    """No permission is a StorageError with a remedy."""
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match=r"Permission denied.*; give yourself permission"):
        open_storage(str(tmp_path / "x")).write_atomic("a", b"")


def test_a_file_in_the_way_is_one_line(tmp_path, info):
    """A root that is a file is a StorageError."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"cannot be written.*; choose another place"):
        DatasetDirectory.create_or_open(str(tmp_path / "file"), info)


def test_a_new_file_is_called_by_its_own_name(tmp_path):
    """What cannot be written is named as the user knows it, not as the file beside it."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"file/dataset\.json cannot be written"):
        open_storage(str(tmp_path / "file")).write_new("dataset.json", b"{}")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    """A disk without space is a StorageError that says what is kept, and leaves nothing."""
    real_open = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda path, *args: (
            real_open(Path("/dev/full"), "wb") if path.suffix == ".tmp" else real_open(path, *args)
        ),
    )
    storage = open_storage(str(tmp_path))
    with pytest.raises(StorageError, match=r"No space left.*; free some space"):
        storage.write_atomic("shards/000000.tar", bytes(100_000))
    assert storage.list() == []


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_a_disk_that_fills_is_one_line(kind, tmp_path, monkeypatch):
    """What is refused in the middle of a file is said once, also as the file is closed; nothing is left."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where a file for a store is staged
    place = f"memory://{uuid.uuid4()}" if kind == "memory" else str(tmp_path / "out")
    storage = open_storage(place)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with (
            pytest.raises(StorageError, match=r"cannot be written \(File too large\)"),
            storage.staged("a") as file,
        ):
            file.write(bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert storage.list() == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_no_place_to_stage_is_one_line(tmp_path, monkeypatch):
    """A folder for temporary files that is not there is named, before anything is written."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    storage = open_storage(f"memory://{uuid.uuid4()}")
    with pytest.raises(StorageError, match=r"gone/gazepack-.* cannot be written"):
        storage.staged("a").__enter__()


def test_a_killed_writer_leaves_only_a_temporary_file(tmp_path):
    """SIGKILL while a file is staged: its name never appears."""
    code = (
        "import os, signal, sys\n"
        "from gazepack.formats import open_storage\n"
        "with open_storage(sys.argv[1]).staged('shards/000000.tar') as file:\n"
        "    file.write(b'half')\n"
        "    file.flush()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert run.returncode == -9
    (left,) = open_storage(str(tmp_path)).list()
    assert is_temporary(left)
    assert not is_temporary("shards/000000.tar")
