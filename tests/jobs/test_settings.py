"""Impossible settings are refused in one line."""

from typing import Any

import pytest

from gazepack.errors import UsageError
from gazepack.jobs import PackSettings
from gazepack.selectors import build


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"selector": {"min_psnr": 99}}, r"min PSNR 99 dB is not from 10 to 60"),
        (
            {"selector": {"name": "random", "gazing_ratio": 0}},
            r"gazing ratio 0 is not above 0 and at most 1",
        ),
        ({"fit": {"patch_size": 0}}, r"fit.patch_size: .*greater than or equal to 4 \(got 0\)"),
        ({"fit": {"patch_size": 15}}, r"fit.patch_size: .*multiple of 2 \(got 15\)"),
        ({"fit": {"max_tiles": 0}}, r"fit.max_tiles: .* \(got 0\)"),
        ({"sampling": {"fps": 0}}, r"sampling.fps: .* \(got 0\)"),
        ({"sampling": {"fps": 1, "num_frames": 2}}, r"fps or num_frames, not both"),
        ({"start_seconds": 3, "end_seconds": 2}, r"end 2 s is not after start 3 s"),
        ({"codec": {"name": "zstd", "quality": 90}}, r"quality 90 is a setting of jpeg"),
        ({"codec": {"quality": 101}}, r"codec.quality: .* \(got 101\)"),
        ({"shards": {"split_seconds": 0}}, r"shards.split_seconds: .*greater than 0 \(got 0\)"),
        ({"shards": {"split_seconds": "soon"}}, r"shards.split_seconds: .* \(got 'soon'\)"),
        ({"colour": "red"}, r"no setting 'colour'; there are sampling.fps, .*split_seconds"),
        ({"fps": 2}, r"no setting 'fps'; did you mean 'sampling.fps'\? there are sampling.fps, "),
        (
            {"selector": {"kind": "greedy"}},
            r"no setting 'selector.kind'; there are selector.name, selector.model, .*selector.seed$",
        ),
        (
            {"codec": {"nam": "zstd"}},
            r"no setting 'codec.nam'; did you mean 'codec.name'\? there are codec.name, codec.quality$",
        ),
        (
            {"selector": "greedy"},
            r"'selector' is 'greedy', not a table of settings; there are selector.name, ",
        ),
    ],
)
def test_impossible_settings_are_refused(values: dict[str, Any], match: str) -> None:
    """The line names the setting, the value and what is allowed."""
    with pytest.raises(UsageError, match=match) as caught:
        PackSettings.parse(values)
    assert "\n" not in str(caught.value)


def test_provenance_tells_settings_apart_and_holds_no_path() -> None:
    """Provenance is JSON of everything that decides bytes."""
    plain, other = PackSettings.parse({}), PackSettings.parse({"sampling": {"fps": 2}})
    accounts = [s.provenance(build(s.selector, device="cpu")) for s in (plain, plain, other)]
    assert accounts[0] == accounts[1] != accounts[2]
    assert accounts[0]["selector"]["name"] == "autogaze"
    assert accounts[0]["min_psnr"] == 30.0


@pytest.mark.parametrize(
    ("given", "meant"), [("never", None), (None, None), ("90", 90.0), (90, 90.0)]
)
def test_splitting_may_be_left_off(given: Any, meant: float | None) -> None:
    """`never` stands for nothing where a language has no word for it, and the length is provenance."""
    settings = PackSettings.parse({"shards": {"split_seconds": given}})
    assert settings.shards.split_seconds == meant
    account = settings.provenance(build(settings.selector, device="cpu"))
    assert account["shards"]["split_seconds"] == meant
