"""The network in the package: what it is, and that it is worth its place."""

import re
from pathlib import Path

import numpy as np
import torch

from gazepack.autogaze import AutoGaze
from gazepack.autogaze.weights import BUNDLED
from gazepack.selectors import ClipBatch, Difference, Gazing, Greedy, Random, choose
from gazepack.training.clips import Video
from gazepack.training.evaluate import View, read_clip

BOUND = 30.0
FRAMES = 4


def tokens(selector, clips):
    return sum(int(s.tokens_T.sum()) for s in choose(selector, clips, min_psnr=BOUND))


def test_it_is_the_one_on_its_card():
    """Size, memory and unit are those promised, and the model card names these very weights."""
    model = AutoGaze.bundled()
    assert sum(path.stat().st_size for path in BUNDLED.iterdir()) < 8_000_000
    assert (model.config.memory, model.config.loss_unit) == ("canvas", "negative_psnr")
    card = (Path(__file__).parents[2] / "docs" / "model-card.md").read_text()
    assert re.search(rf"sha256 `?{model.sha256[:12]}", card)


def test_it_chooses_nearly_as_well_as_greedy(shared):
    """At most 1.3 times greedy's tokens at 30 dB; random needs at least 2.8, difference 1.5 times its own.

    On the first frames of every validation clip.
    """
    view = View()
    paths = sorted((shared / "clips" / "val").iterdir())
    frames = np.stack([read_clip(Video(uri=str(path)), view)[:FRAMES] for path in paths])
    clips = ClipBatch(
        frames_BT3HW=torch.from_numpy(frames).permute(0, 1, 4, 2, 3).contiguous(),
        num_frames=(FRAMES,) * len(paths),
        names=tuple(path.name for path in paths),
        grid=view.grid,
    )
    gazing = Gazing(AutoGaze.bundled(), loss_threshold=-BOUND, stops_at_bound=True)
    own = tokens(gazing, clips)
    assert own <= 1.3 * tokens(Greedy(), clips)
    assert tokens(Random(), clips) >= 2.8 * own
    assert tokens(Difference(), clips) >= 1.5 * own
