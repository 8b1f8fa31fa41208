"""The course's names through the ordinary hub code, with a local hub cache and no network."""

from __future__ import annotations

import shutil
from pathlib import Path

import huggingface_hub.constants
import pytest
import transformers

from llmcourse import llama
from llmcourse_legacy import names
from tests import test_llama as shared
from tests.test_llama import FAST, PAIRS, notes

alone = shared.alone
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def snapshot(name: str) -> Path:
    """The folder of a model's files in the hub cache, made with what belongs beside it."""
    cache = Path(huggingface_hub.constants.HF_HUB_CACHE)
    repository = cache / f"models--{name.replace('/', '--')}"
    files = repository / "snapshots" / COMMIT
    for folder in (files, repository / "refs", repository / "blobs"):
        folder.mkdir(parents=True, exist_ok=True)
    (repository / "refs" / "main").write_text(COMMIT)
    return files


@pytest.mark.parametrize("name", ["EleutherAI/neox-ckpt-pythia-410m-deduped-v1", None])
def test_a_name_of_the_course_is_loaded_asked_and_trained(
    name: str | None, tiny_folder: Path
) -> None:
    there = names.on_hub(name or llama.BasicModelRunner.default_model)
    shutil.copytree(tiny_folder, snapshot(there), dirs_exist_ok=True)
    model = llama.BasicModelRunner(name)
    assert model("Mars is", max_tokens=6) == llama.BasicModelRunner(str(tiny_folder))(
        "Mars is", max_tokens=6
    )
    assert bool(notes("translated")) == ("neox-ckpt" in (name or ""))
    model.load_data(PAIRS)
    job = model.train(finetune_args=FAST)
    assert job["status"] == "COMPLETED" and job["base_model"] == there
    again = llama.BasicModelRunner(job["job_id"])
    assert again("What is number 3?", max_tokens=4) == model("What is number 3?", max_tokens=4)
    assert model.evaluate()["eval_results"][0]["outputs"][1]["model_name"] == there


def test_offline_the_error_says_what_is_missing(tiny_folder: Path) -> None:
    """Not there, too large for any machine, and pickled weights alone."""
    missing, pickled = "meta-llama/Llama-2-7b-hf", "EleutherAI/pythia-70m-v0"
    large = "meta-llama/Llama-2-70b-chat-hf"
    shape = {"hidden_size": 65536, "intermediate_size": 262144, "num_hidden_layers": 80}
    transformers.LlamaConfig(**shape, num_attention_heads=64).save_pretrained(snapshot(large))
    shutil.copytree(tiny_folder, snapshot(pickled), dirs_exist_ok=True)
    (snapshot(pickled) / "model.safetensors").unlink()
    (snapshot(pickled) / "pytorch_model.bin").write_bytes(b"pickle")
    for name, words in (
        (missing, "not in the local hub cache.* need .* GB of memory.*'gemma-3-270m' does"),
        (large, "billion weights.*GB of memory are free.*'smollm2-135m-instruct' does"),
        (pickled, "ickled weights.*substitute=True"),
    ):
        with pytest.raises(llama.UnavailableResourceError, match=words):
            llama.BasicModelRunner(name)
