"""Listing: what is taken, what it is called, and what is refused."""

import json
import os
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gazepack.errors import SourceError, UsageError
from gazepack.jobs.segment import Segment, key_of
from gazepack.jobs.sources import list_packed, list_sources


def touch(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def rows(*sources: Path | str) -> list[Segment]:
    return [Segment.from_row(row) for row in list_sources([str(s) for s in sources]).to_pylist()]


def test_folder_is_walked_and_sorted_by_id(tmp_path: Path) -> None:
    """A folder gives its videos at any depth, sorted, named by their path below it; other files are left."""
    for name in ("b.mp4", "a/z.MKV", "a/b.webm", "notes.txt"):
        touch(tmp_path / name)
    assert [s.id for s in rows(tmp_path)] == ["a/b.webm", "a/z.MKV", "b.mp4"]


def test_ids_do_not_depend_on_where_the_folder_lies(tmp_path: Path) -> None:
    """The same tree under another name has the same ids and keys."""
    for root in ("one", "two/deeper"):
        touch(tmp_path / root / "x" / "a.mp4")
    first, second = rows(tmp_path / "one"), rows(tmp_path / "two/deeper")
    assert [(s.id, s.key) for s in first] == [(s.id, s.key) for s in second]


def test_several_folders_are_named_below_their_common_folder(tmp_path: Path) -> None:
    """Two folders that hold the same file name give two ids."""
    touch(tmp_path / "one" / "a.mp4")
    touch(tmp_path / "two" / "a.mp4")
    assert [s.id for s in rows(tmp_path / "one", tmp_path / "two")] == ["one/a.mp4", "two/a.mp4"]


def test_a_file_named_twice_is_packed_once(tmp_path: Path) -> None:
    """A folder and a file in it give each file once."""
    video = touch(tmp_path / "a.mp4")
    assert len(rows(tmp_path, video)) == 1


def test_a_named_file_is_taken_whatever_its_suffix(tmp_path: Path) -> None:
    """Only folders are filtered by suffix."""
    assert [s.id for s in rows(touch(tmp_path / "clip.dat"))] == ["clip.dat"]


def test_glob_is_expanded(tmp_path: Path) -> None:
    """A pattern gives what it matches; a file whose name looks like a pattern is itself."""
    for name in ("a1.mp4", "a2.mp4", "b1.mp4", "c[1].mp4"):
        touch(tmp_path / name)
    assert [s.id for s in rows(tmp_path / "a*.mp4")] == ["a1.mp4", "a2.mp4"]
    assert [s.id for s in rows(tmp_path / "c[1].mp4")] == ["c[1].mp4"]


@pytest.mark.parametrize(
    "name", ["a b.mp4", "ü–😀.mp4", "new\nline.mp4", "quote'\".mp4", "-rf.mp4"]
)
def test_weird_names_get_safe_keys(tmp_path: Path, name: str) -> None:
    """Any name is kept as id and gives a key of safe characters."""
    touch(tmp_path / name)
    (segment,) = rows(tmp_path)
    assert segment.id == name
    assert segment.problem is None
    assert all(c.isascii() and (c.isalnum() or c in "-_") for c in segment.key)


def test_name_that_is_not_utf8_is_a_problem_on_record(tmp_path: Path) -> None:
    """A file whose name no table can hold stays in the listing, with what is wrong."""
    name = os.fsencode(tmp_path) + b"/bad\xff.mp4"
    Path(os.fsdecode(name)).write_bytes(b"x")
    touch(tmp_path / "good.mp4")
    bad, good = rows(tmp_path)
    assert bad.problem is not None
    assert "not UTF-8" in bad.problem
    assert good.problem is None


def test_missing_and_empty_are_refused(tmp_path: Path) -> None:
    """What does not exist or holds no video is one clear error."""
    with pytest.raises(SourceError, match="does not exist"):
        rows(tmp_path / "nowhere")
    touch(tmp_path / "notes.txt")
    with pytest.raises(SourceError, match=r"holds no video; gazepack takes .*\.mp4"):
        rows(tmp_path)


def test_an_empty_name_is_not_the_folder_one_is_in() -> None:
    """A shell's variable that is not set must not pack the working directory."""
    with pytest.raises(SourceError, match="the name of a source is empty; name a file or a folder"):
        rows("")


def test_links_to_folders_are_followed_but_not_round_in_circles(tmp_path: Path) -> None:
    """A corpus put together by links is whole; a link back to where one is ends there."""
    touch(tmp_path / "disk" / "b" / "v.mp4")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "one").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "back").symlink_to(corpus)
    (tmp_path / "disk" / "here").symlink_to(".")
    assert [s.id for s in rows(corpus)] == ["one/b/v.mp4"]


