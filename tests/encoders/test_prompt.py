"""What stands around a video."""

from collections.abc import Callable
from typing import Any

import pytest

from gazepack.encoders import Prompt
from gazepack.errors import UsageError


def test_a_question_goes_to_its_place() -> None:
    """Text, video, text, with braces of a question left as they are."""
    prompt = Prompt(template="USER: {video}\n{question} ASSISTANT:", frame="<{seconds} s>")
    assert prompt.around("{video} or {x}?") == ("USER: ", "\n{video} or {x}? ASSISTANT:")
    assert prompt.before_frame(number=3, seconds=1.25) == "<1.2 s>"
    assert (prompt.joint, Prompt(template="{video}{question}\n").joint) == (" ", "")


@pytest.mark.parametrize("template", ["{video}", "{question} {video}", "{video}{video}{question}"])
def test_a_prompt_holds_video_and_question_once(template: str) -> None:
    """Any other is refused."""
    with pytest.raises(
        UsageError, match=r"does not hold \{video\} once and then \{question\} once"
    ):
        Prompt(template=template)


def test_a_chat_template_is_the_prompt(little_llava: Callable[..., tuple[Any, Any]]) -> None:
    """The picture of a chat template is where the video stands; its first token is left to the tokenizer."""
    _, tokenizer = little_llava()
    assert Prompt.of_chat(tokenizer, image_token="<video>") == Prompt()
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}USER: {% for c in m['content'] %}"
        "{{ '<video>\n' if c['type'] == 'image' else c['text'] }}{% endfor %} ASSISTANT:{% endfor %}"
    )
    prompt = Prompt.of_chat(tokenizer, image_token="<video>", frame="{number}")
    assert prompt == Prompt(template="USER: {video}\n{question} ASSISTANT:", frame="{number}")
