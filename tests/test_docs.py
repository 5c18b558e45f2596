"""The documents cannot lie: their commands and code run here, and the command reference is generated."""

import inspect
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import gazepack
from gazepack.cli.main import cli, run
from gazepack.video import write_video
from gazepack.video.scenes import SCENES

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "cli.md"
PAGES = sorted(
    str(path.relative_to(ROOT)) for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
)
_BLOCK = re.compile(r"(<!-- not run: .+? -->\n)?[ ]*```(bash|python)\n(.*?)```", re.DOTALL)
_ELSEWHERE = ("make ", "pip ", "python ", "torchrun ", "git ", "cd ")
"""What a block may hold beside gazepack's own commands: run by CI itself, or by the benchmarks."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `videos/` of two scenes, packed into `packed/`."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "videos").mkdir()
    for name in ("objects", "screen"):
        frames = SCENES[name](320, 180, 20, 0)
        write_video(folder / "videos" / f"{name}.mp4", frames, fps=10)
    (folder / "manifest.csv").write_text("path,id,caption\nvideos/objects.mp4,one,balls\n")
    assert run(["pack", f"{folder}/videos", "--out", f"{folder}/packed", "--min-psnr", "30"]) == 0
    return folder


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_code_run(
    page: str, corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every bash line that is a gazepack command ends with 0, every python block runs, from top to bottom."""
    monkeypatch.chdir(corpus)
    names: dict[str, object] = {"__name__": "docs"}
    for skipped, language, block in _BLOCK.findall((ROOT / page).read_text()):
        if skipped:
            continue
        block = textwrap.dedent(block)  # of a list
        if language == "python":
            exec(compile(block, f"{page}", "exec"), names)  # our own documents
            continue
        for line in block.replace("\\\n", " ").splitlines():
            command = shlex.split(line, comments=True)
            if command and command[0] == "gazepack":
                assert run(command[1:]) == 0, f"{line}: {capsys.readouterr().err}"
            else:
                assert not command or line.startswith(_ELSEWHERE), f"{line!r} is not run by anyone"


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    """Every relative link names a file of the repository."""
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}"


def reference() -> str:
    """Return the command reference: what `--help` prints, command by command."""
    parts = [
        "# Commands\n\nWhat `gazepack COMMAND --help` prints; written by `tests/test_docs.py`.\n"
    ]
    for name, command in commands(cli, "gazepack"):
        context = click.Context(command, info_name=name, max_content_width=100)
        context.help_option_names = ["-h", "--help"]
        parts.append(f"## {name}\n\n```text\n{command.get_help(context).rstrip()}\n```\n")
    return "\n".join(parts)


def commands(group: click.Group, prefix: str) -> Iterator[tuple[str, click.Command]]:
    """Yield every command below a group with its full name, groups before what is in them."""
    for name, command in sorted(group.commands.items()):
        yield f"{prefix} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix} {name}")


def test_command_reference_is_current() -> None:
    """docs/cli.md is what the program says of itself; GAZEPACK_WRITE_DOCS=1 writes it anew."""
    if os.environ.get("GAZEPACK_WRITE_DOCS"):
        REFERENCE.write_text(reference())
    assert REFERENCE.read_text() == reference()


def signature(name: str) -> str:
    """What stands below a name's heading: its parameters without their types."""
    found = getattr(gazepack, name)
    if isinstance(found, str) or name == "PackOptions":
        return name
    signature = inspect.signature(found)
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return name + str(signature.replace(parameters=bare, return_annotation=signature.empty))


@pytest.mark.parametrize("name", gazepack.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    """docs/api.md has each name with its signature and an example, which the tests above run."""
    sections = re.split(r"^## ", (ROOT / "docs" / "api.md").read_text(), flags=re.MULTILINE)
    (section,) = [part for part in sections if part.split("\n")[0].replace("\\", "") == name]
    assert "```python\n" in section
    if name == "__version__":
        return
    (said,) = re.findall(r"```text\n(.*?)\n```", section)
    assert said in (signature(name), f"{name}(...)", f"{name}(uri, ...)")
    assert getattr(gazepack, name).__doc__


def test_the_site_is_built(tmp_path: Path) -> None:
    """Mkdocs builds every page without a warning: no page is missing, and links and anchors lead somewhere."""
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    pages = {path.relative_to(ROOT / "docs").with_suffix("") for path in ROOT.glob("docs/**/*.md")}
    for page in pages:
        built = tmp_path / page / "index.html" if page.name != "index" else tmp_path / "index.html"
        assert built.is_file(), page


def test_every_page_is_in_the_contents() -> None:
    """The site's navigation names every page."""
    contents = (ROOT / "mkdocs.yml").read_text()
    for path in ROOT.glob("docs/**/*.md"):
        assert f"- {path.relative_to(ROOT / 'docs')}\n" in contents
