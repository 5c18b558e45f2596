"""Selectors at equal painting error."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from gazepack.autogaze import AutoGaze, AutoGazeConfig, fresh_canvas_network, fresh_network
from gazepack.errors import SourceError, UsageError
from gazepack.geometry import tile_places
from gazepack.patches import cut, paint, psnr, pyramid
from gazepack.selectors import ClipBatch, Difference, Gazing, Greedy, Random, choose
from gazepack.training.clips import Video
from gazepack.training.evaluate import Evaluation, View, evaluate, read_clip
from gazepack.training.report import to_json, to_markdown, to_svg


@pytest.fixture(scope="module", params=["canvas", "tokens"])
def model(config: AutoGazeConfig, request: pytest.FixtureRequest) -> AutoGaze:
    """A tiny network of each memory; the one that remembers tokens stops early."""
    if request.param == "canvas":
        return AutoGaze(fresh_canvas_network(config, seed=1), sha256="ab" * 32)
    network = fresh_network(config.model_copy(update={"memory": "tokens"}), seed=1)
    with torch.no_grad():
        for parameter in network.gaze_decoder.parameters():
            parameter.mul_(3)
        network.gaze_decoder.task_loss_prediction_head.weight.mul_(30)
    return AutoGaze(network, sha256="ab" * 32)


@pytest.fixture(scope="module")
def evaluation(model: AutoGaze, videos: list[Video]) -> Evaluation:
    """Of the tiny network, at two bounds."""
    return evaluate(
        model,
        videos,
        name="tiny",
        bounds=(20.0, 24.0),
        views=(View(fps=2),),
        progress=lambda _: None,
    )


def test_counts_are_those_of_the_selectors(
    evaluation: Evaluation, model: AutoGaze, videos: list[Video]
) -> None:
    """Each count is what `choose` takes at that bound; dense counts every finest patch."""
    view = View(fps=2)
    clips = [read_clip(video, view) for video in videos]
    batch = ClipBatch(
        frames_BT3HW=torch.from_numpy(np.stack(clips)).permute(0, 1, 4, 2, 3).contiguous(),
        num_frames=tuple(len(clip) for clip in clips),
        names=evaluation.clips,
        grid=view.grid,
    )
    for comparison in evaluation.comparisons:
        bound = comparison.min_psnr
        selectors = {
            "autogaze": Gazing(model, loss_threshold=-bound, stops_at_bound=True),
            "greedy": Greedy(),
            "difference": Difference(),
            "random": Random(),
        }
        for name, selector in selectors.items():
            chosen = choose(selector, batch, min_psnr=bound)
            assert comparison.tokens[name] == tuple(int(s.tokens_T.sum()) for s in chosen), name
            assert min(s.psnr_T.min() for s in chosen) >= bound
        assert comparison.dense == 196 * sum(batch.num_frames)
        alone = choose(Gazing(model, loss_threshold=-bound), batch)
        assert comparison.alone == sum(int(s.tokens_T.sum()) for s in alone)
        assert 0 < comparison.own <= sum(comparison.tokens["autogaze"])
        reached = np.concatenate([s.psnr_T for s in alone])
        assert comparison.measured_psnr == pytest.approx(reached.mean())
        assert comparison.missed_db == pytest.approx(np.abs(reached - bound).mean())
        assert comparison.off_db == pytest.approx(reached.mean() - bound)


def test_the_networks_order_is_taken_to_the_bound(
    evaluation: Evaluation, model: AutoGaze, videos: list[Video]
) -> None:
    """In its own order a network's tokens are counted until the painting of just these meets the bound."""
    if model.config.memory == "tokens":
        assert [c.own_order for c in evaluation.comparisons] == [None, None]
        return
    comparison = evaluation.comparisons[0]
    num = 0
    for video in videos:
        frames = torch.from_numpy(read_clip(video, comparison.view)).permute(0, 3, 1, 2)
        canvas = torch.full_like(frames[:1], 128)
        for frame in frames.split(1):
            [gaze] = model.look(frame, canvas, budgets=[265], loss_threshold=None)
            shown = (painted(frame, canvas, gaze.ids[:most]) for most in range(266))
            most, canvas = next(
                (most, x)
                for most, x in enumerate(shown)
                if psnr(float((frame.double() - x).square().sum()), x.numel())
                >= comparison.min_psnr
            )
            num += most
    assert comparison.own_order == num


