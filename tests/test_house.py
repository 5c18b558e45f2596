"""The frame of the house: links, layers at run time, versions, and what is nowhere used."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import gazepack

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "gazepack").rglob("*.py"))


@pytest.mark.parametrize("name", ["cli", "formats", "jobs"])
def test_top_level_names_are_relative_links(name: str) -> None:
    """cli, formats and jobs at the top are links into the package, so each file exists once."""
    link = ROOT / name
    assert link.is_symlink()
    assert str(link.readlink()) == f"gazepack/{name}"


@pytest.mark.parametrize("module", ["gazepack.loader", "gazepack.formats"])
def test_reading_loads_no_decoder_network_or_cluster(module: str) -> None:
    """What only reads imports neither av nor ray nor the network, also not on a detour."""
    code = (
        f"import sys, {module}\n"
        "print(sorted({'av', 'ray', 'gazepack.autogaze', 'gazepack.video'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_are_there_and_others_are_not() -> None:
    """`gazepack.X` works for every public name, and says so for any other."""
    for name in gazepack.__all__:
        assert getattr(gazepack, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = gazepack.nonsense


def test_bounds_are_lower_and_versions_are_tested() -> None:
    """The project pins nothing but lower bounds; constraints.txt has a version of every direct dependency."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        line
        for lines in (project["dependencies"], *project["optional-dependencies"].values())
        for line in lines
        if not line.startswith("gazepack[")  # extras made of extras
    ]
    tested = {
        re.split(r"[=<>]", line)[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    }
    for requirement in (line.partition(";")[0] for line in wanted):
        assert re.fullmatch(r"[A-Za-z0-9_.\[\]-]+>=[0-9.]+", requirement), requirement
        name = re.split(r"[\[>]", requirement)[0].lower().replace("_", "-")
        assert name in tested, f"{name} has no tested version"


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_untrusted_bytes_never_reach_pickle_eval_or_a_shell(source: Path) -> None:
    """No file of the package names what could run what it reads."""
    text = source.read_text()
    imports = r"(import|from) +(pickle|marshal|shelve)\b"
    calls = r"(?<!\.)\b(eval|exec)\(|torch\.load\(|os\.system\("
    switches = r"shell=True|allow_pickle=True"
    code = re.sub(r'""".*?"""|#[^\n]*', "", text, flags=re.DOTALL)
    assert not re.search(f"{imports}|{calls}|{switches}", code)
