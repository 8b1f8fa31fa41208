"""Is a training that is killed again and again the same, bit for bit, as one that never was?

    python benchmarks/resuming.py [--kills 20] [--seed 0] [--dropout 0.1]

A small Llama of random weights is tuned (LoRA, float32, on the CPU) with a checkpoint after every
update: once undisturbed, and once in a process that is killed (SIGKILL; on Windows
TerminateProcess) and started again, `--kills` times. Of five kills two wait for the writing of a
checkpoint to begin, two come at a random moment of training, and one at a random moment of the
process's start. Dropout makes the result hang on the random generators as well. Then the two
adapters' files are compared byte for byte. Ends with 1 if they differ.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ADAPTER = "adapter_model.safetensors"
PAUSE = 0.02  # seconds between two looks at the folder, where nothing else is waited for
LONGEST = 120.0  # seconds that one process may take to its next sign of life
MOMENTS = ("save", "update", "save", "update", "start")  # of the kills, in turn
MOST_UPDATES = 5  # that a process does before it is killed
START = 4.0  # seconds of a process's start in which it may be killed


def main() -> int:
    """Train twice, print what happened, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(*options.child)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_model(folder / "model")
        # (a process does a few more while it is waited for)
        trial = Trial(folder, (MOST_UPDATES + 4) * options.kills + 10, options.dropout)
        if trial.start("whole").wait():
            sys.exit(f"The undisturbed run failed:\n{trial.log('whole')}")
        kills = torment(trial, options.kills, random.Random(options.seed))
        whole, killed = ((folder / name / ADAPTER).read_bytes() for name in ("whole", "killed"))
        first, second = (
            [row["loss"] for row in trial.facts(name)["history"]] for name in ("whole", "killed")
        )
    report(kills, trial.updates, time.perf_counter() - start)
    if first != second:
        other = [a != b for a, b in zip(first, second, strict=False)]
        print(f"\nThe losses differ from update {other.index(True) + 1} on.")
    print(f"\nThe same {ADAPTER} ({len(whole):,} bytes), bit for bit: {whole == killed}")
    return 0 if whole == killed else 1


@dataclass(frozen=True)
class Trial:
    """The training that is done twice.

    Attributes:
        folder: With the model in `model`; the runs are written beside it.
        updates: How many a run has.
        dropout: Of the adapter.
    """

    folder: Path
    updates: int
    dropout: float

    def start(self, name: str) -> subprocess.Popen:
        """Start, or go on with, the run that writes into `folder / name`."""
        with (self.folder / f"{name}.log").open("a") as log:
            return subprocess.Popen(
                [
                    sys.executable,
                    __file__,
                    "--child",
                    str(self.folder / "model"),
                    str(self.folder / name),
                    str(self.updates),
                    str(self.dropout),
                ],
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=os.environ
                | {"LLMCOURSE_TIER": "cpu", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
            )

    def log(self, name: str) -> str:
        """The end of what a run has complained of."""
        return (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")[-2000:]

    def facts(self, name: str) -> dict[str, Any]:
        """What a finished run wrote about itself."""
        return json.loads((self.folder / name / "tuned.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Kill:
    """One kill.

    Attributes:
        step: Updates done in the newest complete checkpoint at that moment; 0 for none.
        during_save: Whether an unfinished checkpoint was left.
    """

    step: int
    during_save: bool


def torment(trial: Trial, count: int, rng: random.Random) -> list[Kill]:
    """Start the training until it has been killed `count` times, then let it end."""
    kills: list[Kill] = []
    out = trial.folder / "killed"
    for number in range(count):
        process = trial.start(out.name)
        until_moment(MOMENTS[number % len(MOMENTS)], out, process, rng)
        process.kill()
        if process.wait() == 0:
            sys.exit("The training was done before all kills, so they do not count.")
        kills.append(Kill(newest(out), bool(drafts(out))))
    if trial.start(out.name).wait():
        sys.exit(f"The last run failed:\n{trial.log(out.name)}")
    return kills


def until_moment(moment: str, out: Path, process: subprocess.Popen, rng: random.Random) -> None:
    """Wait until the process is to be killed."""
    if moment == "start":
        time.sleep(rng.uniform(0, START))
        return
    goal = newest(out) + rng.randint(1, MOST_UPDATES)
    wait_for(lambda: newest(out) >= goal, process)
    if moment == "save":
        wait_for(lambda: drafts(out), process, pause=0)
        time.sleep(rng.uniform(0, 0.002))
    else:
        time.sleep(rng.uniform(0, 0.05))


def newest(out: Path) -> int:
    """Updates done in the newest complete checkpoint; 0 for none."""
    steps = [path.name for path in out.glob("checkpoints/step-*")]
    return max((int(name.removeprefix("step-")) for name in steps), default=0)


def drafts(out: Path) -> list[Path]:
    """Checkpoints that are being written, or whose writing was cut short."""
    return list(out.glob("checkpoints/.step-*"))


def wait_for(sign: Any, process: subprocess.Popen, pause: float = PAUSE) -> None:
    """Look until `sign()` is true; leaves the script where the process ends or hangs."""
    start = time.perf_counter()
    while not sign():
        if process.poll() is not None:
            sys.exit(f"The training ended by itself, with {process.returncode}.")
        if time.perf_counter() - start > LONGEST:
            process.kill()
            sys.exit(f"Nothing happened for {LONGEST:.0f} s.")
        time.sleep(pause)


def report(kills: list[Kill], updates: int, seconds: float) -> None:
    """Print a table of what happened."""
    saves = sum(kill.during_save for kill in kills)
    print(
        "| kills | of them during a save | after updates | updates | seconds |\n"
        "|---|---|---|---|---|"
    )
    steps = ", ".join(str(kill.step) for kill in kills)
    print(f"| {len(kills)} | {saves} | {steps} | {updates} | {seconds:.0f} |")


def make_model(folder: Path) -> None:
    """A folder with a tiny Llama of random weights and the chat model's tokenizer."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from llmcourse import models

    tokenizer = AutoTokenizer.from_pretrained(models.convert("smollm2-135m-instruct"))
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            tie_word_embeddings=True,
            eos_token_id=tokenizer.eos_token_id,
        )
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def child(model: str, out: str, updates: str, dropout: str) -> int:
    """The training itself."""
    import torch

    from llmcourse import company, models
    from llmcourse.finetuning import Config, finetune

    loaded = models.load(model, dtype=torch.float32)
    settings = Config(steps=int(updates), batch_size=4, rank=4, dropout=float(dropout))
    records = company.records("questions", "train")[:32]
    held_out = company.records("questions", "validation")[:8]
    finetune(
        loaded,
        records,
        settings,
        held_out=held_out,
        out=out,
        save_steps=1,
        eval_steps=5,
        progress=False,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
