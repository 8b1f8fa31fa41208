"""Loading a model by role, package, folder or hub name.

The two packaged models are unpacked to safetensors at their first use (`models.packaged`); from
then on a load takes seconds and needs no network. What the hub says is in `models.hub`.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcourse import tiers
from llmcourse.errors import (
    CorruptModel,
    CourseError,
    ModelTooLarge,
    NotFinite,
    SettingError,
    UnknownModel,
    causes,
    first_line,
    is_out_of_memory,
)
from llmcourse.models import hub
from llmcourse.models.packaged import (
    CHECK_TEXT,
    INSTALL,
    PACKAGED,
    convert,
    converted_path,
    is_converted,
    part_paths,
)
from llmcourse.models.tuned import (
    FACTS,
    base_of,
    facts,
    fingerprint,
    is_adapter,
    with_adapter_of,
)
from llmcourse.progress import quiet

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "FACTS",
    "INSTALL",
    "PACKAGED",
    "ROLES",
    "LoadedModel",
    "check_memory",
    "convert",
    "converted_path",
    "fingerprint",
    "is_converted",
    "load",
    "load_adapter",
    "load_tokenizer",
    "part_paths",
    "prefetch",
    "require_finite",
    "resolve",
]

ROLES = ("base", "chat")
_FILES = (".safetensors", ".gguf", ".bin", ".pt", ".pth", ".json", ".jsonl")  # no model's own name


@dataclass
class LoadedModel:
    """A model ready to answer, with its tokenizer and the template it answers best to.

    Attributes:
        model: The transformers model, in evaluation mode.
        tokenizer: Its tokenizer; the padding token is never the end-of-sequence token unless
            the vocabulary has no other.
        name: What was asked for, resolved: a packaged name, a folder or a hub name.
        template: Name in `templates.NAMES` used when none is given.
    """

    model: PreTrainedModel = field(repr=False)
    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    name: str
    template: str

    @property
    def title(self) -> str:
        """A name for people and pictures."""
        return PACKAGED[self.name].title if self.name in PACKAGED else Path(self.name).name

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are stored and computed in."""
        return self.model.dtype

    @property
    def context_length(self) -> int:
        """How many tokens the model can read and write together."""
        config = self.model.config
        return getattr(config, "max_position_embeddings", None) or config.n_positions

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(weight.numel() for weight in self.model.parameters())


def resolve(role_or_name: str) -> str:
    """The name that a role stands for on this tier; any other name unchanged."""
    if role_or_name in ROLES:
        return getattr(tiers.pair(), role_or_name)
    return role_or_name


