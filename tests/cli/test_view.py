import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gazepack.cli.main import run
from gazepack.errors import StorageError, UsageError, VideoError
from gazepack.formats import DatasetDirectory
from gazepack.jobs import repainted
from gazepack.patches import Pixels
from gazepack.video import Sampling, decode, write_video
from gazepack.video.scenes import cuts, objects
from gazepack.viewing import Scene, find_row, find_segment, write_film, write_page, write_sheet
from gazepack.viewing.drawing import Layout, pane_size, panes, scaled, strip
from gazepack.viewing.scene import spread

NUM_FRAMES = 5
Program = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `videos` of two scenes and what was `packed` of them."""
    folder = tmp_path_factory.mktemp("view")
    (folder / "videos").mkdir()
    for seed, (name, scene) in enumerate({"a b": objects, "cuts": cuts}.items()):
        write_video(folder / "videos" / f"{name}.mp4", scene(240, 136, NUM_FRAMES, seed), fps=10)
    packing = ["pack", str(folder / "videos"), "--out", str(folder / "packed"), "--thumbnail"]
    assert run(packing) == 0
    return folder


@pytest.fixture
def view(place: Path, capfd: pytest.CaptureFixture[str]) -> Program:
    """Run `gazepack view` on the packed scenes: exit code, stdout, stderr."""

    def program(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = run(["view", str(place / "packed"), *map(str, arguments)])
        return code, *capfd.readouterr()

    return program


def read_picture(path: Path) -> Pixels:
    """Read a picture."""
    with Image.open(path) as image:
        return np.asarray(image)


def scene_of(place: Path) -> tuple[DatasetDirectory, Scene]:
    """The first sample as it is packed."""
    directory = DatasetDirectory.open(str(place / "packed"))
    return directory, Scene.of(directory, find_row(directory, None), view_name="tiles")


def test_spread_starts_with_the_first_frame_and_is_even() -> None:
    """The frames of a sheet are evenly spread; a short sample is shown whole."""
    assert spread(45, 8) == [0, 5, 11, 16, 22, 28, 33, 39]
    assert spread(3, 8) == [0, 1, 2]


def test_a_sheet_holds_source_chosen_and_painted(view: Program, place: Path) -> None:
    """Under each other: the fitted frame, its outlined patches, and exactly what the tokens paint."""
    out = place / "sheet.png"
    code, said, complaints = view("--out", out, "--frames", 2)
    assert (code, complaints) == (0, "")
    assert said == f"{out}: 2 of {NUM_FRAMES} frames of a b.mp4\n"
    directory, scene = scene_of(place)
    segment = find_segment(directory, "a b.mp4", ())
    drawn = read_picture(out)
    shots = [s for number, s in enumerate(scene.shots(segment)) if number in (0, 2)]
    grid = shots[0].grid
    layout = Layout(grid=grid, num_frames=2, num_panes=3)
    assert drawn.shape == (layout.height, layout.width, 3)
    height, width = pane_size(grid)
    painted = list(repainted(scene.sample, 0))
    for column, number in enumerate((0, 2)):
        pictures = panes(shots[column])
        assert list(pictures) == ["source", "chosen", "painted"]
        assert np.array_equal(pictures["painted"], scaled(painted[number], grid))
        for pane, picture in enumerate(pictures.values()):
            left, top = layout.place(column, pane)
            assert np.array_equal(drawn[top : top + height, left : left + width], picture)


def test_the_frames_shown_are_those_of_the_video(place: Path) -> None:
    """Times, counts and errors of the captions are the sample's; the source is the decoded video."""
    directory, scene = scene_of(place)
    shots = list(scene.shots(find_segment(directory, "a b.mp4", ())))
    meta = scene.sample.meta["views"][0]
    assert [s.time_seconds for s in shots] == meta["times"]
    assert [len(s.scale_K) for s in shots] == meta["tokens"]
    assert [s.psnr for s in shots] == meta["psnr"]
    frames = list(decode(str(place / "videos" / "a b.mp4"), Sampling()))
    for one, frame in zip(shots, frames, strict=True):
        assert one.source_HW3 is not None
        whole = Image.fromarray(frame.rgb_HW3).resize((224, 224), Image.Resampling.BICUBIC)
        assert np.array_equal(one.source_HW3, np.asarray(whole))


