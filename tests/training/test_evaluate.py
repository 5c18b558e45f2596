"""Selectors at equal painting error."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from gazepack.autogaze import AutoGaze, AutoGazeConfig, fresh_network
from gazepack.errors import SourceError, UsageError
from gazepack.selectors import ClipBatch, Difference, Gazing, Greedy, Random, choose
from gazepack.training.clips import Video
from gazepack.training.evaluate import Evaluation, View, evaluate, read_clip
from gazepack.training.report import to_json, to_markdown, to_svg


@pytest.fixture(scope="module")
def model(config: AutoGazeConfig) -> AutoGaze:
    """A tiny network that stops early."""
    network = fresh_network(config, seed=1)
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
        views=(View(fps=6),),
        progress=lambda _: None,
    )


def test_counts_are_those_of_the_selectors(
    evaluation: Evaluation, model: AutoGaze, videos: list[Video]
) -> None:
    """Each count is what `choose` takes at that bound; dense counts every finest patch."""
    view = View(fps=6)
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
        alone = choose(selectors["autogaze"], batch)
        assert comparison.alone == sum(int(s.tokens_T.sum()) for s in alone)
        assert 0 < comparison.own <= min(comparison.alone, sum(comparison.tokens["autogaze"]))
        reached = np.concatenate([s.psnr_T for s in alone])
        assert comparison.measured_psnr == pytest.approx(reached.mean())
        assert comparison.missed_db == pytest.approx(np.abs(reached - bound).mean())


def test_the_rest_of_what_is_measured(evaluation: Evaluation) -> None:
    """Shares and heat are of a whole, greedy is its own measure, a repeated frame costs a token at least."""
    for shares in evaluation.scales.values():
        assert sum(shares) == pytest.approx(1)
    assert evaluation.heat_GG.sum() == pytest.approx(1)
    assert evaluation.comparisons[0].times_greedy("greedy") == 1
    assert evaluation.comparisons[0].times_greedy("random") > 1
    assert evaluation.repeat_tokens >= 1


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
    found = evaluate(model, both, name="m", bounds=(15.0,), progress=told.append)
    assert found.clips == ("objects.mp4",)
    assert any("left out" in line and "broken.mp4" in line for line in told)
    with pytest.raises(SourceError, match="no video can be decoded"):
        evaluate(model, both[:1], name="m", bounds=(15.0,), progress=told.append)


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
    figure = ElementTree.fromstring(to_svg(evaluation))
    assert len(figure.findall(".//{*}polyline")) == 4
    assert len(figure.findall(".//{*}rect")) > 196
