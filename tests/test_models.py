"""Loading: packaged, folder, hub; conversion once, complete or not at all; every failure named."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packaging.version import Version
from safetensors import SafetensorError

from llmcourse import files, finetuning, generation, models, sizing, tiers
from llmcourse.errors import (
    CorruptModel,
    CourseError,
    HubError,
    ModelTooLarge,
    NoSpace,
    SettingError,
    UnknownModel,
)
from llmcourse.finetuning.adapters import weight_size
from llmcourse.models import LoadedModel, packaged
from tests.conftest import ROOT, Run

SMOL, GEMMA = "smollm2-135m-instruct", "gemma-3-270m"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("LLMCOURSE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def left_over(cache: Path) -> list[str]:
    """What is in the cache besides locks."""
    return [path.name for path in cache.iterdir() if path.suffix != ".lock"]


# --- the packaged models --------------------------------------------------------------------------


def test_the_two_models_and_their_tokenizers(base32: LoadedModel, chat32: LoadedModel) -> None:
    assert models.resolve("base") == GEMMA and models.resolve("chat") == SMOL
    assert (base32.template, chat32.template) == ("plain", "chat")
    assert (base32.context_length, chat32.context_length) == (32768, 8192)
    assert base32.title == "Gemma 3 270M" and round(base32.parameters / 1e6) == 268
    for model in (base32, chat32):
        known = models.PACKAGED[model.name]
        assert packaged.encode_check(model.tokenizer) == known.known_ids
        assert model.tokenizer.eos_token == known.eos_token
        assert model.tokenizer.pad_token != model.tokenizer.eos_token
        assert model.dtype == torch.float32
        # The vocabulary is in the tokenizer beneath, and not as Python objects besides.
        held = [value for value in vars(model.tokenizer).values() if isinstance(value, dict | list)]
        assert all(len(value) < 10_000 for value in held)


def test_gemmas_tokenizer_is_transformers_own(base32: LoadedModel, tmp_path: Path) -> None:
    """Ours is right under all versions; from 5.16 on that of transformers is right as well."""
    gguf = tmp_path / "model.gguf"
    packaged.join(models.part_paths(models.PACKAGED[GEMMA]), gguf, models.PACKAGED[GEMMA])
    made = packaged.sentencepiece_tokenizer(gguf)
    wanted = base32.tokenizer
    if Version(transformers.__version__) >= Version("5.16"):
        wanted = transformers.AutoTokenizer.from_pretrained(tmp_path, gguf_file=gguf.name)
    texts = [path.read_text(encoding="utf-8") for path in ROOT.glob("llmcourse/*.py")]
    for text in [*texts, "\t\t x<start_of_turn>user\n\n\n<eos> \u2581   \u2581<unused5>"]:
        ids = wanted(text).input_ids
        assert made(text).input_ids == ids
        for skipped in (True, False):
            told = made.decode(ids, skip_special_tokens=skipped)
            assert told == wanted.decode(ids, skip_special_tokens=skipped)


def test_weights_kept_in_float32_are_the_same_ones_and_are_mapped(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server's learners share what is mapped; bfloat16 read as float32 is a copy in each."""
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "packaged"))
    kept = folder / "float32" / "model.safetensors"
    small = transformers.AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.bfloat16)
    small.save_pretrained(folder)
    monkeypatch.setattr(packaged, "converted_path", lambda name: folder)
    monkeypatch.setattr(tiers, "dtype", lambda on=None: torch.bfloat16)
    models.prefetch([SMOL], share=True)
    assert not kept.exists()  # this machine would compute in bfloat16: there is nothing to keep
    before = models.load(SMOL, dtype=torch.float32)
    monkeypatch.setattr(tiers, "dtype", lambda on=None: torch.float32)
    models.prefetch([SMOL], share=True)
    loaded = models.load(SMOL)
    for name, weight in before.model.state_dict().items():
        assert torch.equal(weight, loaded.model.state_dict()[name])
    if sys.platform == "linux":
        assert str(kept) in Path("/proc/self/maps").read_text(encoding="utf-8")
    assert models.load(SMOL, dtype=torch.bfloat16).dtype == torch.bfloat16


