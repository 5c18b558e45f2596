"""The command, and what it counts, on videos packed dense and gazed and a model of random weights."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gazepack.cli.main import run
from gazepack.encoders import GazedMllm
from gazepack.errors import UsageError
from gazepack.loader import GazeDataset
from gazepack.qa import (
    Answer,
    Asked,
    Compared,
    PackedVideos,
    Question,
    compare,
    evaluate,
    packed_in_all,
    read_questions,
)
from gazepack.video import write_video

TEMPLATE = "{video} {question} Answer :"


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, little_llava: Callable[..., tuple[Any, Any]]
) -> Path:
    """Five videos, packed `dense/` and `gazed/`, a model in `llava/`, seven questions about three of them."""
    path = tmp_path_factory.mktemp("qa")
    for name in ("day", "night"):
        (path / "videos" / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number, name in enumerate(("one", "two", "night/three", "day/x", "night/x")):
        frames = rng.integers(0, 256, ((2, 3, 18, 1, 1)[number], 4, 4, 3), dtype=np.uint8)
        frames = frames.repeat(14, 1).repeat(14, 2)
        write_video(path / "videos" / f"{name}.mp4", list(frames), fps=2)
    for name, options in {
        "dense": ["all"],
        "gazed": ["greedy", "--min-psnr", "26", "--max-sample-tokens", "100"],
    }.items():
        line = ["pack", str(path / "videos"), "--out", str(path / name), "--selector", *options]
        assert run([*line, "--patch-size", "4", "--fit", "square", "--executor", "serial"]) == 0
    model, tokenizer = little_llava()
    model.save_pretrained(path / "llava")
    tokenizer.save_pretrained(path / "llava")
    rows = [
        {
            "question_id": number,
            "videoID": ("one", "two", "three")[number % 3],
            "task_type": ("colour", "number")[number % 2],
            "question": "which one then",
            "options": ["A. red", "B. blue", "C. the red", "D. one"],
            "answer": "ABCD"[number % 4],
        }
        for number in range(7)
    ]
    (path / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def mllm(folder: Path) -> GazedMllm:
    return GazedMllm.from_pretrained(str(folder / "llava"), template=TEMPLATE)


@pytest.fixture
def questions(folder: Path) -> list[Question]:
    return read_questions(folder / "questions.jsonl")


def command(folder: Path, *options: str) -> list[str]:
    """Return a command line with the questions and the model."""
    start = ["evaluate-qa", str(folder / "questions.jsonl"), "--model", str(folder / "llava")]
    return [*start, "--prompt", TEMPLATE, *options]


def test_the_command_prints_one_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A row for each dataset, one for each category, and how the two differ."""
    both = [f"--data={folder / name}" for name in ("dense", "gazed")]
    assert run(command(folder, *both)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[1:3] for line in lines[2:4]] == [["all", "7"], ["greedy", "7"]]
    assert [line.split(" | ")[:2] for line in lines[7:9]] == [["| colour", "4"], ["| number", "3"]]
    assert "dense against" in lines[-1]
    assert "sign test p = " in lines[-1]


