"""Pages from templates: one file each, with nothing in it that a browser would fetch.

Everything that comes from a dataset is untrusted text. Jinja2 escapes it, data for scripts are JSON that cannot
close its element, scripts put it into the page as text, and the page's own policy (`default-src 'none'`, the
one script by its hash) lets a browser neither load nor run anything else.
"""

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import BaseLoader, Environment, StrictUndefined, TemplateNotFound

from gazepack import __version__

_FOLDER = files("gazepack.viewing") / "templates"


class _Loader(BaseLoader):
    """Finds the package's own templates."""

    def get_source(self, environment: Environment, template: str) -> tuple[str, str | None, None]:  # noqa: ARG002
        """Return the text of a template."""
        try:
            return read(template), None, None
        except OSError as error:
            raise TemplateNotFound(template) from error


@cache
def read(name: str) -> str:
    """Return the text of one of the package's own page parts."""
    return (_FOLDER / name).read_text(encoding="utf-8")


def render(template: str, *, script: str = "", values: Mapping[str, Any]) -> str:
    """Return a page.

    Args:
        template: its name.
        script: the name of its script; none if empty.
        values: for the template; any text in them is escaped.
    """
    code = read(script) if script else ""
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    environment = Environment(
        loader=_Loader(),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    scripts = f"'sha256-{digest}'" if script else "'none'"
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {scripts}"
    page = environment.get_template(template)
    return page.render(
        **values, policy=policy, style=read("page.css"), script=code, version=__version__
    )
