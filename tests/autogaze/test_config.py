import json

import pytest

from gazepack.autogaze import AutoGazeConfig
from gazepack.errors import CheckpointError


def test_a_published_file_is_read(tiny):
    """Its sizes are taken over; it remembers tokens and is decoded at published positions."""
    config = AutoGazeConfig.from_json((tiny.folder / "config.json").read_bytes())
    assert (config.decoder.hidden_size, config.decoder.num_multi_token_pred) == (32, 4)
    assert (config.decode_positions, config.loss_unit) == ("published", "none")
    assert config.memory == "tokens"


def test_a_file_reads_back_as_it_was_written():
    """Our own fields and the sizes survive the round trip."""
    config = AutoGazeConfig.default()
    assert AutoGazeConfig.from_json(config.to_json()) == config
    assert (config.decode_positions, config.loss_unit) == ("contiguous", "negative_psnr")
    assert config.memory == "canvas"


def test_keys_of_the_published_training_code_are_ignored():
    """A config as transformers writes it loads."""
    text = json.dumps({"model_type": "autogaze", "gazing_ratio_config": {"a": 1}})
    assert AutoGazeConfig.from_json(text) == AutoGazeConfig()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scales": "112+224"}, r"scales: .*'112\+224'"),
        ({"decode_positions": "frozen"}, "decode_positions: .*'frozen'"),
        ({"memory": "disk"}, "memory: .*'disk'"),
        ({"gaze_model_config": {"input_img_size": 448}}, "input_img_size: .*'448'"),
        ({"gaze_model_config": {"connector_config": {"hidden_dim": 64}}}, "must be equal"),
        (
            {"gaze_model_config": {"gaze_decoder_config": {"num_attention_heads": 5}}},
            "does not split into 5 heads",
        ),
        (
            {"gaze_model_config": {"gaze_decoder_config": {"num_key_value_heads": 2}}},
            "num_key_value_heads must equal",
        ),
        (
            {"gaze_model_config": {"gaze_decoder_config": {"rope_scaling": {"rope_type": "yarn"}}}},
            "rope_type: .*'yarn'",
        ),
    ],
)
def test_what_is_not_implemented_is_refused(change, message):
    """A value that would change the arithmetic is named, never ignored."""
    with pytest.raises(CheckpointError, match=message):
        AutoGazeConfig.from_json(json.dumps(change))


def test_a_file_that_is_not_json_is_refused():
    """The error names the file and says what was expected."""
    with pytest.raises(CheckpointError, match=r"here\.json: the whole file: Invalid JSON"):
        AutoGazeConfig.from_json("{", source="here.json")
