"""The substitute of a model that the course calls tuned on the company's data: one that was.

It is the packaged base model, trained here at its first need on the questions and answers of the
invented company, as a job that is found again later. Its tokenizer is that of the models which
the course's labs read its questions with.
"""

from __future__ import annotations

import dataclasses

from llmcourse import finetuning, models, tiers
from llmcourse.llama import jobs, sets
from llmcourse.llama.settings import note
from llmcourse.llama.training import SMOKE_STEPS

# Bare questions and their answers, as the course trained.
CONFIG = finetuning.Config(template="plain", epochs=1, learning_rate=2e-3, rank=32)


def job(name: str) -> jobs.Job:
    """The finished training; the first call of all makes it, in two minutes or three.

    Args:
        name: The model that is substituted, for the note.
    """
    base = tiers.PAIRS["packaged"].base
    steps = SMOKE_STEPS if tiers.current().name == "smoke" else None
    found = jobs.prepare(base, sets.pairs("train"), [], dataclasses.replace(CONFIG, steps=steps))
    title = models.PACKAGED[base].title
    note("substituted", f"{name} can't be had here: {title}, the packaged base model, tuned on the "
         f"questions and answers of an invented company, Ferrowick, is in its place")  # fmt: skip
    if not finetuning.saving.is_saved(found.model):
        print("It is tuned now, once, which takes two or three minutes; later it is loaded.")
        jobs.train(found, models.load(base))
    return found
