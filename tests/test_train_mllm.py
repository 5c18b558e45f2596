"""The example that trains a little MLLM, on a handful of its videos."""

import importlib.util
import sys
import types
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip(
    "transformers", reason="encoders are not installed: pip install gazepack[encoders]"
)


@pytest.fixture(scope="module")
def example() -> types.ModuleType:
    """examples/train_mllm.py with 16 videos to train on and 4 to ask about."""
    path = Path(__file__).parents[1] / "examples" / "train_mllm.py"
    spec = importlib.util.spec_from_file_location("train_mllm", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.SPLITS = {"train": range(16), "val": range(16, 20)}
    return module


def test_the_answer_is_in_the_video(example: types.ModuleType) -> None:
    """The corner shows one digit before the ball leaves and another after; the one asked for is the answer."""
    for number in range(20):
        frames, row = example.draw(number)
        assert frames.shape == (6, 56, 56, 3)
        has_ball = [
            bool((frame[..., 0].astype(int) - frame[..., 1] > 190).any()) for frame in frames
        ]
        assert has_ball == sorted(has_ball, reverse=True)
        shown = frames[0 if row["question"] == "before" else -1, 4:14:2, 4:10:2, 0] > 128
        glyph = "".join(str(int(cell)) for cell in np.ravel(shown))
        assert glyph == example.GLYPHS[row["answer"]]
        assert not np.array_equal(frames[0, :16, :12], frames[-1, :16, :12])


@pytest.mark.slow
def test_both_trainings_differ_in_tokens_only(example: types.ModuleType, tmp_path: Path) -> None:
    """Dense and gazed take the same steps over the same videos, gazed with a tenth of the tokens or less."""
    example.make_datasets(tmp_path)
    results = [
        example.train(tmp_path, tokens, epochs=1, batch_size=8) for tokens in ("dense", "gazed")
    ]
    assert [result["steps"] for result in results] == [2, 2]
    assert results[0]["tokens_a_video"] == 6 * 196
    assert 0 < results[1]["tokens_a_video"] < 6 * 196 / 10
    assert all(0 <= result["accuracy"] <= 1 for result in results)
    plot = ElementTree.fromstring(example.plot(results))
    assert len(plot.findall("{*}polyline")) == 2
    assert "train_mllm" not in sys.modules
