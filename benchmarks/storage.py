"""What patches cost to store: codecs beside each other, and a dataset beside what else one could keep.

    gazepack pack CLIPS --out DIR --fps 2 --min-psnr 30 --codec zstd
    python benchmarks/storage.py codecs DIR
    python benchmarks/storage.py clips DIR --source CLIPS

`codecs` takes the patches of a lossless dataset through every codec: bytes a patch and a frame, the codec's own
PSNR, encoding and decoding in MB of pixels a second of one core. `clips` has a row a clip: the dataset's bytes
beside the source file, JPEG frames of the same size (at quality 95, and at the lowest quality that meets the
PSNR of the painted frame), raw frames, and fp16 features of a ViT with 768 channels (of all patches, and of the
gazed ones).
"""

import argparse
import io
import math
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from gazepack.formats import Codec, DatasetDirectory, Sample, codec_from
from gazepack.jobs import Segment, list_sources
from gazepack.jobs.replay import refitted

CODECS: Sequence[tuple[str, dict[str, int]]] = (
    ("raw", {}),
    ("png", {"level": 3}),
    ("zstd", {"level": 3}),
    ("zstd", {"level": 19}),
    ("webp", {"effort": 0}),
    ("webp", {"effort": 4}),
    ("jpeg", {"quality": 100}),
    ("jpeg", {"quality": 95}),
    ("jpeg", {"quality": 90}),
    ("jpeg", {"quality": 85}),
)
FEATURE_BYTES = 768 * 2
"""One token of a ViT-B in fp16."""


def main() -> int:
    """Print one of the two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("codecs").add_argument("dataset")
    clips = commands.add_parser("clips")
    clips.add_argument("dataset")
    clips.add_argument("--source", required=True)
    arguments = parser.parse_args()
    directory = DatasetDirectory.open(arguments.dataset)
    if arguments.command == "codecs":
        samples = [s for n in directory.committed() for s in directory.iter_samples(n)]
        print("| codec | bytes a patch | bytes a frame | PSNR | encode MB/s | decode MB/s |")
        print("|" + " --- |" * 6)
        for name, settings in CODECS:
            print(codec_row(codec_from(name, **settings), samples), flush=True)
    else:
        clip_table(directory, arguments.source)
    return 0


def codec_row(codec: Codec, samples: Sequence[Sample]) -> str:
    """Return what a codec makes of these samples."""
    began = time.process_time()
    stored = [codec.encode(sample.patches_NPP3) for sample in samples]
    encoded = time.process_time()
    read = [
        codec.decode(data, num_patches=sample.num_tokens, patch_size=sample.patch_size)
        for data, sample in zip(stored, samples, strict=True)
    ]
    decoded = time.process_time()
    pixels = sum(sample.patches_NPP3.size for sample in samples)
    error = sum(
        int(((left.astype(np.int64) - sample.patches_NPP3) ** 2).sum())
        for left, sample in zip(read, samples, strict=True)
    )
    size, patches = sum(map(len, stored)), sum(sample.num_tokens for sample in samples)
    frames = sum(len(view["times"]) for sample in samples for view in sample.meta["views"])
    settings = " ".join(str(value) for value in codec.settings().values())
    psnr = f"{10 * math.log10(255**2 * pixels / error):.1f} dB" if error else "exact"
    return (
        f"| {settings} | {size / patches:.0f} | {size / frames:,.0f} | {psnr} "
        f"| {pixels / 1e6 / (encoded - began):.0f} | {pixels / 1e6 / (decoded - encoded):.0f} |"
    )


def clip_table(directory: DatasetDirectory, source: str) -> None:
    """Print a row a clip, and how often the goals are met."""
    segments = {row["id"]: Segment.from_row(row) for row in list_sources([source]).to_pylist()}
    heads = ("clip", "frames", "tokens", "gazed", "source", "JPEG 95", "JPEG, equal PSNR", "raw")
    print("| " + " | ".join((*heads, "ViT fp16, dense", "ViT fp16, gazed")) + " |")
    print("|" + " --- |" * (len(heads) + 2))
    totals: dict[str, float] = {}
    smaller = clips = 0
    for row in directory.read_index().to_pylist():
        facts = measure(directory, row, segments[row["id"]])
        clips += 1
        smaller += facts["gazed"] < facts["source"]
        totals = {name: totals.get(name, 0) + value for name, value in facts.items()}
        print(clip_row(row["id"], facts), flush=True)
    print(clip_row("**all**", totals))
    print(f"\nSmaller than the source: {smaller} of {clips}.", end=" ")
    for name in list(facts)[4:]:
        print(f"{name}: {totals[name] / totals['gazed']:.1f}x", end="; ")
    print()


def measure(directory: DatasetDirectory, row: dict[str, Any], segment: Segment) -> dict[str, float]:
    """Return the sizes of one sample and of what stands in its place, in bytes."""
    sample = directory.read_sample(row)
    quality95 = equal = raw = 0
    for view, meta in enumerate(sample.meta["views"]):
        for number, frame in enumerate(refitted(sample, view, segment, directory.info)):
            quality95 += len(as_jpeg(frame, 95))
            equal += len(jpeg_of_psnr(frame, meta["psnr"][number]))
            raw += frame.size
    return {
        "frames": row["frames"],
        "tokens": row["tokens"],
        "gazed": row["bytes"],
        "source": row["source_bytes"] if row["window"] == 0 else 0,
        "JPEG 95": quality95,
        "JPEG, equal PSNR": equal,
        "raw": raw,
        "ViT fp16, dense": row["dense_tokens"] * FEATURE_BYTES,
        "ViT fp16, gazed": row["tokens"] * FEATURE_BYTES,
    }


def clip_row(name: str, facts: dict[str, float]) -> str:
    """Return one row of the table; sizes in kB."""
    counts = [f"{facts['frames']:,}", f"{facts['tokens']:,}"]
    sizes = [f"{value / 1000:,.0f} kB" for value in list(facts.values())[2:]]
    return "| " + " | ".join((name, *counts, *sizes)) + " |"


def as_jpeg(frame_HW3: np.ndarray, quality: int) -> bytes:
    """Return a frame as a JPEG, 4:4:4 as patches are."""
    out = io.BytesIO()
    Image.fromarray(frame_HW3).save(out, "JPEG", quality=quality, subsampling=0)
    return out.getvalue()


def jpeg_of_psnr(frame_HW3: np.ndarray, psnr: float) -> bytes:
    """Return the frame at the lowest quality that meets a PSNR, by bisection; quality 100 if none does."""
    low, high = 1, 100
    while low < high:
        middle = (low + high) // 2
        read = np.asarray(Image.open(io.BytesIO(as_jpeg(frame_HW3, middle))))
        mse = float(((read.astype(np.int64) - frame_HW3) ** 2).mean())
        if mse <= 255**2 / 10 ** (psnr / 10):
            high = middle
        else:
            low = middle + 1
    return as_jpeg(frame_HW3, low)


if __name__ == "__main__":
    sys.exit(main())