def load(
    role_or_name: str,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> LoadedModel:
    """Load a model and its tokenizer.

    Args:
        role_or_name: "base" or "chat" (the tier's models), a packaged name, a folder with
            a model in it, or with an adapter, whose base is loaded with it, or a hub name such as
            "owner/name".
        device: Where to; the tier decides if not given.
        dtype: In which type; what this machine is fast at if not given. A model whose numbers
            float16 can't hold is loaded in float32 instead, and a line on stderr says so.

    Raises:
        UnknownModel: it is none of these.
        ModelNotInstalled: the model's packages are missing.
        CorruptModel: a file is damaged or not what it should be.
        ModelTooLarge: the weights would not fit into memory; said before they are read.
        HubError: no network, no access, or no such model on the hub.
        NoSpace: the disk is full.
    """
    import torch

    name = resolve(str(role_or_name))
    where = _device(device) if device else tiers.device()
    kind = dtype or tiers.dtype(where)
    if not isinstance(kind, torch.dtype):
        raise SettingError(f"dtype={kind!r} is no torch.dtype. Use e.g. torch.float32.")
    if (folder := _adapter_folder(name)) is not None:
        return load_adapter(load(base_of(folder), device=device, dtype=dtype), folder)
    place = _place(name)
    with quiet():
        model, tokenizer = _from_pretrained(place, name, where, kind)
        overflows = kind == torch.float16 and _overflows(model, tokenizer)
        if overflows:
            model, tokenizer = _from_pretrained(place, name, where, torch.float32)
    if overflows:
        print(f"{name} is loaded in float32: float16 can't hold its numbers.", file=sys.stderr)
    _choose_padding(tokenizer)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    template = "chat" if getattr(tokenizer, "chat_template", None) else "plain"
    if isinstance(place, Path):
        template = facts(place).get("template", template)
    return LoadedModel(model, tokenizer, name, template)


def _overflows(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a model in float16 computes numbers beyond that type's range, 65,504.

    Gemma 3's activations reach about 800,000. It was trained in bfloat16, whose range is float32's;
    a GPU without bfloat16 (a T4) runs it in float32.
    """
    import torch

    ids = tokenizer(CHECK_TEXT, return_tensors="pt").input_ids.to(model.device)
    try:
        with torch.inference_mode():
            require_finite(model(ids).logits, model)
    except NotFinite:
        return True
    return False


def load_adapter(base: LoadedModel, folder: Path | str) -> LoadedModel:
    """Put the adapter in `folder` on its base, which stays as it is and shares its weights.

    So several adapters, one a customer say, need the base's memory only once.

    Args:
        base: From `load`.
        folder: What a fine-tuning with LoRA wrote.

    Raises:
        UnknownModel: there is no adapter in `folder`.
        SettingError: it belongs to another base.
        CorruptModel: it is damaged, or changes nothing.
    """
    place = Path(folder).expanduser()
    if not is_adapter(place):
        raise UnknownModel(f"{place} holds no adapter: it has no adapter_config.json.")
    adapted = with_adapter_of(base.model, place, base.name)
    template = facts(place).get("template", base.template)
    return LoadedModel(adapted, base.tokenizer, str(folder), template)


def _adapter_folder(name: str) -> Path | None:
    """The folder that `name` is, if there is an adapter in it."""
    try:
        place = Path(name).expanduser()
        return place if name and is_adapter(place) else None
    except (RuntimeError, ValueError, OSError):
        return None


def load_tokenizer(role_or_name: str) -> PreTrainedTokenizerBase:
    """Load a model's tokenizer alone, with the padding that `load` chooses; no weights are read.

    Args:
        role_or_name: See `load`.

    Raises:
        UnknownModel, ModelNotInstalled, CorruptModel, HubError, NoSpace: see `load`.
    """
    name = resolve(str(role_or_name))
    if (folder := _adapter_folder(name)) is not None:
        return load_tokenizer(base_of(folder))
    place = _place(name)
    with quiet(), _told(place, name):
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    _choose_padding(tokenizer)
    return tokenizer


@contextmanager
def _told(place: Path | str, name: str) -> Iterator[None]:
    """Say what a failed load means, in our own errors."""
    try:
        yield
    except CourseError:
        raise
    except Exception as error:  # a damaged folder fails in as many ways as there are bytes
        raise _load_error(place, name, error) from error


def _device(named: torch.device | str) -> torch.device:
    import torch

    try:
        torch.empty(0, device=named)
        return torch.device(named)
    except (RuntimeError, AssertionError) as error:
        raise SettingError(f"device={named!r} can't be used here: {first_line(error)}") from error


def _place(name: str) -> Path | str:
    """Where a resolved name is to be loaded from: a folder, made first if need be, or the hub."""
    if name in PACKAGED:
        return convert(name)
    try:
        path = Path(name).expanduser()
        if name and path.is_dir():
            return _checked_folder(path)
    except (RuntimeError, ValueError, OSError):
        raise _unknown(name) from None
    if hub.is_hub_name(name):
        if not hub.is_cached(name) and (why := _path_meant(path)):
            raise _unknown(name, why)
        hub.check_reachable(name)
        return name
    raise _unknown(name)


def _path_meant(path: Path) -> str:
    """Why a name that nothing stands under is a mistyped path, and no hub name; "" if it may be."""
    if path.parent.is_dir():
        return f" The folder {str(path.parent)!r} holds no folder {path.name!r}."
    return " No such file." if path.suffix.lower() in _FILES else ""


def _unknown(name: str, why: str = "") -> UnknownModel:
    known = [*ROLES, *PACKAGED]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return UnknownModel(
        f"There is no model {name!r}.{why}{hint} Use a role ({', '.join(ROLES)}), a packaged model "
        f"({', '.join(PACKAGED)}), the path of a folder that exists, or a hub name like "
        f"'owner/name'."
    )


def _checked_folder(folder: Path) -> Path:
    """`folder`, if there is a model in it that can be loaded without running anybody's code."""
    if not (folder / "config.json").is_file():
        raise CorruptModel(f"{folder} holds no model: it has no config.json.")
    if not any(folder.glob("*.safetensors")):
        raise CorruptModel(
            f"{folder} has no weights as .safetensors. Pickled weights (.bin, .pt) can run "
            f"code when they are opened and are not loaded here; convert them first."
        )
    return folder


def _from_pretrained(
    place: str | Path, name: str, device: torch.device, dtype: torch.dtype
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    # Said aloud in every call: left unsaid, transformers asks, and a "y" would run their code.
    no_code = {"trust_remote_code": False}
    with _told(place, name):
        config = AutoConfig.from_pretrained(place, **no_code)
        check_memory(config, name, device, dtype)
        tokenizer = AutoTokenizer.from_pretrained(place, **no_code)
        model, report = AutoModelForCausalLM.from_pretrained(
            place,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            **no_code,
        )
        lost = sorted(report["missing_keys"]) + sorted(map(str, report["mismatched_keys"]))
        if lost:
            raise CorruptModel(
                f"The weights in {place} do not belong to its config.json: {len(lost)} are missing "
                f"or of another shape, {lost[0]} among them. Copy or make the folder again."
            )
        return model.to(device).eval(), tokenizer


def _load_error(place: str | Path, name: str, error: Exception) -> CourseError:
    """Say what a failed load means."""
    from safetensors import SafetensorError

    if is_out_of_memory(error):
        return ModelTooLarge(
            f"Memory ran out while {name} was loaded. Close other programs or notebooks, or choose "
            f"a smaller model."
        )
    if isinstance(error, ValueError) and hub.brings_code(place):
        return CorruptModel(
            f"{name} brings program code of its own, which is never run here. Choose a model that "
            f"transformers knows by itself."
        )
    if isinstance(place, Path) or isinstance(error, SafetensorError):
        mend = "delete that folder and load again" if name in PACKAGED else "copy or make it again"
        if any(isinstance(cause, PermissionError) for cause in causes(error)):
            mend = "make it readable for you"
        told = first_line(error)
        return CorruptModel(f"The model in {place} can't be read ({told}). To mend it, {mend}.")
    return hub.hub_error(name, error)


def check_memory(config: Any, name: str, device: torch.device, dtype: torch.dtype) -> None:
    """Refuse a model whose weights alone are more than the free memory of `device`.

    The weights are counted on torch's meta device, which allocates nothing, so this costs
    under a second even for a model of many billion parameters.

    Raises:
        ModelTooLarge: with both amounts in gigabytes.
    """
    import psutil
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(config)
    parameters = sum(weight.numel() for weight in empty.parameters())
    needed = parameters * dtype.itemsize
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = psutil.virtual_memory().available
    if needed > free:
        raise ModelTooLarge(
            f"{name} has {parameters / 1e9:.2f} billion weights: {needed / 1e9:.1f} GB as "
            f"{str(dtype).removeprefix('torch.')}, but {free / 1e9:.1f} GB of memory are free on "
            f"this machine's {device.type}. Close other programs, choose a smaller model, or use "
            f"the packaged ones ({', '.join(PACKAGED)})."
        )


def _choose_padding(tokenizer: PreTrainedTokenizerBase) -> None:
    """Give the tokenizer a padding token other than end-of-sequence, where there is one.

    With padding equal to end-of-sequence, training masks the very token that teaches a model
    to stop (lesson 4 shows it).
    """
    if tokenizer.pad_token is None or tokenizer.pad_token == tokenizer.eos_token:
        vocabulary = tokenizer.get_vocab()
        usual = ("<pad>", "<|padding|>", "<|endoftext|>", tokenizer.unk_token)
        usable = (t for t in usual if t in vocabulary and t != tokenizer.eos_token)
        tokenizer.pad_token = next(usable, tokenizer.eos_token)


def require_finite(logits: torch.Tensor, model: PreTrainedModel) -> None:
    """Refuse NaN and infinity among a model's logits, shape (..., vocabulary).

    Raises:
        NotFinite: with the way out.
    """
    import torch

    if torch.isfinite(logits.amax(-1)).all():  # the largest of a row with NaN is NaN
        return
    kind = str(model.dtype).removeprefix("torch.")
    out = (
        "Load it again with dtype=torch.float32 (LLMCOURSE_DTYPE=float32)."
        if model.dtype == torch.float16
        else "Its weights are damaged, or a training with too high a learning rate spoiled them."
    )
    raise NotFinite(f"The model's logits are NaN or infinite in {kind}. {out}")


def prefetch(names: list[str] | None = None) -> dict[str, str]:
    """Make the tier's models ready to load, lesson 05's among them: convert or download them.

    Returns:
        For each name, where it is.

    Raises:
        ModelNotInstalled, CorruptModel, NoSpace, HubError: see `load`.
    """
    from huggingface_hub import snapshot_download

    ready = {}
    wanted = names or (*ROLES, tiers.pair().learner)
    for name in dict.fromkeys(map(resolve, wanted)):
        place = _place(name)
        if isinstance(place, str):
            try:
                with quiet():
                    place = snapshot_download(name, allow_patterns=hub.FILES)
            except (OSError, ValueError, RuntimeError) as error:
                raise hub.hub_error(name, error) from error
        ready[name] = str(place)
    return ready
