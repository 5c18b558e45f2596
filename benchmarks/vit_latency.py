"""One second of video through a vision transformer: dense against gazed.

    python benchmarks/vit_latency.py
    python benchmarks/vit_latency.py --device cuda --pixels 224 448 896 1792 --models base so400m

Times 30 frames at each side in pixels, through models of the shapes of SigLIP 2 base and so400m (patch 16,
random weights: speed does not depend on them). Dense is the model itself, each frame an image. Gazed is
`GazedEncoder` on the share of multi-scale patches that the paper of AutoGaze (arXiv 2603.12254) needs at 30 fps
and its default quality, at random places. `select` is the time in which a network of AutoGaze's size, here of
random weights, would choose as many on line; packing pays it once.

On a CPU the times are CPU seconds of one thread, so other work on the machine counts little. Dense frames
are independent, so some of them (`--dense-frames`) are timed and multiplied. Every time is the best of
`--repeats`, after one that does not count.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import SiglipVisionConfig, SiglipVisionModel

from gazepack.autogaze import AutoGaze
from gazepack.autogaze.config import AutoGazeConfig
from gazepack.autogaze.network import AutoGazeNetwork
from gazepack.encoders import GazedEncoder
from gazepack.geometry import CLIP_FRAMES, TILE_SIDE, Grid
from gazepack.loader import Batch
from gazepack.patches import cut, pyramid, split_tiles

FPS = 30
PATCH_SIZE = 16
RATIOS = {224: 0.069, 448: 0.058, 896: 0.040, 1792: 0.024}
"""Gazing ratio at 30 fps for a side in pixels."""
PUBLISHED = {448: 8.3, 896: 19.0}
"""How many times less latency the paper reports."""
SHAPES = {"base": (768, 3072, 12, 12), "so400m": (1152, 4304, 27, 16)}
"""Width, width of the MLP, layers, heads."""


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pixels", type=int, nargs="+", choices=RATIOS, default=[224, 448])
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=["base"])
    parser.add_argument("--attention", nargs="+", default=["block_causal", "frame"])
    parser.add_argument("--dense-frames", type=int, default=2, help="timed at once")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-select", action="store_true", help="leave out the time of selection")
    args = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(args.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    clock = Clock(device, args.repeats)
    unit = "CPU seconds" if device.type == "cpu" else "seconds"
    print(f"{FPS} frames, {unit}, {dtype}, torch {torch.__version__}\n")
    print(
        "| model | px | dense tokens | gazed | attention | dense | gazed | times less | paper | select |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for side in args.pixels:
        grid = Grid(rows=side // 224, cols=side // 224, patch_size=PATCH_SIZE)
        frames_T3HW, batch = one_second(grid, RATIOS[side])
        few_T3HW, batch = frames_T3HW[: args.dense_frames].to(device), batch.to(device)
        select = "" if args.no_select else selecting(frames_T3HW, grid, RATIOS[side], clock)
        for name in args.models:
            model = build(name, device, dtype)
            dense = clock(partial(run_dense, model, few_T3HW)) * FPS / args.dense_frames
            for attention in args.attention:
                gazed = clock(partial(GazedEncoder(model, attention=attention), batch))
                row = f"| {name} | {side} | {FPS * grid.num_dense} | {batch.num_tokens} "
                row += f"| `{attention}` | {dense:.2f} | {gazed:.2f} | {dense / gazed:.1f} "
                print(f"{row}| {PUBLISHED.get(side, '')} | {select} |", flush=True)


class Clock:
    """Times a call: the best of some, after one that does not count.

    Args:
        device: CPU time of this process on a CPU, time until the device is done elsewhere.
        repeats: calls that count.
    """

    def __init__(self, device: torch.device, repeats: int) -> None:
        self.device = device
        self.repeats = repeats

    def __call__(self, function: Callable[[], Any]) -> float:
        """Return seconds."""
        seconds = []
        with torch.inference_mode():
            for _ in range(self.repeats + 1):
                start = self.now()
                function()
                seconds.append(self.now() - start)
        return min(seconds[1:])

    def now(self) -> float:
        """Return a time in seconds."""
        if self.device.type == "cpu":
            return time.process_time()
        torch.cuda.synchronize(self.device)
        return time.perf_counter()


def one_second(grid: Grid, ratio: float) -> tuple[Tensor, Batch]:
    """Return random frames and a batch of `ratio` of their patches of all scales."""
    rng = np.random.default_rng(0)
    shape = (FPS, 3, grid.height, grid.width)
    frames_T3HW = torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8))
    each = round(ratio * grid.num_choices)
    ids = np.stack([rng.permutation(grid.num_choices)[:each] for _ in range(FPS)])
    scale, row, col = (torch.from_numpy(x).flatten() for x in grid.places(ids))
    frame = torch.arange(FPS).repeat_interleave(each)
    patches = [
        cut(
            pyramid(frames_T3HW[t : t + 1]),
            frame=frame[frame == t] - t,
            scale=scale[frame == t],
            row=row[frame == t],
            col=col[frame == t],
            patch_size=PATCH_SIZE,
        )
        for t in range(FPS)
    ]
    columns = {"view": frame * 0, "frame": frame, "scale": scale, "row": row, "col": col}
    batch = Batch(
        patches=torch.cat(patches).permute(0, 3, 1, 2),
        **{name: column.int() for name, column in columns.items()},
        rank=torch.arange(each).repeat(FPS).int(),
        loss=torch.full((len(frame),), float("nan")),
        cu_seqlens=torch.tensor([0, len(frame)], dtype=torch.int32),
        meta=[{"views": [{"name": "tiles", "rows": grid.rows, "cols": grid.cols}]}],
    )
    return frames_T3HW, batch


def build(name: str, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Return a SigLIP of random weights."""
    width, mlp_width, layers, heads = SHAPES[name]
    config = SiglipVisionConfig(
        hidden_size=width,
        intermediate_size=mlp_width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        image_size=TILE_SIDE * PATCH_SIZE,
        patch_size=PATCH_SIZE,
        vision_use_head=False,
    )
    return SiglipVisionModel(config).to(device, dtype).eval()


def run_dense(model: nn.Module, frames_T3HW: Tensor) -> Tensor:
    """Run the model on frames as images, bytes to features."""
    pixels = (frames_T3HW / 127.5 - 1).to(next(model.parameters()).dtype)
    features: Tensor = model(pixels, interpolate_pos_encoding=True).last_hidden_state
    return features


def selecting(frames_T3HW: Tensor, grid: Grid, ratio: float, clock: Clock) -> str:
    """Return the seconds that choosing takes, 16 frames of all tiles at once."""
    gaze = AutoGaze(AutoGazeNetwork(AutoGazeConfig()), device=clock.device)
    tiles_BT3SS = split_tiles(frames_T3HW, grid).transpose(0, 1).contiguous().to(clock.device)
    clips = tiles_BT3SS.split(CLIP_FRAMES, dim=1)
    return f"{clock(lambda: [gaze.gaze(clip, gazing_ratio=ratio) for clip in clips]):.2f}"


if __name__ == "__main__":
    main()