@pytest.mark.model
def test_a_model_beyond_float16_is_loaded_in_float32(capsys: pytest.CaptureFixture) -> None:
    """Gemma 3 computes numbers beyond float16; on a GPU without bfloat16 it answered ""."""
    model = models.load("gemma-3-270m", dtype=torch.float16)
    assert model.dtype == torch.float32
    assert "is loaded in float32: float16 can't hold its numbers" in capsys.readouterr().err


# --- folders --------------------------------------------------------------------------------------


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A folder with a small random model, to be spoiled."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def change(file: Path, **entries: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_damaged_folder_is_refused(folder: Path, file: str) -> None:
    (folder / file).write_bytes((folder / file).read_bytes()[:100])
    with pytest.raises(CorruptModel, match="can't be read"):
        models.load(str(folder))


def test_pickled_weights_are_not_loaded(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CorruptModel, match="no weights as .safetensors. Pickled weights"):
        models.load(str(folder))


def test_weights_of_another_model_are_refused(folder: Path) -> None:
    from safetensors.torch import save_file

    save_file({"foo": torch.zeros(2)}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CorruptModel, match="do not belong to its config.json"):
        models.load(str(folder))


@pytest.mark.parametrize("kind", ["AutoModelForCausalLM", "AutoConfig", "AutoTokenizer"])
def test_a_models_own_code_is_never_run(
    folder: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers would ask on the terminal, and a "y" would run it; here nobody is asked."""
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    if kind == "AutoTokenizer":
        code = {kind: ["evil.Evil", "evil.Evil"]}
        change(folder / "tokenizer_config.json", tokenizer_class="Evil", auto_map=code)
    else:
        change(folder / "config.json", model_type="evil", auto_map={kind: "evil.Evil"})
    with pytest.raises(CorruptModel, match="brings program code"):
        models.load(str(folder))
    assert not (tmp_path / "ran").exists()


def test_a_model_larger_than_memory_is_refused_before_loading(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 800}
    change(folder / "config.json", **shape, num_attention_heads=64, head_dim=128)
    auto = transformers.AutoModelForCausalLM
    monkeypatch.setattr(auto, "from_pretrained", lambda *_, **__: pytest.fail("read"))
    with pytest.raises(ModelTooLarge, match=r"has 6\d\d.\d\d billion weights: 1\d\d\d.\d GB as bf"):
        models.load(str(folder), dtype=torch.bfloat16)


def test_four_bits_are_asked_for_counted_and_refused_before_loading(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the configuration of Llama 2 7B, without its weights and without bitsandbytes."""
    change(folder / "config.json", **sizing.KNOWN["llama-2-7b"], head_dim=128)
    asked: dict[str, Any] = {}

    def loaded(*_: object, **how: Any) -> None:
        asked.update(how)
        raise ValueError("not here")

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", loaded)

    def load(bits: int, free: float) -> None:
        memory = SimpleNamespace(available=free)
        monkeypatch.setattr("psutil.virtual_memory", lambda: memory)
        models.load(str(folder), dtype=torch.float16, bits=bits)

    with monkeypatch.context() as patch, pytest.raises(SettingError, match="pip install bits"):
        patch.setitem(sys.modules, "bitsandbytes", None)
        load(4, 12e9)
    with pytest.raises(
        ModelTooLarge, match=r"13.5 GB as float16, but 12.0 GB.*with bits=4, or use"
    ):
        load(16, 12e9)
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: True)
    with pytest.raises(ModelTooLarge, match=r"3.9 GB as 4 bits and float16, but 3.0 GB"):
        load(4, 3e9)
    with pytest.raises(CorruptModel, match="not here"):
        load(4, 5e9)
    how = asked["quantization_config"]
    assert (how.load_in_4bit, how.bnb_4bit_quant_type) == (True, "nf4")
    assert how.bnb_4bit_use_double_quant and how.bnb_4bit_compute_dtype == torch.float16
    with pytest.raises(SettingError, match="bits=8: use one of 4, 16"):
        load(8, 5e9)
    monkeypatch.setenv("LLMCOURSE_MODELS", "llama2")
    monkeypatch.setattr(models, "_folder", lambda *_, **__: folder)
    asked.clear()
    with pytest.raises(CorruptModel):
        models.load("chat", dtype=torch.float16)
    assert asked["quantization_config"].load_in_4bit  # what a T4 has room for


