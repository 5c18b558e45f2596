"""Where gazed tokens stand for a language model with M-RoPE: (t, h, w), as Qwen2.5-VL and Qwen3-VL do.

These models merge 2 x 2 of their patches into one token, so a dataset for them is packed with patches of a
whole merged token: 28 px for Qwen2.5-VL, 32 px for Qwen3-VL. A finest patch has the row and column that the
dense model gives it. A coarse one covers several and has those of the one at its centre (the one after it where
the centre is a border): an index must be whole, and the model knows no size.

    legend   N  tokens     V  views of all samples     3  time, height, width
"""

import torch
from torch import Tensor

from gazepack.geometry import SCALE_SIDES, TILE_SIDE
from gazepack.loader import Batch


def mrope_positions(
    batch: Batch, *, tokens_per_second: float | None, start_seconds: float | None = None
) -> Tensor:
    """Return the place of each token in its video.

    Args:
        batch: as the loader gives it, with `times` in its views.
        tokens_per_second: how far time moves on in a second: `vision_config.tokens_per_second` of Qwen2.5-VL,
            2 in its published models. None for Qwen3-VL, where the text before a frame tells its time: t is 0.
        start_seconds: when t is 0; at the first frame of each sample if None.

    Returns:
        int64 N x 3, from 0; add the position where the video (or for Qwen3-VL the frame) starts in the text.
    """
    device = batch.scale.device
    side_N = torch.tensor(SCALE_SIDES, device=device)[batch.scale.long()]
    # the centre of patch i lies (2i + 1) / 2 patches from the border: in finest ones that is times 14 / side
    height_N, width_N = (
        (2 * x.long() + 1) * TILE_SIDE // (2 * side_N) for x in (batch.row, batch.col)
    )
    time_N = torch.zeros_like(height_N)
    if tokens_per_second is not None:
        time_N = (_seconds(batch, start_seconds) * tokens_per_second).long()
    return torch.stack((time_N, height_N, width_N), dim=1)


def _seconds(batch: Batch, start_seconds: float | None) -> Tensor:
    """Return the time of each token's frame since the start or the first frame of its sample, float64 N."""
    device = batch.frame.device
    views = [(sample["views"], view) for sample in batch.meta for view in sample["views"]]
    starts = [
        of[0]["times"][0] if start_seconds is None and of[0]["times"] else start_seconds or 0.0
        for of, _ in views
    ]
    times = [
        [time - start for time in view["times"]]
        for (_, view), start in zip(views, starts, strict=True)
    ]
    num_views = torch.tensor([len(sample["views"]) for sample in batch.meta], dtype=torch.int64)
    num_frames = torch.tensor([len(each) for each in times], dtype=torch.int64)
    first_view_S = (num_views.cumsum(0) - num_views).to(device)
    first_time_V = (num_frames.cumsum(0) - num_frames).to(device)
    num_each = batch.cu_seqlens.long().diff()
    view_N = first_view_S.repeat_interleave(num_each) + batch.view
    flat = torch.tensor([t for each in times for t in each], dtype=torch.float64, device=device)
    return flat[first_time_V[view_N] + batch.frame]