def test_a_link_that_leads_nowhere_is_not_left_out(tmp_path: Path) -> None:
    """What DVC or git-annex has not fetched is listed, to go on record; only of videos, not of other files."""
    touch(tmp_path / "a.mp4", b"123")
    for name in ("b.mp4", "b.txt"):
        (tmp_path / name).symlink_to("not-fetched")
    assert [(s.id, s.bytes) for s in rows(tmp_path)] == [("a.mp4", 3), ("b.mp4", 0)]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everywhere")
def test_a_folder_that_may_not_be_read_is_not_left_out(tmp_path: Path) -> None:
    """A listing is frozen, so what cannot be listed is named before."""
    touch(tmp_path / "a.mp4")
    (tmp_path / "locked").mkdir(mode=0)
    with pytest.raises(SourceError, match=r"locked' cannot be listed \(Permission denied\)"):
        rows(tmp_path)


def test_the_home_folder_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python has no shell that would write `~` out: not in a folder, a glob or a manifest."""
    monkeypatch.setenv("HOME", str(tmp_path))
    touch(tmp_path / "videos" / "a.mp4", b"123")
    (tmp_path / "videos" / "m.csv").write_text("path\na.mp4\n")
    for source in ("~/videos", "~/videos/*.mp4", "~/videos/m.csv"):
        (found,) = rows(source)
        assert (found.uri, found.bytes) == (str(tmp_path / "videos" / "a.mp4"), 3)


def test_a_uri_that_lost_a_slash_is_refused() -> None:
    """`Path("s3://bucket/videos")` is no path; a Windows drive or an odd name is none of ours to judge."""
    with pytest.raises(
        UsageError, match=r"'s3:/bucket/v' is no URI.*write s3://\.\.\., as a string"
    ):
        rows(str(Path("s3://bucket/v")))
    with pytest.raises(SourceError, match="'odd:/v' does not exist"):
        rows("odd:/v")


def test_keys_are_stable_and_tell_ids_apart() -> None:
    """A safe id is its own key; others get a slug and a hash; a key never looks like a window of another."""
    assert key_of("video_001") == "video_001"
    assert key_of("a/b.mp4") != key_of("a-b.mp4") != key_of("a b.mp4")
    assert key_of("a/b.mp4").startswith("a-b-")
    assert key_of("clip_w0001") != "clip_w0001"
    assert key_of("../../etc/passwd") == key_of("../../etc/passwd")
    assert "." not in key_of("../../etc/passwd")
    assert len(key_of("x" * 5000)) < 150


MANIFESTS = {
    "csv": lambda path: path.write_text(
        "path,id,start,end,caption\na.mp4,one,0,1.5,hello\nb.mp4,two,,,\n"
    ),
    "jsonl": lambda path: path.write_text(
        json.dumps({"path": "a.mp4", "id": "one", "start": 0, "end": 1.5, "caption": "hello"})
        + "\n\n"
        + json.dumps({"path": "b.mp4", "id": "two", "caption": ""})
    ),
    "parquet": lambda path: pq.write_table(
        pa.table(
            {
                "path": ["a.mp4", "b.mp4"],
                "id": ["one", "two"],
                "start": [0.0, None],
                "end": [1.5, None],
                "caption": ["hello", ""],
            }
        ),
        path,
    ),
}


@pytest.mark.parametrize("suffix", MANIFESTS)
def test_manifest_gives_ids_ranges_and_user_columns(tmp_path: Path, suffix: str) -> None:
    """CSV, JSON lines and Parquet say the same; paths are relative to the manifest."""
    touch(tmp_path / "a.mp4", b"12345")
    manifest = tmp_path / f"m.{suffix}"
    MANIFESTS[suffix](manifest)
    one, two = rows(manifest)
    assert (one.id, one.key, one.bytes) == ("one", "one", 5)
    assert (one.start_seconds, one.end_seconds) == (0.0, 1.5)
    assert Path(one.uri) == tmp_path / "a.mp4"
    assert json.loads(one.user) == {"caption": "hello"}
    assert (two.start_seconds, two.end_seconds) == (None, None)


def test_ranges_of_one_video_need_no_ids(tmp_path: Path) -> None:
    """Without a column id, path and range are the id."""
    (tmp_path / "m.csv").write_text("path,start,end\na.mp4,0,2\na.mp4,2,4\n")
    assert [s.id for s in rows(tmp_path / "m.csv")] == ["a.mp4#0-2", "a.mp4#2-4"]


def test_equal_ids_are_refused(tmp_path: Path) -> None:
    """Two rows of one id cannot both be packed."""
    (tmp_path / "m.csv").write_text("path,id\na.mp4,x\nb.mp4,x\n")
    with pytest.raises(SourceError, match=r"two videos have the id 'x'.*column 'id'"):
        rows(tmp_path / "m.csv")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("file,id\na.mp4,x\n", "no column 'path', only 'file', 'id'"),
        ("path\n", "has no rows"),
        ('path\n"a.mp4\n', "cannot be read"),
        ("path, id\na.mp4, x\n", "the column ' id' has spaces around its name"),
        ("path,x,x\na.mp4,1,2\n", "two columns are called 'x'"),
    ],
)
def test_unreadable_manifest_is_refused(tmp_path: Path, content: str, match: str) -> None:
    """A manifest that cannot be used is one line that says why."""
    (tmp_path / "m.csv").write_text(content)
    with pytest.raises(SourceError, match=match):
        rows(tmp_path / "m.csv")


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
def test_only_a_newline_ends_a_json_line(tmp_path: Path, separator: str) -> None:
    """JSON may hold what Unicode calls the end of a line, as captions from the web do."""
    row = json.dumps({"path": "a.mp4", "caption": f"one{separator}two"}, ensure_ascii=False)
    (tmp_path / "m.jsonl").write_bytes(f"{row}\r\n".encode())
    (found,) = rows(tmp_path / "m.jsonl")
    assert json.loads(found.user) == {"caption": f"one{separator}two"}


def test_a_broken_line_is_counted(tmp_path: Path) -> None:
    """Among a million lines, the number is what helps."""
    (tmp_path / "m.jsonl").write_text('{"path": "a.mp4"}\n\n{"path": oops}\n')
    with pytest.raises(SourceError, match=r"cannot be read \(line 3: Expecting value"):
        rows(tmp_path / "m.jsonl")


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"{", b"[1]", b"[" * 100_000])
def test_broken_json_lines_are_refused(tmp_path: Path, data: bytes) -> None:
    """Not UTF-8, not JSON, not an object."""
    touch(tmp_path / "m.jsonl", data)
    with pytest.raises(SourceError, match="cannot be read"):
        rows(tmp_path / "m.jsonl")


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ("../secret.mp4,x,,", "leaves the manifest's folder"),
        (",x,,", "no path"),
        ("a.mp4,x,nan,", "'start' holds 'nan'"),
        ("a.mp4,x,-1,", "'start' holds '-1'"),
        ("a.mp4,x,2,1", "end 1 s, which is not after start 2 s"),
    ],
)
def test_bad_rows_are_problems_on_record(tmp_path: Path, row: str, match: str) -> None:
    """A row that cannot be packed does not stop the others."""
    (tmp_path / "m.csv").write_text(f"path,id,start,end\ngood.mp4,a,,\n{row}\n")
    good, bad = rows(tmp_path / "m.csv")
    assert good.problem is None
    assert bad.problem is not None
    assert bad.problem.startswith("'x': ")
    assert match in bad.problem


@pytest.mark.parametrize(
    ("column", "value", "match"),
    [
        ("start", [1], r"'start' holds \[1\], which is not a number"),
        ("end", 10**400, "'end' holds 1000000"),
        ("id", "a\ud83d", "holds half a character"),
        ("caption", "a\ud83d", "holds half a character"),
        ("path", "a\ud83d.mp4", "holds half a character"),
        ("path", ["a.mp4"], "no path"),
        ("caption", float("nan"), None),
        ("caption", {"deep": [float("inf")]}, None),
        ("bytes", [1], None),
        ("bytes", 10**400, None),
        ("bytes", float("inf"), None),
    ],
)
def test_values_of_any_kind_stop_nothing(
    tmp_path: Path, column: str, value: object, match: str | None
) -> None:
    """JSON may hold anything anywhere: at worst that row is a problem, never the others'."""
    lines = [{"path": "a.mp4", "id": "bad", column: value}, {"path": "b.mp4", "id": "z"}]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    bad, good = rows(tmp_path / "m.jsonl")
    assert good.problem is None
    assert (bad.problem is None) == (match is None)
    assert match is None or re.search(match, bad.problem or "")
    if (
        match is None and column == "caption"
    ):  # JSON, and with it a sample's metadata, knows no such numbers
        held = json.loads(bad.user, parse_constant=pytest.fail)["caption"]
        assert held in (None, {"deep": [None]})


