"""What an accelerator makes of the engine: the same ids, clips a second, share of its rates, and packing.

    python benchmarks/gpu.py [--device cuda] [--batches 1 8 64 256] [--videos VIDEO...] [--parts PART...]

1. **Parity.** In float32, clips in groups against the same clips one by one on the CPU: how many have the same
   ids.
2. **bfloat16**, frame by frame at `--ratios`: the share of tokens that both precisions choose (intersection
   over union), and the painting error that either leaves.
3. **Rates.** Clips of 16 x 224 px a second at `--ratio`: a network of the published size (random weights do the
   same work) and the one in the package, in both precisions, pixels on the device.
4. **Roofline.** The matrix rate and the memory rate of the device as measured here, and the shares of both that
   the published network's arithmetic, keys and values come to at the best of the rates.
5. **Packing.** `gazepack bench pack` of the videos on the device.

Prints one JSON object; `--parts` leaves some out. Without `--videos` it generates some. `--device cpu` runs all
of it, slowly.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gazepack.autogaze import AutoGaze, AutoGazeConfig, frame_budgets, fresh_network
from gazepack.autogaze.config import CELLS
from gazepack.geometry import CLIP_FRAMES, Grid
from gazepack.selectors import ClipBatch, Gazing, Selection, choose
from gazepack.video import Sampling, decode, fit, write_video
from gazepack.video.scenes import cuts, objects, pan

COMMAND = "import sys; from gazepack.cli.main import run; sys.exit(run(sys.argv[1:]))"
TILE = Grid(rows=1, cols=1)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
PARTS = ("parity", "bfloat16", "rates", "roofline", "pack")
PUBLISHED = "published size"


def main() -> None:
    """Measure everything, print it."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="gazepack-gpu-") as folder:
        videos = options.videos or _generated(Path(folder), options.clips * CLIP_FRAMES)
        clips = _clips(videos, options.clips)
        device = torch.device(options.device)
        is_cuda = device.type == "cuda"
        found: dict[str, Any] = {
            "device": torch.cuda.get_device_name(device) if is_cuda else "cpu",
            "torch": torch.__version__,
            "clips": len(clips),
            "ratio": options.ratio,
        }
        if "parity" in options.parts:
            found["float32_parity"] = _parity(clips, device, options.ratio)
        if "bfloat16" in options.parts:
            found["bfloat16"] = {
                str(ratio): _half(clips, device, ratio) for ratio in options.ratios
            }
        if "rates" in options.parts:
            found["clips_per_second"] = _rates(clips, device, options)
        if "roofline" in options.parts:
            found["roofline"] = _roofline(device, options.matrix)
        if {"rates", "roofline"} <= set(options.parts):
            shares = _shares(found["clips_per_second"], found["roofline"], options.ratio)
            found["roofline"].update(shares)
        if "pack" in options.parts:
            found["pack"] = _pack(videos, options.device)
    print(json.dumps(found, indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--clips", type=int, default=8, help="different ones")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 64, 256])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ratio", type=float, default=0.06)
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.06], help="of bfloat16")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--matrix", type=int, default=8192, help="side of the matrices timed")
    parser.add_argument("--videos", nargs="+", help="at least one clip long each")
    return parser.parse_args()


def clip_flop(config: AutoGazeConfig, ratio: float) -> float:
    """Count what one clip of the published network takes: 2 for each product and sum, the mask respected.

    The last layer answers for one token a step, so its attention and feed-forward are left out.
    """
    shape, cells = config.decoder, CELLS * CLIP_FRAMES
    width = shape.hidden_size
    tokens = cells + sum(frame_budgets(ratio, CLIP_FRAMES))
    encoder = cells * width * (3 * 16 * 16 + config.vision.trunk_temporal_kernel_size * 9 * width)
    qkv = shape.num_hidden_layers * tokens * 3 * width * width
    rest = (shape.num_hidden_layers - 1) * tokens * width * (width + 3 * shape.intermediate_size)
    attention = (shape.num_hidden_layers - 1) * tokens**2 * width  # scores and values, half of each
    return 2.0 * (encoder + qkv + rest + attention)