def test_an_adapter_is_trained_on_four_bits_and_fits_the_base_in_sixteen(
    folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes", reason="the extra qlora is not installed")
    packed = models.load(str(folder), dtype=torch.float32, bits=4)
    plain = models.load(str(folder), dtype=torch.float32)
    assert packed.parameters == plain.parameters
    assert weight_size(packed) == pytest.approx(weight_size(plain), rel=0.03)
    assert packed.model.get_memory_footprint() < plain.model.get_memory_footprint()
    rows = [{"question": f"What is {n}?", "answer": f"It is {n}."} for n in range(4)]
    config = finetuning.Config(steps=3, batch_size=2, memory_gb=100)
    tuned = finetuning.finetune(packed, rows, config, out=tmp_path / "own", progress=False)
    assert len(tuned.history) == 3
    for bits in (4, 16):
        again = models.load(str(tmp_path / "own"), dtype=torch.float32, bits=bits)
        [answer] = generation.generate(again, "What is 2?", max_new_tokens=4, progress=False)
        assert answer.new_tokens
    with pytest.raises(SettingError, match="loaded with bits=4"):
        finetuning.finetune(packed, rows, finetuning.Config(steps=1, method="full"))
    with pytest.raises(SettingError, match="save the adapter"):
        finetuning.merge(tuned)


# --- names ----------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text() | st.sampled_from(["bsae", "a/b/c", "../nowhere", "owner/", "~nosuch/x", "a\0b"]))
def test_no_name_fails_in_another_way_than_ours(name: str) -> None:
    def refused(*_: object, **__: object) -> None:
        raise HubError("there is no hub")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models.hub, "download", refused)
        for function in (models.load, models.load_tokenizer):
            with pytest.raises(CourseError):
                function(name)


def test_a_mistyped_path_is_not_looked_up_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "owner").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(models.hub, "download", lambda name, **_: Path("cached"))
    for name in ("owner/my-model", "owner/m.gguf", "nowhere/model.SAFETENSORS"):
        with pytest.raises(UnknownModel, match="no model .* Use a role .* 'owner/name'"):
            models.load(name)
    # a folder called like an owner hides no model that is cached already
    monkeypatch.setattr(models.hub, "is_cached", lambda name: name == "owner/tiny")
    assert models._folder("owner/tiny") == Path("cached")
    with pytest.raises(UnknownModel, match="Did you mean 'base'"):
        models.load("bsae")


# --- packages and conversion ----------------------------------------------------------------------


