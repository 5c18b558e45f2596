"""Models from a real S3 server: two files, once, whatever else lies there."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

from gazepack.errors import CheckpointError
from gazepack.formats import DatasetDirectory
from gazepack.jobs import models
from gazepack.jobs.models import fetched

TINY = Path(__file__).parents[1] / "data" / "autogaze-tiny"
Contents = Callable[[Path], dict[str, bytes]]


@pytest.fixture
def model(
    s3_server: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """A checkpoint in the bucket, beside a file that nobody asked for; the copies go to `tmp_path`."""
    monkeypatch.setenv(models.CACHE, str(tmp_path / "cache"))
    place = f"bucket/{tmp_path.name}"
    bucket = fsspec.filesystem("s3")
    for name in models.MAX_BYTES:
        bucket.put_file(str(TINY / name), f"{place}/{name}")
    bucket.pipe_file(f"{place}/pytorch_model.bin", b"a pickle")
    assert (s3_server.bucket / tmp_path.name / "pytorch_model.bin").is_file()
    return f"s3://{place}"


def test_a_model_is_fetched_once(model: str, contents: Contents) -> None:
    """Two files come, byte for byte; the second time the copy is used, another model is another copy."""
    folder = fetched(f"{model}/")
    assert contents(folder) == {name: (TINY / name).read_bytes() for name in models.MAX_BYTES}
    marked = folder / "config.json"
    marked.write_text("this copy")
    assert fetched(f"{model}/").joinpath("config.json").read_text() == "this copy"
    fsspec.filesystem("s3").pipe_file(f"{model}/config.json", b"another")
    assert fetched(f"{model}/").joinpath("config.json").read_text() == "another"


def test_a_dataset_packed_with_it_is_that_of_a_local_model(
    model: str, videos: Path, tmp_path: Path, pack: Callable[..., Any], contents: Contents
) -> None:
    """Provenance is the sha256 of the weights, so the same bytes come from a model on S3 and on disk."""
    for name, place in (("near", str(TINY)), ("far", model)):
        chooser = {"name": "autogaze", "model": place, "gazing_ratio": 0.05}
        values = {"selector": chooser, "sampling": {"num_frames": 2}, "fit": {"fit": "square"}}
        pack(videos / "clip0.mp4", tmp_path / name, values)
    assert contents(tmp_path / "far") == contents(tmp_path / "near")
    directory = DatasetDirectory.open(str(tmp_path / "far"))
    sha256 = hashlib.sha256((TINY / "model.safetensors").read_bytes()).hexdigest()
    assert directory.info.provenance["model_sha256"] == sha256


@pytest.mark.parametrize(
    ("config", "match"),
    [
        (None, r"cannot be fetched \(a file is missing\); name a folder with config.json and"),
        (b" " * (2**20 + 1), r"config.json is larger than 1,048,576 bytes; is this the folder"),
    ],
)
def test_what_is_no_model_is_refused(
    model: str, tmp_path: Path, config: bytes | None, match: str
) -> None:
    """A missing or an oversized file is one line, and leaves no copy behind."""
    bucket = fsspec.filesystem("s3")
    if config is None:
        bucket.rm_file(f"{model}/config.json")
    else:
        bucket.pipe_file(f"{model}/config.json", config)
    with pytest.raises(CheckpointError, match=match):
        fetched(model)
    kept = tmp_path / "cache" / "models"
    assert not kept.exists() or all(path.suffix == ".lock" for path in kept.iterdir())


def test_secrets_in_the_address_are_not_shown() -> None:
    """A store that does not exist is one line, without the password in its address."""
    with pytest.raises(CheckpointError, match=r"nowhere://\*\*\*@host/model cannot be fetched"):
        fetched("nowhere://me:verysecret@host/model")
