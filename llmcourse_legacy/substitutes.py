"""What answers where a model can't be had: an error that says what is missing, or a packaged model.

A model that the course calls tuned on the company's questions is substituted by one that was: the
packaged base model, trained here at its first need, as a job that is found again later.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from llmcourse import finetuning, hosted, models, tiers
from llmcourse.errors import (
    CourseError,
    ModelNameError,
    ModelNotInstalled,
    ModelTooLarge,
    NoSpace,
    SettingError,
    UnavailableResourceError,
    UnknownModel,
    UserError,
)
from llmcourse.llama import runner
from llmcourse.llama.settings import note, settings
from llmcourse_legacy import jobs, names, sets

# Bare questions and their answers, as the course trained.
TUNING = finetuning.Config(template="plain", epochs=1)


@dataclass
class Substitute(models.LoadedModel):
    """A packaged model that answers for another.

    Attributes:
        instead_of: The other one's name.
        shared: The packaged model itself, which other runners share.
    """

    instead_of: str = ""
    shared: models.LoadedModel | None = None

    @classmethod
    def of(cls, name: str) -> Substitute:
        """The packaged model that plays the same part as `name`."""
        it = runner.load(names.packaged(name))
        return cls(it.model, it.tokenizer, it.name, it.template, name, it)


def instead_of(name: object, error: Exception) -> models.LoadedModel:
    """The model that answers to a name which could not be loaded.

    Raises:
        ModelNameError: there is no such model; with those that this machine can run.
        UnavailableResourceError: it can't be had here; with what is missing, and with the packaged
            model that plays the same part, unless the learner chose substitutes.
    """
    if isinstance(error, ModelNotInstalled | NoSpace | SettingError) or name in models.PACKAGED:
        raise error
    if not isinstance(name, str) or not isinstance(error, CourseError):
        raise ModelNameError(f"There is no model {name!r}. {names.runnable()}") from None
    there = names.HUB.get(name, name)
    if there != name:
        told = f"{name} holds another program's files; its weights are those of {there}"
        note("translated", told)
        try:
            return models.load(there)
        except CourseError as missing:
            error = missing
    if isinstance(error, UnknownModel):
        raise ModelNameError(f"{error} {names.runnable()}") from None
    twin = names.packaged(name)
    if settings.substitute and names.is_tuned(name):
        return finetuning.tuned.load(tuned(name).model, runner.load(twin))
    if settings.substitute:
        note("substituted", f"{name} can't be had here: {twin}, a packaged model, answers")
        return Substitute.of(name)
    # A load's own advice on packaged models is left out: there is a better one.
    missing_words = str(error).partition(" Without it, the packaged models")[0]
    gigabytes = names.WEIGHTS.get(name, 0) * 1e6 * tiers.dtype().itemsize / 1e9
    if gigabytes >= 0.1 and not isinstance(error, ModelTooLarge):
        missing_words += f" Its weights need {gigabytes:.1f} GB of memory."
    raise UnavailableResourceError(
        f"{missing_words} The packaged {twin!r} plays the same part: name it, or let it substitute "
        f"with llama.install(substitute=True)."
    ) from None


def of_hosted(name: str, server: hosted.Server | None) -> Substitute:
    """What answers for a hosted model that can't be asked.

    Raises:
        UserError: how to connect one, unless the learner chose substitutes.
    """
    if server:
        raise UserError(
            f"{name} is whichever chat model a server has. Name it: OPENAI_MODEL, or "
            f'BasicModelRunner("{runner.PREFIX}NAME").'
        )
    if not settings.substitute:
        raise UserError(
            f"{name} runs on somebody's server, and none is named. To connect one, set "
            f"OPENAI_API_KEY, or OPENAI_BASE_URL for another server that speaks the same way, or "
            f"give api_key= or api_url=. {names.runnable()}"
        )
    twin = Substitute.of("chat")
    note("substituted", f"{name}: no server is named, so {twin.name}, a packaged model, answers")
    return twin


def tuned(name: str) -> jobs.Job:
    """The finished training of the packaged base on the company's questions.

    Args:
        name: The model that it substitutes for.
    """
    base = tiers.PAIRS["packaged"].base
    steps = jobs.SMOKE_STEPS if tiers.current().name == "smoke" else None
    config = dataclasses.replace(TUNING, steps=steps)
    job = jobs.prepare(base, sets.pairs("train"), [], config)
    what = "tuned on the questions and answers of an invented company, Ferrowick"
    title = models.PACKAGED[base].title
    told = f"{name} can't be had here: {title}, the packaged base model, {what}, is in its place"
    note("substituted", told)
    if not finetuning.tuned.is_saved(job.model):
        print("It is tuned now, which takes some minutes, and is loaded from then on.")
        jobs.train(job, models.load(base))
    return job
