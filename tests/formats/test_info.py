"""dataset.json."""

import json

import pytest
from pydantic import ValidationError

from gazepack.errors import DatasetError, FormatVersionError
from gazepack.formats import DatasetInfo, codec_from


def test_it_comes_back(info):
    """Writing and reading is the identity, and the file is canonical."""
    data = info.to_json()
    assert DatasetInfo.from_json(data) == info
    assert data == (json.dumps(json.loads(data), indent=2, sort_keys=True) + "\n").encode()


def test_provenance_is_plain_json():
    """Tuples become lists at once, so that a written and a read provenance are equal."""
    info = DatasetInfo(codec={"name": "jpeg"}, patch_size=16, provenance={"a": (1, 2)})
    assert DatasetInfo.from_json(info.to_json()).differences(info) == []
    assert info.codec == {"name": "jpeg", "quality": 95}


def test_differences_show_both_sides(info):
    """Every differing leaf is one line; the writer is not compared."""
    other = DatasetInfo(
        writer="gazepack 9.9",
        codec=codec_from("zstd", level=9).settings(),
        patch_size=16,
        provenance={"selector": {"name": "random"}, "fps": 2},
    )
    assert info.differences(other) == [
        "codec.level: 3 in the dataset, 9 asked",
        "provenance.fps: nothing in the dataset, 2 asked",
        "provenance.min_psnr: 30.0 in the dataset, nothing asked",
        "provenance.selector.name: 'greedy' in the dataset, 'random' asked",
    ]
    assert info.differences(info.model_copy(update={"writer": "x"})) == []


def test_a_newer_version_is_refused_before_anything_else():
    """A later format may hold anything; only its number is read."""
    data = json.dumps({"format": "gazepack", "format_version": 2, "new": []}).encode()
    with pytest.raises(FormatVersionError, match=r"version 2 is newer than 1.*; update gazepack"):
        DatasetInfo.from_json(data)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"format": "zip"}, 'does not say "format": "gazepack"'),
        ({"format_version": 0}, "format_version: "),
        ({"format_version": "1"}, "format_version: "),
        ({"extra": 1}, "extra: there is nothing of this name here"),
        ({"codec": {"name": "avif"}}, "codec 'avif' does not exist"),
        ({"patch_size": 15}, "15 is not an even number"),
        ({"scale_sides": [2, 4]}, "scale sides"),
        ({"container": "zip"}, "container: "),
    ],
)
def test_wrong_content_is_damage(info, change, match):
    """Everything that is not a version 1 file is a DatasetError."""
    data = json.dumps(json.loads(info.to_json()) | change).encode()
    with pytest.raises(DatasetError, match=match):
        DatasetInfo.from_json(data)


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff"])
def test_garbage_is_damage(data):
    """What is no JSON object is a DatasetError with its place."""
    with pytest.raises(DatasetError, match=r"^dataset\.json: "):
        DatasetInfo.from_json(data)


def test_a_file_that_was_cut_short_has_a_remedy(info):
    """The error says where the file can be had again."""
    with pytest.raises(DatasetError, match=r"^dataset\.json: .*; restore it from a copy"):
        DatasetInfo.from_json(info.to_json()[:-40])


def test_provenance_that_is_not_json_is_refused():
    """NaN cannot be stored, so it cannot be asked for."""
    with pytest.raises(ValidationError, match="cannot be written as JSON"):
        DatasetInfo(codec={"name": "jpeg"}, patch_size=16, provenance={"a": float("nan")})


def test_an_unknown_setting_is_refused():
    """A misspelt setting is an error, not a silent default."""
    with pytest.raises(ValidationError, match="patchsize"):
        DatasetInfo(codec={"name": "jpeg"}, patch_size=16, patchsize=14)
