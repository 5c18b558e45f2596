"""A little MLLM, trained on dense and on gazed video: same videos, same steps, same seeds.

    python examples/train_mllm.py [FOLDER] --seeds 3                            all, a table and a plot
    torchrun --nproc-per-node 2 examples/train_mllm.py FOLDER --tokens 48dB     one of them, on two ranks

Each video is a smooth picture over which a red ball moves until it leaves; in a corner stands a small digit,
which changes when the ball leaves. The question is which digit stands there before, or after: it needs a detail
of a few pixels and the order of time. Digits are clear or faint, so a bound on the error of pixels can cost
answers. The model has the LLaVA layout: a SigLIP of 2 layers reads the frames, a projector and a Llama of 2
layers read its features, all from random weights. Everything is packed by `gazepack pack` and read by
`GazeDataset`, dense (`--selector all`) and gazed (`greedy` at three bounds); nothing else
differs. Each model is saved as transformers saves it, and `gazepack evaluate-qa` asks it the same questions.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from transformers import (
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
    SiglipVisionConfig,
)

from gazepack import GazeDataset
from gazepack.cli.main import run
from gazepack.encoders import GazedMllm, Prompt
from gazepack.geometry import CLIP_FRAMES, Grid
from gazepack.loader import Batch
from gazepack.patches import repaint
from gazepack.video import write_video

SIDE, PATCH_SIZE, NUM_FRAMES, FPS = 56, 4, 3, 2
SPLITS = {"train": range(2048), "val": range(2048, 2560)}
"""The numbers of the videos."""
WIDTH, LAYERS, HEADS = 64, 2, 4
DIGITS = {
    0: "111101101101111",
    1: "010110010010111",
    4: "101101111001001",
    7: "111001010010010",
}
"""Three cells wide and five high."""
LETTERS = "ABCD"
OPTIONS = "".join(f"{letter}. {digit}\n" for letter, digit in zip(LETTERS, DIGITS, strict=True))
FAINTEST, CLEAR = 24, 128
"""Grey levels between a digit and what it stands on: the least, and from where on it is called clear."""
MOMENTS = ("before", "after")
"""When the digit stands there that a question asks for: before the ball leaves, or after."""
PROMPT = Prompt(template="{video} {question}", frame="{number}")
WORDS = ("<unk>", "<pad>", "<s>", "<video>", ".", "The", "digit", *MOMENTS)
TOKENS = {
    "dense": ["--selector", "all"],
    "48dB": ["--selector", "greedy", "--min-psnr", "48"],
    "40dB": ["--selector", "greedy", "--min-psnr", "40"],
    "30dB": ["--selector", "greedy", "--min-psnr", "30"],
}
"""How each is packed."""
COLOURS = {"dense": "#888888", "48dB": "#209040", "40dB": "#c02020", "30dB": "#2060c0"}
RATE = 3e-3
"""Of learning, at its highest."""


# ------------------------------------------------------------------------------------------ videos


def make_datasets(folder: Path) -> None:
    """Draw the videos and pack them each way, unless that is done; write the questions of `val`."""
    for split, numbers in SPLITS.items():
        manifest = folder / f"{split}.jsonl"
        if not manifest.exists():
            (folder / split).mkdir(parents=True, exist_ok=True)
            rows = []
            for number in numbers:
                frames, asked = draw(number)
                path = f"{split}/{number:05d}.mp4"
                write_video(folder / path, frames, fps=FPS, options={"crf": "10"})
                rows.append({"path": path, **asked})
            write_lines(folder / f"{split}-questions.jsonl", [as_question(row) for row in rows])
            write_lines(manifest, rows)
        for name, options in TOKENS.items():
            line = ["pack", str(manifest), "--out", str(folder / f"{name}-{split}"), *options]
            line += ["--patch-size", str(PATCH_SIZE), "--fit", "square", "--codec", "zstd"]
            if run([*line, "--executor", "serial"]):
                sys.exit(f"gazepack {' '.join(line)} failed")


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def as_question(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the manifest as a question in the layout of HLVid."""
    named = {"question_id": Path(row["path"]).stem, "video_path": row["path"]}
    return named | {key: row[key] for key in ("category", "question", "answer")}


