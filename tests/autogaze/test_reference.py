import torch

from gazepack.autogaze.gaze import frame_budgets
from gazepack.autogaze.pixels import normalise
from gazepack.autogaze.reference import decode_clip


def test_it_reproduces_the_published_code(tiny, case_name):
    """Every recorded row comes out id for id."""
    case = tiny.case(case_name)
    budgets = list(frame_budgets(case.gazing_ratio, 16))
    for pixels_T3SS, ids, num_each_frame in zip(
        case.pixels_BT3SS, case.ids, case.num_each_frame, strict=True
    ):
        frames = decode_clip(
            tiny.network,
            normalise(pixels_T3SS[None])[0],
            budgets_T=budgets,
            loss_threshold=case.loss_threshold,
        )
        assert [len(chosen) for chosen, _ in frames] == num_each_frame.tolist()
        assert [
            265 * frame + tile_id for frame, (chosen, _) in enumerate(frames) for tile_id in chosen
        ] == ids.tolist()


def test_decode_positions_matter(tiny):
    """Contiguous positions give another gaze than the published frozen ones, first step apart."""
    frames_13HW = normalise(tiny.clips()[:1, :1])[0]
    network = tiny.network
    (published, _), *_ = decode_clip(network, frames_13HW, budgets_T=[60], loss_threshold=None)
    try:
        network.config = network.config.model_copy(update={"decode_positions": "contiguous"})
        (contiguous, _), *_ = decode_clip(network, frames_13HW, budgets_T=[60], loss_threshold=None)
    finally:
        network.config = network.config.model_copy(update={"decode_positions": "published"})
    first = network.config.decoder.num_multi_token_pred
    assert published[:first] == contiguous[:first]
    assert published != contiguous


def test_a_frame_at_full_ratio_holds_every_patch_once(tiny):
    """Nothing is chosen twice, the end is never chosen, and 265 slots hold all 265 patches."""
    frames_13HW = normalise(torch.zeros(1, 1, 3, 224, 224, dtype=torch.uint8))[0]
    ((chosen, losses),) = decode_clip(
        tiny.network, frames_13HW, budgets_T=[265], loss_threshold=None
    )
    assert sorted(chosen) == list(range(265))
    assert len(losses) == 265
