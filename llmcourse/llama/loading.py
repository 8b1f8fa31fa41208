"""Loading a model by a name of the course's, or saying what is missing and what is here instead."""

from __future__ import annotations

import weakref
from pathlib import Path

from llmcourse import finetuning, models, tiers
from llmcourse.errors import (
    CourseError,
    ModelNameError,
    ModelNotInstalled,
    ModelTooLarge,
    NoSpace,
    SettingError,
    UnavailableResourceError,
    UnknownModel,
)
from llmcourse.llama import names, tuned
from llmcourse.llama.settings import note, settings

_loaded: weakref.WeakValueDictionary[str, models.LoadedModel] = weakref.WeakValueDictionary()


def load(name: str) -> models.LoadedModel:
    """The model of a name; runners of one name share it while any of them lives.

    Raises:
        ModelNameError: there is no such model; with those that this machine can run.
        UnavailableResourceError: it can't be had here; with what is missing, and with the packaged
            model that plays the same part. Under `settings.substitute` that one is loaded instead.
    """
    wanted = models.resolve(names.find(name))
    if names.is_folder(wanted):
        wanted = str(Path(wanted).expanduser().resolve())  # a job is found from anywhere
    elif name in names.HUB and wanted != name:
        note(
            "translated", f"{name} holds another program's files; its weights are those of {wanted}"
        )
    if wanted not in _loaded:
        try:
            found = models.load(wanted)
        except UnknownModel as error:
            raise ModelNameError(str(error)) from None
        except (ModelNotInstalled, NoSpace, SettingError):
            raise
        except CourseError as error:
            if wanted in models.PACKAGED:
                raise
            twin = names.packaged(name)
            if not settings.substitute:
                needed = "" if isinstance(error, ModelTooLarge) else _size(name)
                raise UnavailableResourceError(
                    f"{_without_hint(error)}{needed} The packaged {twin!r} plays the same part: "
                    f"name it, or let it stand in with llama.install(substitute=True)."
                ) from None
            if names.is_tuned(name):
                return finetuning.saving.load(tuned.job(name).model, load(twin))
            note("substituted", f"{name} can't be had here: {twin}, a packaged model, answers")
            return load(twin)
        _loaded[wanted] = found
    return _loaded[wanted]


def _without_hint(error: CourseError) -> str:
    """A load's error without its own advice on packaged models, for which there is a better one."""
    return str(error).partition(" Without it, the packaged models")[0]


def _size(name: str) -> str:
    """How much memory a model of the course's list needs, in words; "" for any other."""
    millions = names.WEIGHTS.get(name, 0)
    gigabytes = millions * 1e6 * tiers.dtype().itemsize / 1e9
    return f" Its weights need {gigabytes:.1f} GB of memory." if gigabytes >= 0.1 else ""
