"""What answers where a model can't be loaded: an error that says what is missing, or a substitute.

A packaged model substitutes. For a model that the course calls tuned on the company's questions,
it is one that was: the packaged base, trained here when first needed, as a job that is found again.
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
    def for_name(cls, name: str) -> Substitute:
        """The packaged model that does the job of `name`."""
        it = runner.load(names.packaged(name))
        return cls(it.model, it.tokenizer, it.name, it.template, name, it)


def instead_of(name: object, error: Exception) -> models.LoadedModel:
    """The model for a name that could not be loaded.

    Raises:
        ModelNameError: there is no such model; lists those that this machine can run.
        UnavailableResourceError: it can't be loaded here; says what is missing, and names the
            packaged model that does the same job, unless the learner chose substitutes.
    """
    # These errors have a remedy of their own, which no other model replaces.
    if isinstance(error, ModelNotInstalled | NoSpace | SettingError) or name in models.PACKAGED:
        raise error
    if not isinstance(name, str) or not isinstance(error, CourseError):
        raise ModelNameError(f"There is no model {name!r}. {names.runnable()}") from None
    if (there := names.on_hub(name)) != name:
        text = f"{name} has another program's files; its weights are those of {there}"
        note("translated", text)
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
        note("substituted", f"{name} is not available here: {twin}, a packaged model, answers")
        return Substitute.for_name(name)
    needed = "" if isinstance(error, ModelTooLarge) else names.memory_needed(name)
    raise UnavailableResourceError(
        f"{error}{needed} The packaged {twin!r} does the same job: name it, or let it substitute "
        f"with llama.install(substitute=True)."
    ) from None


def for_hosted(name: str, server: hosted.Server | None) -> Substitute:
    """The substitute for a hosted model that no server answers for.

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
            f"OPENAI_API_KEY, or OPENAI_BASE_URL for another server with the same interface, or "
            f"give api_key= or api_url=. {names.runnable()}"
        )
    twin = Substitute.for_name("chat")
    note("substituted", f"{name}: no server is named, so {twin.name}, a packaged model, answers")
    return twin


def tuned(name: str) -> jobs.Job:
    """The finished training of the packaged base on the company's questions.

    Args:
        name: The model that it substitutes for.
    """
    base = tiers.PAIRS["packaged"].base
    config = dataclasses.replace(TUNING, steps=jobs.most_steps())
    job = jobs.prepare(base, sets.pairs("train"), [], config)
    note(
        "substituted",
        f"{name} is not available here: {models.PACKAGED[base].title}, the packaged base model, "
        f"tuned on the questions and answers of an invented company, Ferrowick, is used instead",
    )
    if not finetuning.tuned.is_saved(job.model):
        print("It is tuned now, which takes some minutes, and is loaded from then on.")
        jobs.train(job)
    return job
