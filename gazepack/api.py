"""What a program does with gazepack: pack videos, open what was packed.

The names of the options are those of the command line; `gazepack pack --help` and docs/cli.md say what each
does. Nothing heavy is imported before it is needed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

from gazepack.errors import UsageError, instead_of

if TYPE_CHECKING:
    import pyarrow as pa

    from gazepack.formats import DatasetDirectory, DatasetInfo, Sample
    from gazepack.jobs import VideoDone

PLACES: Mapping[str, str] = {
    "preset": "preset",
    "fps": "sampling.fps",
    "num_frames": "sampling.num_frames",
    "start": "start_seconds",
    "end": "end_seconds",
    "fit": "fit.fit",
    "max_tiles": "fit.max_tiles",
    "thumbnail": "fit.thumbnail",
    "thumbnail_every": "fit.thumbnail_every",
    "patch_size": "fit.patch_size",
    "selector": "selector.name",
    "model": "selector.model",
    "gazing_ratio": "selector.gazing_ratio",
    "loss_threshold": "selector.loss_threshold",
    "min_psnr": "selector.min_psnr",
    "seed": "selector.seed",
    "format": "container",
    "store": "store",
    "codec": "codec.name",
    "quality": "codec.quality",
    "samples_per_shard": "shards.samples_per_shard",
    "shard_size": "shards.shard_size",
    "max_sample_tokens": "shards.max_sample_tokens",
    "split_seconds": "shards.split_seconds",
}
"""Where each option stands in the settings, and in a --config file."""


class PackOptions(TypedDict, total=False):
    """The options of `pack` that decide what is packed."""

    preset: str
    fps: float
    num_frames: int
    start: float
    end: float
    fit: Literal["tiles", "square"]
    max_tiles: int
    thumbnail: bool
    thumbnail_every: Literal[1, 2, 4, 8, 16]
    patch_size: int
    selector: Literal["autogaze", "greedy", "difference", "random", "all"]
    model: str
    gazing_ratio: float | Sequence[float]
    loss_threshold: float
    min_psnr: float
    seed: int
    format: Literal["webdataset", "arrow"]
    store: Literal["patches", "places"]
    codec: Literal["jpeg", "zstd", "webp", "png", "raw"]
    quality: int
    samples_per_shard: int
    shard_size: int
    max_sample_tokens: int
    split_seconds: float | Literal["never"]


def placed(options: Mapping[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Put options that are given into settings, over what is there, and a preset under both.

    Args:
        options: by the names of `PLACES`; `None` is not given.
        values: settings as a configuration file has them; changed in place.

    Raises:
        UsageError: there is no such option, or a section of the settings is no table.
    """
    for option, value in options.items():
        if option not in PLACES:
            remedy = instead_of(option, list(PLACES))
            raise UsageError(f"there is no option {option!r}", remedy=remedy)
        if value is None:
            continue
        *sections, name = PLACES[option].split(".")
        place = values
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise UsageError(f"{section!r} is {place!r}, not a table of settings")
        place[name] = value
    if "preset" in values:
        from gazepack.encoders import with_preset

        return with_preset(values)
    return values


