"""What several test modules share."""

from __future__ import annotations

import copy
import dataclasses
import gc
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from llmcourse import models
from llmcourse.models.lora import without_old_torchao

collect_ignore_glob = ["labs/*.ipynb"]  # have no outputs to compare; test_labs.py runs them
ROOT = Path(__file__).resolve().parent.parent
Run = Callable[..., subprocess.CompletedProcess]


def get_peft_model(*arguments: Any, **more: Any) -> Any:
    """peft's, also beside a torchao that is too old for it, as on Colab."""
    import peft

    without_old_torchao()
    return peft.get_peft_model(*arguments, **more)


@pytest.fixture(autouse=True)
def no_deprecated_calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test in which our own code calls what a library is about to drop.

    `filterwarnings` alone would miss it: most libraries attribute the warning to themselves, and
    `progress.quiet` keeps warnings off the page.
    """
    calls: list[str] = []
    usual = warnings.warn

    def warn(message: Any, category: Any = None, stacklevel: int = 1, **more: Any) -> None:
        kind = type(message) if isinstance(message, Warning) else category or UserWarning
        if issubclass(kind, DeprecationWarning | FutureWarning):
            frame = library = sys._getframe(1)
            name = library.f_globals.get("__name__", "").split(".")[0]
            while frame and frame.f_globals.get("__name__", "").split(".")[0] in (
                name,
                "functools",
            ):
                frame = frame.f_back
            if frame and Path(frame.f_code.co_filename).is_relative_to(ROOT / "llmcourse"):
                calls.append(f"{frame.f_code.co_filename}:{frame.f_lineno}: {message}")
        usual(message, category, stacklevel + 1, **more)

    monkeypatch.setattr(warnings, "warn", warn)
    yield
    assert not calls, "\n".join(calls)


@pytest.fixture(autouse=True, scope="module")
def quick_collections() -> None:
    """A training calls gc.collect(), which would look at all that libraries made, for a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def base32() -> models.LoadedModel:
    """The packaged base model in float32, in which results do not depend on the batch."""
    return models.load("gemma-3-270m", dtype=torch.float32)


@pytest.fixture(scope="session")
def chat32() -> models.LoadedModel:
    """The packaged chat model in float32."""
    return models.load("smollm2-135m-instruct", dtype=torch.float32)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small random Llama and the packaged chat model's tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = models.load_tokenizer("smollm2-135m-instruct")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_once(tiny_folder: Path) -> models.LoadedModel:
    """That model in float32."""
    return models.load(str(tiny_folder), dtype=torch.float32)


@pytest.fixture
def tiny(tiny_once: models.LoadedModel) -> Iterator[models.LoadedModel]:
    """That model, fresh, and one thread, with which it is fastest."""
    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    # (an adapter that a test put on the shared one has frozen its weights)
    fresh = copy.deepcopy(tiny_once.model).requires_grad_(True)
    yield dataclasses.replace(tiny_once, model=fresh)
    torch.set_num_threads(usual)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder that only this test uses; what is in it tells what was left behind."""
    monkeypatch.setenv("LLMCOURSE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def cli(tmp_path: Path) -> Run:
    """Run `python -m llmcourse …` in a process of its own, as a user does."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
        env = os.environ | {"LLMCOURSE_WORK": str(tmp_path / "work")} | environment
        return subprocess.run(
            [sys.executable, "-m", "llmcourse", *arguments],
            capture_output=True,
            text=True,
            encoding="utf-8",
            env=env,
            cwd=ROOT,
            timeout=600,
        )

    return run
