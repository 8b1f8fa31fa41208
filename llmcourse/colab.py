"""Google Colab: work that outlives the session, and the secrets that Colab keeps.

`google.colab` is on Colab alone, so it is imported where it is needed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from llmcourse.errors import SettingError
from llmcourse.files import is_writable, work_dir

MOUNT = Path("/content/drive")


def is_here() -> bool:
    """True in a notebook on Colab."""
    return "google.colab" in sys.modules


def keep_on_drive() -> Path:
    """Keep what the lessons make (ledger, data, adapters) in `llmcourse` on your Google Drive.

    What is not on Drive is gone when Colab ends the session. Call it in each session, before a
    lesson writes anything. Colab asks you for access to Drive.

    Returns:
        The folder.

    Raises:
        SettingError: this is not Colab, or Drive could not be mounted or written.
    """
    if not is_here():
        raise SettingError(f"This is not Colab. What you make is kept in {work_dir()} anyway.")
    from google.colab import drive

    try:
        drive.mount(str(MOUNT))
    except Exception as error:  # ValueError, pexpect's TIMEOUT, Colab's own MessageError
        raise SettingError(
            f"Drive could not be mounted ({type(error).__name__}: {error}). Allow the access that "
            "Colab asks for, or go on without: then the work is gone with the session."
        ) from error
    place = MOUNT / "MyDrive" / "llmcourse"
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingError(f"{place} could not be made: {error}") from error
    if not is_writable(place):
        raise SettingError(f"{place} can't be written. Is your Drive full?")
    os.environ["LLMCOURSE_WORK"] = str(place)
    return place


def secret(name: str) -> str | None:
    """A secret from Colab's panel of secrets; None elsewhere, or where it has no value.

    Raises:
        SettingError: it is there, and this notebook has no access to it.
    """
    if not is_here():
        return None
    from google.colab import userdata

    try:
        return userdata.get(name).strip() or None
    except userdata.NotebookAccessError:
        denied = True
    except Exception:
        # There is no such secret, or (TimeoutException, or no answer at all) this is not Colab's
        # own page, which alone can hand it over: the environment may have it.
        denied = False
    if denied:  # outside of `except`, so that no traceback can hold a value
        raise SettingError(
            f"The secret {name} exists, and this notebook may not read it. Switch on its notebook "
            "access in Colab's panel of secrets (the key on the left)."
        )
    return None
