"""A little MLLM, trained on dense and on gazed video: same videos, same steps, same seeds.

    python examples/train_mllm.py [FOLDER]                                      both, a table and a plot
    torchrun --nproc-per-node 2 examples/train_mllm.py FOLDER --tokens gazed    one of them, on two ranks

Each video is a smooth picture over which a red ball moves until it leaves; in a corner stands a small digit,
which changes when the ball leaves. The question is which digit stands there before, or after: it needs a detail
of a few pixels and the order of time. A SigLIP of 2 layers reads the frames, a Llama of 2 layers reads its
features, both from random weights. Everything is packed by `gazepack pack` and read by `GazeDataset`, dense
(`--selector all`, finest scale only) and gazed (`greedy` at 30 dB); nothing else differs.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from transformers import LlamaConfig, LlamaForCausalLM, SiglipVisionConfig, SiglipVisionModel

from gazepack import GazeDataset
from gazepack.cli.main import run
from gazepack.encoders import GazedEncoder
from gazepack.geometry import FINEST
from gazepack.loader import Batch
from gazepack.video import write_video

SIDE, PATCH_SIZE, NUM_FRAMES, FPS = 56, 4, 6, 2
SPLITS = {"train": range(2048), "val": range(2048, 2304)}
"""The numbers of the videos."""
WIDTH, LAYERS, HEADS = 64, 2, 4
GLYPHS = ("111101101101111", "010110010010111", "101101111001001", "111001010010010")
"""The digits 0, 1, 4 and 7, three cells wide and five high."""
QUESTIONS = ("before", "after")
TOKENS = {
    "dense": ["--selector", "all"],
    "gazed": ["--selector", "greedy", "--min-psnr", "30"],
}
"""How each is packed."""


# ------------------------------------------------------------------------------------------ videos


def make_datasets(folder: Path) -> None:
    """Draw the videos and pack them both ways, unless that is done."""
    for split, numbers in SPLITS.items():
        manifest = folder / f"{split}.jsonl"
        if not manifest.exists():
            (folder / split).mkdir(parents=True, exist_ok=True)
            rows = []
            for number in numbers:
                frames, row = draw(number)
                path = folder / split / f"{number:05d}.mp4"
                write_video(path, frames, fps=FPS, options={"crf": "10"})
                rows.append({"path": f"{split}/{path.name}", **row})
            manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
        for name, options in TOKENS.items():
            line = ["pack", str(manifest), "--out", str(folder / f"{name}-{split}"), *options]
            line += ["--patch-size", str(PATCH_SIZE), "--fit", "square", "--codec", "zstd"]
            if run([*line, "--executor", "serial"]):
                sys.exit(f"gazepack {' '.join(line)} failed")


def draw(number: int) -> tuple[npt.NDArray[np.uint8], dict[str, Any]]:
    """Return the frames of a video, uint8 T x H x W x 3, with its question and answer."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    a, b, c = rng.uniform(40, 140, (3, 3))
    frames = np.repeat((a + (b - a) * x[..., None] + (c - a) * y[..., None])[None], NUM_FRAMES, 0)
    leaves = int(rng.integers(2, NUM_FRAMES - 1))
    digits = rng.permutation(len(GLYPHS))[:2]
    start, step = rng.uniform(20, 45, 2), rng.uniform(-4, 4, 2)
    for t in range(NUM_FRAMES):
        if t < leaves:
            down, across = start + step * t
            frames[t][(y * SIDE - down) ** 2 + (x * SIDE - across) ** 2 < 36] = (220, 20, 20)
        glyph = np.array(list(GLYPHS[digits[int(t >= leaves)]]), dtype=float).reshape(5, 3)
        frames[t, 2:16, 2:12] = 0
        frames[t, 4:14, 4:10] = np.kron(glyph, np.ones((2, 2)))[..., None] * 255
    asked = int(rng.integers(2))
    row = {"question": QUESTIONS[asked], "answer": int(digits[asked])}
    return frames.clip(0, 255).astype(np.uint8), row


# ------------------------------------------------------------------------------------------- model


class LittleMllm(nn.Module):
    """A vision transformer, a projection, a language model that answers with one token."""

    def __init__(self) -> None:
        super().__init__()
        sizes = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH}
        sizes |= {"num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
        vision = SiglipVisionConfig(
            **sizes, image_size=SIDE, patch_size=PATCH_SIZE, vision_use_head=False
        )
        vocabulary = len(GLYPHS) + len(QUESTIONS)
        self.encoder = GazedEncoder(SiglipVisionModel(vision), attention="frame")
        self.projection = nn.Linear(WIDTH, WIDTH)
        self.frames = nn.Embedding(NUM_FRAMES, WIDTH)
        self.llm = LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=vocabulary))

    def forward(self, batch: Batch) -> Tensor:
        """Return the logits of the answers, S x vocabulary.

        The tokens of a sample are followed by its question, then by padding, which causal attention never sees.
        """
        tokens_ND = self.projection(self.encoder(batch)) + self.frames(batch.frame)
        asked = [len(GLYPHS) + QUESTIONS.index(meta["user"]["question"]) for meta in batch.meta]
        questions_SD = self.llm.get_input_embeddings()(torch.tensor(asked))
        samples = tokens_ND.split(batch.cu_seqlens.diff().tolist())
        rows = [torch.cat((s, q[None])) for s, q in zip(samples, questions_SD, strict=True)]
        padded = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        hidden_SLD = self.llm.model(inputs_embeds=padded, use_cache=False).last_hidden_state
        last_S = torch.tensor([len(row) - 1 for row in rows])
        logits: Tensor = self.llm.lm_head(hidden_SLD[torch.arange(len(rows)), last_S])
        return logits


