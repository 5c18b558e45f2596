"""The package is typed for those who use it: a user's script passes, and its mistakes are found."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "tests" / "data" / "typed_user.py"
MISTAKES = """# pyright: standard
import gazepack

gazepack.pack("videos/", "packed/", min_psnr="thirty")
gazepack.pack("videos/", "packed/", min_snr=30)
gazepack.pack("videos/", "packed/", codec="gif")
gazepack.open(3)
"""


def checked(checker: list[str], *scripts: Path) -> tuple[int, set[tuple[str, int]], str]:
    """Return the exit code of a type checker, the files and lines it complains about, and all it said."""
    done = subprocess.run([*checker, *map(str, scripts)], cwd=ROOT, capture_output=True, text=True)
    found = re.findall(r"([\w-]+\.py):(\d+)[^\n]*error", done.stdout)
    return done.returncode, {(name, int(line)) for name, line in found}, done.stdout + done.stderr


def checker_of(name: str) -> list[str]:
    """Return the command line of a type checker."""
    if name == "mypy":  # shares the cache with the check of the package
        return [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--config-file",
            str(ROOT / "pyproject.toml"),
        ]
    # pyright with its node in one wheel; "# pyright: standard" in the scripts asks for pyright's own rules
    return [
        sys.executable,
        "-m",
        "basedpyright",
        "--level",
        "error",
        "--pythonpath",
        sys.executable,
    ]


@pytest.mark.parametrize("name", ["mypy", "pyright"])
def test_a_users_script_is_typed(name: str, tmp_path: Path) -> None:
    """What is right passes in strict mode; each wrong line is found, and no other."""
    wrong = tmp_path / "wrong.py"
    wrong.write_text(MISTAKES)
    code, lines, said = checked(checker_of(name), SCRIPT, wrong)
    assert code == 1, said
    assert lines == {("wrong.py", line) for line in (4, 5, 6, 7)}, said