def clip_bytes(config: AutoGazeConfig, ratio: float, itemsize: int) -> float:
    """Count the keys and values that one clip of the published network reads: all of them once a feed.

    A frame's cells are one feed, and each of its steps but the last is another. Weights are read once for a
    whole batch and left out.
    """
    shape = config.decoder
    tokens = seen = 0
    for budget in frame_budgets(ratio, CLIP_FRAMES):
        num_feeds = -(-budget // shape.num_multi_token_pred)
        seen += CELLS + budget
        tokens += num_feeds * seen
    return 2.0 * shape.num_hidden_layers * shape.hidden_size * itemsize * tokens


def _shares(rates: dict[str, float], roofline: dict[str, float], ratio: float) -> dict[str, float]:
    """Return what the best rate of each precision is of what the device could do."""
    config = AutoGazeConfig()
    flop = clip_flop(config, ratio)
    shares = {"published_gflop_a_clip": round(flop / 1e9, 1)}
    for name, dtype in DTYPES.items():
        begin = f"{PUBLISHED}, {name}, "
        best = max(rate for key, rate in rates.items() if key.startswith(begin))
        num_bytes = clip_bytes(config, ratio, dtype.itemsize)
        matrix, memory = (
            roofline[f"{name}_matrix_flop_per_second"],
            roofline["memory_bytes_per_second"],
        )
        shares[f"{name}_megabytes_a_clip"] = round(num_bytes / 1e6, 1)
        shares[f"{name}_share_of_matrix_rate"] = round(best * flop / matrix, 4)
        shares[f"{name}_share_of_memory_rate"] = round(best * num_bytes / memory, 4)
    return shares


# ------------------------------------------------------------------------------------------- parts


def _parity(clips: Tensor, device: torch.device, ratio: float) -> dict[str, str]:
    """Compare groups on the device with one by one on the CPU."""
    found = {}
    for name, make in _models().items():
        alone = make("cpu", torch.float32).gaze(clips, gazing_ratio=ratio)
        grouped = make(device, torch.float32).gaze(clips.to(device), gazing_ratio=ratio)
        equal = sum(np.array_equal(a.ids, b.ids) for a, b in zip(alone, grouped, strict=True))
        found[name] = f"{equal} of {len(clips)} clips have the same ids"
    return found


def _half(clips: Tensor, device: torch.device, ratio: float) -> dict[str, float]:
    """Compare the packaged network's choices in both precisions, at a ratio."""
    batch = ClipBatch(
        frames_BT3HW=clips.to(device),
        num_frames=(CLIP_FRAMES,) * len(clips),
        names=tuple(str(number) for number in range(len(clips))),
        grid=TILE,
    )
    whole, half = (
        choose(Gazing(AutoGaze.bundled(device=device, dtype=dtype), gazing_ratio=ratio), batch)
        for dtype in DTYPES.values()
    )
    shared = [_shared(a, b) for a, b in zip(whole, half, strict=True)]
    return {
        "shared_tokens": round(float(np.mean(shared)), 4),
        "float32_psnr": round(float(np.mean([s.psnr_T for s in whole])), 3),
        "bfloat16_psnr": round(float(np.mean([s.psnr_T for s in half])), 3),
    }


def _shared(a: Selection, b: Selection) -> float:
    """Return intersection over union of two selections of a clip."""
    first, second = (
        set(zip(s.frame.tolist(), s.scale.tolist(), s.row.tolist(), s.col.tolist(), strict=True))
        for s in (a, b)
    )
    return len(first & second) / len(first | second)


def _rates(clips: Tensor, device: torch.device, options: argparse.Namespace) -> dict[str, float]:
    """Time gazing at batches, best of some rounds; on CUDA two before make groups and record them."""
    rates, warm = {}, 2 if device.type == "cuda" else 0
    for name, make in _models().items():
        for precision, dtype in DTYPES.items():
            model = make(device, dtype)
            for batch in options.batches:
                pixels = clips[torch.arange(batch) % len(clips)].to(device)
                seconds = [
                    _seconds(lambda: model.gaze(pixels, gazing_ratio=options.ratio), device)  # noqa: B023
                    for _ in range(warm + options.rounds)
                ]
                rates[f"{name}, {precision}, batch {batch}"] = round(batch / min(seconds[warm:]), 2)
    return rates


def _roofline(device: torch.device, side: int) -> dict[str, float]:
    """Measure the device: square matrix products, and a copy of as many bytes."""
    rates = {}
    for name, dtype in DTYPES.items():
        a = torch.randn(side, side, device=device, dtype=dtype)
        seconds = min(_seconds(lambda: a @ a, device) for _ in range(5))  # noqa: B023
        rates[f"{name}_matrix_flop_per_second"] = 2.0 * side**3 / seconds
    values = torch.zeros(16 * side * side, device=device)
    into = torch.empty_like(values)
    seconds = min(_seconds(lambda: into.copy_(values), device) for _ in range(5))
    rates["memory_bytes_per_second"] = 2 * values.nbytes / seconds
    return rates


def _pack(videos: Sequence[str], device: str) -> dict[str, Any]:
    """Run the bench of packing on the device."""
    if device != "cpu":
        torch.cuda.empty_cache()  # it is another process that packs
    command = ["bench", "pack", *map(str, videos), "--device", device, "--json"]
    command += ["--selector", "autogaze", "--min-psnr", "30"]
    told = subprocess.run(
        [sys.executable, "-c", COMMAND, *command], check=True, capture_output=True, text=True
    ).stdout
    values: dict[str, Any] = json.loads(told)
    return values


# --------------------------------------------------------------------------------------- materials


def _models() -> dict[str, Callable[[str | torch.device, torch.dtype], AutoGaze]]:
    """Return what makes each network."""
    published = fresh_network(AutoGazeConfig(), seed=0)
    return {
        PUBLISHED: lambda device, dtype: AutoGaze(published, device=device, dtype=dtype),
        "in the package": lambda device, dtype: AutoGaze.bundled(device=device, dtype=dtype),
    }


def _generated(folder: Path, num_frames: int) -> list[str]:
    paths = []
    for scene in (objects, pan, cuts):
        path = folder / f"{scene.__name__}.mp4"
        write_video(path, scene(448, 224, num_frames, 3), fps=25)
        paths.append(str(path))
    return paths


def _clips(videos: Sequence[str], num: int) -> Tensor:
    """Return clips of the videos in turn, squeezed into one tile, uint8 N x 16 x 3 x 224 x 224."""
    clips: list[np.ndarray] = []
    streams = [decode(video, Sampling()) for video in videos]
    while len(clips) < num:
        before = len(clips)
        for stream in streams:
            frames = [fit(frame.rgb_HW3, TILE) for frame, _ in zip(stream, range(CLIP_FRAMES))]  # noqa: B905
            if len(frames) == CLIP_FRAMES:
                clips.append(np.stack(frames))
        if len(clips) == before:
            break
    return torch.from_numpy(np.stack(clips[:num])).movedim(-1, 2).contiguous()


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
