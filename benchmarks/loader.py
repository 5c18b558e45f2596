"""What one worker reads per CPU second: gazed shards against decoding on the fly and plain containers.

    python benchmarks/loader.py VIDEOS PACKED [--seconds 5]

VIDEOS is the folder that `gazepack pack VIDEOS --out PACKED` packed. All ways give the same frames of the
same clips, in one process on one thread, in turns, after one pass to warm the page cache. An epoch of the
packed ways is COPIES copies of the clips, since 13 samples are no epoch. Counted is CPU time, since other
programs on a shared machine would spoil wall time, and the median of the rounds:

    gazepack      GazeDataset, shuffled, ragged batches of patches
    gazepack, raw the same with raw patches, 7 times the bytes
    plain loop    tarfile, json, numpy and the codec over the same shards: what nobody can be much faster than
    streaming     MosaicML Streaming over the same samples, patches raw, unshuffled from local files: its reader
                  alone, which hands out arrays over the bytes it read
    streaming, batched  the same, its samples put into batches of tensors of the size that GazeDataset gives
    jpeg frames   webdataset over a tar of the same frames as 224-px JPEGs (quality 95), decoded with Pillow
    decode        PyAV decodes the video up to the last sampled frame and resizes those to 224 px

Prints a Markdown table with ratios to decoding. Streaming takes part where `mosaicml-streaming` is installed;
it pins older clients of object stores than gazepack uses, so give it a virtual environment of its own.
"""

import argparse
import dataclasses
import importlib.util
import io
import json
import statistics
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
import webdataset
from PIL import Image

from gazepack.formats import DatasetDirectory, codec_from
from gazepack.loader import GazeDataset

SIDE = 224
"""Side of a whole frame, in pixels: one tile of 16-px patches."""
BATCH_TOKENS = 65536
"""Of a batch."""
COPIES = 16
"""So often an epoch has each clip."""
ROUNDS = 5
"""The ways take turns so often."""
Clip = tuple[Path, list[float]]
"""A video and the times of its sampled frames, in seconds."""


