"""Making and judging AutoGaze networks: greedy labels, pre-training, post-training, evaluation."""

from gazepack.training.clips import Video
from gazepack.training.evaluate import Evaluation, View, evaluate
from gazepack.training.grpo import RlSettings
from gazepack.training.labels import Labels, label_clips
from gazepack.training.ntp import NtpSettings
from gazepack.training.rewards import FeatureReward, PaintingReward, Reward
from gazepack.training.runs import default_config, run_ntp, run_rl

__all__ = [
    "Evaluation",
    "FeatureReward",
    "Labels",
    "NtpSettings",
    "PaintingReward",
    "Reward",
    "RlSettings",
    "Video",
    "View",
    "default_config",
    "evaluate",
    "label_clips",
    "run_ntp",
    "run_rl",
]
