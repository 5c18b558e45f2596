"""Gazed tokens into vision transformers and multimodal models."""

from gazepack.encoders.attention import RaggedAttention, Rule
from gazepack.encoders.encoder import Encoded, GazedEncoder
from gazepack.encoders.layout import Layout
from gazepack.encoders.mllm import GazedMllm
from gazepack.encoders.mrope import mrope_positions
from gazepack.encoders.presets import PRESETS, Preset, preset, with_preset
from gazepack.encoders.prompt import Prompt
from gazepack.encoders.qwen import Features, GazedQwenTower
from gazepack.encoders.runs import Run

__all__ = [
    "PRESETS",
    "Encoded",
    "Features",
    "GazedEncoder",
    "GazedMllm",
    "GazedQwenTower",
    "Layout",
    "Preset",
    "Prompt",
    "RaggedAttention",
    "Rule",
    "Run",
    "mrope_positions",
    "preset",
    "with_preset",
]
