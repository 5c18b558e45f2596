import re
import shutil
from pathlib import Path

import pytest

from gazepack.cli.main import run
from gazepack.errors import DatasetError
from gazepack.formats import DatasetDirectory
from gazepack.viewing import write_report
from gazepack.viewing.examples import PICTURE_BYTES
from gazepack.viewing.report import MAX_PAGE_BYTES, MAX_PICTURES


@pytest.fixture(scope="module")
def page(packed: DatasetDirectory, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of the packed dataset."""
    out = tmp_path_factory.mktemp("report") / "report.html"
    write_report(packed, out, pictures=1)
    return out.read_text()


def test_a_report_has_all_its_parts(page: str) -> None:
    """Numbers, distributions, bytes, scales, stages, samples and failures are there."""
    for title in (
        "In numbers",
        "Reduction, sample by sample",
        "PSNR of each sample",
        "Tokens of a frame over a clip",
        "Storage",
        "Scales",
        "Stages",
        "Most tokens for their length",
        "Fewest tokens for their length",
        "Lowest PSNR",
        "Failures",
    ):
        assert title in page
    assert page.count('<img src="data:image/webp;base64,') == 2 * 3
    assert re.search(r"The bottleneck is (decode|choose|encode|write): ", page)
    assert "samples read: 2" in page


def test_hostile_text_is_escaped(page: str) -> None:
    """Ids and messages are text; the page has no script and may load nothing."""
    assert "<script" not in page
    assert "&lt;b&gt;gone&lt;/b&gt;" in page
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page


def test_a_dataset_that_is_not_complete_says_so(
    packed: DatasetDirectory, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without its shard nothing is packed: no charts, no pictures, and a line that says how far it is."""
    begun = tmp_path / "begun"
    (begun / "run").mkdir(parents=True)
    source = Path(packed.uri)
    shutil.copy(source / "dataset.json", begun)
    shutil.copy(source / "run" / "sources.parquet", begun / "run")
    assert run(["report", str(begun), "--out", str(tmp_path / "r.html")]) == 0
    page = (tmp_path / "r.html").read_text()
    assert "Not complete: 0 of 3 videos, 0 of 1 shard." in page
    assert "Distributions" not in page
    assert capfd.readouterr().out.startswith(f"{tmp_path / 'r.html'}: 0 samples")


def test_the_name_of_a_dataset_need_not_be_utf_8(packed: DatasetDirectory, tmp_path: Path) -> None:
    """A folder of any bytes has its report; what is no character is a question mark."""
    copy = shutil.copytree(packed.uri, tmp_path / "d\udcff")
    assert run(["report", str(copy), "--out", str(tmp_path / "r.html"), "--pictures", "0"]) == 0
    assert "/d?" in (tmp_path / "r.html").read_text()


def test_samples_that_cannot_be_read_say_why(packed: DatasetDirectory, tmp_path: Path) -> None:
    """Where the shard has gone, the numbers of the index are shown, and the reason instead of pictures."""
    copy = shutil.copytree(packed.uri, tmp_path / "copy")
    for shard in (copy / "shards").iterdir():
        shard.unlink()
    write_report(DatasetDirectory.open(str(copy)), tmp_path / "r.html", pictures=1)
    page = (tmp_path / "r.html").read_text()
    assert "<img" not in page
    assert page.count("no picture: ") == 3
    assert "Reduction, sample by sample" in page


def test_places_alone_have_the_pictures_of_patches(
    packed: DatasetDirectory, page: str, tmp_path: Path
) -> None:
    """Where only places are stored, patches are cut from the named videos: the same pictures, bit for bit."""
    places, out = str(tmp_path / "places"), tmp_path / "r.html"
    assert run(["convert", packed.uri, "--out", places, "--store", "places"]) == 0
    write_report(DatasetDirectory.open(places), out, pictures=1)
    without = out.read_text()
    assert "<img" not in without
    assert without.count("no picture: places alone are stored; name the videos with --source") == 3
    manifest = str(Path(packed.uri).with_name("manifest.jsonl"))
    named = ["--source", manifest, "--pictures", "1"]
    assert run(["report", places, "--out", str(out), *named]) == 0
    assert pictures_of(out.read_text()) == pictures_of(page)


def test_a_video_that_has_gone_is_missed_in_words(packed: DatasetDirectory, tmp_path: Path) -> None:
    """What is stored is shown without the video, and every picture says why; places alone show nothing."""
    (tmp_path / "other.mp4").write_bytes(b"not a video")
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("path,id\nother.mp4,two\n")
    write_report(packed, tmp_path / "r.html", pictures=2, sources=[str(manifest)])
    page = (tmp_path / "r.html").read_text()
    assert page.count("<img") == 2 * 2
    assert page.count("without the video: no list says where it is; name the videos") == 1
    assert page.count("other.mp4") == 1


def test_thumbnails_of_fewer_frames_are_no_hindrance(
    packed: DatasetDirectory, tmp_path: Path
) -> None:
    """Patches of the first frames can be cut where another view shows only every eighth frame."""
    manifest, places = Path(packed.uri).with_name("manifest.jsonl"), str(tmp_path / "places")
    options = ["--store", "places", "--selector", "greedy", "--thumbnail"]
    options += ["--thumbnail-every", "8", "--attempts", "1"]
    assert run(["pack", str(manifest), "--out", places, *options]) == 3
    write_report(DatasetDirectory.open(places), tmp_path / "r.html", pictures=2)
    page = (tmp_path / "r.html").read_text()
    assert page.count("<img") == 2 * 2
    assert "no picture" not in page


def pictures_of(page: str) -> list[str]:
    """Return the pictures of a page."""
    return re.findall(r'src="(data:image/webp;base64,[^"]+)"', page)


def test_a_damaged_index_is_an_error(packed: DatasetDirectory, tmp_path: Path) -> None:
    """A report of what cannot be read is not made up."""
    copy = shutil.copytree(packed.uri, tmp_path / "copy")
    (copy / "index" / "000000.parquet").write_bytes(b"nothing")
    with pytest.raises(
        DatasetError, match=r"not a readable Parquet file .*; restore it from a copy"
    ):
        write_report(DatasetDirectory.open(str(copy)), tmp_path / "r.html", pictures=1)
    assert not (tmp_path / "r.html").exists()


def test_the_page_is_bounded() -> None:
    """The most pictures at their largest, as text, leave room for the rest."""
    assert 3 * MAX_PICTURES * 2 * PICTURE_BYTES * 4 / 3 + 100_000 <= MAX_PAGE_BYTES


def test_another_ending_is_refused(
    packed: DatasetDirectory, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A report is a page and nothing else."""
    assert run(["report", packed.uri, "--out", str(tmp_path / "r.pdf")]) == 2
    assert "does not end in .html" in capfd.readouterr().err
