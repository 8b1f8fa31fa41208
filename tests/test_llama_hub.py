"""The course's names through the ordinary hub code: a local hub cache, and a hub that refuses."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE

from llmcourse.models import fingerprint
from llmcourse_legacy import names
from tests.test_llama import PAIRS, python

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PROMPTS = ["Mars is", "What is the capital of Kenya? What is the capital of France?", "A"]
SIZE = {"vocab_size": 320, "hidden_size": 32, "num_attention_heads": 4}
LLAMA = {**SIZE, "num_hidden_layers": 2, "intermediate_size": 48, "num_key_value_heads": 2}
CHAT = "{% for m in messages %}{{ '[INST] ' + m['content'] + ' [/INST]' }}{% endfor %}"


def gpt2() -> Any:
    """GPT-2, and with it Cerebras-GPT; its attention has Conv1D where others have Linear."""
    return transformers.GPT2Config(vocab_size=320, n_embd=32, n_layer=2, n_head=4, n_positions=128)


# The beginning of a hub name: a small configuration of its architecture, and its tokenizer's class.
ARCHITECTURES: dict[str, tuple[Any, str]] = {
    "hf-internal-testing/": (gpt2(), "GPT2Tokenizer"),
    "cerebras/": (gpt2(), "GPT2Tokenizer"),
    "EleutherAI/gpt-neo": (
        transformers.GPTNeoConfig(
            vocab_size=320, hidden_size=32, num_layers=2, num_heads=4, window_size=8,
            attention_types=[[["global", "local"], 1]], max_position_embeddings=128,
        ),
        "GPT2Tokenizer",
    ),
    "EleutherAI/pythia": (
        transformers.GPTNeoXConfig(
            **SIZE, num_hidden_layers=2, intermediate_size=48, max_position_embeddings=128,
        ),
        "GPTNeoXTokenizer",
    ),
    "meta-llama/": (transformers.LlamaConfig(**LLAMA, max_position_embeddings=128),
                    "PreTrainedTokenizerFast"),
    "Intel/": (
        transformers.MistralConfig(**LLAMA, max_position_embeddings=128, sliding_window=16),
        "PreTrainedTokenizerFast",
    ),
}  # fmt: skip
HUB_NAMES = sorted(set(names.HUB.values()))


def architecture(name: str) -> tuple[Any, str]:
    return next(found for start, found in ARCHITECTURES.items() if name.startswith(start))


def tokenizer() -> transformers.PreTrainedTokenizerFast:
    """Bytes and a few pairs of them."""
    made = Tokenizer(BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=alphabet, special_tokens=["<|endoftext|>"],
        show_progress=False,
    )  # fmt: skip
    made.train_from_iterator(PROMPTS * 3, trainer)
    end = "<|endoftext|>"
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=end, eos_token=end, unk_token=end
    )


def snapshot(cache: Path, name: str) -> Path:
    """The folder of a model's files in a hub cache, made with what belongs beside it."""
    repository = cache / f"models--{name.replace('/', '--')}"
    files = repository / "snapshots" / COMMIT
    for folder in (files, repository / "refs", repository / "blobs"):
        folder.mkdir(parents=True, exist_ok=True)
    (repository / "refs" / "main").write_text(COMMIT)
    return files


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub cache with a small random model, each of its own, under every name of the list."""
    folder, words = tmp_path_factory.mktemp("hub"), tokenizer()
    for number, name in enumerate(HUB_NAMES):
        files = snapshot(folder, name)
        config, kind = architecture(name)
        torch.manual_seed(number)
        config.bos_token_id = config.eos_token_id = words.eos_token_id
        model = transformers.AutoModelForCausalLM.from_config(config)
        for weight in model.parameters():  # far from uniform, so that models differ in words
            torch.nn.init.normal_(weight, std=0.4)
        model.save_pretrained(files)
        words.chat_template = CHAT if "-chat-" in name else None
        words.save_pretrained(files)
        described = json.loads((files / "tokenizer_config.json").read_text(encoding="utf-8"))
        described["tokenizer_class"] = kind
        (files / "tokenizer_config.json").write_text(json.dumps(described), encoding="utf-8")
    return folder


def run(code: str, cache: Path, tmp_path: Path, *arguments: str, **environment: str) -> Any:
    """The last line that a fresh process prints, which is JSON."""
    given = {
        "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1", "LLMCOURSE_DTYPE": "float32",
        "LLMCOURSE_TIER": "smoke", "LLMCOURSE_WORK": str(tmp_path / "work"),
    } | environment  # fmt: skip
    return json.loads(python(code, *arguments, cwd=tmp_path, **given).splitlines()[-1])


ASK = """
import json, sys
from llmcourse.llama import BasicModelRunner
from llmcourse.llama import settings
from llmcourse.models import fingerprint
prompts, found = json.loads(sys.argv[1]), {}
for name in json.loads(sys.argv[2]):
    model = BasicModelRunner(name)
    answers = model(prompts, max_tokens=6)
    alone = [model(prompt, max_tokens=6) for prompt in prompts]
    kind = type(model._base.model).__name__
    weights = fingerprint(model._base.model)
    found[name] = [answers, alone, kind, model._base.context_length, weights, settings.taken()]
