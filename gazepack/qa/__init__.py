"""Multiple-choice questions about packed videos, answered by a multimodal model."""

from gazepack.qa.evaluate import (
    Answer,
    Asked,
    Compared,
    Evaluation,
    Score,
    compare,
    evaluate,
    packed_in_all,
)
from gazepack.qa.questions import Question, read_questions
from gazepack.qa.report import to_json, to_table
from gazepack.qa.videos import PackedVideos

__all__ = [
    "Answer",
    "Asked",
    "Compared",
    "Evaluation",
    "PackedVideos",
    "Question",
    "Score",
    "compare",
    "evaluate",
    "packed_in_all",
    "read_questions",
    "to_json",
    "to_table",
]
