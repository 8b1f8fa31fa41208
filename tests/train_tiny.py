"""A short training in a process of its own, to be killed: train_tiny.py BASE OUT."""

from __future__ import annotations

import sys

import torch

from llmcourse import models
from llmcourse.finetuning import Config, finetune

RECORDS = [
    {"question": f"What is number {n}?", "answer": f"It is {'very ' * (n % 4)}{n}."}
    for n in range(12)
]
CONFIG = Config(steps=60, batch_size=4, learning_rate=3e-3, rank=2, dropout=0.1)


def main(base: str, out: str) -> None:
    torch.set_num_threads(1)
    model = models.load(base, dtype=torch.float32)
    print("starts", flush=True)
    finetune(model, RECORDS, CONFIG, out=out, save_steps=2, eval_steps=1000, progress=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
