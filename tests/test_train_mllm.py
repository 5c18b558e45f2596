"""The example that trains a little MLLM, on a handful of its videos."""

import importlib.util
import json
import os
import subprocess
import sys
import types
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from gazepack.cli.main import run

pytest.importorskip(
    "transformers", reason="encoders are not installed: pip install gazepack[encoders]"
)
SCRIPT = Path(__file__).parents[1] / "examples" / "train_mllm.py"


@pytest.fixture(scope="module")
def example() -> types.ModuleType:
    """examples/train_mllm.py with 16 videos to train on and 4 to ask about, packed two ways."""
    spec = importlib.util.spec_from_file_location("train_mllm", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.SPLITS = {"train": range(16), "val": range(16, 20)}
    module.TOKENS = {name: module.TOKENS[name] for name in ("dense", "40dB")}
    return module


@pytest.fixture(scope="module")
def folder(example: types.ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its datasets and questions."""
    path = tmp_path_factory.mktemp("little-hlvid")
    example.make_datasets(path)
    return path


def test_the_answer_is_in_the_video(example: types.ModuleType) -> None:
    """The corner shows one digit before the ball leaves and another after; the one asked for is the answer."""
    for number in range(20):
        frames, row = example.draw(number)
        assert frames.shape == (3, 56, 56, 3)
        has_ball = [
            bool((frame[..., 0].astype(int) - frame[..., 1] > 190).any()) for frame in frames
        ]
        assert has_ball == sorted(has_ball, reverse=True)
        assert has_ball[0]
        assert not has_ball[-1]
        pixels = frames[0 if row["question"].endswith("before") else -1, 4:14:2, 4:10:2, 0]
        shown = "".join(str(int(cell)) for cell in np.ravel(pixels > 0))
        digit = {glyph: digit for digit, glyph in example.DIGITS.items()}[shown]
        assert f"{row['answer']}. {digit}\n" in row["question"]
        assert row["category"] == ("clear" if pixels.max() >= example.CLEAR else "faint")
        assert not np.array_equal(frames[0, :16, :12], frames[-1, :16, :12])


@pytest.mark.slow
def test_trainings_differ_in_tokens_only(example: types.ModuleType, folder: Path) -> None:
    """Dense and gazed take the same steps over the same videos, gazed with a quarter of the tokens or less."""
    results = [example.train(folder, tokens, epochs=1, batch_size=8) for tokens in example.TOKENS]
    assert [result["steps"] for result in results] == [2, 2]
    assert [result["questions"] for result in results] == [4, 4]
    assert results[0]["tokens_a_video"] == 3 * 196
    assert 0 < results[1]["tokens_a_video"] < 3 * 196 / 4
    assert all(0 <= result["accuracy"] <= 1 for result in results)
    assert [result["legible"] for result in results] == [1, 1]
    plot = ElementTree.fromstring(example.plot(results))
    assert len(plot.findall("{*}polyline")) == 2
    rows = example.table(results).splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| dense", "| 40dB"]
    assert "train_mllm" not in sys.modules


@pytest.mark.slow
def test_ranks_train_and_the_command_asks_what_was_trained(
    example: types.ModuleType, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Under torchrun two ranks take half of each step; `evaluate-qa` finds the accuracy that training found."""
    line = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    line += [str(SCRIPT), str(folder), "--tokens=40dB", "--epochs=1", "--batch-size=4"]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[1])}
    subprocess.run(line, check=True, env=environment, capture_output=True, timeout=300)
    result = json.loads((folder / "40dB-0.json").read_text())
    assert result["steps"] == 2  # 16 videos, 4 on each of 2 ranks

    dense = folder / "dense-val"
    line = ["evaluate-qa", str(folder / "val-questions.jsonl"), "--json", f"--data={dense}"]
    line += [f"--data={folder / '40dB-val'}", f"--model={folder / 'model-40dB-0'}"]
    prompt = example.PROMPT
    assert run([*line, "--prompt", prompt.template, "--frame-text", prompt.frame]) == 0
    found = json.loads(capsys.readouterr().out)["datasets"]
    assert [dataset["selector"] for dataset in found] == ["all", "greedy"]
    assert found[0]["tokens"] == 4 * 3 * 196
    assert set(found[0]["categories"]) <= {"clear", "faint"}
    assert found[1]["accuracy"] >= result["accuracy"]  # training guesses among all words
