"""Questions in the layouts of HLVid and Video-MME, and everything that is wrong with others."""

import json
from pathlib import Path
from typing import Any

import pytest

from gazepack.errors import UsageError
from gazepack.qa import read_questions

HLVID = {
    "question_id": 7,
    "category": "street",
    "video_path": "videos/clip_7.mp4",
    "question": "What does the sign say?\nA. Stop\nB. Go: now\nAnswer directly with the letter.",
    "answer": "B",
}
VIDEO_MME = {
    "video_id": "001",
    "videoID": "fFjv93ACGo8",
    "question_id": "001-1",
    "task_type": "Counting Problem",
    "question": "How many apples?",
    "options": ["A. One.", "B. Two.", "C. None of the above."],
    "answer": "C",
}


def write(folder: Path, *rows: Any) -> Path:
    """Write rows, or lines as they are."""
    path = folder / "questions.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_hlvid_is_read(tmp_path: Path) -> None:
    """The options are lines of the question, which is asked as it is."""
    (question,) = read_questions(write(tmp_path, HLVID))
    assert (question.id, question.videos) == ("7", ("videos/clip_7.mp4",))
    assert question.text == HLVID["question"]
    assert (question.options, question.letters) == (("Stop", "Go: now"), "AB")
    assert (question.answer, question.category) == (1, "street")


def test_video_mme_is_read(tmp_path: Path) -> None:
    """The options are a list; they and an instruction follow the question."""
    (question,) = read_questions(write(tmp_path, "", VIDEO_MME))
    assert question.videos == ("fFjv93ACGo8", "001")
    assert question.text == (
        "How many apples?\nA. One.\nB. Two.\nC. None of the above.\n"
        "Answer with the option's letter from the given choices directly."
    )
    assert question.options == ("One.", "Two.", "None of the above.")
    assert (question.answer, question.category) == (2, "Counting Problem")
    assert question.place.endswith("questions.jsonl, line 2")


def test_only_a_newline_ends_a_line(tmp_path: Path) -> None:
    """JSON may hold what Unicode calls the end of a line."""
    row = json.dumps(HLVID | {"category": "a\u2028b"}, ensure_ascii=False)
    assert read_questions(write(tmp_path, row))[0].category == "a\u2028b"


def test_bare_candidates_get_letters(tmp_path: Path) -> None:
    """Options without letters are lettered, also under the name `candidates`."""
    row = {k: v for k, v in VIDEO_MME.items() if k != "options"} | {"candidates": ["x", "y", "z"]}
    (question,) = read_questions(write(tmp_path, row | {"answer": "(b)"}))
    assert "\nA. x\nB. y\nC. z\n" in question.text
    assert question.answer == 1


def test_another_field_groups(tmp_path: Path) -> None:
    """`by` names what questions are counted under, and must be there."""
    path = write(tmp_path, VIDEO_MME | {"duration": "short"})
    assert read_questions(path, by="duration")[0].category == "short"
    with pytest.raises(UsageError, match="line 1: it has no field 'domain'"):
        read_questions(path, by="domain")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["{"], "line 1: it is no JSON"),
        (["[]"], "line 1: it is no JSON object"),
        ([""], "holds no question"),
        ([HLVID, HLVID], r"line 2: the question id '7' occurred before \(.*line 1\)"),
        ([HLVID | {"answer": "C"}], r"line 1: the answer 'C' is none of the letters AB"),
        ([VIDEO_MME | {"answer": "Two."}], r"the answer 'Two\.' is none of the letters ABC"),
        ([HLVID | {"answer": None}], "line 1: answer is None"),
        ([HLVID | {"question_id": " "}], "line 1: question_id is ' '"),
        ([HLVID | {"question": "Why?"}], "line 1: its options have the letters '', not A, B"),
        ([HLVID | {"question": "Why?\nA. x\nC. y"}], "its options have the letters 'AC'"),
        ([VIDEO_MME | {"options": "A. x"}], "line 1: its options are no list of texts"),
        ([VIDEO_MME | {"options": ["x"]}], "its options have the letters 'A', not A, B"),
        (
            [{k: v for k, v in HLVID.items() if k != "video_path"}],
            "line 1: nothing names its video",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, rows: list[Any], message: str) -> None:
    """A question that is not whole is refused, with file, line and value."""
    with pytest.raises(UsageError, match=message):
        read_questions(write(tmp_path, *rows))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """A missing file, and one that is no text."""
    with pytest.raises(UsageError, match=r"missing\.jsonl cannot be read"):
        read_questions(tmp_path / "missing.jsonl")
    (tmp_path / "video.mp4").write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(UsageError, match=r"video\.mp4 cannot be read"):
        read_questions(tmp_path / "video.mp4")
