"""What a user may say about selection, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gazepack.autogaze import (
    AutoGazeConfig,
    AutoGazeNetwork,
    fresh_canvas_network,
    load_checkpoint,
    save_checkpoint,
)
from gazepack.errors import CheckpointError, UsageError
from gazepack.selectors import All, Difference, Gazing, Greedy, Random, SelectorSettings, build

TINY = Path(__file__).parent.parent / "data" / "autogaze-tiny"


def test_the_default_is_the_network_in_the_package_at_30_db() -> None:
    """With nothing said, it chooses, and frames are topped up to 30 dB; `greedy` has the same bound."""
    assert SelectorSettings(name="autogaze", min_psnr=30.0) == SelectorSettings()
    assert SelectorSettings(name="greedy").min_psnr == 30.0


def test_the_network_in_the_package_knows_where_to_stop() -> None:
    """`autogaze` without a model is bound to 30 dB, unless something else ends a frame."""
    assert SelectorSettings(name="autogaze").min_psnr == 30.0
    assert SelectorSettings(name="autogaze", min_psnr=26).min_psnr == 26.0
    assert SelectorSettings(name="autogaze", gazing_ratio=0.1).min_psnr is None
    assert SelectorSettings(name="autogaze", loss_threshold=-28).min_psnr is None


def test_settings_come_back_from_json() -> None:
    """What was written is what is read, filled defaults included."""
    for settings in (
        SelectorSettings(),
        SelectorSettings(name="random", gazing_ratio=(0.2, 0.06)),
        SelectorSettings(name="autogaze", model="m", loss_threshold=0.6, min_psnr=26),
    ):
        assert settings == SelectorSettings.model_validate_json(settings.model_dump_json())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_psnr": 99}, r"min PSNR 99 dB is not from 10 to 60; .*8-bit"),
        ({"min_psnr": 9.9}, r"min PSNR 9\.9 dB"),
        ({"min_psnr": float("nan")}, r"min PSNR nan dB"),
        ({"name": "random", "gazing_ratio": 0}, r"gazing ratio 0 is not above 0 and at most 1; "),
        ({"name": "random", "gazing_ratio": 1.1}, r"gazing ratio 1\.1 "),
        ({"name": "random", "gazing_ratio": [0.1, -1]}, r"gazing ratio -1 "),
        (
            {"name": "random", "gazing_ratio": [0.1] * 17},
            r"gazing ratio has 17 values; .*16 frames",
        ),
        ({"name": "random", "gazing_ratio": []}, r"gazing ratio has 0 values"),
        ({"name": "random", "gazing_ratio": 0.1, "seed": -1}, r"seed -1 is below 0"),
        ({"name": "best"}, r"'autogaze', 'greedy', 'difference', 'random' or 'all'"),
        ({"ratio": 0.1}, r"Extra inputs"),
        (
            {"name": "autogaze", "model": "m"},
            r"autogaze does not know where to stop; give a gazing",
        ),
        (
            {"name": "autogaze", "model": "m", "loss_threshold": float("inf")},
            r"loss threshold inf is not a finite number",
        ),
        (
            {"name": "random"},
            r"random does not know where to stop; give a gazing ratio, a min PSNR",
        ),
        ({"name": "difference"}, r"difference does not know where to stop"),
    ],
)
def test_refused(values: dict[str, Any], message: str) -> None:
    """A value that cannot be is refused with what is allowed and what to do."""
    with pytest.raises(ValidationError, match=message):
        SelectorSettings.model_validate(values)


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("greedy", "model", "m"),
        ("greedy", "gazing_ratio", 0.1),
        ("greedy", "loss_threshold", 0.6),
        ("greedy", "seed", 0),
        ("difference", "seed", 1),
        ("random", "loss_threshold", 0.6),
        ("all", "gazing_ratio", 0.1),
        ("autogaze", "seed", 1),
    ],
)
def test_options_that_would_be_ignored_are_refused(name: str, option: str, value: object) -> None:
    """An option that the named selector would not look at is refused, naming who would."""
    with pytest.raises(
        ValidationError,
        match=f"{option} {value} means nothing to the selector {name}; leave it out",
    ):
        SelectorSettings.model_validate({"name": name, option: value, "min_psnr": 30})


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({}, Gazing),
        ({"name": "greedy"}, Greedy),
        ({"name": "difference", "min_psnr": 30}, Difference),
        ({"name": "random", "gazing_ratio": 0.1, "seed": 7}, Random),
        ({"name": "all", "min_psnr": 30}, All),
        ({"name": "autogaze", "model": str(TINY), "gazing_ratio": 0.1}, Gazing),
    ],
)
def test_build(values: dict[str, Any], kind: type) -> None:
    """The selector made is the one named, with the options given."""
    selector = build(SelectorSettings.model_validate(values), device="cpu")
    assert isinstance(selector, kind)
    said = {key: value for key, value in values.items() if key not in ("min_psnr", "model")}
    assert said.items() <= selector.settings().items()


def test_build_without_a_checkpoint(tmp_path: Path) -> None:
    """A model that is not there is a checkpoint error, not a traceback."""
    settings = SelectorSettings(name="autogaze", model=str(tmp_path), gazing_ratio=0.1)
    with pytest.raises(CheckpointError, match=r"no model\.safetensors in"):
        build(settings, device="cpu")


@pytest.fixture
def canvas_model(canvas_config: AutoGazeConfig, tmp_path: Path) -> Path:
    """The folder of a tiny network that is shown the canvas and predicts dB."""
    return save_checkpoint(fresh_canvas_network(canvas_config, seed=0), tmp_path / "model").parent


def test_without_a_model_the_package_has_one(
    canvas_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The selector gazes with the weights in the package, to the bound."""
    monkeypatch.setattr("gazepack.autogaze.gaze.BUNDLED", canvas_model)
    bundled = build(SelectorSettings(name="autogaze"), device="cpu")
    named = build(
        SelectorSettings(name="autogaze", model=str(canvas_model), min_psnr=30), device="cpu"
    )
    assert bundled.stops_at_bound
    assert named.settings() == bundled.settings()