def answers(batch: Batch) -> Tensor:
    """Return the right answers, int64 S."""
    return torch.tensor([meta["user"]["answer"] for meta in batch.meta])


# ---------------------------------------------------------------------------------------- training


def train(folder: Path, tokens: str, *, epochs: int, batch_size: int) -> dict[str, Any]:
    """Train on one kind of tokens and return what it cost and what came out."""
    rank, world_size = start_ranks()
    torch.manual_seed(0)
    model = LittleMllm()
    wrapped = DistributedDataParallel(model) if world_size > 1 else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    dataset = packed(folder, tokens, "train", batch_size=batch_size)
    steps = epochs * len(dataset)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    curve, seen, cpu = [], 0, 0.0
    for epoch in range(epochs):
        start = time.process_time()
        dataset.set_epoch(epoch)
        for batch in dataset:
            loss = nn.functional.cross_entropy(wrapped(batch), answers(batch))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            seen += batch.num_tokens
        cpu += time.process_time() - start
        curve.append({"cpu_seconds": round(cpu, 1), "accuracy": accuracy(model, folder, tokens)})
        if rank == 0:
            print(tokens, "epoch", epoch + 1, curve[-1], f"loss {loss.item():.3f}", flush=True)
    if world_size > 1:
        dist.destroy_process_group()
    return {
        "tokens": tokens,
        "tokens_a_video": seen / (epochs * len(SPLITS["train"])) * world_size,
        "steps": steps,
        "accuracy": curve[-1]["accuracy"],
        "cpu_seconds": curve[-1]["cpu_seconds"],
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
        "curve": curve,
    }


def start_ranks() -> tuple[int, int]:
    """Join the other ranks under torchrun; return this one's number and how many there are."""
    torch.set_num_threads(1)
    if "RANK" not in os.environ:
        return 0, 1
    dist.init_process_group("gloo")
    return dist.get_rank(), dist.get_world_size()


def packed(folder: Path, tokens: str, split: str, *, batch_size: int) -> GazeDataset:
    """Open a dataset; every rank reads all of `val`."""
    return GazeDataset(
        str(folder / f"{tokens}-{split}"),
        batch_size=batch_size,
        scales=[FINEST] if tokens == "dense" else None,
        **({"rank": 0, "world_size": 1} if split == "val" else {}),
    )


def accuracy(model: LittleMllm, folder: Path, tokens: str) -> float:
    """Return the share of right answers to the questions of `val`."""
    model.eval()
    with torch.inference_mode():
        right = [
            (model(batch).argmax(1) == answers(batch)).sum().item()
            for batch in packed(folder, tokens, "val", batch_size=32)
        ]
    model.train()
    return round(sum(right) / len(SPLITS["val"]), 4)


# ------------------------------------------------------------------------------------------ report


def compare(folder: Path, options: list[str]) -> None:
    """Train both, each in a process of its own, and write a table and a plot."""
    results = []
    for tokens in TOKENS:
        line = [sys.executable, __file__, str(folder), "--tokens", tokens, *options]
        subprocess.run(line, check=True)
        results.append(json.loads((folder / f"{tokens}.json").read_text()))
    print("\n| tokens | a video | steps | accuracy | CPU seconds | peak memory |")
    print("|---|---|---|---|---|---|")
    for result in results:
        print(
            f"| {result['tokens']} | {result['tokens_a_video']:.0f} | {result['steps']} "
            f"| {result['accuracy']:.1%} | {result['cpu_seconds']:.0f} "
            f"| {result['peak_megabytes']:.0f} MB |"
        )
    (folder / "accuracy.svg").write_text(plot(results))


def plot(results: list[dict[str, Any]]) -> str:
    """Draw accuracy over CPU seconds as SVG."""
    width, height, left, top = 560, 300, 50, 20
    longest = max(result["cpu_seconds"] for result in results)
    parts = [f'<text x="{left}" y="{height + top + 34}">CPU seconds of training</text>']
    for share in (0, 0.25, 0.5, 0.75, 1):
        y = top + height * (1 - share)
        parts.append(f'<path d="M{left} {y}h{width}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{share:.0%}</text>')
        x = left + width * share
        parts.append(
            f'<text x="{x}" y="{top + height + 16}" text-anchor="middle">{longest * share:.0f}</text>'
        )
    for result, colour in zip(results, ("#888888", "#c02020"), strict=True):
        points = [
            (0.0, 1 / len(GLYPHS)),
            *((p["cpu_seconds"], p["accuracy"]) for p in result["curve"]),
        ]
        places = [(left + width * x / longest, top + height * (1 - y)) for x, y in points]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        x, y = places[-1]
        parts.append(
            f'<text x="{x - 4}" y="{y + 16}" fill="{colour}" text-anchor="end">{result["tokens"]}</text>'
        )
    size = f'viewBox="0 0 {left + width + 20} {top + height + 44}"'
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
    )
    return head + "".join(parts) + "</svg>\n"


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("little-hlvid"))
    parser.add_argument("--tokens", choices=TOKENS, help="train on these only")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=16)
    args = parser.parse_args()
    options = {"epochs": args.epochs, "batch_size": args.batch_size}
    if args.tokens is None:
        make_datasets(args.folder)
        compare(
            args.folder, [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        )
        return
    result = train(args.folder, args.tokens, **options)
    if int(os.environ.get("RANK", 0)) == 0:
        (args.folder / f"{args.tokens}.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