@pytest.mark.model
def test_a_corrupted_file_is_refused_and_leaves_nothing(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy.gguf"
    shutil.copy(models.part_paths(models.PACKAGED[SMOL])[0], copy)
    with copy.open("r+b") as file:
        file.seek(50_000_000)
        file.write(b"\xff\x00\xff")
    monkeypatch.setattr(packaged, "part_paths", lambda model: [copy])
    with pytest.raises(CorruptModel, match="(?s)SHA-256 .* instead of b179c9523d0e.*--force"):
        models.convert(SMOL)
    assert left_over(cache) == []


@pytest.mark.model
def test_a_disk_that_is_or_gets_full_leaves_nothing_half_made(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = "Error while serializing: I/O error: No space left on device (os error 28)"
    for error in (OSError(errno.ENOSPC, "No space left on device"), SafetensorError(full)):

        def fill(draft: Path, *_: object, error: Exception = error) -> None:
            (draft / "model.safetensors").write_bytes(b"half")
            raise error

        monkeypatch.setattr(packaged, "convert_into", fill)
        with pytest.raises(NoSpace, match="No space left in"):
            models.convert(SMOL)
    monkeypatch.setattr(packaged, "free_bytes", lambda folder: 1000)
    with pytest.raises(NoSpace, match="0.4 GB are needed .* set LLMCOURSE_CACHE"):
        models.convert(SMOL)
    assert left_over(cache) == []


@pytest.mark.parametrize("broken", ["target", "draft"])
def test_an_old_folder_stays_where_a_new_one_cannot_be_put(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "made"
    target.mkdir()
    (target / "old").write_text("kept")
    usual = Path.replace

    def refused(self: Path, to: Path) -> Path:
        if (self == target) if broken == "target" else ".new-" in self.name:
            raise PermissionError("in use")
        return usual(self, to)

    monkeypatch.setattr(Path, "replace", refused)
    with pytest.raises(PermissionError), files.new_folder(target) as draft:
        (draft / "new").write_text("new")
    assert [path.name for path in tmp_path.rglob("*")] == ["made", "old"]
    monkeypatch.undo()
    target.rename(tmp_path / ".made.old-folder")  # a kill between the two renames
    with pytest.raises(ValueError), files.new_folder(target):
        raise ValueError
    assert (target / "old").read_text() == "kept"
    with files.new_folder(target) as draft:
        (draft / "new").touch(mode=0o600)
    assert [path.name for path in tmp_path.rglob("*")] == ["made", "new"]
    assert (target / "new").stat().st_mode & 0o044 or os.name == "nt"  # others may read it


def start_prefetch(cache: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "llmcourse", "prefetch", SMOL],
        cwd=ROOT,
        text=True,
        env=os.environ | {"LLMCOURSE_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.model
def test_killed_half_way_then_two_at_once(cache: Path) -> None:
    """A killed conversion leaves no model; two new ones at once make one, and clean up."""
    draft = cache / f".{models.converted_path(SMOL).name}.new-folder"  # as a killed run leaves it
    draft.mkdir(parents=True)
    (draft / "model.gguf").write_bytes(b"half")
    both = [start_prefetch(cache), start_prefetch(cache)]
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert all("ready in" in out for out, _ in said)
    assert sum("Another process is converting" in out for out, _ in said) == 1
    assert left_over(cache) == [models.converted_path(SMOL).name]
    # What was made holds what transformers reads from the GGUF file, bit for bit.
    source = models.part_paths(models.PACKAGED[SMOL])[0]
    unpack = {}
    if config := getattr(transformers, "GgufConfig", None):
        unpack["quantization_config"] = config(dequantize=True)
    direct = transformers.AutoModelForCausalLM.from_pretrained(
        source.parent, gguf_file=source.name, dtype=torch.bfloat16, **unpack
    ).state_dict()
    ours = models.load(SMOL, dtype=torch.bfloat16).model.state_dict()
    assert direct.keys() == ours.keys()
    assert all(torch.equal(direct[name], ours[name]) for name in direct)
    names = {path.name for path in models.converted_path(SMOL).iterdir()}
    assert "model.safetensors" in names and "model.gguf" not in names
    assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in names)


# --- the hub --------------------------------------------------------------------------------------


class Hub(BaseHTTPRequestHandler):
    """A hub on this machine: owner/tiny is there, owner/pickled too, owner/gated is gated."""

    folder: Path

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if "owner/tiny" not in path and "owner/pickled" not in path:
            gated = (403, "GatedRepo"), (404, "RepoNotFound")
            return self._send(*gated["owner/gated" not in path])
        files = [
            file for file in self.folder.iterdir() if "owner/tiny" in path or "js" in file.name
        ]
        if path.startswith("/api/"):
            about: Any = {"id": "owner/tiny", "sha": "0" * 40}
            if "/tree/" in path:
                about = [
                    {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": "0"}
                    for file in files
                ]
            return self._send(200, body=json.dumps(about).encode())
        for file in files:
            if file.name == path.split("/")[-1]:
                return self._send(200, body=file.read_bytes())
        return self._send(404, "EntryNotFound")

    def _send(self, code: int, reason: str = "", body: bytes = b"") -> None:
        self.send_response(code)
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", f'"{abs(hash(body))}"')
        self.send_header("X-Error-Code", reason)
        self.send_header("X-Error-Message", reason)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: the tests' output is not a server's log."""


@pytest.fixture
def hub(tiny_folder: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment in which a process sees the local hub, and an empty hub cache."""
    handler = type("TinyHub", (Hub,), {"folder": tiny_folder})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path / "hf"),
        "HF_TOKEN": "hf_secret",
        "HF_HUB_OFFLINE": "0",
    }
    server.shutdown()
    server.server_close()


def test_a_hub_model_is_fetched_once_and_then_needs_no_network(
    cli: Run, hub: dict[str, str]
) -> None:
    online = cli("prefetch", "owner/tiny", **hub)
    assert online.returncode == 0, online.stderr
    ask = ("ask", "Hi", "--model", "owner/tiny", "--tokens", "3")
    offline = cli(*ask, **hub | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"})
    assert offline.returncode == 0, offline.stderr


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("owner/gated", {}, "owner/gated is gated: its owner hands it out only after you accept"),
        ("owner/pickled", {}, "owner/pickled has no weights as .safetensors"),
        ("owner/far", {"HF_HUB_OFFLINE": "1"}, "or unset HF_HUB_OFFLINE if you set it"),
    ],
)
def test_what_the_hub_refuses_is_told_in_one_line(
    cli: Run, hub: dict[str, str], name: str, changes: dict[str, str], message: str
) -> None:
    done = cli("prefetch", name, **hub | changes)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "the packaged models do the same job" in done.stderr
    assert "hf_secret" not in done.stderr + done.stdout


# --- device, dtype, tiers -------------------------------------------------------------------------


@pytest.mark.parametrize(("ratio", "wanted"), [(2.0, torch.bfloat16), (0.4, torch.float32)])
def test_bfloat16_only_where_it_is_fast(
    ratio: float, wanted: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLMCOURSE_DTYPE", raising=False)
    monkeypatch.setattr(tiers, "bfloat16_speedup", lambda: ratio)
    assert tiers.dtype(torch.device("cpu")) == wanted


def test_the_speed_is_measured_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tiers.bfloat16_speedup()
    assert first > 0
    kept = json.loads((cache / "bfloat16.json").read_text())
    assert list(kept.values()) == [round(first, 2)]
    files.write_json(cache / "bfloat16.json", dict.fromkeys(kept, 7.0))
    assert tiers.bfloat16_speedup() == 7.0
    (cache / "bfloat16.json").write_text("[half")

    def full(*_: object) -> None:
        raise NoSpace("No space left")

    monkeypatch.setattr(tiers, "write_json", full)
    assert tiers.bfloat16_speedup() > 0  # a full disk does not keep a ready model from loading


@pytest.mark.parametrize("pair", list(tiers.PAIRS))
def test_one_setting_changes_the_pair_and_what_prefetch_fetches(
    pair: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMCOURSE_MODELS", pair.upper())
    here = tiers.PAIRS[pair]
    assert (models.resolve("base"), models.resolve("chat")) == (here.base, here.chat)
    monkeypatch.setattr(models, "_folder", Path)
    assert models.prefetch() == {name: name for name in (here.base, here.chat, here.learner)}