def pack(
    sources: str | PathLike[str] | Sequence[str | PathLike[str]],
    out: str | PathLike[str],
    *,
    executor: Literal["serial", "ray"] | None = None,
    workers: int | None = None,
    ray_address: str | None = None,
    device: str = "auto",
    on_video: "Callable[[VideoDone], None] | None" = None,
    **options: Unpack[PackOptions],
) -> "Dataset":
    """Pack videos into a dataset, or go on with one, as `gazepack pack` does.

    A video that cannot be packed does not stop the others: see `Dataset.failures`.

    Args:
        sources: videos, folders, globs and manifests, paths or URIs.
        out: path or URI of the dataset directory.
        executor: `serial` in this process, or workers on `ray`; as the command line chooses if `None`.
        workers: the most workers on Ray; as many as fit if `None`.
        ray_address: of a cluster that is there; an own one if `None`.
        device: where patches are chosen: `auto`, `cpu`, `cuda` or `cuda:N`.
        on_video: told of every video as it ends, failed ones too.
        options: what decides the bytes; see `PackOptions`.

    Returns:
        What was packed.

    Raises:
        UsageError: an option has a value that it cannot have.
        SourceError: there is nothing to pack.
        ProvenanceError: `out` holds a dataset of other settings or sources.
        StorageError: `out` cannot be written; the same call goes on.
    """
    from gazepack.jobs import PackSettings, build_selector, open_run
    from gazepack.jobs.crew import Crew

    most = None if workers is None else (1, workers)
    crew = Crew(executor=executor, device=device, workers=most, ray_address=ray_address)
    many = [sources] if isinstance(sources, str | PathLike) else sources
    settings = PackSettings.parse(placed(options, {}))
    run = open_run(
        [fspath(source) for source in many],
        fspath(out),
        settings=settings,
        selector=build_selector(settings.selector, device=crew.own_device),
        how=crew.own_decoders,
    )
    crew.pack(run, report=on_video or _nothing)
    return open_dataset(out)


def _nothing(_: "VideoDone") -> None:
    """Take no note."""


def open_dataset(uri: str | PathLike[str]) -> "Dataset":
    """Open a dataset to look into it; to train from it, use `GazeDataset`.

    Args:
        uri: path or URI of the dataset directory.

    Raises:
        DatasetError: there is none, or it is damaged.
        StorageError: the place cannot be read.
    """
    from gazepack.formats import DatasetDirectory

    return Dataset(DatasetDirectory.open(fspath(uri)))


class Dataset:
    """A packed dataset: its samples by key or one after the other, and what is known of them all.

    Args:
        directory: where it is.
    """

    def __init__(self, directory: "DatasetDirectory") -> None:
        self._directory = directory

    @property
    def uri(self) -> str:
        """Where it is, as it was opened."""
        return self._directory.uri

    @property
    def info(self) -> "DatasetInfo":
        """What `dataset.json` says: geometry, codec, provenance."""
        return self._directory.info

    @cached_property
    def index(self) -> "pa.Table":
        """One row a sample, read once; docs/format.md, section 6, has its columns."""
        return self._directory.read_index()

    def summary(self) -> dict[str, Any]:
        """Return what `gazepack info --json` prints."""
        from gazepack.formats import summarise

        return summarise(self._directory)

    def failures(self) -> list[dict[str, Any]]:
        """Return the videos that could not be packed and have not been since, one dictionary each."""
        from gazepack.formats import outstanding

        rows: list[dict[str, Any]] = outstanding(self._directory, self.index).to_pylist()
        return rows

    def __len__(self) -> int:
        """Return how many samples there are."""
        return int(self.index.num_rows)

    def __iter__(self) -> "Iterator[Sample]":
        """Yield every sample, in the order of the index."""
        for number in self._directory.committed():
            yield from self._directory.iter_samples(number)

    def __getitem__(self, key: str) -> "Sample":
        """Return the sample of a key, or the first one of a video's id.

        Raises:
            KeyError: there is none.
            DatasetError: it is damaged.
        """
        import pyarrow.compute as pc

        index = self.index
        found = index.filter(pc.or_(pc.equal(index["key"], key), pc.equal(index["id"], key)))
        if not found.num_rows:
            raise KeyError(key)
        return self._directory.read_sample(found.slice(0, 1).to_pylist()[0])

    def paint(self, key: str, *, view: int = 0) -> "Iterator[Any]":
        """Yield what the tokens of a sample paint, frame by frame: uint8 H x W x 3.

        Args:
            key: of the sample, or the id of its video.
            view: which of its views.
        """
        from gazepack.jobs import repainted

        return repainted(self[key], view)
