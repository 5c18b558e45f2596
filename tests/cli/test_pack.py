"""`gazepack pack` as a user meets it: what it prints, how it leaves, what it says to bad input."""

import json
import os
import shutil
from pathlib import Path

import pytest

from gazepack.cli.main import run
from gazepack.formats import DatasetDirectory

Captured = pytest.CaptureFixture[str]

INFO_KEYS = {
    "format_version",
    "samples",
    "videos",
    "failed",
    "frames",
    "tokens",
    "dense_tokens",
    "reduction",
    "bytes",
    "source_bytes",
    "shards",
    "selector",
    "model_sha256",
    "min_psnr",
}


def error_line(capsys: Captured) -> str:
    """Return the one line on stderr."""
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    return captured.err


def test_second_run_prints_the_same_summary(folder: Path, dataset: Path, capsys: Captured) -> None:
    """Packing again does nothing and says what is there; failed videos keep the exit code at 3."""
    arguments = ["pack", str(folder), "--out", str(dataset), "--samples-per-shard", "2", "--json"]
    assert run(arguments) == 3
    captured = capsys.readouterr()
    summary = json.loads(captured.out)
    assert summary.keys() >= INFO_KEYS
    assert (summary["videos"], summary["failed"], summary["shards"]) == (3, 1, 2)
    assert summary["frames"] == 6 + 16 + 26
    assert summary["min_psnr"] >= 30
    assert "2 of 2 shards packed already" in captured.err
    assert "1 video failed: gazepack failures" in captured.err


