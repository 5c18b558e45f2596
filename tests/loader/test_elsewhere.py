"""The loader on a real S3 server that fails, and beside torchdata and Hugging Face's datasets."""

import itertools
import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from gazepack.errors import StorageError
from gazepack.formats import DatasetDirectory
from gazepack.loader import Batch, GazeDataset

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")
ROOT = Path(__file__).parents[2]
CONTAINERS = ("webdataset", "arrow")
FAULTS = ("500", "503", "reset", "cut")


@pytest.fixture
def packed(
    make_dataset: Callable[..., str], counts: Callable[..., Any], request: pytest.FixtureRequest
) -> str:
    """The folder of a dataset of 45 samples in 7 shards, as tars unless asked otherwise."""
    container = getattr(request, "param", "webdataset")
    return make_dataset(counts(45), container=container, name=f"packed-{container}")


@pytest.fixture
def remote(packed: str, s3_server: Any) -> Iterator[str]:
    """The dataset of `packed` in a bucket of a real S3 server."""
    for container in CONTAINERS:  # at once: the server remembers for a while what a folder has
        (s3_server.bucket / "loader" / f"packed-{container}").mkdir(parents=True, exist_ok=True)
    name = Path(packed).name
    copy = Path(shutil.copytree(packed, s3_server.bucket / "loader" / name, dirs_exist_ok=True))
    yield f"s3://bucket/loader/{name}"
    shutil.rmtree(copy)


