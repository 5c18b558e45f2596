"""Gazed tokens into vision transformers and multimodal models."""

from gazepack.encoders.attention import RaggedAttention, Rule
from gazepack.encoders.encoder import Encoded, GazedEncoder
from gazepack.encoders.layout import Layout
from gazepack.encoders.mrope import mrope_positions
from gazepack.encoders.presets import PRESETS, Preset, preset, with_preset

__all__ = [
    "PRESETS",
    "Encoded",
    "GazedEncoder",
    "Layout",
    "Preset",
    "RaggedAttention",
    "Rule",
    "mrope_positions",
    "preset",
    "with_preset",
]
