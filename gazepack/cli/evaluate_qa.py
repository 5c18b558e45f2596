"""`gazepack evaluate-qa`: does a multimodal model answer as well from gazed video as from dense?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gazepack.cli.options import as_json, epilog, print_json
from gazepack.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from gazepack.qa import Score


@click.command(
    "evaluate-qa",
    epilog=epilog(
        "gazepack evaluate-qa questions.jsonl --model llava/ --data dense/ --data gazed/",
        "gazepack evaluate-qa hlvid.jsonl --model llava/ --data gazed/ --by category --json",
    ),
)
@click.argument("questions", type=click.Path(path_type=Path), metavar="QUESTIONS")
@click.option(
    "--model",
    required=True,
    metavar="PATH|HUB_ID",
    help="LLaVA, Qwen2.5-VL or Qwen3-VL, with its tokenizer, as transformers saves it.",
)
@click.option(
    "--data",
    "uris",
    multiple=True,
    required=True,
    metavar="URI",
    help="Packed dataset with the videos; may be repeated, to compare. One packed with `--selector all` is "
    "the dense video.",
)
@click.option(
    "--preset",
    metavar="NAME",
    help="Read patches as this preset does: attention, windows, normalisation.  [default: the model's own]",
)
@click.option(
    "--attention",
    type=click.Choice(["frame", "block_causal", "causal", "bidirectional"]),
    help="Which tokens see each other in the vision tower.  [default: the preset's, else frame]",
)
@click.option(
    "--prompt",
    metavar="TEXT",
    help="Text with {video}, then {question}.  [default: the tokenizer's chat template, if it has one]",
)
@click.option(
    "--frame-text",
    default="",
    metavar="TEXT",
    help="Text before the tokens of each frame, with {number} or {seconds}.  [default: none]",
)
@click.option(
    "--score",
    type=click.Choice(["letter", "text"]),
    default="letter",
    show_default=True,
    help="Judge options by the log-probability of their letter, or by the mean one of their text's tokens.",
)
@click.option(
    "--by", metavar="FIELD", help="Count by this field.  [default: category or task_type]"
)
@click.option(
    "--max-tokens-per-frame", type=int, help="Keep the first so many tokens of each frame."
)
@click.option(
    "--skip-missing", is_flag=True, help="Leave out questions whose video is not packed everywhere."
)
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@as_json
def evaluate_qa(
    questions: Path,
    model: str,
    uris: tuple[str, ...],
    preset: str | None,
    attention: str | None,
    prompt: str | None,
    frame_text: str,
    score: Score,
    by: str | None,
    max_tokens_per_frame: int | None,
    skip_missing: bool,
    device: str,
    as_json: bool,
) -> None:
    """Ask a model the multiple-choice QUESTIONS (JSON lines in the layout of HLVid or Video-MME).

    Each dataset answers the same questions. Printed are its accuracy with an interval of 95 %, its tokens and
    seconds, the same by category, and how any two datasets differ, question by question. Nothing is generated:
    the option of the highest log-probability is the answer.
    """
    from gazepack.autogaze.devices import find_device
    from gazepack.encoders import GazedMllm
    from gazepack.encoders import preset as find_preset
    from gazepack.qa import (
        PackedVideos,
        evaluate,
        packed_in_all,
        read_questions,
        to_json,
        to_table,
    )

    encoder: dict[str, Any] = dict(find_preset(preset).encoder) if preset else {}
    encoder |= {"attention": attention} if attention else {}
    asked = read_questions(questions, by=by)
    datasets = [PackedVideos(uri, max_tokens_per_frame=max_tokens_per_frame) for uri in uris]
    kept = packed_in_all(asked, datasets, skip=skip_missing)
    if len(kept) < len(asked):
        left = counted(len(asked) - len(kept), "question")
        click.echo(f"left out: {left} of missing videos", err=True)
    encoder.pop("hidden_state", None)  # the model says itself which it takes
    mllm = GazedMllm.from_pretrained(
        model, device=find_device(device), template=prompt, frame=frame_text, **encoder
    )
    evaluations = [
        evaluate(mllm, kept, dataset, score=score, progress=_teller(dataset.uri, len(kept)))
        for dataset in datasets
    ]
    if as_json:
        print_json(to_json(evaluations))
    else:
        click.echo(to_table(evaluations), nl=False)


def _teller(uri: str, total: int) -> Callable[[int], None]:
    """Return what prints how far a dataset is, ten times."""
    told = 0

    def tell(answered: int) -> None:
        nonlocal told
        if answered * 10 // total > told:
            told = answered * 10 // total
            click.echo(f"{uri}: {answered} of {total} questions", err=True)

    return tell