def test_remote_folder_is_listed(tmp_path: Path) -> None:
    """Any fsspec URI can be listed, with the same ids as the local folder."""
    touch(tmp_path / "x" / "a.mp4", b"123")
    remote = rows(f"file://{tmp_path}")
    local = rows(tmp_path)
    assert [(s.id, s.key, s.bytes) for s in remote] == [(s.id, s.key, s.bytes) for s in local]
    assert remote[0].uri.startswith("file://")


def test_a_row_with_more_columns_than_the_header_is_refused(tmp_path: Path) -> None:
    """A comma too many, as in a caption without quotes: one line that says where (found by fuzzing)."""
    manifest = tmp_path / "m.csv"
    manifest.write_text("path,caption\na.mp4,one\nb.mp4,two, three\n")
    with pytest.raises(SourceError, match="row 2 has more columns than the header"):
        list_sources([str(manifest)])


def test_packed_videos_are_listed_under_the_ids_they_have_apart_too(tmp_path: Path) -> None:
    """Together first, then each source alone; what two sources call the same has that as its problem."""
    for name in ("one/a.mp4", "one/b.mp4", "two/b.mp4"):
        touch(tmp_path / name)
    sources = [str(tmp_path / "one"), str(tmp_path / "two")]
    found = {row["id"]: row for row in list_packed(sources).to_pylist()}
    assert list(found) == ["a.mp4", "b.mp4", "one/a.mp4", "one/b.mp4", "two/b.mp4"]
    assert found["a.mp4"]["uri"] == found["one/a.mp4"]["uri"]
    assert [id for id, row in found.items() if row["problem"]] == ["b.mp4"]
    assert "two sources hold a video of this id" in found["b.mp4"]["problem"]


