"""`gazepack submit` before anything leaves this machine; real jobs are in tests/jobs/test_submission.py."""

import shlex
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

import gazepack
from gazepack.cli.main import run
from gazepack.errors import UsageError
from gazepack.jobs.executors.submission import entrypoint, ship, values_of

NOBODY = ["--dashboard", "http://127.0.0.1:1"]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (
            ["videos", "--out", "s3://b/out"],
            "'videos' is a path from here, and the job runs elsewhere",
        ),
        (["s3://b/videos", "--out", "out"], "'out' is a path from here"),
        (["/v", "--out", "/o", "--executor", "serial"], "--executor serial is not for a cluster"),
        (["/v", "--out", "/o", "--ray-address", "auto"], "name the cluster with --dashboard"),
        (["/v", "--out", "/o", "--config", "nowhere.toml"], "nowhere.toml cannot be read"),
        (["/v", "--out", "/o", "--min-psnr", "99"], "min PSNR 99 dB is not from 10 to 60"),
        (
            ["/v", "--out", "/o", "--env", "NOT_SET_ANYWHERE"],
            "--env NOT_SET_ANYWHERE: it is not set",
        ),
        (["/v", "--out", "/o", "--", "--", "x"], "does not know what '--' is for"),
        (
            ["/v", "--out", "/o", "--wheel", "torch-2.0-py3-none-any.whl"],
            "is not called like a wheel",
        ),
        (["/v", "--out", "/o", *NOBODY], "no Ray cluster takes jobs at 'http://127.0.0.1:1'"),
        (["/v", "--out", "/o", "--dashboard", "head:8265"], "it is not an http address"),
    ],
)
def test_what_cannot_work_is_one_line(
    arguments: list[str],
    match: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Before anything is sent: the value, what is allowed, and exit code 2."""
    monkeypatch.chdir(tmp_path)
    assert run(["submit", *arguments]) == 2
    captured = capsys.readouterr()
    assert match in captured.err
    assert captured.out == ""
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["ftp://me:verysecret@h/v", "--out", "/o"], "ftp://***@h/v"),
        (["/v", "https://h/a.mp4?X-Amz-Signature=verysecret", "--out", "/o"], "Signature=***"),
        (["/v", "--out", "s3://key:verysecret@bucket/o"], "s3://***@bucket/o"),
        (["/v", "--out", "/o", "--model", "https://h/m?token=verysecret"], "h/m?token=***"),
        (["/v", "--out", "/o", "--config", "model.toml"], "https://h/m?sig=***"),
    ],
)
def test_what_carries_a_secret_is_refused(
    arguments: list[str],
    shown: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The dashboard shows a job's command and files to everybody; neither it nor the message has the secret."""
    monkeypatch.chdir(tmp_path)
    Path("model.toml").write_text('[selector]\nmodel = "https://h/m?sig=verysecret"\n')
    chooser = ["--selector", "autogaze", "--gazing-ratio", "0.1"]
    assert run(["submit", *arguments, *chooser, *NOBODY]) == 2
    captured = capsys.readouterr()
    assert f"{shown}' carries a secret, and the dashboard shows it to everybody" in captured.err
    assert "verysecret" not in captured.out + captured.err


def test_options_of_pack_are_checked_by_pack(capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt option, or no --out, is what `pack` would say."""
    assert run(["submit", "/v", "--out", "/o", "--selektor", "greedy"]) == 2
    assert "No such option '--selektor'" in capsys.readouterr().err
    assert run(["submit", "/v"]) == 2
    assert "Missing option '--out'" in capsys.readouterr().err


def test_a_model_that_lies_here_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder of this machine is not taken for a name on the hub."""
    (tmp_path / "my" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    chooser = ["--selector", "autogaze", "--gazing-ratio", "0.1"]
    Path("model.toml").write_text('[selector]\nmodel = "my/model"\n')
    for given in (["--model", "my/model"], ["--config", "model.toml"]):
        assert run(["submit", "/v", "--out", "/o", *chooser, *given, *NOBODY]) == 2
        assert "the model 'my/model' is a path from here" in capsys.readouterr().err


def test_no_argument_reaches_the_shell() -> None:
    """The line that a shell runs gives every argument back as it was."""
    nasty = ["pack", "it's; $(touch owned) `id`", '"$HOME"', "a\nb", "&& rm -r /", ""]
    line = f"printf '%s\\0' {entrypoint(nasty)}"
    said = subprocess.run(["sh", "-c", line], capture_output=True, check=True, text=True).stdout
    assert said.split("\0")[:-1][3:] == nasty
    assert shlex.split(entrypoint(nasty))[0] == "python"


def test_values_are_taken_by_name_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable's value comes from the environment; one on the command line is refused and not repeated."""
    monkeypatch.setenv("SOME_KEY", "its value")
    assert values_of(["SOME_KEY"]) == {"SOME_KEY": "its value"}
    with pytest.raises(
        UsageError, match=r"takes the name of a variable, not 'SOME_KEY=\.\.\.'"
    ) as error:
        values_of(["SOME_KEY=verysecret"])
    assert "verysecret" not in str(error.value)


def test_the_installed_code_is_shipped(tmp_path: Path) -> None:
    """What runs here is what will run there, without compiled leftovers."""
    ship(tmp_path)
    package = Path(gazepack.__file__).parent
    wanted = {p.relative_to(package) for p in package.rglob("*.py")}
    sent = {p.relative_to(tmp_path / "gazepack") for p in tmp_path.rglob("*.py")}
    assert sent == wanted
    assert not list(tmp_path.rglob("*.pyc"))
    assert [path.name for path in tmp_path.iterdir()] == ["gazepack"]


@pytest.mark.parametrize(
    ("member", "match"),
    [
        ("../escape.py", "which is not gazepack's"),
        ("gazepack/../../escape.py", "which is not gazepack's"),
        ("/etc/escape.py", "which is not gazepack's"),
        ("sitecustomize.py", "which is not gazepack's"),
        ("gazepack/__init__.py", "holds no program"),
    ],
)
def test_a_hostile_wheel_is_refused(tmp_path: Path, member: str, match: str) -> None:
    """An archive that holds anything but gazepack is not unpacked."""
    wheel, folder = tmp_path / "gazepack-1.0-py3-none-any.whl", tmp_path / "to"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(member, "x = 1\n")
    folder.mkdir()
    with pytest.raises(UsageError, match=match):
        ship(folder, wheel=wheel)
    assert list(folder.iterdir()) == []


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    """A file of the right name and the wrong content is one line."""
    wheel = tmp_path / "gazepack-1.0-py3-none-any.whl"
    wheel.write_text("not a zip")
    with pytest.raises(UsageError, match=r"cannot be read \(File is not a zip file\)"):
        ship(tmp_path, wheel=wheel)
    shutil.rmtree(tmp_path)
    with pytest.raises(UsageError, match=r"cannot be read \(.*No such file"):
        ship(tmp_path, wheel=wheel)