def test_json_has_every_answer(
    folder: Path, mllm: GazedMllm, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each answer is the letter of the largest logit, as the batched model gives it; tokens are counted."""
    assert run(command(folder, f"--data={folder / 'dense'}", "--json")) == 0
    found = json.loads(capsys.readouterr().out)["datasets"][0]
    assert found["tokens"] == (2 + 3 + 18) * 196
    assert (found["videos"], found["questions"]) == (3, 7)
    data = GazeDataset(folder / "dense", batch_size=5, shuffle=False)
    batch = next(iter(data))
    text = read_questions(folder / "questions.jsonl")[0].text
    with torch.inference_mode():
        logs = mllm(batch, [text] * 5).log_softmax(-1)[:, mllm.first_tokens("ABCD")]
    of = {Path(meta["id"]).stem: logs[n] for n, meta in enumerate(batch.meta)}
    for number, answer in enumerate(found["answers"]):
        expected = of[("one", "two", "three")[number % 3]]
        torch.testing.assert_close(torch.tensor(answer["log_probabilities"]), expected)
        assert answer["chosen"] == "ABCD"[int(expected.argmax())]
    right = [answer["chosen"] == answer["answer"] for answer in found["answers"]]
    assert (found["right"], found["accuracy"]) == (sum(right), sum(right) / 7)
    assert sum(c["right"] for c in found["categories"].values()) == sum(right)


@pytest.mark.parametrize("name", ["qwen2.5-vl", "qwen3-vl"])
def test_qwen_is_asked_too(
    folder: Path,
    little_qwen: Callable[[str], tuple[Any, Any]],
    name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By its own chat template: answers are those of the whole model, of a video in two samples too."""
    model, tokenizer = little_qwen(name)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    line = ["evaluate-qa", str(folder / "questions.jsonl"), "--model", str(tmp_path), "--json"]
    assert run([*line, *(f"--data={folder / data}" for data in ("dense", "gazed"))]) == 0
    found = json.loads(capsys.readouterr().out)["datasets"]
    assert [dataset["questions"] for dataset in found] == [7, 7]
    mllm = GazedMllm(model, tokenizer=tokenizer)
    letters = mllm.first_tokens("ABCD")
    gazed = PackedVideos(str(folder / "gazed"))
    text = read_questions(folder / "questions.jsonl")[0].text
    for number, video in enumerate(("one.mp4", "two.mp4", "night/three.mp4")):
        with torch.inference_mode():
            row = mllm.row(mllm.video(list(gazed.read(video))), text)
            expected = mllm.next_token([row])[0].log_softmax(-1)[letters]
        actual = torch.tensor(found[1]["answers"][number]["log_probabilities"])
        torch.testing.assert_close(actual, expected)


def test_options_may_be_judged_by_their_text(
    folder: Path, mllm: GazedMllm, questions: list[Question]
) -> None:
    """`text` scores what `log_likelihood` says of each option."""
    gazed = PackedVideos(str(folder / "gazed"))
    (answer,) = evaluate(mllm, questions[:1], gazed, score="text").answers
    with torch.inference_mode():
        (batch,) = gazed.read("one.mp4")
        row = mllm.row(mllm.video([batch]), questions[0].text)
        expected = [float(mllm.log_likelihood(row, text)) for text in questions[0].options]
    assert answer.scores == pytest.approx(expected)


def test_dials_cut_the_tokens(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A smaller budget a frame reads fewer tokens."""
    line = command(folder, f"--data={folder / 'gazed'}", "--max-tokens-per-frame=2", "--json")
    assert run(line) == 0
    assert json.loads(capsys.readouterr().out)["datasets"][0]["tokens"] <= 2 * (2 + 3 + 18)


def test_a_long_video_is_read_sample_by_sample(folder: Path) -> None:
    """Samples that follow each other are one video, in the order of time."""
    gazed = PackedVideos(str(folder / "gazed"))
    batches = list(gazed.read("night/three.mp4"))
    times = [time for batch in batches for time in batch.meta[0]["views"][0]["times"]]
    assert [len(batch.meta[0]["views"][0]["times"]) for batch in batches] == [16, 2]
    assert times == sorted(times)


@pytest.mark.parametrize("name", ["two.mp4", "elsewhere/two.mp4", "two", "x/two.mkv"])
def test_a_video_is_found_by_any_of_its_names(
    folder: Path, questions: list[Question], name: str
) -> None:
    """Its id, a path that ends like it, its name without ending."""
    videos = PackedVideos(str(folder / "gazed"))
    assert videos.find(replace(questions[0], videos=(name,))) == "two.mp4"
    assert videos.find(replace(questions[0], videos=("four", name))) == "two.mp4"
    assert videos.find(replace(questions[0], videos=("four",))) is None


def test_a_name_that_fits_two_videos_is_refused(folder: Path, questions: list[Question]) -> None:
    """Nobody guesses which one was meant; the exact id is still found."""
    videos = PackedVideos(str(folder / "gazed"))
    with pytest.raises(
        UsageError, match=r"'x\.mp4' may be any of \['day/x\.mp4', 'night/x\.mp4'\]"
    ):
        videos.find(replace(questions[0], videos=("x.mp4",)))
    assert videos.find(replace(questions[0], videos=("night/x.mp4",))) == "night/x.mp4"


def test_missing_videos_are_refused_or_left_out(folder: Path, questions: list[Question]) -> None:
    """One line names the first and counts the others; `skip` asks the rest; nothing left is refused too."""
    videos = [PackedVideos(str(folder / name)) for name in ("dense", "gazed")]
    lost = [replace(q, videos=("four",)) for q in questions[:2]] + questions[2:]
    with pytest.raises(
        UsageError, match=r"line 1: the video 'four' is not packed in .*dense, nor .* of 1 more"
    ):
        packed_in_all(lost, videos, skip=False)
    assert packed_in_all(lost, videos, skip=True) == questions[2:]
    with pytest.raises(UsageError, match="none of the 2 questions is about a packed video"):
        packed_in_all(lost[:2], videos, skip=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data=nowhere"], "nowhere"),
        (["--model=nowhere", "--data={dense}"], "there is no folder 'nowhere' with a model; name"),
        (["--prompt=why?", "--data={dense}"], "the prompt 'why?' does not hold"),
        (["--preset=vit", "--data={dense}"], "there is no preset 'vit'"),
        (["--device=tpu", "--data={dense}"], "unknown device 'tpu'"),
        (["--preset=dinov2-p14", "--by=domain", "--data={dense}"], "it has no field 'domain'"),
    ],
)
def test_bad_input_is_one_line(
    folder: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever a user gets wrong ends with 2 or 4, one line and no traceback."""
    assert run(command(folder, *(o.format(dense=folder / "dense") for o in options))) in (2, 4)
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert len(error.strip().splitlines()) == 1


def test_an_interval_is_wilsons() -> None:
    """8 of 10: 49.0 % to 94.3 %; all of 10 is not certain, nor is none."""
    assert Asked(right=8, of=10).interval == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert Asked(right=10, of=10).interval == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert Asked(right=0, of=10).interval == pytest.approx((0.0, 0.2775), abs=1e-4)


def test_two_datasets_are_compared_question_by_question(
    folder: Path, mllm: GazedMllm, questions: list[Question]
) -> None:
    """Each pair of answers is counted once; the sign test looks at those that differ."""
    first = evaluate(mllm, questions, PackedVideos(str(folder / "gazed")))
    says = [(0, 0), (0, 1), (0, 1), (1, 0), (1, 1), (0, 1), (0, 0)]  # wrong, right

    def answered(which: int) -> Any:
        answers = []
        for question, pair in zip(questions, says, strict=True):
            scores = [0.0] * 4
            scores[question.answer if pair[which] else (question.answer + 1) % 4] = 1.0
            answers.append(Answer(question=question, scores=tuple(scores)))
        return replace(first, answers=tuple(answers))

    compared = compare(answered(0), answered(1))
    assert compared == Compared(both=1, only_first=1, only_second=3, neither=2)
    assert compared.p_value == pytest.approx(2 * (1 + 4) / 16)
    assert Compared(both=1, only_first=0, only_second=0, neither=2).p_value == 1
