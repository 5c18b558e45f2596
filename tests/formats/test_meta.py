"""Metadata: what they must hold, and their one spelling."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gazepack.errors import DatasetError, UsageError
from gazepack.formats.meta import canonical_json, check_meta, parse_json

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
)


@given(value=JSON)
def test_any_json_comes_back(value):
    """Writing and reading is the identity, and json reads it too."""
    data = canonical_json(value)
    assert parse_json(data) == value
    assert json.loads(data) == value


def test_equal_metadata_are_equal_bytes():
    """The order in which keys were set does not matter; there are no spaces."""
    assert canonical_json({"b": 1, "a": "ü"}) == canonical_json({"a": "ü", "b": 1})
    assert canonical_json({"b": 1, "a": "ü"}) == '{"a":"ü","b":1}'.encode()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), "\udc80", {1: {2}}])
def test_what_is_not_json_is_refused(value):
    """NaN, objects and lone surrogates cannot be stored."""
    with pytest.raises(UsageError, match="cannot be written as JSON"):
        canonical_json(value)


@pytest.mark.parametrize("data", [b"", b"{", b'{"a": NaN}', b"\xff", b"[" * 100_000, b"-Infinity"])
def test_damaged_json_is_refused(data):
    """Damage, NaN and absurd nesting are a DatasetError."""
    with pytest.raises(DatasetError, match="not valid JSON"):
        parse_json(data)


def test_keys_of_a_later_version_are_kept(make_meta):
    """A reader ignores what it does not know."""
    assert check_meta(make_meta("k", tokens=(1,)) | {"new": 1}).key == "k"


@pytest.mark.parametrize(
    ("path", "value", "match"),
    [
        (("format_version",), 2, "format_version: "),
        (("views",), [], "at least one view"),
        (("window",), -1, "window: "),
        (("first_frame",), None, "first_frame: "),
        (("source", "bytes"), "many", "source.bytes: "),
        (("source", "fps"), float("nan"), "source.fps: "),
        (("views", 0, "psnr"), [1.0], "lists of unequal length"),
        (("views", 0, "psnr"), [100.5, 1.0], "PSNR above 100.0 dB"),
        (("views", 0, "tokens"), [65536, 1], "a frame of 65536 tokens"),
        (("views", 0, "rows"), 0, "views.0.rows: "),
        (
            ("views", 0, "every"),
            2,
            "view 'tiles' leaves out frames, and is not a further, last one",
        ),
        (("user",), None, "user: "),
    ],
)
def test_wrong_values_are_refused_with_their_path(path, value, match, make_meta):
    """The error names the place in the JSON."""
    meta = make_meta("k", tokens=(1, 2))
    inner = meta
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    with pytest.raises(UsageError, match=match):
        check_meta(meta)


@pytest.mark.parametrize(
    ("frames", "every", "problem"),
    [
        ([3, 3], [1, 1], None),
        ([3, 2], [1, 2], None),
        ([3, 1], [1, 4], None),
        ([0, 0], [1, 2], None),
        ([3, 2], [1, 1], "view 'v1' has 2 frames: the first has 3, of which it shows every 1"),
        ([3, 3], [1, 2], "view 'v1' has 3 frames: the first has 3, of which it shows every 2"),
        ([4, 2, 4], [1, 2, 1], "view 'v1' leaves out frames"),
        ([3, 2], [1, 0], "every: "),
    ],
)
def test_a_last_view_may_leave_out_frames(frames, every, problem, make_meta):
    """As many as it says and only the last one, so that the index tells which frame each count is of."""
    meta = make_meta("k", tokens=(1,))
    meta["views"] = [
        make_meta("k", tokens=(1,) * number)["views"][0] | {"name": f"v{view}", "every": step}
        for view, (number, step) in enumerate(zip(frames, every, strict=True))
    ]
    if problem is None:
        assert [view.every for view in check_meta(meta).views] == every
        return
    with pytest.raises(UsageError, match=problem):
        check_meta(meta)


def test_a_missing_value_is_refused_with_its_path(make_meta):
    """Every key of version 1 is required."""
    meta = make_meta("k", tokens=(1,))
    del meta["source"]["codec"]
    with pytest.raises(UsageError, match=r"source\.codec: Field required"):
        check_meta(meta)
