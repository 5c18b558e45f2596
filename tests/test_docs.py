"""The documents cannot lie: their commands and code run here, and the command reference is generated."""

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from gazepack.cli.main import cli, run
from gazepack.video import write_video
from gazepack.video.scenes import SCENES

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "cli.md"
PAGES = sorted(
    str(path.relative_to(ROOT)) for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
)
_BLOCK = re.compile(r"(<!-- not run: .+? -->\n)?```(bash|python)\n(.*?)```", re.DOTALL)
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
