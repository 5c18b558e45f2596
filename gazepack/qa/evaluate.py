"""Ask a model questions about packed videos, and count.

Each video is read and encoded once for all its questions. An option's score is the log-probability of its
letter after the prompt, one pass a question; or of its own text, mean over its tokens, one pass an option.
Nothing is generated, so an answer needs no parsing and there is always one.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from math import comb, sqrt
from typing import Literal

import torch

from gazepack.encoders import GazedMllm, Run
from gazepack.errors import UsageError
from gazepack.qa.questions import Question
from gazepack.qa.videos import PackedVideos

Score = Literal["letter", "text"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a model said to a question."""

    question: Question
    """The question."""
    scores: tuple[float, ...]
    """The log-probability of each option."""

    @property
    def chosen(self) -> int:
        """The option of the highest score, the first of equals."""
        return self.scores.index(max(self.scores))

    @property
    def is_right(self) -> bool:
        """Whether it is the answer."""
        return self.chosen == self.question.answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Some answers, counted."""

    right: int
    """How many are right."""
    of: int
    """How many there are."""

    @property
    def accuracy(self) -> float:
        """The share that is right."""
        return self.right / self.of

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's interval of 95 % for the accuracy, questions being independent."""
        z, n, p = 1.959964, self.of, self.accuracy
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
        return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """All answers from one dataset, and what they cost."""

    uri: str
    """The dataset."""
    selector: str
    """Who chose its patches."""
    answers: tuple[Answer, ...]
    """In the order of the questions."""
    num_videos: int
    """Videos that were read."""
    num_tokens: int
    """Tokens of all of them."""
    read_seconds: float
    """Reading and decoding patches."""
    encode_seconds: float
    """Vision tower and projector."""
    answer_seconds: float
    """Language model."""

    @property
    def all(self) -> Asked:
        """All questions."""
        return _count(self.answers)

    def by_category(self) -> dict[str, Asked]:
        """Return the questions of each category, by name; none where the questions have none."""
        names = sorted(
            {a.question.category for a in self.answers if a.question.category is not None}
        )
        return {n: _count([a for a in self.answers if a.question.category == n]) for n in names}


def _count(answers: Sequence[Answer]) -> Asked:
    return Asked(right=sum(answer.is_right for answer in answers), of=len(answers))


def packed_in_all(
    questions: Sequence[Question], datasets: Sequence[PackedVideos], *, skip: bool
) -> list[Question]:
    """Return the questions whose videos are in every dataset.

    Args:
        questions: all of them.
        datasets: where to look.
        skip: leave out the others instead of refusing.

    Raises:
        UsageError: a video is missing somewhere, or all are.
    """
    missing = [(q, d) for q in questions for d in datasets if d.find(q) is None]
    if missing and not skip:
        question, dataset = missing[0]
        more = len({q.id for q, _ in missing}) - 1
        raise UsageError(
            f"{question.place}: the video {question.videos[0]!r} is not packed in {dataset.uri}"
            + (f", nor are those of {more} more questions" if more else ""),
            remedy="pack it, or leave such questions out with --skip-missing",
        )
    lost = {q.id for q, _ in missing}
    left = [q for q in questions if q.id not in lost]
    if not left:
        raise UsageError(
            f"none of the {len(questions)} questions is about a packed video",
            remedy="see `gazepack info` and the ids of the dataset",
        )
    return left


def evaluate(
    model: GazedMllm,
    questions: Sequence[Question],
    videos: PackedVideos,
    *,
    score: Score = "letter",
    progress: Callable[[int], None] = lambda _: None,
) -> Evaluation:
    """Ask all questions about the videos of one dataset.

    Args:
        model: in evaluation mode.
        questions: about packed videos (`packed_in_all`).
        videos: the dataset.
        score: what stands for an option.
        progress: told how many questions were answered, after each video.

    Raises:
        DatasetError: a sample is damaged.
        UsageError: a question is about a video that is not packed, or the tokenizer joins two letters.
    """
    packed_in_all(questions, [videos], skip=False)
    at = sorted(range(len(questions)), key=lambda n: videos.find(questions[n]) or "")
    answers: dict[int, Answer] = {}
    clock = _Clock(model.device)
    num_videos = num_tokens = 0
    for video, run in groupby(at, key=lambda n: videos.find(questions[n]) or ""):
        with torch.inference_mode():
            with clock.on("read"):
                batches = list(videos.read(video))
            with clock.on("encode"):
                packed = model.video(batches)
            for number in run:
                with clock.on("answer"):
                    scores = _scores(model, packed, questions[number], score)
                answers[number] = Answer(question=questions[number], scores=scores)
        num_videos += 1
        num_tokens += sum(batch.num_tokens for batch in batches)
        progress(len(answers))
    return Evaluation(
        uri=videos.uri,
        selector=videos.selector,
        answers=tuple(answers[number] for number in range(len(questions))),
        num_videos=num_videos,
        num_tokens=num_tokens,
        **clock.seconds,
    )


def _scores(model: GazedMllm, video: Run, question: Question, score: Score) -> tuple[float, ...]:
    """Return the score of each option."""
    row = model.row(video, question.text)
    if score == "text":
        return tuple(float(model.log_likelihood(row, text)) for text in question.options)
    ids = model.first_tokens(question.letters)
    return tuple(model.next_token([row])[0].float().log_softmax(-1)[ids].tolist())


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Two datasets, question by question."""

    both: int
    """Questions that were answered rightly from both."""
    only_first: int
    """From the first only."""
    only_second: int
    """From the second only."""
    neither: int
    """From neither."""

    @property
    def p_value(self) -> float:
        """How likely a difference of this size or more is between equals: the exact sign test, two-sided."""
        apart = self.only_first + self.only_second
        tail: int = sum(comb(apart, k) for k in range(min(self.only_first, self.only_second) + 1))
        return min(1.0, float(Fraction(2 * tail, 2**apart)))


def compare(first: Evaluation, second: Evaluation) -> Compared:
    """Compare the answers to the same questions from two datasets."""
    pairs = Counter(
        (a.is_right, b.is_right) for a, b in zip(first.answers, second.answers, strict=True)
    )
    return Compared(
        both=pairs[True, True],
        only_first=pairs[True, False],
        only_second=pairs[False, True],
        neither=pairs[False, False],
    )


class _Clock:
    """Adds up seconds by what they were spent on; waits for a GPU at each border."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.seconds = {"read_seconds": 0.0, "encode_seconds": 0.0, "answer_seconds": 0.0}

    @contextmanager
    def on(self, what: str) -> Iterator[None]:
        """Add the seconds inside."""
        start = self._now()
        yield
        self.seconds[f"{what}_seconds"] += self._now() - start

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()
