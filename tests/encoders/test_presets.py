"""Presets are settings that packing and encoding accept."""

import inspect
from pathlib import Path

import pytest

from gazepack.cli.main import run
from gazepack.cli.pack import settings_from
from gazepack.encoders import PRESETS, GazedEncoder, preset, with_preset
from gazepack.errors import UsageError
from gazepack.jobs import PackSettings
from gazepack.jobs.frames import FitSettings


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_packs_and_reads(name: str) -> None:
    """Packing accepts the settings of a preset, with a model where it gazes, and the encoder its arguments."""
    chosen = preset(name)
    selector = dict(chosen.pack.get("selector", {}))
    if selector.get("name") == "autogaze":
        selector["model"] = "folder"
    settings = PackSettings.parse({**chosen.pack, "selector": selector})
    assert settings.fit.patch_size == chosen.pack["fit"]["patch_size"]
    assert set(chosen.encoder) <= set(inspect.signature(GazedEncoder).parameters)


def test_an_unknown_preset_is_refused() -> None:
    """A name that nobody knows is refused with all that are known."""
    with pytest.raises(UsageError, match=r"no preset 'vit'; there are siglip2-base-p16-224, "):
        preset("vit")


def test_given_settings_go_first() -> None:
    """A preset lies under what is given, value by value."""
    values = with_preset(
        {"preset": "dinov2-p14", "fit": {"max_tiles": 2}, "codec": {"name": "raw"}}
    )
    assert values == {
        "sampling": {"fps": 2.0},
        "fit": {"fit": "tiles", "patch_size": 14, "max_tiles": 2},
        "codec": {"name": "raw"},
    }


def test_without_a_preset_nothing_changes() -> None:
    """Settings that name no preset stay as they are."""
    assert with_preset({"fit": {"max_tiles": 2}}) == {"fit": {"max_tiles": 2}}


def test_settings_that_exclude_each_other_are_replaced() -> None:
    """Another sampling, or another selector, takes the place of the preset's with all that belongs to it."""
    given = {"sampling": {"fps": 1.0}, "selector": {"name": "greedy"}}
    values = with_preset({"preset": "siglip-so400m-p14-392", **given})
    assert (values["sampling"], values["selector"]) == (given["sampling"], given["selector"])
    gazed = with_preset({"preset": "siglip-so400m-p14-392", "selector": {"model": "folder"}})
    assert gazed["selector"]["loss_threshold"] == 0.6
    assert gazed["selector"]["model"] == "folder"
    PackSettings.parse(values)
    PackSettings.parse(gazed)


def test_the_command_line_takes_presets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`pack --preset` lays its settings under the options; an unknown one ends with 2 and a line."""
    settings = settings_from(None, {"preset": "qwen2.5-vl", "max_tiles": 2})
    assert settings.fit == FitSettings(fit="tiles", patch_size=28, max_tiles=2)
    assert run(["pack", str(tmp_path), "--out", str(tmp_path / "out"), "--preset", "vit"]) == 2
    assert "there is no preset 'vit'" in capsys.readouterr().err