def test_a_film_has_every_frame(view: Program, place: Path) -> None:
    """An .mp4 has as many frames as the sample, at its rate, with the three panes beside each other."""
    out = place / "film.mp4"
    assert view("cuts.mp4", "--out", out)[0] == 0
    frames = list(decode(str(out), Sampling()))
    assert len(frames) == NUM_FRAMES
    assert frames[1].time_seconds == pytest.approx(0.1)
    directory = DatasetDirectory.open(str(place / "packed"))
    scene = Scene.of(directory, find_row(directory, "cuts.mp4"), view_name="tiles")
    first = next(scene.shots(find_segment(directory, "cuts.mp4", ())))
    drawn = strip(first, title="cuts.mp4")
    assert frames[0].rgb_HW3.shape == drawn.shape
    assert abs(frames[0].rgb_HW3.astype(int) - drawn).mean() < 4  # what the encoder loses


def test_a_sample_is_found_by_key_and_by_id(view: Program, place: Path) -> None:
    """KEY may be the key or the user's own id; without it the first sample is shown."""
    directory = DatasetDirectory.open(str(place / "packed"))
    rows = directory.read_index().to_pylist()
    for row in rows:
        assert find_row(directory, row["key"]) == row
        assert find_row(directory, row["id"]) == row
    assert find_row(directory, None) == rows[0]
    code, said, _ = view(rows[1]["key"], "--out", place / "by_key.png", "--json", "--frames", 1)
    assert code == 0
    assert json.loads(said) == {
        "out": str(place / "by_key.png"),
        "key": rows[1]["key"],
        "frames": 1,
        "source": str(place / "videos" / rows[1]["id"]),
    }


def test_the_thumbnail_is_shown_when_asked_for(view: Program, place: Path) -> None:
    """--view thumbnail shows the second view of the sample."""
    assert view("--out", place / "thumb.png", "--view", "thumbnail")[0] == 0
    directory = DatasetDirectory.open(str(place / "packed"))
    scene = Scene.of(directory, find_row(directory, None), view_name="thumbnail")
    assert scene.view == 1
    with pytest.raises(UsageError, match="has no view 'other'; it has"):
        Scene.of(directory, find_row(directory, None), view_name="other")


# ---------------------------------------------------------------------------------- without the video


def test_a_missing_video_leaves_out_the_first_pane(
    view: Program, place: Path, tmp_path: Path
) -> None:
    """When the video has gone, the others are drawn and stderr says why; --source brings it back."""
    moved = (place / "videos").rename(tmp_path / "elsewhere")
    try:
        for name in ("less.png", "less.mp4"):
            code, said, complaints = view("--out", tmp_path / name)
            assert code == 0
            assert said.startswith(f"{tmp_path / name}: {NUM_FRAMES} of {NUM_FRAMES} frames")
            assert complaints.startswith("no source in the picture: ")
            assert "a b.mp4" in complaints
            assert complaints.count("\n") == 1
        code, _, complaints = view("--out", tmp_path / "more.png", "--source", moved)
        assert (code, complaints) == (0, "")
    finally:
        moved.rename(place / "videos")
    less, more = (read_picture(tmp_path / name) for name in ("less.png", "more.png"))
    assert less.shape[0] < more.shape[0]
    assert less.shape[1] == more.shape[1]