print(json.dumps(found))
"""


def test_every_name_of_the_course_is_loaded_and_asked(cache: Path, tmp_path: Path) -> None:
    """29 names, offline; each answers as transformers itself does from that model's own files."""
    found = run(ASK, cache, tmp_path, json.dumps(PROMPTS), json.dumps(list(names.HUB)))
    seen = {}
    for name, (batched, alone, kind, context, weights, notes) in found.items():
        files = snapshot(cache, names.HUB[name])
        words = transformers.AutoTokenizer.from_pretrained(files)
        model = transformers.AutoModelForCausalLM.from_pretrained(files).eval()
        wanted = []
        for prompt in PROMPTS:
            ids = words(prompt, return_tensors="pt")
            out = model.generate(**ids, max_new_tokens=6, do_sample=False, pad_token_id=0)
            written = out[0, ids.input_ids.shape[1] :]
            wanted.append(words.decode(written, skip_special_tokens=True))
        assert alone == wanted, name
        assert batched == wanted, f"{name}: padding changed an answer"
        assert kind == type(model).__name__ and context == 128
        told = [note["text"] for note in notes if note["kind"] == "translated"]
        assert bool(told) == ("neox-ckpt" in name) and all(names.HUB[name] in t for t in told)
        assert not [note for note in notes if note["kind"] == "substituted"]
        assert weights == fingerprint(model)
        seen[names.HUB[name]] = tuple(weights)
    assert {kind for _, _, kind, *_ in found.values()} == {
        "GPT2LMHeadModel", "GPTNeoForCausalLM", "GPTNeoXForCausalLM", "LlamaForCausalLM",
        "MistralForCausalLM",
    }  # fmt: skip
    assert len(set(seen.values())) == len(HUB_NAMES), "a name gave another name's model"


TRAIN = """
import json, sys
from llmcourse.llama import BasicModelRunner, LlamaV2Runner
found = {}
for name in json.loads(sys.argv[2]):
    for peft in (True, False):
        model = BasicModelRunner(name, enable_peft=peft)
        model.load_data(json.loads(sys.argv[1]))
        job = model.train(finetune_args={"steps": 2, "learning_rate": 0.02})
        results = model.evaluate()["eval_results"][0]["outputs"]
        again = BasicModelRunner(job["job_id"])
        same = again("What is number 3?", max_tokens=4) == model("What is number 3?", max_tokens=4)
        found[f"{name} {peft}"] = [job["status"], same, [one["model_name"] for one in results]]
print(json.dumps(found))
"""
ONE_OF_EACH = [
    "hf-internal-testing/tiny-random-gpt2", "cerebras/Cerebras-GPT-111M",
    "EleutherAI/gpt-neo-125m", "EleutherAI/pythia-410m", "meta-llama/Llama-2-7b-hf",
    "Intel/neural-chat-7b-v3-1",
]  # fmt: skip


def test_every_architecture_can_be_trained(cache: Path, tmp_path: Path) -> None:
    found = run(TRAIN, cache, tmp_path, json.dumps(PAIRS), json.dumps(ONE_OF_EACH))
    assert len(found) == 2 * len(ONE_OF_EACH)
    for name, (status, same, told) in found.items():
        assert (status, same) == ("COMPLETED", True), name
        assert told[1] == name.split()[0]


# --- what can't be had ---------------------------------------------------------------------------

TRY = """
import json, sys
from llmcourse.llama import BasicModelRunner
found = {}
for name in sys.argv[1:]:
    try:
        BasicModelRunner(name)
    except Exception as error:
        found[name] = [type(error).__name__, str(error)]
print(json.dumps(found))
"""
UNAVAILABLE = "UnavailableResourceError"


