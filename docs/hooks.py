"""For the site alone: a link from a page to a file of the repository becomes its text."""

import re
from typing import Any

_OUTSIDE = re.compile(
    r"\[([^\]]+)\]\((?:\.\./)+(?!docs/|results/|images/|how-to/)[^)]*\.(?:py|yaml|toml)\)"
)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return a page for the site."""
    return _OUTSIDE.sub(r"\1", markdown)
