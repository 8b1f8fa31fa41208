"""The model hub: what its cache has, downloads, and what a failed one means."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from llmcourse.errors import CourseError, HubError, causes, first_line, is_disk_full
from llmcourse.files import no_space
from llmcourse.models.packaged import PACKAGED
from llmcourse.progress import quiet

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
DESCRIPTION = ["*.json", "*.model", "*.txt", "*.jinja"]  # all that a model has but its weights


def is_hub_name(name: str) -> bool:
    """Whether `name` has the form "owner/name"."""
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


def download(name: str, *, weights: bool = True) -> Path:
    """The folder of a hub model in the local cache, downloaded first if need be.

    Args:
        name: Such as "owner/name".
        weights: False gets its description alone, which says how large the weights are.

    Raises:
        HubError: no network, no access, no such model, or no weights as safetensors.
        NoSpace: the disk is full.
    """
    from huggingface_hub import constants, snapshot_download

    check_reachable(name)
    # (where all is cached, the client asks for news and does without where there is no network)
    try:
        with quiet():
            folder = snapshot_download(
                name,
                allow_patterns=[*DESCRIPTION, "*.safetensors"] if weights else DESCRIPTION,
                # copies of the same weights in other programs' formats
                ignore_patterns=["*/*", "consolidated*"],
            )
    except Exception as error:  # the hub's client has changed its errors before
        raise hub_error(name, error) from error
    if weights and not any(Path(folder).glob("*.safetensors")):
        if constants.HF_HUB_OFFLINE and not any(Path(folder).glob("*.bin")):
            raise hub_error(name, ConnectionError())  # the cache has its description alone
        raise HubError(
            f"{name} has no weights as .safetensors. Pickled weights (.bin, .pt) can run code when "
            f"they are opened and are not loaded here. {_instead()}"
        )
    return Path(folder)


def check_reachable(name: str) -> None:
    """Fail fast when offline: the hub's client would try for half a minute.

    Behind a proxy only the client knows the way, so nothing is checked there.

    Raises:
        HubError: the model is not in the local cache and the hub's host can't be reached.
    """
    from huggingface_hub import constants

    address = urlsplit(constants.ENDPOINT)  # HF_ENDPOINT may name a mirror
    if is_cached(name) or constants.HF_HUB_OFFLINE or getproxies().get(address.scheme):
        return
    port = address.port or {"http": 80}.get(address.scheme, 443)
    try:
        socket.create_connection((address.hostname, port), timeout=10).close()
    except OSError as error:
        raise hub_error(name, ConnectionError(str(error))) from error


def hub_error(name: str, error: Exception) -> CourseError:
    """Say what a failed hub download means: access, name, network, or something else."""
    from huggingface_hub import constants, errors

    if is_disk_full(error):  # the hub's cache is not in LLMCOURSE_CACHE
        return no_space(Path(constants.HF_HUB_CACHE), hint=", or set HF_HOME to a larger disk")

    def is_any(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes(error))

    if is_any(errors.GatedRepoError):  # a kind of RepositoryNotFoundError, so looked for first
        what = (
            "is gated: its owner hands it out only after you accept the terms. Accept them on its "
            "hub page, then log in with `hf auth login`"
        )
    elif is_any(errors.RepositoryNotFoundError):
        what = (
            "is no model on the hub that you may see. Check the spelling; if it is private, log in "
            "with `hf auth login`"
        )
    elif is_any(ConnectionError, TimeoutError, errors.LocalEntryNotFoundError) or (
        # transformers names no cause where the cache has a model's description alone
        constants.HF_HUB_OFFLINE and not is_cached(name)
    ):
        what = (
            "is not in the local hub cache and the hub can't be reached. Connect to the network "
            "once (behind a proxy, set HTTPS_PROXY), or unset HF_HUB_OFFLINE if you set it"
        )
    else:
        what = f"could not be loaded from the hub ({first_line(error)})"
    return HubError(f"{name} {what}. {_instead()}")


def _instead() -> str:
    return (
        f"Without it, the packaged models do the same job: unset LLMCOURSE_MODELS, or load "
        f"{' or '.join(map(repr, PACKAGED))}."
    )
