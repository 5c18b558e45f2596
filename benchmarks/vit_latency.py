"""One second of video through a vision transformer: dense against gazed.

    python benchmarks/vit_latency.py
    python benchmarks/vit_latency.py --device cuda --pixels 224 448 896 1792 --models base so400m

Times 30 frames at each side in pixels, through models of the shapes of SigLIP 2 base and so400m (patch 16,
random weights: speed does not depend on them). Dense is the model itself, each frame an image. Gazed is
`GazedEncoder` on the share of multi-scale patches that the paper of AutoGaze (arXiv 2603.12254) needs at 30 fps
and its default quality, at random places. `select` is the time in which a network of AutoGaze's size, here of
random weights, would choose as many on line; packing pays it once.

On a CPU the times are CPU seconds of one thread, so other work on the machine counts little; on a GPU they are
those between two CUDA events, in bfloat16, with flex attention. Dense frames are independent, so some of them
(`--dense-frames`) are timed and multiplied. Dense and gazed take turns; a time is the median of `--repeats`,
after one turn that does not count (on a GPU it compiles), and the spread of their ratio is that of the turns.

`adapter` is the share of the gazed time that is not spent in the model's own modules (patch embedding, layers,
last norm), which hooks measure in the same calls: layout, positions, normalisation, reordering, masks. What
ragged attention costs inside the layers counts as the layers'.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pixels", type=int, nargs="+", choices=RATIOS, default=[224, 448])
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=["base"])
    parser.add_argument("--attention", nargs="+", default=["block_causal", "frame"])
    parser.add_argument("--dense-frames", type=int, help="timed at once; 1 on a CPU, else all 30")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-select", action="store_true", help="leave out the time of selection")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    device = torch.device(args.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # whose stream the events are recorded in
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    dense_frames = args.dense_frames or (1 if device.type == "cpu" else FPS)
    clock = Clock(device)
    unit = "CPU seconds" if device.type == "cpu" else "seconds"
    print(f"{FPS} frames, {unit}, {clock.name}, {dtype}, torch {torch.__version__}, ", end="")
    print(f"{dense_frames} dense frames timed, {args.repeats} turns\n")
    print("| model | px | tokens, dense | gazed | attention | dense | gazed | times less ", end="")
    print("| paper | adapter | select |\n" + "|---" * 11 + "|")
    for side in args.pixels:
        grid = Grid(rows=side // 224, cols=side // 224, patch_size=PATCH_SIZE)
        frames_T3HW, batch = one_second(grid, RATIOS[side])
        few_T3HW, batch = frames_T3HW[:dense_frames].to(device), batch.to(device)
        select = ""
        if not args.no_select:
            select = f"{selecting(frames_T3HW, grid, RATIOS[side], clock, args.repeats):.3g}"
        for name in args.models:
            model = build(name, device, dtype)
            for attention in args.attention:
                encoder = GazedEncoder(model, attention=attention)
                timed = compare(model, encoder, few_T3HW, batch, clock, args.repeats)
                row = f"| {name} | {side} | {FPS * grid.num_dense} | {batch.num_tokens} "
                row += f"| `{attention}` | {timed.row} | {PUBLISHED.get(side, '')} "
                print(f"{row}| {timed.adapter_share:.1%} | {select} |", flush=True)


# ------------------------------------------------------------------------------------------- times


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """The turns of dense and gazed."""

    dense: list[float]
    """Seconds for all frames, turn by turn."""
    gazed: list[float]
    """Likewise."""
    own: list[float]
    """Seconds of these in the model's own modules."""

    @property
    def adapter_share(self) -> float:
        """The share of the gazed time outside the model's own modules."""
        return statistics.median(1 - o / g for o, g in zip(self.own, self.gazed, strict=True))

    @property
    def row(self) -> str:
        """Both times, and how many times less: median, least to most."""
        ratios = [d / g for d, g in zip(self.dense, self.gazed, strict=True)]
        dense, gazed, ratio = (statistics.median(x) for x in (self.dense, self.gazed, ratios))
        return f"{dense:.3g} | {gazed:.3g} | {ratio:.1f} ({min(ratios):.1f} to {max(ratios):.1f})"


def compare(
    model: nn.Module,
    encoder: GazedEncoder,
    few_T3HW: Tensor,
    batch: Batch,
    clock: "Clock",
    repeats: int,
) -> Timed:
    """Time dense and gazed in turns."""
    dense, gazed, own = [], [], []
    for turn in range(repeats + 1):
        seconds = clock(partial(run_dense, model, few_T3HW)) * FPS / len(few_T3HW)
        with clock.inside(own_modules(model)) as spans:
            total = clock(partial(encoder, batch))
        if turn:
            dense.append(seconds)
            gazed.append(total)
            own.append(sum(clock.between(*span) for span in spans))
    return Timed(dense=dense, gazed=gazed, own=own)


def own_modules(model: Any) -> list[nn.Module]:
    """Return the modules of the model that do its work."""
    return [model.embeddings.patch_embedding, *model.encoder.layers, model.post_layernorm]


class Clock:
    """Times calls: CPU time of this process on a CPU, the time between two events on a GPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._is_cpu = device.type == "cpu"
        self.name = "one thread" if self._is_cpu else torch.cuda.get_device_name(device)

    def __call__(self, function: Callable[[], Any]) -> float:
        """Return the seconds of a call."""
        with torch.inference_mode():
            start = self.now()
            function()
            return self.between(start, self.now())

    def now(self) -> Any:
        """Return a point in time; on a GPU that of the work which is queued there."""
        if self._is_cpu:
            return time.process_time()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def between(self, start: Any, end: Any) -> float:
        """Return the seconds between two points in time."""
        if self._is_cpu:
            return float(end - start)
        end.synchronize()
        return float(start.elapsed_time(end)) / 1000

    @contextmanager
    def inside(self, modules: Sequence[nn.Module]) -> Iterator[list[tuple[Any, Any]]]:
        """Note when calls of these modules start and end; they must not call each other."""
        spans: list[tuple[Any, Any]] = []
        begun: list[Any] = []
        handles = []
        for module in modules:
            handles.append(module.register_forward_pre_hook(lambda *_: begun.append(self.now())))
            handles.append(
                module.register_forward_hook(lambda *_: spans.append((begun.pop(), self.now())))
            )
        try:
            yield spans
        finally:
            for handle in handles:
                handle.remove()


# ------------------------------------------------------------------------------------------- parts


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


def selecting(frames_T3HW: Tensor, grid: Grid, ratio: float, clock: Clock, repeats: int) -> float:
    """Return the seconds that choosing takes, 16 frames of all tiles at once: the median."""
    gaze = AutoGaze(AutoGazeNetwork(AutoGazeConfig()), device=clock.device)
    tiles_BT3SS = split_tiles(frames_T3HW, grid).transpose(0, 1).contiguous().to(clock.device)
    clips = tiles_BT3SS.split(CLIP_FRAMES, dim=1)

    def choose() -> None:
        for clip in clips:
            gaze.gaze(clip, gazing_ratio=ratio)

    clock(choose)
    return statistics.median(clock(choose) for _ in range(repeats))


if __name__ == "__main__":
    main()
