"""An encoder in a process group, as docs/encoders.md shows it."""

from pathlib import Path

import torch
from ranks import run_ranks

import gazepack
from gazepack.video import write_video
from gazepack.video.scenes import SCENES


def test_ranks_keep_the_same_weights(tmp_path: Path) -> None:
    """Three samples on two ranks, one of which has an empty batch at the end: both take the same steps."""
    uri, videos = str(tmp_path / "packed"), tmp_path / "videos"
    videos.mkdir()
    for number in range(3):
        frames = SCENES["objects"](64, 64, 2, number)
        write_video(videos / f"{number}.mp4", frames, fps=2)
    gazepack.pack(
        str(videos), uri, selector="random", gazing_ratio=0.05, patch_size=4, fit="square"
    )
    run_ranks(Path(__file__).with_name("ddp_ranks.py"), 2, uri, tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert first["weights"].equal(second["weights"])
    assert sorted([first["samples"], second["samples"]]) == [[1, 0, 1, 0], [1, 1, 1, 1]]
