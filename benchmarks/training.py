"""How many tokens a second does training read, here and with two other ways?

    python -m venv /tmp/peer && /tmp/peer/bin/pip install trl peft psutil
    python benchmarks/training.py --peer-python /tmp/peer/bin/python [--model base chat]
        [--rounds 3] [--records 90] [--seconds 60] [--variants WORD ...]

The same records (the company's questions), the same tokens and batches of 6, LoRA of rank 16 on all
linear layers, AdamW, learning rate 1e-3:

* this project: `finetuning.finetune`;
* trl's `SFTTrainer`, prompts masked as here, without gradient checkpointing, in several settings,
  the fastest of which counts (trl is needed only here; without `--peer-python` it is left out);
* transformers' `Trainer` as the course's lab sets it up: every weight in float32, all tokens
  trained, padded to the longest of a batch, one record at a time, 4 an update, Adafactor, learning
  rate 1e-5; and, for a like comparison, the same Trainer with LoRA and batches of 6.

Each run is a process of its own, and the rounds go through all of them in turn. Tokens are real
ones (padding not counted), seconds those of the updates, the first two left out; the best of the
rounds counts. Where other work goes on beside it, the processor's time is the steadier measure:
tokens a processor second (with OMP_WAIT_POLICY=passive, so that waiting takes none). Memory is the
process's high-water mark. The peak of matrix products is measured in the same rounds, and the share
of it is what the tokens need by `sizing.Size.flops_per_token`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WARM_UP = 2  # first updates, left out
RANK, BATCH, RATE = 16, 6, 1e-3
NAMES = {"base": "gemma-3-270m", "chat": "smollm2-135m-instruct"}


@dataclass(frozen=True)
class Variant:
    """A way to train.

    Attributes:
        title: For the table.
        who: "ours", "trl" or "lab" (transformers' Trainer).
        dtype: Of the frozen weights and the products.
        options: Further settings of that trainer.
        method: "lora" or "full".
    """

    title: str
    who: str
    dtype: str
    options: dict[str, Any] = field(default_factory=dict)
    method: str = "lora"


_BY_LENGTH = {"train_sampling_strategy": "group_by_length"}
_LAB = {
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 4,
    "optim": "adafactor",
    "learning_rate": 1e-5,
    "warmup_steps": 1,
}
VARIANTS = (
    Variant("this project, bfloat16", "ours", "bfloat16"),
    Variant("this project, float32", "ours", "float32"),
    Variant("trl, float32, by length", "trl", "float32", _BY_LENGTH),
    Variant(
        "trl, bfloat16, checkpointing (its default)",
        "trl",
        "bfloat16",
        {"gradient_checkpointing": True},
    ),
    Variant("trl, bfloat16, by length", "trl", "bfloat16", _BY_LENGTH),
    Variant(
        "trl, bfloat16, padding-free", "trl", "bfloat16", {"padding_free": True, "max_length": None}
    ),
    Variant("Trainer, LoRA, batches of 6, float32", "lab", "float32"),
    Variant("Trainer, LoRA, batches of 6, bfloat16", "lab", "bfloat16"),
    Variant("Trainer as in the lab, all weights, float32", "lab", "float32", _LAB, "full"),
)


def main() -> None:
    """Measure, and print a table in Markdown for each model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="*", default=["base", "chat"], choices=list(NAMES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--records", type=int, default=90)
    parser.add_argument("--seconds", type=float, default=60, help="most a peer trains in a run")
    parser.add_argument("--peer-python", help="the Python of an environment with trl")
    parser.add_argument("--variants", nargs="*", help="only those with one of these words")
    parser.add_argument("--run", help=argparse.SUPPRESS)  # inside a process of its own
    options = parser.parse_args()
    if options.run:
        print(json.dumps(run(options)))
        return
    if not has_trl(options.peer_python):
        print(
            "trl is not there and is left out. benchmarks/README.md has the command that makes an "
            "environment with it; then give --peer-python build/peer/bin/python.\n"
        )
    variants = [
        variant
        for variant in VARIANTS
        if (variant.who != "trl" or has_trl(options.peer_python))
        and (not options.variants or any(word in variant.title for word in options.variants))
    ]
    measure(options, variants)


def has_trl(python: str | None) -> bool:
    """Whether that Python can import trl."""
    found = [python or "", "-c", "import trl"]
    return bool(python) and not subprocess.run(found, capture_output=True).returncode


def measure(options: argparse.Namespace, variants: list[Variant]) -> None:
    """Run everything in rounds, and print the tables."""
    peaks = {"float32": 0.0, "bfloat16": 0.0}
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for number in range(options.rounds):
        for name in options.model:
            here = child(options, name, "peak")
            peaks = {kind: max(peak, here[kind]) for kind, peak in peaks.items()}
            for variant in variants:
                result = child(options, name, variant.title)
                found.setdefault((name, variant.title), []).append(result)
                print(
                    f"round {number + 1}, {name}, {variant.title}: {speed(result):.0f} tokens/s, "
                    f"{speed(result, 1):.0f} a processor second",
                    file=sys.stderr,
                    flush=True,
                )
    rates = ", ".join(f"{peak / 1e9:.0f} GFLOP/s in {kind}" for kind, peak in peaks.items())
    print(f"Matrix products at their peak: {rates}")
    for name in options.model:
        print_table(name, [(variant, found[name, variant.title]) for variant in variants], peaks)


def child(options: argparse.Namespace, name: str, title: str) -> dict[str, Any]:
    """Run one variant in a fresh process; what `run` returned there."""
    who = next((variant.who for variant in VARIANTS if variant.title == title), "")
    root = str(Path(__file__).parent.parent)
    done = subprocess.run(
        [
            options.peer_python if who == "trl" else sys.executable,
            __file__,
            "--run",
            title,
            "--model",
            name,
            "--records",
            str(options.records),
            "--seconds",
            str(options.seconds),
        ],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=tempfile.gettempdir(),
        env=os.environ
        | {
            "PYTHONPATH": root,
            "LLMCOURSE_TIER": "cpu",
            "HF_HUB_OFFLINE": "1",
            "PYTHONIOENCODING": "utf-8",
        },
    )
    if done.returncode:
        sys.exit(f"{title} on {name} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def speed(result: dict[str, Any], kind: int = 0) -> float:
    """Real tokens a second (`kind` 1: a processor second), the first updates left out."""
    took = sum(seconds[kind] for seconds in result["seconds"][WARM_UP:])
    return sum(result["tokens"][WARM_UP:]) / took


def print_table(
    name: str, found: list[tuple[Variant, list[dict[str, Any]]]], peaks: dict[str, float]
) -> None:
    """One model's results; ratios are to the fastest variant of trl."""
    rates = [
        [max(speed(result, kind) for result in results) for _, results in found] for kind in (0, 1)
    ]
    theirs = [
        [rate for rate, (variant, _) in zip(best, found, strict=True) if variant.who == "trl"]
        for best in rates
    ]
    print(
        f"\n| {NAMES[name]} | tokens a second (rounds) | to the best trl | share of the peak | "
        f"a processor second | to the best trl | peak memory | mean loss |\n"
        f"|---|---|---|---|---|---|---|---|"
    )
    for (variant, results), *best in zip(found, *rates, strict=True):
        rounds = ", ".join(f"{speed(result):.0f}" for result in results)
        ratios = [
            f"{rate / max(trl):.2f}" if trl else "" for rate, trl in zip(best, theirs, strict=True)
        ]
        share = best[0] * results[0]["flops_per_token"] / peaks[variant.dtype]
        memory = max(result["memory"] for result in results) / 1e9
        losses = results[0]["losses"]
        print(
            f"| {variant.title} | {best[0]:.0f} ({rounds}) | {ratios[0]} | {share:.0%} "
            f"| {best[1]:.0f} | {ratios[1]} | {memory:.2f} GB "
            f"| {sum(losses) / len(losses):.2f} over {len(losses)} |"
        )


def run(options: argparse.Namespace) -> dict[str, Any]:
    """What one process measures.

    Returns:
        For "peak", the FLOP/s by type. For a variant, an entry an update of `seconds` (see `now`),
        `tokens` and `losses`; `memory` in bytes; and `flops_per_token`.
    """
    if options.run == "peak":
        return {kind: peak(kind) for kind in ("float32", "bfloat16")}
    import torch

    from llmcourse import company, encoding, models, sizing

    variant = next(variant for variant in VARIANTS if variant.title == options.run)
    name = NAMES[options.model[0]]
    loaded = models.load(name, dtype=getattr(torch, variant.dtype))
    records = company.records("questions", "train")[: options.records]
    encoded = encoding.encode(records, loaded.tokenizer, "qa", mask_prompt=variant.who != "lab")
    train: dict[str, Callable] = {"ours": ours, "trl": with_trl, "lab": with_trainer}
    seconds, tokens, losses = train[variant.who](loaded, records, encoded, variant, options.seconds)
    flops = sizing.Size.of(loaded.model.config).flops_per_token(
        variant.method,
        rank=RANK,
        labelled_share=encoded.trained_tokens / encoded.tokens,
        length=round(encoded.tokens / len(encoded)),
    )
    return {
        "seconds": seconds,
        "tokens": tokens,
        "losses": losses,
        "memory": memory_peak(),
        "flops_per_token": flops,
    }


def peak(kind: str, size: int = 2048) -> float:
    """The most floating-point operations a second in a product of two square matrices."""
    import torch

    matrix = torch.randn(size, size).to(getattr(torch, kind))
    best = 1e9
    for _ in range(8):
        start = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def memory_peak() -> int:
    """The most memory that this process has held, in bytes."""
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return psutil.Process().memory_info().peak_wset
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def ours(loaded: Any, records: list, _: Any, variant: Variant, limit: float) -> tuple:
    """Train with this project."""
    from llmcourse.finetuning import Config, finetune

    stamps = []  # before the first update and after each

    def note_time(*_: Any) -> bool:
        stamps.append(now())
        return False

    settings = Config(epochs=1, batch_size=BATCH, rank=RANK, learning_rate=RATE)
    tuned = finetune(loaded, records, settings, progress=False, callback=note_time)
    history = tuned.history
    return spans(stamps), [row["tokens"] for row in history], [row["loss"] for row in history]


def now() -> tuple[float, float]:
    """Seconds on the clock, and seconds that this process has had the processors."""
    return time.perf_counter(), time.process_time()


def spans(stamps: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The two kinds of seconds between neighbours."""
    return [
        (after[0] - before[0], after[1] - before[1]) for before, after in itertools.pairwise(stamps)
    ]


def with_trl(loaded: Any, _: Any, encoded: Any, variant: Variant, limit: float) -> tuple:
    """Train with trl's SFTTrainer."""
    from trl import SFTConfig, SFTTrainer

    rows = encoded.dataset.select_columns(["input_ids", "labels"])
    arguments = SFTConfig(
        **{"max_length": 512, "gradient_checkpointing": False, **settings(variant)}
    )
    return watched(
        SFTTrainer,
        limit,
        model=loaded.model,
        args=arguments,
        train_dataset=rows,
        processing_class=loaded.tokenizer,
        peft_config=adapter(),
    )


def with_trainer(loaded: Any, _: Any, encoded: Any, variant: Variant, limit: float) -> tuple:
    """Train with transformers' Trainer, all scores computed and all tokens trained."""
    from peft import get_peft_model
    from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

    rows = encoded.dataset.select_columns(["input_ids"])
    model = loaded.model.train()
    if variant.method == "lora":
        model = get_peft_model(model, adapter())
    collate = DataCollatorForLanguageModeling(loaded.tokenizer, mlm=False)
    return watched(
        Trainer,
        limit,
        model=model,
        args=TrainingArguments(**settings(variant)),
        train_dataset=rows,
        data_collator=collate,
    )


def adapter() -> Any:
    """The adapter that `finetune` makes."""
    from peft import LoraConfig

    return LoraConfig(
        r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM"
    )


def settings(variant: Variant) -> dict[str, Any]:
    """What the two trainers of others have in common."""
    return {
        "output_dir": "unused",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "num_train_epochs": 1,
        "per_device_train_batch_size": BATCH,
        "learning_rate": RATE,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 3,
        "weight_decay": 0.0,
        "use_cpu": True,
        "logging_steps": 1,
        "optim": "adamw_torch",
        "bf16": False,
        "seed": 0,
        "dataloader_pin_memory": False,
        **variant.options,
    }


def watched(kind: type, limit: float, **given: Any) -> tuple:
    """Train with a trainer of `kind`; seconds, real tokens and loss of each update."""
    from transformers import TrainerCallback

    tokens, stamps = [0], [now()]

    class Watched(kind):
        """Counts what is no padding."""

        def training_step(self, model: Any, inputs: Any, *more: Any) -> Any:
            mask = inputs.get("attention_mask")
            tokens[-1] += int(inputs["input_ids"].numel() if mask is None else mask.sum())
            return super().training_step(model, inputs, *more)

    class Clock(TrainerCallback):
        """Takes the time at the end of each update."""

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            stamps[0] = now()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            stamps.append(now())
            tokens.append(0)
            over = stamps[-1][0] - stamps[0][0] > limit and len(tokens) > 2 * WARM_UP
            control.should_training_stop |= over

    trainer = Watched(**given, callbacks=[Clock()])
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return spans(stamps), tokens[:-1], losses


if __name__ == "__main__":
    main()