def test_all_good_ends_with_0(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    """Without failures the exit code is 0 and the table is on stdout."""
    assert run(["pack", str(folder / "0.mp4"), "--out", str(tmp_path / "out")]) == 0
    captured = capsys.readouterr()
    assert "reduction" in captured.out
    assert "failed" not in captured.err.replace("0 failed", "")


def test_options_override_the_configuration_file(folder: Path, tmp_path: Path) -> None:
    """A --config file holds the same settings; what is given on the line goes first."""
    config = tmp_path / "pack.toml"
    config.write_text('[sampling]\nnum_frames = 3\n[codec]\nname = "zstd"\n')
    arguments = ["pack", str(folder / "2.mp4"), "--out", str(tmp_path / "out")]
    assert run([*arguments, "--config", str(config), "--num-frames", "5"]) == 0
    directory = DatasetDirectory.open(str(tmp_path / "out"))
    assert directory.read_index()["frames"].to_pylist() == [5]
    assert directory.info.codec["name"] == "zstd"


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (["--min-psnr", "99"], "min PSNR 99 dB is not from 10 to 60"),
        (["--selector", "random", "--gazing-ratio", "0"], "gazing ratio 0 is not above 0"),
        (["--patch-size", "0"], "fit.patch_size"),
        (["--patch-size", "15"], "fit.patch_size"),
        (["--fps", "-1"], "sampling.fps"),
        (["--fps", "1", "--num-frames", "2"], "not both"),
        (["--start", "2", "--end", "1"], "end 1 s is not after start 2 s"),
        (["--selector", "autogaze", "--model", "nowhere"], "does not know where to stop"),
        (["--selector", "autogaze", "--model", "nowhere", "--gazing-ratio", "1"], "nowhere"),
        (["--device", "tpu"], "device 'tpu'"),
        (["--config", "nowhere.toml"], "nowhere.toml cannot be read"),
        (["--codec", "zstd", "--quality", "5"], "quality 5 is a setting of jpeg"),
    ],
)
def test_impossible_options(
    folder: Path, tmp_path: Path, capsys: Captured, options: list[str], match: str
) -> None:
    """One line naming the option and the value, exit code 2, and no output directory."""
    assert run(["pack", str(folder), "--out", str(tmp_path / "out"), *options]) == 2
    assert match in error_line(capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "options", "match"),
    [
        ("[selector]\nmin_psnr = 99\n", [], "pack.toml: selector.min_psnr: min PSNR 99 dB is not"),
        ("fps = 2\n", [], "pack.toml: there is no setting 'fps'; did you mean 'sampling.fps'?"),
        ('preset = "vit"\n', [], "pack.toml: there is no preset 'vit'"),
        ("selector = 3\n", ["--seed", "1"], "pack.toml: 'selector' is 3, not a table"),
        ("[codec]\nquality = 90\n", ["--codec", "zstd"], "pack.toml: codec: quality 90 is"),
        ("[fit]\nmax_tiles = 2\n", ["--fps", "-1"], "gazepack: sampling.fps: "),
        ("[fit\n", [], "gazepack: --config "),
    ],
)
def test_a_refusal_names_the_file_that_is_to_blame(
    folder: Path, tmp_path: Path, capsys: Captured, text: str, options: list[str], match: str
) -> None:
    """What a --config file says wrong is told with its name, and what an option says is not."""
    config = tmp_path / "pack.toml"
    config.write_text(text)
    arguments = ["pack", str(folder), "--out", str(tmp_path / "out"), "--config", str(config)]
    assert run([*arguments, *options]) == 2
    assert match in error_line(capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("source", ["missing", "empty"])
def test_missing_and_empty_folders(tmp_path: Path, capsys: Captured, source: str) -> None:
    """Nothing to pack is one line, exit code 2, and no output directory."""
    (tmp_path / "empty").mkdir()
    assert run(["pack", str(tmp_path / source), "--out", str(tmp_path / "out")]) == 2
    assert str(tmp_path / source) in error_line(capsys)
    assert not (tmp_path / "out").exists()


def test_weird_names_are_packed_and_stay_inside(folder: Path, tmp_path: Path) -> None:
    """Spaces, unicode, newlines and dots in names and ids: all packed, nothing outside the directory."""
    videos = tmp_path / "videos"
    videos.mkdir()
    names = ["a b.mp4", "ü–😀.mp4", "new\nline.mp4", "..mp4", "-.mp4"]
    for name in names:
        shutil.copy(folder / "0.mp4", videos / name)
    manifest = tmp_path / "m.csv"
    ids = ["../../escape", "/etc/passwd", "a\\b", "con"]
    rows = [f"{folder / '0.mp4'},{name}" for name in ids]
    manifest.write_text("\n".join(["path,id", *rows]))
    out = tmp_path / "deep" / "out"
    assert run(["pack", str(videos), str(manifest), "--out", str(out), "--num-frames", "1"]) == 0
    index = DatasetDirectory.open(str(out)).read_index()
    assert sorted(index["id"].to_pylist()) == sorted([*names, *ids])
    assert {path.name for path in tmp_path.iterdir()} == {"videos", "m.csv", "deep"}
    assert [path.name for path in out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("zero.mp4", b"", "zero bytes"),
        ("text.mp4", b"this is a text" * 100, "text.mp4"),
        ("lfs.mp4", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs"),
    ],
)
def test_bad_file_goes_on_record_and_the_rest_is_packed(
    folder: Path, tmp_path: Path, capsys: Captured, name: str, content: bytes, match: str
) -> None:
    """A file that is no video is one line in the failures; the good one beside it is packed; exit code 3."""
    videos = tmp_path / "videos"
    videos.mkdir()
    shutil.copy(folder / "0.mp4", videos / "good.mp4")
    (videos / name).write_bytes(content)
    assert run(["pack", str(videos), "--out", str(tmp_path / "out")]) == 3
    capsys.readouterr()
    assert run(["failures", str(tmp_path / "out")]) == 0
    listed = capsys.readouterr().out
    assert listed.count("\n") == 1
    assert match in listed
    assert DatasetDirectory.open(str(tmp_path / "out")).read_index()["id"].to_pylist() == [
        "good.mp4"
    ]


def test_truncated_file_and_wrong_suffix(folder: Path, tmp_path: Path) -> None:
    """A file cut in half is a failure at decoding; a video of another suffix is packed as what it is."""
    videos = tmp_path / "videos"
    videos.mkdir()
    moved = tmp_path / "fast.mp4"
    shutil.copy(folder / "2.mp4", moved)
    data = moved.read_bytes()
    (videos / "half.mp4").write_bytes(data[: len(data) // 2])
    shutil.copy(folder / "0.mp4", videos / "really_mp4.avi")
    assert run(["pack", str(videos), "--out", str(tmp_path / "out")]) == 3
    directory = DatasetDirectory.open(str(tmp_path / "out"))
    assert directory.read_index()["id"].to_pylist() == ["really_mp4.avi"]
    assert directory.failures()["id"].to_pylist() == ["half.mp4"]


def test_equal_ids_are_refused(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    """Two videos of one id: one line with both, exit code 2, nothing written."""
    manifest = tmp_path / "m.csv"
    manifest.write_text(f"path,id\n{folder / '0.mp4'},x\n{folder / '1.mp4'},x\n")
    assert run(["pack", str(manifest), "--out", str(tmp_path / "out")]) == 2
    assert "two videos have the id 'x'" in error_line(capsys)
    assert not (tmp_path / "out").exists()


def test_other_settings_are_refused(folder: Path, dataset: Path, capsys: Captured) -> None:
    """Both sides are shown, exit code 2."""
    arguments = ["pack", str(folder), "--out", str(dataset), "--samples-per-shard", "2"]
    assert run([*arguments, "--min-psnr", "35"]) == 2
    assert "provenance.min_psnr: 30.0 in the dataset, 35.0 asked" in error_line(capsys)


def test_directory_of_something_else_is_refused(
    folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    """A folder with other files is not touched."""
    (tmp_path / "thesis.txt").write_text("mine")
    assert run(["pack", str(folder), "--out", str(tmp_path)]) == 2
    assert "is not empty and holds no dataset" in error_line(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_unwritable_output(folder: Path, capsys: Captured) -> None:
    """A place that cannot be written is one line with a remedy, exit code 2."""
    place = "/proc/gazepack" if os.geteuid() == 0 else "/gazepack"
    assert run(["pack", str(folder), "--out", place]) == 2
    assert place in error_line(capsys)


@pytest.mark.parametrize(
    "command",
    [
        ["pack", "{folder}", "--out", "{out}"],
        ["plan", "{folder}"],
        ["bench", "pack", "{folder}"],
        ["retry", "{out}"],
    ],
    ids=lambda command: command[0],
)
@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("abacus", "decode device 'abacus' is not in this build of PyAV; use one of: cpu, "),
        (
            "qsv",
            "decode device qsv: this build of PyAV has no decoder on it; use --decode-device cpu",
        ),
    ],
)
def test_a_decode_device_that_is_not_there(
    command: list[str], device: str, message: str, folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    """Refused in one line before anything is begun."""
    out = tmp_path / "out"
    arguments = [part.format(folder=folder, out=out) for part in command]
    assert run([*arguments, "--decode-device", device]) == 2
    assert message in error_line(capsys)
    assert not out.exists()


def test_of_machines_elsewhere_only_the_name_is_checked(
    folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    """A cluster may have what this machine has not, but not what no machine has."""
    from gazepack.jobs.choices import check_decode_device

    check_decode_device("qsv", is_here=False)
    out = tmp_path / "out"
    line = ["pack", str(folder), "--out", str(out), "--ray-address", "auto"]
    assert run([*line, "--decode-device", "abacus"]) == 2
    assert "decode device 'abacus' is not in this build" in error_line(capsys)


def test_the_run_says_how_many_videos_the_cpu_decoded(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """Where a device decodes none of the videos, they are packed all the same, and a line says so."""
    monkeypatch.setattr("gazepack.jobs.choices.check_decode_device", lambda *_, **__: None)
    line = ["pack", str(folder / "0.mp4"), "--out", str(tmp_path / "out"), "--selector", "greedy"]
    assert run([*line, "--decode-device", "qsv"]) == 0
    assert "1 video was decoded by the CPU, as qsv has no exact decoder" in capsys.readouterr().err
