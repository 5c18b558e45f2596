"""Multiple-choice questions from a JSONL file, in the layout of HLVid or of Video-MME.

    HLVid       question_id, category, video_path, question (its options are its last lines), answer
    Video-MME   question_id, task_type, videoID, video_id, question, options, answer

Options are "A. text" or bare texts; `candidates` is taken for `options`. An answer is the letter of an option.
"""

import json
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gazepack.errors import UsageError

VIDEO_FIELDS = ("video_path", "videoID", "video", "video_id")
"""What may name the video, the most exact first."""
CATEGORY_FIELDS = ("category", "task_type")
"""What groups questions, unless another field is asked for."""
_OPTION = re.compile(r"\s*\(?([A-Z])[.):]\s*(.*\S)\s*")
_DIRECTLY = "Answer with the option's letter from the given choices directly."


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question about one video."""

    id: str
    """Its own name, unique."""
    videos: tuple[str, ...]
    """What the file calls the video, the most exact first."""
    text: str
    """As the model is asked, options included."""
    options: tuple[str, ...]
    """Their texts, without letters."""
    answer: int
    """Which of them is right."""
    category: str | None
    """What it is counted under, besides all."""
    place: str
    """File and line, for messages."""

    @property
    def letters(self) -> str:
        """The letters of the options."""
        return string.ascii_uppercase[: len(self.options)]


def read_questions(path: Path, *, by: str | None = None) -> list[Question]:
    """Read all questions of a file.

    Args:
        path: JSON lines.
        by: the field that groups them; `category` or `task_type` where None, if the file has one.

    Raises:
        UsageError: the file cannot be read or holds no question, or a question is not whole; says which.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the questions {path} cannot be read: {error}", remedy="give a JSONL file"
        ) from error
    questions: dict[str, Question] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        question = _question(line, place=f"{path}, line {number}", by=by)
        if question.id in questions:
            raise UsageError(
                f"{question.place}: the question id {question.id!r} occurred before "
                f"({questions[question.id].place})",
                remedy="give every question its own question_id",
            )
        questions[question.id] = question
    if not questions:
        raise UsageError(f"{path} holds no question", remedy="give one JSON object a line")
    return list(questions.values())


def _question(line: str, *, place: str, by: str | None) -> Question:
    """Read one line."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{place}: it is no JSON: {error}", remedy="give one JSON object a line"
        ) from None
    if not isinstance(row, dict):
        raise UsageError(f"{place}: it is no JSON object", remedy="give one JSON object a line")
    text, options = _options(row, place)
    category = next((row[name] for name in ([by] if by else CATEGORY_FIELDS) if name in row), None)
    if by and category is None:
        raise UsageError(
            f"{place}: it has no field {by!r}", remedy="name another with --by, or leave --by out"
        )
    return Question(
        id=_text(row, "question_id", place),
        videos=_videos(row, place),
        text=text,
        options=options,
        answer=_answer(_text(row, "answer", place), options, place),
        category=None if category is None else str(category),
        place=place,
    )


def _text(row: dict[str, Any], name: str, place: str) -> str:
    """Return a field that must be there; numbers are taken for ids."""
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise UsageError(f"{place}: {name} is {value!r}", remedy=f"every question needs a {name}")
    return str(value).strip()


def _videos(row: dict[str, Any], place: str) -> tuple[str, ...]:
    """Return what names the video."""
    names = [_text(row, name, place) for name in VIDEO_FIELDS if name in row]
    if not names:
        raise UsageError(
            f"{place}: nothing names its video", remedy=f"give one of {', '.join(VIDEO_FIELDS)}"
        )
    return tuple(names)


def _options(row: dict[str, Any], place: str) -> tuple[str, tuple[str, ...]]:
    """Return the text to ask and the options, from their own field or from lines of the question."""
    question = _text(row, "question", place)
    listed = row.get("options", row.get("candidates"))
    if listed is None:
        found = [match for line in question.splitlines() if (match := _OPTION.fullmatch(line))]
        return question, _lettered([match.groups() for match in found], place)
    if not isinstance(listed, list) or not all(isinstance(option, str) for option in listed):
        raise UsageError(
            f"{place}: its options are no list of texts", remedy='give ["A. ...", ...]'
        )
    matches = [_OPTION.fullmatch(option) for option in listed]
    if all(matches):
        options = _lettered([match.groups() for match in matches if match], place)
    else:
        options = _lettered(list(zip(string.ascii_uppercase, listed, strict=False)), place)
    lines = [
        f"{letter}. {text}" for letter, text in zip(string.ascii_uppercase, options, strict=False)
    ]
    return "\n".join([question, *lines, _DIRECTLY]), options


def _lettered(found: Sequence[tuple[str | Any, ...]], place: str) -> tuple[str, ...]:
    """Return the texts of options whose letters run from A."""
    letters = "".join(letter for letter, _ in found)
    if not 2 <= len(letters) <= 26 or letters != string.ascii_uppercase[: len(letters)]:
        raise UsageError(
            f"{place}: its options have the letters {letters!r}, not A, B, ...",
            remedy="give them in a field options, or as lines 'A. text' of the question",
        )
    return tuple(text for _, text in found)


def _answer(answer: str, options: tuple[str, ...], place: str) -> int:
    """Return which option an answer's letter names."""
    letters = string.ascii_uppercase[: len(options)]
    letter = answer.strip("().").upper()
    if len(letter) != 1 or letter not in letters:
        raise UsageError(
            f"{place}: the answer {answer!r} is none of the letters {letters}",
            remedy="give the letter of the right option",
        )
    return letters.index(letter)
