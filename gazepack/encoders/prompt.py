"""What stands around a video in the text that a language model reads."""

from dataclasses import dataclass
from typing import Any

from gazepack.errors import UsageError

VIDEO, QUESTION = "{video}", "{question}"
DEFAULT = "{video}\n{question}\nAnswer:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A text with a video in it.

    Raises:
        UsageError: `template` does not hold the video once and then the question once.
    """

    template: str = DEFAULT
    """Holds `{video}`, then `{question}`; the answer follows it."""
    frame: str = ""
    """Stands before the tokens of each frame that has any, with `{number}`, from 0, or `{seconds}` in it."""
    frame_end: str = ""
    """Stands after them."""

    def __post_init__(self) -> None:
        places = [self.template.find(VIDEO), self.template.find(QUESTION)]
        counts = [self.template.count(VIDEO), self.template.count(QUESTION)]
        if counts != [1, 1] or places[0] > places[1]:
            raise UsageError(
                f"the prompt {self.template!r} does not hold {VIDEO} once and then {QUESTION} once",
                remedy=f"write it like {DEFAULT!r}",
            )

    @classmethod
    def of_chat(cls, tokenizer: Any, *, image_token: str, frame: str = "") -> "Prompt":
        """Return the prompt of a tokenizer's chat template; the default where it has none.

        Args:
            tokenizer: of transformers.
            image_token: what the template puts where a picture stands.
            frame: as in the class.
        """
        if not getattr(tokenizer, "chat_template", None):
            return cls(frame=frame)
        content = [{"type": "image"}, {"type": "text", "text": QUESTION}]
        text: str = tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        # the beginning of a text is put there by the tokenizer, as for every prompt
        text = text.removeprefix(tokenizer.bos_token or "")
        return cls(template=text.replace(image_token, VIDEO), frame=frame)

    def around(self, question: str) -> tuple[str, str]:
        """Return the text before the video, and the text after it with the question."""
        before, after = self.template.split(VIDEO)
        return before, after.replace(QUESTION, question)

    def before_frame(self, *, number: int, seconds: float) -> str:
        """Return the text before a frame."""
        return self.frame.replace("{number}", str(number)).replace("{seconds}", f"{seconds:.1f}")

    @property
    def joint(self) -> str:
        """What stands between the prompt and the answer: a space, unless the prompt ends with one."""
        return "" if self.template[-1].isspace() else " "
