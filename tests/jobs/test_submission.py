"""Jobs on a real cluster through its real dashboard: what runs, what it may see, and how it ends."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gazepack.cli.main import run
from gazepack.errors import UsageError
from gazepack.formats import DatasetDirectory
from gazepack.jobs.executors.submission import INTERRUPTED, Submission

# aiohttp has deprecated what Ray's client calls.
pytestmark = pytest.mark.filterwarnings("ignore:ssl=None is deprecated")
ROOT = Path(__file__).parents[2]
Contents = Callable[[Path], dict[str, bytes]]
Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def dashboard(start_cluster: Callable[..., Any]) -> Iterator[str]:
    """The dashboard of a cluster that knows no S3, and whose processes can read `poison:` addresses."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent / "poison"), prepend=os.pathsep)
        patch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
            patch.delenv(name, raising=False)
        head = {"num_cpus": 2, "include_dashboard": True, "dashboard_port": 0}
        cluster = start_cluster(head)
        yield f"http://{cluster.head_node.webui_url}"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this source that calls itself version 9.9.9."""
    folder = tmp_path_factory.mktemp("wheel")
    leave = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "gazepack", folder / "source" / "gazepack", ignore=leave)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    init = folder / "source" / "gazepack" / "__init__.py"
    version = next(x for x in init.read_text().splitlines() if x.startswith("__version__"))
    init.write_text(init.read_text().replace(version, '__version__ = "9.9.9"'))
    line = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    line += ["--no-index", "--wheel-dir", str(folder), str(folder / "source")]
    subprocess.run(line, check=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_runs_with_the_settings_and_keys_of_here(
    dashboard: str,
    wheel: Path,
    videos: Path,
    s3_server: Any,
    tmp_path: Path,
    pack: Callable[..., Any],
    contents: Contents,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The job packs with the wheel's version, a --config of this folder and keys that were named, not given.

    A path that a shell would act upon is only a path; the bytes are those of a run on this machine.
    """
    source = tmp_path / "it's; $(touch owned)"
    source.mkdir()
    shutil.copy(videos / "clip0.mp4", source)
    monkeypatch.chdir(tmp_path)
    Path("settings.toml").write_text("[sampling]\nnum_frames = 3\n[fit]\nmax_tiles = 2\n")
    names = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"]
    names += ["AWS_RESPONSE_CHECKSUM_VALIDATION"]
    arguments = [str(source), "--out", "s3://bucket/sent", "--config", "settings.toml"]
    arguments += [word for name in names for word in ("--env", name)]
    arguments += ["--wheel", str(wheel), "--dashboard", dashboard, "--workers", "1", "--json"]
    assert run(["submit", *arguments]) == 0
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    assert answer["exit_code"] == 0
    assert f"stop:   ray job stop --address {dashboard} {answer['submission_id']}" in captured.err
    assert "1 packed, 0 failed" in captured.err
    directory = DatasetDirectory.open("s3://bucket/sent")
    assert directory.info.writer == "gazepack 9.9.9"
    pack(source, tmp_path / "here", {"sampling": {"num_frames": 3}, "fit": {"max_tiles": 2}})
    sent, here = contents(s3_server.bucket / "sent"), contents(tmp_path / "here")
    assert sent["shards/000000.tar"] == here["shards/000000.tar"]
    assert not any(b"verysecret" in data for data in sent.values())


def test_a_corpus_with_poison_ends_with_3(
    dashboard: str,
    videos: Path,
    tmp_path: Path,
    pack: Callable[..., Any],
    contents: Contents,
    capsys: Captured,
) -> None:
    """Of 30 videos one crashes its decoder, one hangs and one is damaged: all others are packed, exit code 3.

    The shards are byte for byte those of one process for which the three were missing files.
    """
    good = [str(videos / f"clip{n % 3}.mp4") for n in range(30)]
    bad = {
        4: f"poison://segv{good[0]}",
        15: f"poison://hang{good[0]}",
        22: str(videos / "text.mkv"),
    }

    def manifest(name: str, bad: dict[int, str]) -> Path:
        rows = "".join(f"{bad.get(n, uri)},v{n:02d}\n" for n, uri in enumerate(good))
        (tmp_path / name).write_text(f"path,id\n{rows}")
        return tmp_path / name

    arguments = [str(manifest("a.csv", bad)), "--out", str(tmp_path / "a"), "--num-frames", "2"]
    arguments += ["--max-tiles", "2", "--samples-per-shard", "10", "--video-timeout", "3"]
    arguments += ["--workers", "2", "--dashboard", dashboard]
    assert run(["submit", *arguments]) == 3
    assert "27 packed, 3 failed" in capsys.readouterr().out
    failures = DatasetDirectory.open(str(tmp_path / "a")).failures().to_pylist()
    assert [row["id"] for row in failures] == ["v04", "v15", "v22"]
    assert {row["attempts"] for row in failures} == {2}
    assert "SIGSEGV" in failures[0]["message"]
    assert "within 3 s" in failures[1]["message"]
    gone = manifest("b.csv", dict.fromkeys(bad, str(tmp_path / "gone.mp4")))
    values = {"sampling": {"num_frames": 2}, "fit": {"max_tiles": 2}}
    pack(gone, tmp_path / "b", {**values, "shards": {"samples_per_shard": 10}})
    left, right = contents(tmp_path / "a"), contents(tmp_path / "b")
    shards = [name for name in left if name.startswith("shards/")]
    assert len(shards) == 3
    assert all(left[name] == right[name] for name in shards)


@pytest.fixture
def hanging(
    dashboard: str, videos: Path, tmp_path: Path, capsys: Captured
) -> Callable[[], Submission]:
    """Return a function that submits a job which hangs, without waiting for it."""
    from ray.job_submission import JobSubmissionClient

    def hanging() -> Submission:
        rows = f"path\npoison://hang{videos}/clip0.mp4\n"
        (tmp_path / "hang.csv").write_text(rows)
        arguments = [str(tmp_path / "hang.csv"), "--out", str(tmp_path / "out"), "--no-wait"]
        assert run(["submit", *arguments, "--workers", "1", "--dashboard", dashboard]) == 0
        (name,) = capsys.readouterr().out.split()
        client = JobSubmissionClient(dashboard)
        return Submission(client=client, address=dashboard, id=name)

    return hanging


def drivers() -> list[int]:
    """Return the process ids of all drivers of jobs."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[:2] == [b"python", b"-c"] and b"gazepack.cli.main" in words[2]:
            found.append(int(folder.name))
    return found


def test_a_job_that_is_stopped_was_interrupted(hanging: Callable[[], Submission]) -> None:
    """`--no-wait` leaves only its name on stdout; stopping it is the exit code of an interruption."""
    job = hanging()
    while not drivers():
        time.sleep(0.05)
    job.client.stop_job(job.id)
    assert job.wait(lambda _: None) == INTERRUPTED


def test_a_job_whose_driver_is_killed_can_be_submitted_again(
    hanging: Callable[[], Submission],
) -> None:
    """What ended without gazepack's doing is an error that says how to see why, and how to go on."""
    job = hanging()
    while not (found := drivers()):
        time.sleep(0.05)
    os.kill(found[0], signal.SIGKILL)
    with pytest.raises(UsageError, match=r"ended without gazepack's doing .*submit the same again"):
        job.wait(lambda _: None)
