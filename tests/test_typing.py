"""The package is typed for those who use it: a user's script passes, and its mistakes are found."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "tests" / "data" / "typed_user.py"
MISTAKES = """import gazepack

gazepack.pack("videos/", "packed/", min_psnr="thirty")
gazepack.pack("videos/", "packed/", min_snr=30)
gazepack.pack("videos/", "packed/", codec="gif")
gazepack.open(3)
gazepack.nonsense
"""


def checked(checker: list[str], script: Path) -> tuple[int, set[int], str]:
    """Return the exit code of a type checker, the lines it complains about, and all it said."""
    done = subprocess.run([*checker, str(script)], cwd=ROOT, capture_output=True, text=True)
    lines = {
        int(line.split(f"{script.name}:")[1].split(":")[0])
        for line in done.stdout.splitlines()
        if f"{script.name}:" in line and "error" in line
    }
    return done.returncode, lines, done.stdout + done.stderr


def checker_of(name: str) -> list[str]:
    """Return the command line of a type checker; skip where it is not installed."""
    if name == "mypy":  # shares the cache with the check of the package
        return [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--config-file",
            str(ROOT / "pyproject.toml"),
        ]
    if shutil.which("pyright") is None:
        pytest.skip("no pyright, which needs node: npm install -g pyright")
    return ["pyright", "--pythonpath", sys.executable]


@pytest.mark.parametrize("name", ["mypy", "pyright"])
def test_a_users_script_is_typed(name: str, tmp_path: Path) -> None:
    """What is right passes in strict mode; each wrong line is found, and no other."""
    checker = checker_of(name)
    code, lines, said = checked(checker, SCRIPT)
    assert (code, lines) == (0, set()), said
    wrong = tmp_path / "wrong.py"
    wrong.write_text(MISTAKES)
    code, lines, said = checked(checker, wrong)
    assert code == 1
    assert lines == {3, 4, 5, 6} | ({7} if "nonsense" in said else set()), said
