"""The fuzzing harness itself, and a few thousand inputs of it."""

import importlib.util
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parent
HOSTS = Path("/etc/hosts")


@pytest.fixture(scope="module")
def targets() -> ModuleType:
    """The module, which watches this process only while a target runs."""
    spec = importlib.util.spec_from_file_location("fuzz_targets", FOLDER / "targets.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_seed_goes_through_its_target_whole_and_damaged(targets: ModuleType) -> None:
    """What a fuzzer begins from is read or refused, and so is the simplest damage to it."""
    assert len(targets.TARGETS) == 15
    for name in targets.TARGETS:
        for seed in targets.seeds(name)[:4]:
            half = len(seed) // 2
            for data in (seed, seed[:half], b"", seed[:half] + b"\xff" * 8 + seed[half + 8 :]):
                targets.run_once(name, data)


def connect() -> None:
    """Go to a port of this machine where nobody is."""
    with socket.socket() as client:
        client.connect(("127.0.0.1", 9))


@pytest.mark.parametrize(
    "act",
    [
        HOSTS.read_bytes,
        lambda: HOSTS.open("ab"),
        lambda: pickle.loads(pickle.dumps(print)),  # noqa: S301
        lambda: subprocess.run(["true"], check=False),
        connect,
    ],
)
def test_the_watch_sees_what_no_reader_may_do(
    act: Callable[[], object], targets: ModuleType
) -> None:
    """Files elsewhere, unpickling, programs and connections are findings, and only while a target runs."""
    with pytest.raises(targets.ForbiddenError), targets.watched():
        act()
    assert HOSTS.read_bytes()


def fuzz(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Run the program on a target for two seconds."""
    pytest.importorskip("atheris", reason="no fuzzer: pip install atheris")
    line = [sys.executable, *arguments, "--seconds", "2"]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=600)


def test_a_moment_of_fuzzing_finds_nothing(tmp_path: Path) -> None:
    """Two seconds guided by coverage; `python tests/fuzz/run.py all` goes through every target."""
    done = fuzz([str(FOLDER / "run.py"), "rows", "--found", str(tmp_path)])
    assert done.returncode == 0, done.stderr[-2000:]
    assert "stat::number_of_executed_units" in done.stderr


def test_a_finding_ends_the_fuzzer(tmp_path: Path) -> None:
    """An error that is not gazepack's own leaves with a code that is not 0, and the input is kept."""
    program = tmp_path / "run.py"
    program.write_text((FOLDER / "run.py").read_text())
    faulty = "TARGETS = {'bad': None}\ndef seeds(_):\n    return [b'seed']\n"
    faulty += "def run_once(_, data):\n    if len(data) > 4: raise KeyError('found')\n"
    (tmp_path / "targets.py").write_text(faulty)
    done = fuzz([str(program), "bad", "--found", str(tmp_path)])
    assert (done.returncode != 0, "KeyError" in done.stdout + done.stderr) == (True, True)
    assert list(tmp_path.glob("bad-crash-*"))