def draw(number: int) -> tuple[npt.NDArray[np.uint8], dict[str, Any]]:
    """Return the frames of a video, uint8 T x H x W x 3, with its question, answer and category."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    a, b, c = rng.uniform(40, 140, (3, 3))
    frames = np.repeat((a + (b - a) * x[..., None] + (c - a) * y[..., None])[None], NUM_FRAMES, 0)
    leaves = int(rng.integers(1, NUM_FRAMES))
    digits = rng.permutation(list(DIGITS))[:2]
    contrast = float(rng.uniform(FAINTEST, 240))
    start, step = rng.uniform(20, 45, 2), rng.uniform(-4, 4, 2)
    for t in range(NUM_FRAMES):
        if t < leaves:
            down, across = start + step * t
            frames[t][(y * SIDE - down) ** 2 + (x * SIDE - across) ** 2 < 36] = (220, 20, 20)
        glyph = np.array(list(DIGITS[int(digits[int(t >= leaves)])]), dtype=float).reshape(5, 3)
        frames[t, 2:16, 2:12] = 0
        frames[t, 4:14, 4:10] = np.kron(glyph, np.ones((2, 2)))[..., None] * contrast
    asked = int(rng.integers(len(MOMENTS)))
    return frames.clip(0, 255).astype(np.uint8), {
        "question": f"{OPTIONS}The digit {MOMENTS[asked]}",
        "answer": LETTERS[list(DIGITS).index(digits[asked])],
        "category": "clear" if contrast >= CLEAR else "faint",
    }


# ------------------------------------------------------------------------------------------- model


def little_mllm() -> GazedMllm:
    """Return a model of the LLaVA layout, of random weights, with its tokenizer.

    Llama's 0.02 is for a width of thousands: at this width its layers begin by passing almost nothing on, and
    some seeds then learn nothing for hundreds of steps.
    """
    words = [*WORDS, *LETTERS, *map(str, range(10))]
    tokenizer = Tokenizer(
        models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    sizes = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH}
    sizes |= {"num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
    config = LlavaConfig(
        vision_config=SiglipVisionConfig(
            **sizes, image_size=SIDE, patch_size=PATCH_SIZE, vision_use_head=False
        ),
        text_config=LlamaConfig(
            **sizes,
            vocab_size=len(words),
            pad_token_id=words.index("<pad>"),
            initializer_range=WIDTH**-0.5,
        ),
        image_token_index=words.index("<video>"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", bos_token="<s>"
    )
    model = LlavaForConditionalGeneration(config)
    # models of this layout take a hidden state before the tower's last norm, so that is not trained
    model.model.vision_tower.post_layernorm.requires_grad_(False)
    return GazedMllm(model, tokenizer=wrapped, prompt=PROMPT)


def answers(batch: Batch, letters: Sequence[int]) -> Tensor:
    """Return the right answers, int64 S, as tokens."""
    return torch.tensor([letters[LETTERS.index(meta["user"]["answer"])] for meta in batch.meta])


def questions(batch: Batch) -> list[str]:
    """Return the question of each sample."""
    return [meta["user"]["question"] for meta in batch.meta]


# ---------------------------------------------------------------------------------------- training


def train(
    folder: Path, tokens: str, *, seed: int = 0, epochs: int, batch_size: int
) -> dict[str, Any]:
    """Train on one kind of tokens, save the model, and return what it cost and what came out."""
    rank, world_size = start_ranks()
    torch.manual_seed(seed)
    model = little_mllm()
    letters = model.first_tokens(LETTERS)
    wrapped = DistributedDataParallel(model) if world_size > 1 else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    dataset = packed(folder, tokens, "train", batch_size=batch_size, seed=seed)
    steps = epochs * len(dataset)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE, total_steps=steps, pct_start=0.2
    )
    curve, seen, cpu = [], 0, 0.0
    for epoch in range(epochs):
        start = time.process_time()
        dataset.set_epoch(epoch)
        for batch in dataset:
            logits = wrapped(batch, questions(batch))
            loss = nn.functional.cross_entropy(logits, answers(batch, letters))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            seen += batch.num_tokens
        cpu += time.process_time() - start
        curve.append({"cpu_seconds": round(cpu, 1), "accuracy": accuracy(model, folder, tokens)})
        if rank == 0:
            print(
                tokens, seed, "epoch", epoch + 1, curve[-1], f"loss {loss.item():.3f}", flush=True
            )
    if rank == 0:
        model.model.save_pretrained(folder / f"model-{tokens}-{seed}")
        model.tokenizer.save_pretrained(folder / f"model-{tokens}-{seed}")
    if world_size > 1:
        dist.destroy_process_group()
    return {
        "tokens": tokens,
        "seed": seed,
        "tokens_a_video": seen / (epochs * dataset.num_samples) * world_size,
        "steps": steps,
        "accuracy": curve[-1]["accuracy"],
        "legible": legible(folder, tokens),
        "questions": packed(folder, tokens, "val", batch_size=1).num_samples,
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


def packed(folder: Path, tokens: str, split: str, *, batch_size: int, seed: int = 0) -> GazeDataset:
    """Open a dataset; every rank reads all of `val`."""
    return GazeDataset(
        str(folder / f"{tokens}-{split}"),
        batch_size=batch_size,
        seed=seed,
        **({"rank": 0, "world_size": 1} if split == "val" else {}),
    )


def accuracy(model: GazedMllm, folder: Path, tokens: str) -> float:
    """Return the share of right answers to the questions of `val`, guessing among all letters."""
    letters = model.first_tokens(LETTERS)
    model.eval()
    dataset = packed(folder, tokens, "val", batch_size=32)
    with torch.inference_mode():
        right = [
            (model(batch, questions(batch)).argmax(1) == answers(batch, letters)).sum().item()
            for batch in dataset
        ]
    model.train()
    return round(sum(right) / dataset.num_samples, 4)


def legible(folder: Path, tokens: str) -> float:
    """Return the share of questions of `val` whose digit can be read off what the tokens paint, unlearned.

    The digit is the one whose shape goes best with the pixels of its place, which is known here. It says what
    gazing left of the digits, and is no bound on a model, which may learn to read what is left of a faint one.
    """
    shapes_D15 = np.array([list(glyph) for glyph in DIGITS.values()], dtype=float)
    shapes_D15 -= shapes_D15.mean(1, keepdims=True)
    shapes_D15 /= np.linalg.norm(shapes_D15, axis=1, keepdims=True)
    right = 0
    dataset = packed(folder, tokens, "val", batch_size=1)
    for batch in dataset:
        places = {name: getattr(batch, name).numpy() for name in ("frame", "scale", "row", "col")}
        painted = list(
            repaint(
                batch.patches.permute(0, 2, 3, 1).numpy(),
                **places,
                grid=Grid(rows=1, cols=1, patch_size=PATCH_SIZE),
                num_frames=NUM_FRAMES,
                clip_frames=CLIP_FRAMES,
            )
        )
        user = batch.meta[0]["user"]
        place = painted[0 if user["question"].endswith("before") else -1][4:14, 4:10]
        cells_15 = place.astype(float).reshape(5, 2, 3, 2, 3).mean((1, 3, 4)).ravel()
        right += LETTERS[int((shapes_D15 @ cells_15).argmax())] == user["answer"]
    return right / dataset.num_samples


# ------------------------------------------------------------------------------------------ report


def compare(folder: Path, seeds: int, options: list[str]) -> None:
    """Train all, each in a process of its own, and write a table and a plot."""
    results = []
    for seed in range(seeds):
        for tokens in TOKENS:
            line = [sys.executable, __file__, str(folder), "--tokens", tokens, f"--seed={seed}"]
            subprocess.run([*line, *options], check=True)
            results.append(json.loads((folder / f"{tokens}-{seed}.json").read_text()))
    print("\n" + table(results))
    (folder / "accuracy.svg").write_text(plot(results))


def table(results: list[dict[str, Any]]) -> str:
    """Return Markdown: a row for each kind of tokens, with every seed, since they differ much."""
    names = ("tokens", "a video", "legible", "accuracy of each seed", "mean", "points above dense")
    names += ("CPU seconds", "peak memory")
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    of = {tokens: [r for r in results if r["tokens"] == tokens] for tokens in TOKENS}
    dense = statistics.mean(run["accuracy"] for run in of["dense"])
    for tokens, runs in of.items():
        tokens_a_video, accuracy, seconds, megabytes = (
            statistics.mean(run[key] for run in runs)
            for key in ("tokens_a_video", "accuracy", "cpu_seconds", "peak_megabytes")
        )
        each = ", ".join(f"{run['accuracy']:.1%}" for run in runs)
        above = "" if tokens == "dense" else f"{100 * (accuracy - dense):+.1f}"
        lines.append(
            f"| {tokens} | {tokens_a_video:.1f} | {runs[0]['legible']:.1%} | {each} | {accuracy:.1%} "
            f"| {above} | {seconds:.0f} | {megabytes:.0f} MB |"
        )
    return "\n".join(lines)


def plot(results: list[dict[str, Any]]) -> str:
    """Draw accuracy over CPU seconds as SVG, a line for each training."""
    width, height, left, top = 560, 300, 50, 20
    longest = max(result["cpu_seconds"] for result in results)
    parts = [f'<text x="{left}" y="{height + top + 34}">CPU seconds of training</text>']
    for share in (0, 0.25, 0.5, 0.75, 1):
        x, y = left + width * share, top + height * (1 - share)
        parts.append(f'<path d="M{left} {y}h{width}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{share:.0%}</text>')
        parts.append(
            f'<text x="{x}" y="{top + height + 16}" text-anchor="middle">{longest * share:.0f}</text>'
        )
    for number, (tokens, colour) in enumerate(COLOURS.items()):
        parts.append(
            f'<text x="{left + width}" y="{top + height - 16 * number - 8}" fill="{colour}" '
            f'text-anchor="end">{tokens}</text>'
        )
    for result in results:
        points = [(p["cpu_seconds"], p["accuracy"]) for p in result["curve"]]
        places = [
            (left + width * x / longest, top + height * (1 - y))
            for x, y in [(0.0, 1 / len(DIGITS)), *points]
        ]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        colour = COLOURS[result["tokens"]]
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
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
    parser.add_argument("--seed", type=int, default=0, help="with --tokens")
    parser.add_argument("--seeds", type=int, default=1, help="without --tokens: trainings of each")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=16)
    args = parser.parse_args()
    options = {"epochs": args.epochs, "batch_size": args.batch_size}
    if args.tokens is None:
        make_datasets(args.folder)
        line = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        compare(args.folder, args.seeds, line)
        return
    result = train(args.folder, args.tokens, seed=args.seed, **options)
    if int(os.environ.get("RANK", 0)) == 0:
        name = f"{args.tokens}-{args.seed}.json"
        (args.folder / name).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