def test_offline_it_is_told_what_is_missing(cache: Path, tmp_path: Path) -> None:
    """Not there, too large for any machine, and pickled weights alone."""
    own, large = tmp_path / "hub", "meta-llama/Llama-2-70b-chat-hf"
    pickled, bare = "EleutherAI/pythia-70m-v0", "EleutherAI/pythia-160m"
    config = transformers.LlamaConfig(
        hidden_size=65536, intermediate_size=262144, num_hidden_layers=80, num_attention_heads=64,
        num_key_value_heads=8, vocab_size=32000,
    )  # fmt: skip
    config.save_pretrained(snapshot(own, large))
    for name in (pickled, bare):
        shutil.copytree(snapshot(cache, name), snapshot(own, name), dirs_exist_ok=True)
        (snapshot(own, name) / "model.safetensors").unlink()
    (snapshot(own, pickled) / "pytorch_model.bin").write_bytes(b"pickle")
    missing = "meta-llama/Llama-2-7b-hf"
    found = run(TRY, own, tmp_path, missing, large, pickled, bare)
    assert [kind for kind, _ in found.values()] == [UNAVAILABLE] * 4
    told = {name: words for name, (_, words) in found.items()}
    for name in (missing, bare):
        assert "not in the local hub cache" in told[name] and "network" in told[name]
    assert "GB of memory" in told[missing] and "'gemma-3-270m' plays the same part" in told[missing]
    assert "billion weights" in told[large] and "GB of memory are free" in told[large]
    assert "'smollm2-135m-instruct' plays the same part" in told[large]
    assert "safetensors" in told[pickled] and "ickled weights" in told[pickled]
    assert all("substitute=True" in words for words in told.values())


class Hub(BaseHTTPRequestHandler):
    """A hub on this machine: Llama is gated, one model has pickled weights alone, others are not.

    As the real hub does, it says the reason in a header.
    """

    folder: Path

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        file = self.folder / self.path.rsplit("/", 1)[-1].split("?")[0]
        if "meta-llama" in self.path:
            self._send(403, error="GatedRepo")
        elif "pythia-70m-v0" not in self.path:
            self._send(404, error="RepoNotFound")
        elif file.is_file() and file.suffix == ".json":
            self._send(200, file.read_bytes())
        else:
            self._send(404, error="EntryNotFound")

    def _send(self, code: int, body: bytes = b"", error: str = "") -> None:
        self.send_response(code)
        if error:
            self.send_header("X-Error-Code", error)
            self.send_header("X-Error-Message", error)
        if error not in ("GatedRepo", "RepoNotFound"):
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{len(body)}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: the tests' output is not a server's log."""


@pytest.fixture
def hub(cache: Path) -> Iterator[str]:
    """The address of that hub."""
    folder = snapshot(cache, "EleutherAI/pythia-70m-v0")
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Refusing", (Hub,), {"folder": folder}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_online_it_is_told_what_the_hub_refuses(hub: str, tmp_path: Path) -> None:
    gated, gone = "meta-llama/Llama-2-7b-chat-hf", "cerebras/Cerebras-GPT-111M"
    pickled = "EleutherAI/pythia-70m-v0"
    found = run(
        TRY, tmp_path / "empty", tmp_path, gated, gone, pickled, HF_ENDPOINT=hub,
        HF_HUB_OFFLINE="0", HF_TOKEN="hf_secret", HF_HOME=str(tmp_path / "home"),
        NO_PROXY="127.0.0.1", no_proxy="127.0.0.1",
    )  # fmt: skip
    told = {name: words for name, (_, words) in found.items()}
    assert [kind for kind, _ in found.values()] == [UNAVAILABLE] * 3
    assert "gated" in told[gated] and "accept the terms" in told[gated].lower()
    assert "'smollm2-135m-instruct' plays the same part" in told[gated]
    assert "The hub has no model cerebras/Cerebras-GPT-111M that you may see" in told[gone]
    assert "safetensors" in told[pickled] and "ickled weights" in told[pickled]
    assert "hf_secret" not in "".join(told.values())


def test_without_a_network_it_is_told_at_once(tmp_path: Path) -> None:
    found = run(
        TRY, tmp_path / "empty", tmp_path, "EleutherAI/pythia-410m", HF_HUB_OFFLINE="0",
        HF_ENDPOINT="http://127.0.0.1:9", NO_PROXY="127.0.0.1", no_proxy="127.0.0.1",
    )  # fmt: skip
    ((kind, words),) = found.values()
    assert kind == UNAVAILABLE and "hub can't be reached" in words
    assert "'gemma-3-270m' plays the same part" in words
