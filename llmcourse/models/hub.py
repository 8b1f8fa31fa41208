"""What the model hub says, and what it means for the learner."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from llmcourse.errors import CourseError, HubError, causes, first_line, is_disk_full
from llmcourse.files import no_space
from llmcourse.models.packaged import PACKAGED

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]


def is_hub_name(name: str) -> bool:
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return "/" in name


def is_cached(name: str) -> bool:
    """True where the local hub cache has the model's weights, not its description alone."""
    from huggingface_hub import try_to_load_from_cache

    return any(isinstance(try_to_load_from_cache(name, file), str) for file in WEIGHTS)


def _is_pickled(name: str) -> bool:
    """True where the hub has said that there are no such weights, or the cache has others alone."""
    from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache

    known = [try_to_load_from_cache(name, file) for file in WEIGHTS]
    others = [try_to_load_from_cache(name, file) for file in PICKLED]
    return all(one is _CACHED_NO_EXIST for one in known) or (
        not is_cached(name) and any(isinstance(one, str) for one in others)
    )


def brings_code(place: Path | str) -> bool:
    """Whether a model, in a folder or the hub's cache, asks for program code of its own."""
    from huggingface_hub import try_to_load_from_cache

    for name in ("config.json", "tokenizer_config.json"):
        file = place / name if isinstance(place, Path) else try_to_load_from_cache(place, name)
        with suppress(OSError, ValueError, TypeError):  # not there, or damaged
            if "auto_map" in json.loads(Path(file).read_text(encoding="utf-8")):
                return True
    return False


def check_reachable(name: str) -> None:
    """Say at once that there is no network, where the hub's client would try for half a minute.

    Behind a proxy only the client knows the way, so nothing is checked there.

    Raises:
        HubError: the model is not in the local cache and the hub's host can't be reached.
    """
    from huggingface_hub import constants

    if is_cached(name) or constants.HF_HUB_OFFLINE:
        return
    address = urlsplit(constants.ENDPOINT)
    if getproxies().get(address.scheme):
        return
    port = address.port or {"http": 80}.get(address.scheme, 443)
    try:
        socket.create_connection((address.hostname, port), timeout=10).close()
    except OSError as error:
        raise hub_error(name, ConnectionError(str(error))) from error


def hub_error(name: str, error: Exception) -> CourseError:
    """Say what a failed hub download means: access, name, network, or something else."""
    from huggingface_hub import constants
    from huggingface_hub import errors as hub

    if is_disk_full(error):
        return no_space(Path(constants.HF_HUB_CACHE), hint=", or set HF_HOME to a larger disk")
    chain = list(causes(error))
    instead = (
        f"Without it, the packaged models do the same job: unset LLMCOURSE_MODELS, or load "
        f"{' or '.join(map(repr, PACKAGED))}."
    )
    if any(isinstance(cause, hub.GatedRepoError) for cause in chain):
        return HubError(
            f"{name} is gated: its owner hands it out only after you accept the terms. Accept "
            f"them on its hub page, then log in with `hf auth login`. {instead}"
        )
    if any(isinstance(cause, hub.RepositoryNotFoundError) for cause in chain):
        return HubError(
            f"The hub has no model {name} that you may see. Check the spelling; if it is "
            f"private, log in with `hf auth login`. {instead}"
        )
    if _is_pickled(name):
        return HubError(
            f"{name} has no weights as .safetensors. Pickled weights (.bin, .pt) can run code when "
            f"they are opened and are not loaded here. {instead}"
        )
    # huggingface_hub sends with httpx, whose errors are none of Python's own.
    unreachable = (ConnectionError, TimeoutError, hub.LocalEntryNotFoundError)
    if (
        any(isinstance(cause, unreachable) for cause in chain)
        or any(type(cause).__name__ in ("ConnectError", "ConnectTimeout") for cause in chain)
        # transformers names no cause where the cache has a model's description alone.
        or (constants.HF_HUB_OFFLINE and not is_cached(name))
    ):
        return HubError(
            f"{name} is not in the local hub cache and the hub can't be reached. Connect to the "
            f"network once (behind a proxy, set HTTPS_PROXY), or unset HF_HUB_OFFLINE if you "
            f"set it. {instead}"
        )
    return HubError(f"{name} could not be loaded from the hub ({first_line(error)}). {instead}")
