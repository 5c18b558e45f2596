import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from gazepack.autogaze import AutoGazeNetwork, CanvasNetwork
from gazepack.autogaze.weights import load_checkpoint, save_checkpoint
from gazepack.errors import CheckpointError, StorageError

LM_HEAD = "gazing_model.gaze_decoder.lm_head.weight"


@pytest.fixture
def checkpoint(tiny, tmp_path):
    """A writable copy of the small checkpoint."""
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(tiny.folder / name, tmp_path / name)
    return tmp_path


def rewrite(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def test_a_folder_and_its_file_load_alike(checkpoint):
    """Both name the same weights and carry the file's hash."""
    first = load_checkpoint(checkpoint)
    second = load_checkpoint(str(checkpoint / "model.safetensors"))
    assert first.sha256 == second.sha256
    assert first.sha256 == hashlib.sha256(first.path.read_bytes()).hexdigest()
    assert isinstance(first.network, AutoGazeNetwork)
    stored = load_file(first.path)[LM_HEAD]
    assert torch.equal(first.network.gaze_decoder.lm_head.weight, stored)


def test_a_saved_network_loads_back(tiny_network, tmp_path):
    """Weights and config survive, under published names, as the same bytes each time."""
    path = save_checkpoint(tiny_network, tmp_path / "a")
    loaded = load_checkpoint(tmp_path / "a")
    assert loaded.network.config == tiny_network.config
    for name, tensor in tiny_network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], tensor)
    assert LM_HEAD in load_file(path)
    again = save_checkpoint(loaded.network, tmp_path / "b")
    assert again.read_bytes() == path.read_bytes()
    assert sorted(p.name for p in path.parent.iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_network_with_a_canvas_loads_back(canvas_network, tmp_path, dtype):
    """Its memory is read from its config, its weights come back as rounded to the file's dtype."""
    path = save_checkpoint(canvas_network, tmp_path / "a", dtype=dtype)
    assert json.loads((tmp_path / "a/config.json").read_text())["memory"] == "canvas"
    assert {tensor.dtype for tensor in load_file(path).values()} == {dtype}
    network = load_checkpoint(tmp_path / "a").network
    assert isinstance(network, CanvasNetwork)
    assert network.config == canvas_network.config
    for name, tensor in canvas_network.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor.to(dtype).float())
    again = save_checkpoint(network, tmp_path / "b", dtype=dtype)
    assert again.read_bytes() == path.read_bytes()


def test_weights_of_another_memory_are_refused(canvas_network, tmp_path):
    """A config that speaks of tokens does not fit weights that speak of a canvas."""
    save_checkpoint(canvas_network, tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**values, "memory": "tokens"}))
    with pytest.raises(CheckpointError, match=r"tensor gazing_model\.vision_model\..* is missing"):
        load_checkpoint(tmp_path)


def test_saving_into_a_file_is_refused(tiny_network, tmp_path):
    """A target that cannot be a folder is named."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write a checkpoint to"):
        save_checkpoint(tiny_network, tmp_path / "file")


def test_a_missing_tensor_is_named(checkpoint):
    """The error says which tensor and which file."""
    rewrite(checkpoint, lambda tensors: tensors.pop(LM_HEAD))
    with pytest.raises(CheckpointError, match=rf"model\.safetensors: tensor {LM_HEAD} is missing"):
        load_checkpoint(checkpoint)


def test_a_misshapen_tensor_is_named(checkpoint):
    """Both shapes are shown."""
    rewrite(checkpoint, lambda tensors: tensors.update({LM_HEAD: torch.zeros(3, 32)}))
    message = rf"tensor {LM_HEAD} has shape \(3, 32\), its config.json asks for \(1064, 32\)"
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(checkpoint)


def test_an_unexpected_tensor_is_named(checkpoint):
    """A file with more in it is of another model."""
    rewrite(checkpoint, lambda tensors: tensors.update(extra=torch.zeros(1)))
    with pytest.raises(CheckpointError, match="unexpected tensor extra"):
        load_checkpoint(checkpoint)


def test_numbers_that_are_not_finite_are_refused(checkpoint):
    """A diverged training run is not a model."""
    rewrite(checkpoint, lambda tensors: tensors[LM_HEAD].fill_(torch.nan))
    with pytest.raises(CheckpointError, match=f"tensor {LM_HEAD} holds values that are not finite"):
        load_checkpoint(checkpoint)


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"\xff" * 64])
def test_a_damaged_file_is_refused(checkpoint, content):
    """Bytes that are no safetensors file end in one line."""
    (checkpoint / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"cannot read .*fetch or copy the file again"):
        load_checkpoint(checkpoint)


class Bomb:
    """Unpickling this would leave a mark."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return os.mkdir, (self.mark,)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_a_pickle_is_refused_unopened(tmp_path, name):
    """Neither the file nor its folder is loaded, and nothing in it runs."""
    (tmp_path / name).write_bytes(pickle.dumps(Bomb(tmp_path / "boom")))
    for source in (tmp_path / name, tmp_path):
        with pytest.raises(CheckpointError, match="is a pickle, which can run code"):
            load_checkpoint(source)
    assert not (tmp_path / "boom").exists()


def test_a_missing_config_is_named(checkpoint):
    """Weights without their config cannot be understood."""
    (checkpoint / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"cannot read .*config\.json.*keep it beside"):
        load_checkpoint(checkpoint)


def test_an_empty_folder_is_refused(tmp_path):
    """The error says what was looked for."""
    with pytest.raises(CheckpointError, match=r"no model\.safetensors in"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("source", ["/not/there", "gone.safetensors", "a/b/c", "plain"])
def test_what_is_neither_a_path_nor_a_hub_name_is_refused(source):
    """The error says what may be given."""
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*or a hub name"):
        load_checkpoint(source)


def test_a_file_of_another_kind_is_refused(tmp_path):
    """Only safetensors are read."""
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(CheckpointError, match=r"notes\.txt is not a checkpoint"):
        load_checkpoint(tmp_path / "notes.txt")


def test_an_unreachable_hub_is_one_line(tmp_path):
    """Without network a hub name fails with the reason and the remedy, and no traceback."""
    code = """
from gazepack.autogaze import AutoGazeNetwork, CanvasNetwork
from gazepack.autogaze.weights import load_checkpoint
from gazepack.errors import CheckpointError
try:
    load_checkpoint("nvidia/AutoGaze")
except CheckpointError as error:
    print(error)
"""
    environment = {
        **os.environ,
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HOME": str(tmp_path),
        "HF_HUB_OFFLINE": "0",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("cannot fetch nvidia/AutoGaze from the Hugging Face hub: ")
    assert "check the name and the network" in done.stdout
    assert len(done.stdout.splitlines()) == 1
