"""Labels of whole videos as tables."""

import numpy as np
import pytest
import torch

from gazepack.geometry import Grid
from gazepack.training.clips import Video
from gazepack.training.label_table import SCHEMA, label_video
from gazepack.training.labels import label_clips
from gazepack.video import Sampling, decode, fit

CPU = torch.device("cpu")


def test_a_table_holds_the_labels_of_each_clip(videos: list[Video]) -> None:
    """24 frames are a clip of 16 and one of 8; each is labelled as if it were alone."""
    table = label_video(videos[0], min_psnr=22, beyond=2, sampling=Sampling(), device=CPU)
    assert table.schema == SCHEMA
    rows = table.to_pylist()
    assert [(row["clip"], row["frame"]) for row in rows] == [(0, t) for t in range(16)] + [
        (1, t) for t in range(8)
    ]
    grid = Grid(rows=1, cols=1)
    frames = [fit(f.rgb_HW3, grid) for f in decode(videos[0].uri, Sampling())][16:]
    second = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)[None].contiguous()
    labels = label_clips(second, min_psnr_B=[22], beyond=2)
    for t, row in enumerate(rows[16:]):
        num = len(row["ids"])
        assert row["kept"] == labels.kept_BT[0, t]
        assert row["ids"] == labels.ids_BTN[0, t, :num].tolist()
        np.testing.assert_array_equal(np.float32(row["loss"]), labels.loss_BTN[0, t, :num])
    assert rows[1]["time"] == pytest.approx(1 / 12, abs=1e-3)