def main() -> None:
    """Measure every way and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", type=Path)
    parser.add_argument("packed")
    parser.add_argument("--seconds", type=float, default=5.0, help="of CPU time for each way")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    directory = DatasetDirectory.open(arguments.packed)
    tokens = directory.read_index()["tokens"].to_numpy().mean()
    clips = [
        (arguments.videos / sample.meta["id"], sample.meta["views"][0]["times"])
        for number in directory.committed()
        for sample in directory.iter_samples(number)
    ]
    with tempfile.TemporaryDirectory() as folder:
        frames_tar = write_frames(clips, Path(folder) / "frames.tar")
        directory = copied(directory, Path(folder) / "copied")
        dataset = GazeDataset(directory.uri, batch_tokens=BATCH_TOKENS)
        ways: dict[str, Callable[[], Iterator[int]]] = {
            "gazepack": lambda: gazed(dataset),
            "plain loop": lambda: plain(directory),
            "jpeg frames": lambda: jpeg_frames(frames_tar),
            "decode": lambda: decoded(clips),
        }
        raw = write_raw(directory, Path(folder) / "raw")
        ways["gazepack, raw"] = lambda: gazed(raw)
        if importlib.util.find_spec("streaming") is None:
            print("streaming is left out: mosaicml-streaming is not installed\n")
        else:
            local = write_streaming(directory, Path(folder) / "streaming")
            ways["streaming"] = lambda: streamed(local)
            ways["streaming, batched"] = lambda: streamed_batches(local)
        rounds = [
            {name: seconds_a_sample(way, arguments.seconds / ROUNDS) for name, way in ways.items()}
            for _ in range(ROUNDS)
        ]
    speeds = {name: 1 / statistics.median(spent[name] for spent in rounds) for name in ways}
    mean_frames = sum(len(times) for _, times in clips) / len(clips)
    print(f"{len(clips)} clips of {mean_frames:.1f} frames, {tokens:.0f} tokens on average\n")
    print("| way | samples per CPU second | frames | against decode |\n|---|---|---|---|")
    for name, samples in speeds.items():
        ratio = samples / speeds["decode"]
        print(f"| {name} | {samples:.1f} | {samples * mean_frames:.0f} | {ratio:.1f}x |")


def seconds_a_sample(way: Callable[[], Iterator[int]], seconds: float) -> float:
    """Return the CPU seconds of a sample over whole passes; `way` yields how many each step gave."""
    for _ in way():
        pass
    start, done, spent = time.process_time(), 0, 0.0
    while spent < seconds:
        done += sum(way())
        spent = time.process_time() - start
    return spent / done


def gazed(dataset: GazeDataset) -> Iterator[int]:
    """Read an epoch with the loader."""
    for batch in dataset:
        yield batch.num_samples


def copied(directory: DatasetDirectory, folder: Path) -> DatasetDirectory:
    """Write every sample so many times, each a shard of its own; patches are carried over as they are."""
    copy = DatasetDirectory.create_or_open(str(folder), directory.info)
    member = f"patches.{directory.info.make_codec().extension}"
    for number in range(COPIES):
        samples = []
        for row in directory.read_index().to_pylist():
            sample, key = directory.read_sample(row), f"{row['key']}_{number}"
            meta = sample.meta | {"key": key}
            encoded = directory.read_member(row, member)
            samples.append(dataclasses.replace(sample, key=key, meta=meta, encoded=encoded))
        copy.write_shard(number, samples)
    return copy


def plain(directory: DatasetDirectory) -> Iterator[int]:
    """Read the same bytes with nothing but a tar reader and the codec, unchecked, sample by sample."""
    codec, patch_size = directory.info.make_codec(), directory.info.patch_size
    for path in sorted(Path(directory.uri, "shards").glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                field = member.name.partition(".")[2]
                content = tar.extractfile(member).read()
                if field == "json":
                    json.loads(content)
                elif field == "tokens.npy":
                    tokens_N6 = np.load(io.BytesIO(content))
                elif field == "loss.npy":
                    np.load(io.BytesIO(content))
                elif field.startswith("patches."):
                    codec.decode(content, num_patches=len(tokens_N6), patch_size=patch_size)
                    yield 1


def write_raw(directory: DatasetDirectory, folder: Path) -> GazeDataset:
    """Write the same samples with raw patches, as Streaming gets them."""
    info = directory.info.model_copy(update={"codec": codec_from("raw").settings()})
    copy = DatasetDirectory.create_or_open(str(folder), info)
    for number in directory.committed():
        copy.write_shard(number, directory.iter_samples(number))
    return GazeDataset(folder, batch_tokens=BATCH_TOKENS)


def write_streaming(directory: DatasetDirectory, folder: Path) -> Path:
    """Write the same samples as a Streaming dataset, with raw patches."""
    from streaming import MDSWriter

    columns = {"tokens": "ndarray:uint16", "loss": "ndarray:float16"}
    columns |= {"patches": "ndarray:uint8", "meta": "json"}
    with MDSWriter(out=str(folder), columns=columns) as writer:
        for number in directory.committed():
            for s in directory.iter_samples(number):
                row = {"tokens": s.tokens_N6, "loss": s.loss_N, "patches": s.patches_NPP3}
                writer.write(row | {"meta": s.meta})
    return folder


def streamed(folder: Path) -> Iterator[int]:
    """Read the samples of a Streaming dataset by their numbers: nothing but its reader."""
    from streaming import LocalDataset

    dataset = LocalDataset(str(folder))
    for number in range(len(dataset)):
        dataset[number]
        yield 1


def streamed_batches(folder: Path) -> Iterator[int]:
    """Read the same and put it into tensors: patches one after the other, places int32, losses float32."""
    from streaming import LocalDataset

    dataset = LocalDataset(str(folder))
    samples, tokens = [], 0
    for number in range(len(dataset)):
        samples.append(dataset[number])
        tokens += len(samples[-1]["tokens"])
        if tokens + len(samples[-1]["tokens"]) > BATCH_TOKENS or number + 1 == len(dataset):
            yield batched(samples)
            samples, tokens = [], 0


def batched(samples: list[dict[str, Any]]) -> int:
    """Make the tensors of a batch and return how many samples it has."""
    torch.from_numpy(np.concatenate([sample["patches"] for sample in samples])).permute(0, 3, 1, 2)
    torch.from_numpy(np.concatenate([s["tokens"] for s in samples]).T.astype(np.int32, order="C"))
    torch.from_numpy(np.concatenate([sample["loss"] for sample in samples]).astype(np.float32))
    return len(samples)


def write_frames(clips: list[Clip], path: Path) -> Path:
    """Write the sampled frames of all clips as JPEGs, one sample a clip."""
    with webdataset.TarWriter(str(path)) as writer:
        for number, (video, times) in enumerate(clips):
            sample: dict[str, str | bytes] = {"__key__": f"{number:06d}"}
            for i, frame_HW3 in enumerate(frames_of(video, times)):
                out = io.BytesIO()
                Image.fromarray(frame_HW3).save(out, "JPEG", quality=95, subsampling=0)
                sample[f"{i:04d}.jpg"] = out.getvalue()
            writer.write(sample)
    return path


def jpeg_frames(path: Path) -> Iterator[int]:
    """Read whole frames."""
    for sample in webdataset.WebDataset(str(path), shardshuffle=False):
        frames = [
            np.asarray(Image.open(io.BytesIO(content)))
            for name, content in sample.items()
            if name.endswith(".jpg")
        ]
        np.stack(frames)
        yield 1


def decoded(clips: list[Clip]) -> Iterator[int]:
    """Decode as a training loop without a packed dataset does."""
    for video, times in clips:
        np.stack(list(frames_of(video, times)))
        yield 1


def frames_of(video: Path, times: list[float]) -> Iterator[np.ndarray]:
    """Yield the frames at some ascending times, uint8 SIDE x SIDE x 3."""
    wanted = iter(times)
    time_wanted = next(wanted, None)
    with av.open(str(video)) as container:
        container.streams.video[0].thread_count = 1
        for frame in container.decode(video=0):
            if time_wanted is None:
                return
            if frame.time is not None and frame.time >= time_wanted - 1e-3:
                yield frame.reformat(SIDE, SIDE, "rgb24").to_ndarray()
                time_wanted = next(wanted, None)


if __name__ == "__main__":
    warnings.simplefilter("ignore", ResourceWarning)  # webdataset leaves files to the collector
    main()