def test_a_package_without_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the package lost its weights, that is said, not a traceback."""
    monkeypatch.setattr("gazepack.autogaze.gaze.BUNDLED", tmp_path / "bundled")
    with pytest.raises(CheckpointError, match="bundled"):
        build(SelectorSettings(name="autogaze"), device="cpu")


@pytest.mark.parametrize(
    "end", [{"min_psnr": 28}, {"loss_threshold": -25, "min_psnr": 28}, {"gazing_ratio": [0.2, 0.1]}]
)
def test_the_account_of_a_gaze_gives_it_again(canvas_model: Path, end: dict[str, Any]) -> None:
    """Settings made from what a selector says of itself, with the bound, build an equal selector."""
    values = {"name": "autogaze", "model": str(canvas_model), **end}
    first = build(SelectorSettings.model_validate(values), device="cpu")
    known = {k: v for k, v in first.settings().items() if k in SelectorSettings.model_fields}
    again = SelectorSettings.model_validate({**values, **known})
    assert first.settings() == build(again, device="cpu").settings()


def test_a_model_that_predicts_db_takes_its_threshold_from_the_bound(tmp_path: Path) -> None:
    """With only a min PSNR, the threshold is minus the bound and choices end where the bound is met."""
    config = load_checkpoint(TINY).network.config
    own = AutoGazeNetwork(config.model_copy(update={"loss_unit": "negative_psnr"}))
    save_checkpoint(own, tmp_path)
    values = {"name": "autogaze", "model": str(tmp_path), "min_psnr": 28.0}
    derived = build(SelectorSettings.model_validate(values), device="cpu")
    assert derived.stops_at_bound
    assert derived.settings()["loss_threshold"] == -28.0
    given = build(SelectorSettings.model_validate({**values, "loss_threshold": -25}), device="cpu")
    assert not given.stops_at_bound
    assert given.settings()["loss_threshold"] == -25.0


@pytest.mark.parametrize("threshold", [0.6, -9.0])
def test_a_threshold_of_another_unit_is_refused(canvas_model: Path, threshold: float) -> None:
    """0.6 of the published unit is -0.6 dB to a model of dB, which would end every frame after one token."""
    values = {"name": "autogaze", "model": str(canvas_model), "loss_threshold": threshold}
    with pytest.raises(UsageError, match=r"predicts minus the PSNR; give one of at most -10"):
        build(SelectorSettings.model_validate(values), device="cpu")


def test_a_model_of_another_unit_does_not() -> None:
    """A bound says nothing to a model that does not predict dB; it needs another end."""
    values = {"name": "autogaze", "model": str(TINY), "min_psnr": 28.0}
    with pytest.raises(UsageError, match=r"does not predict dB, so a min PSNR does not tell"):
        build(SelectorSettings.model_validate(values), device="cpu")
    selector = build(SelectorSettings.model_validate({**values, "gazing_ratio": 0.1}), device="cpu")
    assert selector.settings()["loss_threshold"] is None