def painted(frame_13SS: torch.Tensor, canvas_13SS: torch.Tensor, ids: list[int]) -> torch.Tensor:
    """Return a canvas with the patches of tile ids painted over it."""
    scale, row, col = (torch.from_numpy(x) for x in tile_places(np.asarray(ids, dtype=np.int64)))
    at = {"frame": torch.zeros_like(scale), "scale": scale, "row": row, "col": col}
    shown = canvas_13SS.clone()
    paint(shown, cut(pyramid(frame_13SS), **at, patch_size=16), **at)
    return shown


def test_the_rest_of_what_is_measured(evaluation: Evaluation) -> None:
    """Shares and heat are of a whole, greedy is its own measure, a repeated frame costs nothing.

    A network that decides alone takes one token of it at least.
    """
    for shares in evaluation.scales.values():
        assert sum(shares) == pytest.approx(1)
    assert evaluation.heat_GG.sum() == pytest.approx(1)
    assert evaluation.comparisons[0].times_greedy("greedy") == 1
    assert evaluation.comparisons[0].times_greedy("random") > 1
    assert evaluation.repeat_alone >= 1
    assert evaluation.repeat_tokens == 0


def test_a_model_that_does_not_predict_db(config: AutoGazeConfig, videos: list[Video]) -> None:
    """A threshold in an unknown unit cannot be compared."""
    unknown = fresh_network(config.model_copy(update={"loss_unit": "none"}), seed=0)
    with pytest.raises(UsageError, match=r"the model m does not predict dB"):
        evaluate(AutoGaze(unknown), videos, name="m", progress=lambda _: None)


def test_broken_videos_are_left_out(model: AutoGaze, videos: list[Video], tmp_path: Path) -> None:
    """A broken video is said and left out; nothing but broken ones is an error."""
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"nothing")
    told: list[str] = []
    both = [Video(uri=str(broken)), videos[0]]
    bounds, views = (15.0,), (View(fps=2),)
    found = evaluate(model, both, name="m", bounds=bounds, views=views, progress=told.append)
    assert found.clips == ("objects.mp4",)
    assert any("left out" in line and "broken.mp4" in line for line in told)
    with pytest.raises(SourceError, match="no video can be decoded"):
        evaluate(model, both[:1], name="m", bounds=bounds, progress=told.append)


@pytest.mark.parametrize("side", [0, 200, 300])
def test_a_side_between_tiles(side: int) -> None:
    """A crop that is no whole number of tiles is refused."""
    with pytest.raises(UsageError, match=rf"side {side} is not a multiple of 224"):
        View(side=side)


def test_a_report_for_people_and_programs(evaluation: Evaluation) -> None:
    """The table holds every count, the JSON the same, and the figure is well-formed."""
    text, values = to_markdown(evaluation), json.loads(json.dumps(to_json(evaluation)))
    for comparison, row in zip(evaluation.comparisons, values["comparisons"], strict=True):
        assert f"| {comparison.min_psnr:g} dB |" in text
        assert f"{sum(comparison.tokens['random']):,}" in text
        assert row["tokens"]["greedy"] == list(comparison.tokens["greedy"])
        own = "cannot go on" if comparison.own_order is None else f"| {comparison.own_order:,} ("
        assert own in text
        assert row["own_order"] == comparison.own_order
        assert (
            f"{comparison.off_db:+.2f} dB ({comparison.off_db / comparison.min_psnr:+.1%})" in text
        )
        assert row["off_share"] == pytest.approx(row["off_db"] / row["min_psnr"], abs=1e-3)
    figure = ElementTree.fromstring(to_svg(evaluation))
    assert len(figure.findall(".//{*}polyline")) == 4 + 2
    assert len(figure.findall(".//{*}rect")) > 196
