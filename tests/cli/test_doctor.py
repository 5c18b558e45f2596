"""`gazepack doctor` tries things for real: Ray starts, objects are put and deleted."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gazepack.cli.main import run
from gazepack.jobs import doctor
from gazepack.jobs.doctor import Check, examine

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the check that takes ten seconds, for tests of another one."""
    monkeypatch.setattr(doctor, "_ray", lambda: Check(name="ray", verdict="ok", says="left out"))


def named(checks: list[dict[str, str]], name: str) -> dict[str, str]:
    """The check of this name."""
    (found,) = [check for check in checks if check["name"] == name]
    return found


def test_a_healthy_machine(capsys: Captured) -> None:
    """Everything is tried; what is not as good as it could be says what to do, and is no failure."""
    assert run(["doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["healthy"] is True
    names = ["torch", "video codecs", "patch codecs", "network", "ray", "disk"]
    assert [check["name"] for check in told["checks"]] == names
    assert "starts and answers" in named(told["checks"], "ray")["says"]
    assert "h264" in named(told["checks"], "video codecs")["says"]
    assert all(check["remedy"] for check in told["checks"] if check["verdict"] == "note")


@pytest.mark.usefixtures("without_ray")
def test_for_people_every_check_is_a_line(tmp_path: Path, capsys: Captured) -> None:
    """A verdict, a name, what was found; no colour where nobody sees it."""
    assert run(["doctor", str(tmp_path / "not" / "yet")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(bool(re.match(r"(ok|note|bad) +\S", line)) for line in lines) == 6
    assert f"free at {tmp_path}" in lines[-1]
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize(("no_colour", "coloured"), [("", True), ("1", False)])
def test_no_color_is_honoured_on_a_terminal(no_colour: str, coloured: bool) -> None:
    """A terminal gets colours unless NO_COLOR is set to anything."""
    code = (
        "import sys, types\n"
        "bad = types.SimpleNamespace(name='x', verdict='bad', says='y', remedy='')\n"
        "doctor = sys.modules['gazepack.jobs.doctor'] = types.ModuleType('doctor')\n"
        "doctor.examine = lambda uri: [bad]\n"
        "from gazepack.cli.main import run\n"
        "assert run(['doctor']) == 2"
    )
    ours, theirs = pty.openpty()
    environment = {**os.environ, "NO_COLOR": no_colour}
    subprocess.run([sys.executable, "-c", code], check=True, stdout=theirs, env=environment)
    os.close(theirs)
    said = os.read(ours, 1000).decode()
    os.close(ours)
    assert "x: y" in said
    assert ("\x1b[31m" in said) is coloured


@pytest.mark.usefixtures("without_ray")
def test_storage_is_tried_and_left_as_it_was(s3_server: Any, capsys: Captured) -> None:
    """An object is put, listed, read and deleted; nothing stays."""
    assert run(["doctor", "s3://bucket/packed", "--json"]) == 0
    storage = named(json.loads(capsys.readouterr().out)["checks"], "storage")
    assert storage["says"] == "s3://bucket/packed: puts, lists, reads and deletes"
    assert not [path for path in s3_server.bucket.rglob("*") if path.is_file()]


@pytest.mark.usefixtures("without_ray", "s3_server")
def test_storage_that_refuses_is_bad(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    """A wrong key ends with 2 and a line that names the place; the key is nowhere in it."""
    import fsspec

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrongsecret")
    monkeypatch.setenv("GAZEPACK_RETRY_SECONDS", "0.1")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    assert run(["doctor", "s3://bucket/packed", "--json"]) == 2
    told = json.loads(capsys.readouterr().out)
    assert told["healthy"] is False
    storage = named(told["checks"], "storage")
    assert storage["verdict"] == "bad"
    assert "s3://bucket/packed" in storage["says"]
    assert "wrongsecret" not in json.dumps(told)
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.mark.usefixtures("without_ray")
def test_a_check_that_breaks_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own words are the finding."""

    def broken() -> Check:
        raise ImportError("libav.so: no such file\nand more")

    monkeypatch.setattr(doctor, "_video_codecs", broken)
    checks = list(examine())
    assert len(checks) == 6
    assert (checks[1].name, checks[1].verdict) == ("video codecs", "bad")
    assert checks[1].says == "libav.so: no such file"


def test_a_folder_without_rights_is_bad() -> None:
    """A place that no folder can hold is named."""
    check = doctor._disk(Path("/dev/null/packed"))
    assert (check.verdict, check.name) == ("bad", "disk")
    assert "/dev/null cannot be written" in check.says


def test_a_missing_ray_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packing works without it, in one process."""
    monkeypatch.setattr(doctor, "find_spec", {}.get)
    check = doctor._ray()
    assert (check.verdict, check.name) == ("note", "ray")
    assert "gazepack[ray]" in check.remedy
