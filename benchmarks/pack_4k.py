"""Host memory that packing a 4K video takes: a generated film of 1,000 frames, every one of them packed.

    python benchmarks/pack_4k.py --work DIR [--frames 1000] [--executor serial] [-- OPTIONS OF PACK]

The film is a camera that travels over a still of grain and edges in 3840 x 2160 (H.264, 30 frames a second).
It is packed with `gazepack pack` in processes of its own; ten times a second the memory of all of them is added
up: resident, where pages that processes share count in each, and proportional (PSS), where they count once.
The limit is on the larger. Ends with 1 if it is passed.
"""

import argparse
import json
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

WIDTH, HEIGHT, FPS = 3840, 2160, 30
LIMIT_BYTES = 4 * 2**30
COMMAND = "import sys; from gazepack.cli.main import run; sys.exit(run(sys.argv[1:]))"


def main() -> int:
    """Make the film, pack it, print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--executor", default="serial")
    arguments, options = parser.parse_known_args()
    options = [option for option in options if option != "--"] or ["--min-psnr", "30"]
    film = arguments.work / f"film-{arguments.frames}.mp4"
    if not film.exists():
        make_film(film, arguments.frames)
    command = ["pack", str(film), "--out", str(arguments.work / "packed"), "--json", *options]
    command += ["--executor", arguments.executor]
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, *command], stdout=subprocess.PIPE, text=True
    ) as process:
        resident, proportional, most = watch(process)
        assert process.stdout is not None
        told = json.loads(process.stdout.read())
    assert told["frames"] == arguments.frames
    found = {
        "frames": told["frames"],
        "tokens": told["tokens"],
        "seconds": round(time.perf_counter() - began, 1),
        "processes": most,
        "resident_bytes": resident,
        "proportional_bytes": proportional,
        "limit_bytes": LIMIT_BYTES,
    }
    print(json.dumps(found))
    return int(resident > LIMIT_BYTES)


def make_film(path: Path, num_frames: int) -> None:
    """Encode the film, from planes that are in the stored format already."""
    luma, *chroma = still(np.random.default_rng(0))
    partial = path.with_suffix(".part.mp4")
    with av.open(str(partial), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(num_frames):
            left = 4 * min(number % 640, 640 - number % 640)
            planes = [luma[:, left : left + WIDTH]]
            planes += [c[:, left // 2 : (left + WIDTH) // 2] for c in chroma]
            frame = av.VideoFrame.from_ndarray(
                np.concatenate([plane.reshape(-1, WIDTH) for plane in planes]), format="yuv420p"
            )
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    partial.replace(path)


def still(random: np.random.Generator) -> list[np.ndarray]:
    """Return luma and chroma of a picture wider than the screen: boards of one colour, and grain on some."""
    height, width = HEIGHT, WIDTH + 4 * 320
    luma = np.full((height, width), 110, dtype=np.int16)
    chroma = [np.full((height // 2, width // 2), 128, dtype=np.uint8) for _ in range(2)]
    for _ in range(400):
        top, left = (2 * int(random.integers(0, end // 2 - 60)) for end in (height, width))
        down, across = (2 * int(random.integers(20, 200)) for _ in range(2))
        luma[top : top + down, left : left + across] = random.integers(30, 220)
        for plane in chroma:
            half = slice(top // 2, (top + down) // 2), slice(left // 2, (left + across) // 2)
            plane[half] = random.integers(80, 176)
    grain = random.normal(0, 6, luma.shape) * (np.arange(width) % 1280 < 320)
    return [np.clip(luma + grain, 16, 235).astype(np.uint8), *chroma]


def watch(process: "subprocess.Popen[str]") -> tuple[int, int, int]:
    """Wait for a process; return the most that its family held, in both counts, and the largest family."""
    resident = proportional = most = 0
    while process.poll() is None:
        held = [memory(pid) for pid in family(process.pid)]
        resident = max(resident, sum(rss for rss, _ in held))
        proportional = max(proportional, sum(pss for _, pss in held))
        most = max(most, len(held))
        time.sleep(0.1)
    return resident, proportional, most


def family(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, at = [pid], 0
    while at < len(found):
        found += parents.get(found[at], [])
        at += 1
    return found


def memory(pid: int) -> tuple[int, int]:
    """Return a process's resident and proportional bytes; nothing if it has gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return 0, 0
    values = {line.split()[0]: int(line.split()[1]) * 1024 for line in lines}
    return values.get("Rss:", 0), values.get("Pss:", 0)


if __name__ == "__main__":
    sys.exit(main())
