"""Evaluations as a table for people and as JSON."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from gazepack.qa.evaluate import Asked, Evaluation, compare


def to_table(evaluations: Sequence[Evaluation]) -> str:
    """Return Markdown: a row for each dataset, a row for each category, and how each two differ."""
    lines = [
        "| data | selector | questions | accuracy (95 %) | tokens a video | read s | encode s | answer s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {e.uri} | {e.selector} | {e.all.of} | {_accuracy(e.all)} | {e.num_tokens / e.num_videos:.1f} "
        f"| {e.read_seconds:.1f} | {e.encode_seconds:.1f} | {e.answer_seconds:.1f} |"
        for e in evaluations
    ]
    categories = evaluations[0].by_category()
    if categories:
        lines += ["", "| category | questions |" + "".join(f" {e.uri} |" for e in evaluations)]
        lines += ["|---|---|" + "---|" * len(evaluations)]
    for name, asked in categories.items():
        cells = [_accuracy(e.by_category()[name]) for e in evaluations]
        lines += [f"| {name} | {asked.of} | {' | '.join(cells)} |"]
    for a, b in combinations(evaluations, 2):
        c = compare(a, b)
        lines += [
            "",
            f"{a.uri} against {b.uri}: both right {c.both}, only the first {c.only_first}, only the second "
            f"{c.only_second}, neither {c.neither}; sign test p = {c.p_value:.2g}",
        ]
    return "\n".join(lines) + "\n"


def _accuracy(asked: Asked) -> str:
    low, high = asked.interval
    return f"{asked.accuracy:.1%} ({low:.1%} to {high:.1%})"


def to_json(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """Return all that was found, down to each answer."""
    return {
        "datasets": [_one(evaluation) for evaluation in evaluations],
        "compared": [
            {
                "first": a.uri,
                "second": b.uri,
                "both": (c := compare(a, b)).both,
                "only_first": c.only_first,
                "only_second": c.only_second,
                "neither": c.neither,
                "p_value": c.p_value,
            }
            for a, b in combinations(evaluations, 2)
        ],
    }


def _one(evaluation: Evaluation) -> dict[str, Any]:
    """Return one dataset's."""
    return {
        "data": evaluation.uri,
        "selector": evaluation.selector,
        **_asked(evaluation.all),
        "videos": evaluation.num_videos,
        "tokens": evaluation.num_tokens,
        "read_seconds": evaluation.read_seconds,
        "encode_seconds": evaluation.encode_seconds,
        "answer_seconds": evaluation.answer_seconds,
        "categories": {name: _asked(asked) for name, asked in evaluation.by_category().items()},
        "answers": [
            {
                "question_id": answer.question.id,
                "chosen": answer.question.letters[answer.chosen],
                "answer": answer.question.letters[answer.question.answer],
                "log_probabilities": list(answer.scores),
            }
            for answer in evaluation.answers
        ],
    }


def _asked(asked: Asked) -> dict[str, Any]:
    """Return counts."""
    return {
        "questions": asked.of,
        "right": asked.right,
        "accuracy": asked.accuracy,
        "interval": list(asked.interval),
    }
