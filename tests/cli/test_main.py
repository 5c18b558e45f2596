"""The program as a whole: how it starts, what it imports, how it leaves."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gazepack import __version__
from gazepack.cli.main import cli, run

HEAVY = ("torch", "ray", "pyarrow", "numpy", "av", "pydantic")


@pytest.mark.parametrize("arguments", [["--help"], ["pack", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    """`--help` answers without importing what takes a second to import."""
    code = (
        "import sys\n"
        "from gazepack.cli.main import run\n"
        f"code = run({arguments!r})\n"
        f"print('heavy:', sorted(set({HEAVY!r}) & set(sys.modules)), 'code:', code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("heavy: [] code: 0\n")


def test_the_package_is_the_program() -> None:
    """`python -m gazepack` is `gazepack`, also in its usage lines and exit codes."""
    line = [sys.executable, "-m", "gazepack"]
    done = subprocess.run([*line, "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"gazepack, version {__version__}\n")
    done = subprocess.run([*line, "nonsense"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "No such command 'nonsense'" in done.stderr


@pytest.mark.parametrize(
    ("words", "completed"),
    [("gazepack vie", "plain,view"), ("gazepack pack --selec", "plain,--selector")],
)
def test_the_shell_completes_commands_and_options(words: str, completed: str) -> None:
    """What docs/install.md puts into the shell's start file asks the program, and it answers."""
    asked = {"_GAZEPACK_COMPLETE": "bash_complete", "COMP_WORDS": words}
    environment = {**os.environ, **asked, "COMP_CWORD": str(len(words.split()) - 1)}
    code = "from gazepack.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.stdout.split() == [completed]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """The version is that of the package."""
    assert run(["--version"]) == 0
    assert __version__ in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_command_shows_examples_and_exit_codes(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every command's help has an Example block that names it, and the table of exit codes."""
    assert run([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Example" in text
    assert f"gazepack {name}" in text.split("Example")[1]
    assert "130  interrupted" in text


def test_unknown_command_and_option_are_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    """A typing error ends with 2 and says what there is."""
    assert run(["pakc"]) == 2
    assert "No such command 'pakc'" in capsys.readouterr().err
    assert run(["pack", "--ouy", "x"]) == 2
    assert "No such option" in capsys.readouterr().err


def test_a_bug_is_reported_as_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What no user can cause ends with 1 and asks for a report."""

    def broken(*_: object) -> None:
        raise KeyError("a mistake of ours")

    monkeypatch.setattr("gazepack.formats.DatasetDirectory.open", broken)
    assert run(["info", "anything"]) == 1
    assert "this is a bug; please report it" in capsys.readouterr().err


def test_interruption_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C ends with 130 and one line."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gazepack.formats.DatasetDirectory.open", interrupted)
    assert run(["info", "anything"]) == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_a_second_interruption_ends_at_once() -> None:
    """Ctrl-C again, while the libraries are taken down, ends the process: no traceback, no crash."""
    code = (
        "import atexit, os, signal, sys, time\n"
        "from gazepack.formats import DatasetDirectory\n"
        "def interrupted(*_): raise KeyboardInterrupt\n"
        "DatasetDirectory.open = interrupted\n"
        "sys.argv = ['gazepack', 'info', 'anything']\n"
        "atexit.register(lambda: [os.kill(os.getpid(), signal.SIGINT), time.sleep(60)])\n"
        "from gazepack.cli.main import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGINT
    assert done.stderr.strip().count("\n") == 0
    assert "the same command goes on" in done.stderr


@pytest.mark.parametrize("command", ["info", "status", "verify", "failures", "retry", "clean"])
def test_no_dataset_is_one_line(
    command: str, tmp_path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A place without a dataset is a wrong address, not damage, and the line names what is missing."""
    assert run([command, str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "is not a gazepack dataset: it has no dataset.json; check the address" in error


@pytest.mark.parametrize("command", ["info", "status", "verify", "failures", "retry", "clean"])
def test_a_file_is_no_dataset(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A video named in place of a dataset is told as what it is: a wrong address."""
    (tmp_path / "a.mp4").write_bytes(b"video")
    assert run([command, str(tmp_path / "a.mp4")]) == 2
    assert "a.mp4 is not a gazepack dataset: it has no" in capsys.readouterr().err


def test_a_full_disk_behind_stdout_is_one_line() -> None:
    """What is printed into a file that the disk has no room for ends with 2, not as a bug of ours."""
    with Path("/dev/full").open("wb") as full:
        line = [sys.executable, "-m", "gazepack", "--version"]
        done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr == "gazepack: No space left on device; free some space\n"


def test_a_newer_dataset_is_not_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a newer gazepack wrote ends with 2, and the remedy is to update."""
    (tmp_path / "dataset.json").write_text('{"format": "gazepack", "format_version": 2}')
    assert run(["verify", str(tmp_path)]) == 2
    assert "is newer than 1, the newest this gazepack knows; update" in capsys.readouterr().err


def test_a_dataset_that_lost_its_description_is_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Indices without dataset.json are no wrong address."""
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "000000.parquet").touch()
    assert run(["info", str(tmp_path)]) == 4
    assert "has no dataset.json, though it has indices; restore" in capsys.readouterr().err


def test_the_module_of_the_program_runs_it() -> None:
    """`python -m gazepack.cli.main` does what `python -m gazepack` does."""
    for module in ("gazepack", "gazepack.cli.main"):
        command = [sys.executable, "-m", module, "--version"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout == f"gazepack, version {__version__}\n"


def test_json_is_one_object_on_stdout(tmp_path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Errors do not spoil stdout, so a script can always parse what it gets."""
    assert run(["info", str(tmp_path), "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    with pytest.raises(json.JSONDecodeError, match="Expecting value"):
        json.loads(captured.out)