def test_a_dataset_without_its_listing_is_shown_without_the_source(
    place: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A copy that lacks `run/` knows no source: two panes, a line on stderr, and `source` null in JSON."""
    copy = shutil.copytree(
        place / "packed", tmp_path / "copy", ignore=shutil.ignore_patterns("run")
    )
    capfd.readouterr()
    assert run(["view", str(copy), "--out", str(tmp_path / "x.png"), "--json"]) == 0
    said, complaints = capfd.readouterr()
    assert json.loads(said)["source"] is None
    assert complaints == "no source in the picture: no list says where the video is\n"


def test_a_changed_video_is_not_shown_as_the_source(place: Path, tmp_path: Path) -> None:
    """A video with other pictures at the same times is refused."""
    directory, scene = scene_of(place)
    write_video(tmp_path / "a b.mp4", cuts(240, 136, NUM_FRAMES, 9), fps=10)
    write_video(tmp_path / "other.mp4", cuts(240, 136, NUM_FRAMES, 9), fps=10)
    segment = find_segment(directory, "a b.mp4", [str(tmp_path)])
    with pytest.raises(VideoError, match="shows something else at 0 s than was packed"):
        next(scene.shots(segment))


def test_a_source_that_does_not_fit_is_an_error_when_it_was_named(
    view: Program, place: Path, tmp_path: Path
) -> None:
    """A --source without the video, or with another one of its name, ends the command with code 2."""
    write_video(tmp_path / "else.mp4", cuts(240, 136, 2), fps=10)
    code, _, complaints = view("--out", tmp_path / "x.png", "--source", tmp_path)
    assert code == 2
    assert "holds no video 'a b.mp4'" in complaints
    write_video(tmp_path / "a b.mp4", cuts(240, 136, 2), fps=10)
    for name in ("x.png", "x.mp4"):
        code, _, complaints = view("--out", tmp_path / name, "--source", tmp_path)
        assert code == 2
        assert "shows something else" in complaints
        assert "leave --source out" in complaints
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a b.mp4", "else.mp4"]
    assert (place / "videos" / "a b.mp4").is_file()


# -------------------------------------------------------------------------------------- what is wrong


def test_an_unknown_key_names_some_that_exist(view: Program, tmp_path: Path) -> None:
    """A key that is not there is told from those that are."""
    code, _, complaints = view("nobody", "--out", tmp_path / "x.png")
    assert code == 2
    assert "no sample or video 'nobody'; there are a b.mp4, cuts.mp4\n" in complaints


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--out", "x.gif"], "--out x.gif ends in none of .html, .png and .mp4"),
        (["--out", "x.mp4", "--frames", "3"], "--frames 3 is for .html and .png"),
        (["--out", "x.png", "--frames", "0"], "0 is not in the range"),
        (["--out", "x.png", "--view", "side"], "'side' is not one of"),
    ],
)
def test_an_impossible_wish_is_refused(view: Program, arguments: list[str], complaint: str) -> None:
    """Endings, views and numbers that cannot be end with code 2 and one clear line."""
    code, _, complaints = view(*arguments)
    assert code == 2
    assert complaint in complaints


@pytest.mark.parametrize("name", ["x.png", "x.mp4", "x.html"])
def test_an_unwritable_place_is_a_storage_error(
    view: Program, place: Path, tmp_path: Path, name: str
) -> None:
    """A folder that does not exist is named with what to do."""
    out = tmp_path / "none" / name
    code, _, complaints = view("--out", out)
    assert code == 2
    assert f"{out}: cannot be written" in complaints
    _, scene = scene_of(place)
    write = {".png": write_sheet, ".html": write_page, ".mp4": write_film}[out.suffix]
    frames = {} if write is write_film else {"frames": 1}
    with pytest.raises(StorageError, match="cannot be written"):
        write(scene, out, segment=None, **frames)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["x.png", "x.mp4", "x.html"])
def test_a_place_where_nothing_can_be_removed_either_is_a_storage_error(
    view: Program, tmp_path: Path, name: str
) -> None:
    """A file in the folder's stead: tidying up fails like writing, and still there is one line."""
    (tmp_path / "file").write_bytes(b"")
    code, _, complaints = view("--out", tmp_path / "file" / name)
    assert code == 2
    assert complaints.count("\n") == 1
    assert "cannot be written (Not a directory); check the folder" in complaints


def test_what_is_no_dataset_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A folder without a dataset ends with the code for damage and one line."""
    assert run(["view", str(tmp_path), "--out", str(tmp_path / "x.png")]) == 2
    assert "is not a gazepack dataset" in capfd.readouterr().err
