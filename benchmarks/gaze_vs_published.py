r"""Our AutoGaze engine against the published implementation: same weights, frames and settings.

The published code (github.com/NVlabs/AutoGaze) wants another release of transformers than this package's
other users, so it runs in a process of its own, with the interpreter of its own environment:

    git clone https://github.com/NVlabs/AutoGaze published
    python -m venv env && env/bin/pip install torch transformers==4.51.3 ./published
    python benchmarks/gaze_vs_published.py --published published --python env/bin/python \
        --checkpoint FOLDER --frames FRAMES.npz

FOLDER is a checkpoint in the published layout; FRAMES an npz whose array `video_224` is uint8 B x 16 x 224
x 224 x 3. Both sides warm up once and are then timed in turns, best of `--rounds`, so that what else the
machine does meets both; the CPU seconds of all threads feel it least (with `--threads 1`, where none waits
for another). The published side only generates (`generate_only=True`), as ours does. Ids must be the same
one clip at a time; in its larger batches the published code changes them with the rows beside (counted, not
refused).
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

Ids = list[list[int]]
"""Per clip, the ids that are no padding, in gaze order."""


def main() -> None:
    """Run both, compare, print one JSON object and a table."""
    options = _options()
    if options.role == "published":
        _serve(_published(options))
        return
    ours = _ours(options)
    rows = []
    with _other_side(options) as theirs:
        for batch in options.batches:
            runs = [(ours(batch), theirs(batch)) for _ in range(1 + options.rounds)]
            (ids_ours, ids_theirs), *_ = [(a.ids, b.ids) for a, b in runs]
            row = {
                "batch": batch,
                "equal_clips": sum(a == b for a, b in zip(ids_ours, ids_theirs, strict=True)),
            }
            for name in ("wall", "cpu"):
                best_ours, best_theirs = (
                    min(getattr(run, f"{name}_seconds") for run in side) / batch
                    for side in zip(*runs[1:], strict=True)
                )
                row[f"ours_{name}_s"] = round(best_ours, 4)
                row[f"published_{name}_s"] = round(best_theirs, 4)
                row[f"{name}_ratio"] = round(best_theirs / best_ours, 2)
            rows.append(row)
            print(json.dumps(row), file=sys.stderr)
    if any(row["batch"] == 1 and row["equal_clips"] != 1 for row in rows):
        sys.exit("the ids of a batch of one differ: the figures compare nothing")
    print(
        "| batch | published, s a clip | ours | ratio | published, CPU s a clip | ours | ratio | same ids |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        figures = " | ".join(
            f"{row[f'published_{name}_s']:.3f} | {row[f'ours_{name}_s']:.3f} | {row[f'{name}_ratio']:.2f}"
            for name in ("wall", "cpu")
        )
        print(f"| {row['batch']} | {figures} | {row['equal_clips']} of {row['batch']} |")


class Run(NamedTuple):
    """One batch, gazed at once."""

    wall_seconds: float
    cpu_seconds: float
    """Of all threads of the process."""
    ids: Ids


Side = Callable[[int], Run]
"""Gazes at the first clips of the file."""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--published", type=Path, required=True, help="its repository")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that runs it")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--frames", type=Path, required=True)
    parser.add_argument("--gazing-ratio", type=float, default=0.1)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--role", choices=("ours", "published"), default="ours", help=argparse.SUPPRESS
    )
    return parser.parse_args()


def _frames(options: argparse.Namespace, batch: int) -> torch.Tensor:
    """Return uint8 B x T x 3 x S x S, the file's clips over and over."""
    with np.load(options.frames) as arrays:
        video = torch.from_numpy(arrays["video_224"]).permute(0, 1, 4, 2, 3).contiguous()
    return video[torch.arange(batch) % len(video)]


def _timed(work: Callable[[], Ids]) -> Run:
    """Run `work`, which ends with its ids on the host, so that no device is still at it."""
    began, cpu_began = time.perf_counter(), time.process_time()
    ids = work()
    return Run(time.perf_counter() - began, time.process_time() - cpu_began, ids)


def _ours(options: argparse.Namespace) -> Side:
    """Load our engine."""
    from gazepack.autogaze import AutoGaze

    torch.set_num_threads(options.threads)
    model = AutoGaze.from_pretrained(options.checkpoint, device=options.device)

    def gaze(batch: int) -> Run:
        pixels = _frames(options, batch)

        def work() -> Ids:
            return [
                gaze.ids.tolist() for gaze in model.gaze(pixels, gazing_ratio=options.gazing_ratio)
            ]

        return _timed(work)

    return gaze


def _published(options: argparse.Namespace) -> Side:
    """Load the published code; only in its own interpreter."""
    sys.path.insert(0, str(options.published))
    from autogaze.models.autogaze import AutoGaze

    torch.set_num_threads(options.threads)
    model: Any = AutoGaze.from_pretrained(options.checkpoint).to(options.device).eval()
    mean, std = (
        torch.tensor(values).view(3, 1, 1)
        for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )

    def gaze(batch: int) -> Run:
        pixels = _frames(options, batch)

        @torch.inference_mode()
        def work() -> Ids:
            video = ((pixels.float() / 127.5 - 1 - mean) / std).to(options.device)
            out = model({"video": video}, gazing_ratio=options.gazing_ratio, generate_only=True)
            kept = ~out["if_padded_gazing"]
            return [ids[keep].tolist() for ids, keep in zip(out["gazing_pos"], kept, strict=True)]

        return _timed(work)

    return gaze


def _serve(gaze: Side) -> None:
    """Answer batch sizes on stdin with seconds and ids on stdout, a line each."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what the published code prints is no answer
    for line in sys.stdin:
        print(json.dumps(gaze(int(line))), file=answers, flush=True)


@contextmanager
def _other_side(options: argparse.Namespace) -> Iterator[Side]:
    """Start the published code beside us."""
    command = [options.python, __file__, *sys.argv[1:], "--role", "published"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        asked, answered = process.stdin, process.stdout

        def gaze(batch: int) -> Run:
            print(batch, file=asked, flush=True)
            line = answered.readline()
            if not line:
                sys.exit("the published code ended; its message is above")
            return Run(*json.loads(line))

        yield gaze
        asked.close()


if __name__ == "__main__":
    main()