@pytest.fixture
def faulty(start_proxy: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A proxy before the server that spoils one request in twenty; new clients go through it."""
    proxy = start_proxy("--faults", *FAULTS)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    yield proxy
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.mark.parametrize("packed", CONTAINERS, indirect=True)
def test_s3_gives_the_batches_of_a_folder(
    remote: str,
    packed: str,
    s3_server: Any,
    tmp_path: Path,
    assert_same: Callable[..., None],
) -> None:
    """Range reads by threads, a key, and whole shards in a cache that needs the server no more."""
    expected = list(GazeDataset(packed, batch_size=4))
    assert_same(list(GazeDataset(remote, batch_size=4, num_threads=4)), expected)
    one = [dataset["s0007"] for dataset in (GazeDataset(u, batch_size=1) for u in (remote, packed))]
    assert_same(one[:1], one[1:])
    cached = GazeDataset(remote, batch_size=4, cache_dir=tmp_path / "cache", cache_bytes=10**9)
    assert_same(list(cached), expected)
    shutil.rmtree(s3_server.bucket / "loader" / Path(packed).name / "shards")
    cached.set_epoch(0)
    assert_same(list(cached), expected)


def test_one_request_in_twenty_may_fail(
    remote: str, packed: str, faulty: Any, assert_same: Callable[..., None]
) -> None:
    """Server errors, throttling, resets and answers cut short are survived: two epochs, bit by bit."""
    plain, dataset = GazeDataset(packed, batch_size=4), GazeDataset(remote, batch_size=4)
    for _ in range(2):
        assert_same(list(dataset), list(plain))
    assert set(faulty.stop()) == {"good", *FAULTS}


def test_an_outage_is_one_line_and_resumable(
    remote: str,
    packed: str,
    faulty: Any,
    monkeypatch: pytest.MonkeyPatch,
    assert_same: Callable[..., None],
) -> None:
    """When the server is gone for good the loop ends with one line, and the state goes on from there."""
    monkeypatch.setenv("GAZEPACK_RETRY_SECONDS", "1")
    dataset, seen = GazeDataset(remote, batch_size=4), []

    def read_until_the_outage() -> None:
        for batch in dataset:
            seen.append(batch)
            if len(seen) == 3:
                faulty.stop()

    with pytest.raises(
        StorageError, match=r"s3://bucket/.*/shards/0000.* cannot be read"
    ) as caught:
        read_until_the_outage()
    assert "\n" not in str(caught.value)
    assert len(seen) == 3
    state = json.loads(json.dumps(dataset.state_dict()))
    assert state == seen[-1].state
    resumed = GazeDataset(packed, batch_size=4)
    resumed.load_state_dict(state)
    assert_same(seen + list(resumed), list(GazeDataset(packed, batch_size=4)))


def stateful(packed: str, num_workers: int) -> Any:
    """Return torchdata's loader over the dataset, as the documents show it."""
    torchdata = pytest.importorskip(
        "torchdata.stateful_dataloader", reason="torchdata is not installed"
    )
    dataset = GazeDataset(packed, batch_size=9)
    return torchdata.StatefulDataLoader(dataset, batch_size=None, num_workers=num_workers)


def epochs(loader: Any, first: int, last: int) -> Iterator[Batch]:
    """Run the loop that the documents show, from a first epoch to before a last one."""
    for epoch in range(first, last):
        loader.dataset.set_epoch(epoch)
        yield from loader


# torchdata 0.11 calls what PyTorch 2.13 has deprecated.
@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
@pytest.mark.parametrize(
    ("num_workers", "stops"), [(0, (2, 3, 4)), (2, (2, 1, 2, 2)), (3, (5, 1, 1)), (2, (7, 3))]
)
def test_stateful_data_loaders_go_on_exactly(
    packed: str,
    num_workers: int,
    stops: Sequence[int],
    assert_same: Callable[..., None],
) -> None:
    """The state of torchdata goes on bit by bit: taken in an epoch, after its last batch, and again at once.

    An epoch has 5 batches; a new loader gives so many at each stop, the last one all that is left.
    """
    expected = list(epochs(stateful(packed, 0), 0, 3))
    assert len(expected) == 15
    used: list[Batch] = []
    state: dict[str, Any] = {}
    for num_batches in (*stops, 15):
        loader = stateful(packed, num_workers)
        loader.load_state_dict(state)
        run = epochs(loader, used[-1].state["epoch"] if used else 0, 3)
        used += itertools.islice(run, num_batches)
        state = loader.state_dict()
        run.close()
    assert_same(used, expected)


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_another_number_of_workers_goes_on_by_the_batches_state(
    packed: str,
    num_workers: int,
    assert_same: Callable[..., None],
) -> None:
    """A state of torchdata is refused for other workers; that of the last batch goes on, bit by bit."""
    expected = list(GazeDataset(packed, batch_size=9))
    first = stateful(packed, 2)
    batches = iter(first)
    used = [next(batches) for _ in range(3)]
    state = first.state_dict()
    del batches, first
    refused = stateful(packed, num_workers)
    refused.load_state_dict(state)
    with pytest.raises(AssertionError):
        iter(refused)
    resumed = stateful(packed, num_workers)
    resumed.dataset.load_state_dict(used[-1].state)
    assert_same(used + list(resumed), expected)


@pytest.mark.parametrize("package", ["torchdata", "datasets"])
@pytest.mark.filterwarnings("ignore")  # of the packages, about themselves
def test_the_documents_show_code_that_runs(
    package: str,
    make_dataset: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The blocks of docs/loader.md that need a package which is no dependency run as they are printed."""
    pytest.importorskip(package, reason=f"{package} is not installed")
    for container, name in (("webdataset", "packed"), ("arrow", "packed-arrow")):
        uri = make_dataset([[2], [3]], container=container, name=name)
    monkeypatch.chdir(Path(uri).parent)
    block = re.compile(rf"<!-- not run: {package} is not.*?-->\n```python\n(.*?)```", re.DOTALL)
    (code,) = block.findall((ROOT / "docs" / "loader.md").read_text())
    exec(compile(code.replace("num_workers=8", "num_workers=1"), package, "exec"), {})
    if package == "datasets":
        printed = [line.split()[:2] for line in capsys.readouterr().out.splitlines()]
        assert printed == [["s0000", "2"], ["s0001", "3"]] * 2


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