def test_an_id_of_all_sources_together_goes_before_one_of_a_source_alone(tmp_path: Path) -> None:
    """A folder and one inside it were packed together: their ids are not ambiguous."""
    touch(tmp_path / "a.mp4")
    touch(tmp_path / "in" / "a.mp4")
    sources = [str(tmp_path), str(tmp_path / "in")]
    assert list_packed(sources).equals(list_sources(sources))


def test_a_field_too_long_for_csv_is_told_where_it_may_be(tmp_path: Path) -> None:
    """Over 128 KiB a field is refused with its line and the formats that hold it; JSON lines do."""
    touch(tmp_path / "a.mp4")
    long = "x" * 140_000
    manifest = touch(tmp_path / "m.csv", f"path,note\na.mp4,{long}\n".encode())
    told = "line 2 has a field of more than 131,072 characters.*or make it JSON lines or Parquet"
    with pytest.raises(SourceError, match=told):
        rows(manifest)
    line = json.dumps({"path": "a.mp4", "note": long})
    assert long in rows(touch(tmp_path / "m.jsonl", line.encode()))[0].user


@pytest.mark.parametrize("name", ["list.txt", "list.json", "list.tsv"])
def test_a_list_that_is_no_manifest_is_not_taken_for_a_video(tmp_path: Path, name: str) -> None:
    """A file of paths in another form is refused with the forms there are; a folder may be called so."""
    touch(tmp_path / name, b"a.mp4\n")
    with pytest.raises(SourceError, match=r"is no manifest; a list of videos is one of \.csv"):
        list_sources([str(tmp_path / name)])
    touch(tmp_path / "folder.txt" / "a.mp4")
    assert list_sources([str(tmp_path / "folder.txt")]).num_rows == 1


def test_other_separators_than_commas_are_told(tmp_path: Path) -> None:
    """What a spreadsheet of many countries writes, semicolons, is named as what is wrong."""
    manifest = touch(tmp_path / "m.csv", b"path;id\na.mp4;a\n")
    with pytest.raises(SourceError, match=r"only 'path;id'; put commas between the columns"):
        rows(manifest)
