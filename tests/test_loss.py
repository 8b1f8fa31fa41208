"""The loss on completions: the number and the gradients of the plain computation."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig

from llmcourse import company, encoding, finetuning, loss, models
from llmcourse.finetuning import completion_loss
from llmcourse.loss import _HeadLoss
from llmcourse.models.lora import adapter_layers, copied, fast_layers
from tests.conftest import get_peft_model

SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 83}
LLAMA = SMALL | {"intermediate_size": 40, "num_key_value_heads": 2}
ARCHITECTURES = {
    "gpt_neox": lambda: transformers.GPTNeoXConfig(**SMALL, intermediate_size=40),
    "gpt2": lambda: transformers.GPT2Config(
        n_embd=24, n_layer=2, n_head=4, vocab_size=83, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0
    ),
    "llama": lambda: transformers.LlamaConfig(**LLAMA),
    "mistral": lambda: transformers.MistralConfig(**LLAMA, sliding_window=5),
    "gemma3": lambda: transformers.Gemma3TextConfig(**LLAMA, head_dim=8, sliding_window=5),
    "capped": lambda: transformers.Gemma2Config(
        **LLAMA, head_dim=8, sliding_window=5, final_logit_softcapping=3.0
    ),
    "scaled": lambda: transformers.CohereConfig(**LLAMA, logit_scale=0.25),
    "bias": lambda: transformers.PhiConfig(
        **SMALL | {"num_attention_heads": 3}, intermediate_size=40
    ),
}


def random_model(name: str) -> Any:
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(ARCHITECTURES[name]()).float().eval()


def random_batch() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    ids, mask = torch.randint(0, 83, (3, 12)), torch.ones(3, 12, dtype=torch.long)
    labels = ids.clone()
    labels[:, :5] = -100
    for row, length in enumerate((12, 9, 7)):
        mask[row, length:], labels[row, length:] = 0, -100
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}


def plain_loss(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The textbook's way: all scores, then the mean cross-entropy."""
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    scores = model(**inputs).logits[:, :-1]
    return torch.nn.functional.cross_entropy(
        scores.reshape(-1, scores.shape[-1]).float(), batch["labels"][:, 1:].reshape(-1)
    )


def gradients(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def check(model: Any, batch: dict[str, torch.Tensor], within: float = 1e-4) -> None:
    count = int((batch["labels"][:, 1:] != -100).sum())
    plain = plain_loss(model, batch)
    wanted = gradients(model, plain)
    ours = completion_loss(model, **batch) / count
    assert ours.item() == pytest.approx(plain.item(), abs=1e-5)
    found = gradients(model, ours)
    assert found.keys() == wanted.keys()
    largest = max(float(value.abs().max()) for value in wanted.values())
    for name, value in wanted.items():
        assert float((found[name] - value).abs().max()) <= within * max(1.0, largest), name


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_loss_and_all_gradients_of_full_training(name: str, tied: bool) -> None:
    model = random_model(name)
    if tied and name not in ("gpt_neox", "bias"):
        model.get_output_embeddings().weight = model.get_input_embeddings().weight
    check(model, random_batch())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_loss_and_gradients_of_an_adapter(name: str) -> None:
    targets = "all-linear"
    if name == "gpt2":  # its layers are of an own kind, which peft handles; ours must leave alone
        targets = ["c_attn", "c_proj", "c_fc"]
    settings = LoraConfig(
        r=3,
        target_modules=targets,
        task_type="CAUSAL_LM",
        lora_dropout=0.0,
        fan_in_fan_out=name == "gpt2",
    )
    model = get_peft_model(random_model(name), settings)
    for layer in adapter_layers(model):
        torch.nn.init.normal_(layer.lora_B["default"].weight, std=0.1)
    batch = random_batch()
    plain = gradients(model, plain_loss(model, batch))
    with fast_layers(model, training=True):
        changed = [layer for layer in adapter_layers(model) if "forward" in vars(layer)]
        assert bool(changed) == (name != "gpt2")
        count = int((batch["labels"][:, 1:] != -100).sum())
        found = gradients(model, completion_loss(model, **batch) / count)
    assert not any("forward" in vars(layer) for layer in adapter_layers(model))
    assert found.keys() == plain.keys()
    for key, value in plain.items():
        assert torch.allclose(found[key], value, atol=1e-5, rtol=1e-4), key


@pytest.mark.parametrize("within_training", [False, True])
def test_pefts_layers_answer_in_the_bases_type(within_training: bool) -> None:
    """The one patch of peft, `models.lora`: it gives peft's numbers and leaves nothing behind."""
    settings = LoraConfig(r=3, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(random_model("llama"), settings)
    for layer in adapter_layers(model):
        torch.nn.init.normal_(layer.lora_B["default"].weight, std=0.1)
    ids = torch.arange(12).reshape(2, 6)
    with (
        torch.no_grad(),
        fast_layers(model, training=True) if within_training else contextlib.nullcontext(),
    ):
        usual = model(ids).logits
        before = [vars(layer).get("forward") for layer in adapter_layers(model)]
        with fast_layers(model):
            changed = [vars(layer).get("forward") for layer in adapter_layers(model)]
            assert all(a is not b for a, b in zip(before, changed, strict=True))
            assert torch.allclose(model(ids).logits, usual, atol=1e-5)
        assert [vars(layer).get("forward") for layer in adapter_layers(model)] == before
        with model.disable_adapter(), fast_layers(model):
            bare = model(ids).logits
    assert not torch.allclose(bare, usual, atol=1e-3)
    half = model.bfloat16()
    with torch.no_grad(), fast_layers(half):
        assert torch.allclose(half(ids).logits.float(), usual, atol=0.05)


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="torch has no MKL here")
def test_packed_weights_answer_as_the_plain_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what peft's merge or a training has changed in place is packed again."""
    model, ids = random_model("bias"), torch.arange(12).reshape(2, 6)
    with torch.no_grad():
        for shift in (0.0, 0.1):
            for layer in linear_layers(model):
                layer.weight.data += shift  # as peft merges: the version stays the same
            usual = model(ids).logits
            with fast_layers(model):
                assert all("forward" in vars(layer) for layer in linear_layers(model))
                assert torch.allclose(model(ids).logits, usual, atol=1e-5)
            assert not any("forward" in vars(layer) for layer in linear_layers(model))
        monkeypatch.setattr("llmcourse.models.lora.float32_path", lambda _: Path.cwd())
        with fast_layers(model):  # several users share the weights: no second copy for each
            assert not any("forward" in vars(layer) for layer in linear_layers(model))


def linear_layers(model: Any) -> list[torch.nn.Linear]:
    return [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)]


@pytest.mark.parametrize("rows_at_once", [1, 4])
def test_few_logits_at_a_time(rows_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "SCORE_BYTES", rows_at_once * 83 * 4)
    check(random_model("llama"), random_batch())


def test_a_model_that_is_sure_and_right() -> None:
    """In half precision, one less a probability near one would be rounded to nothing."""
    states = torch.tensor([[1.0, 0.0]], dtype=torch.bfloat16, requires_grad=True)
    weight = torch.tensor([[9.0, 0.0], [2.0, 1.0], [1.0, -1.0]], dtype=torch.bfloat16)
    total = _HeadLoss.apply(states, weight, torch.tensor([0]), None)
    total.backward()
    exact = states.detach().float().requires_grad_()
    plain = torch.nn.functional.cross_entropy(exact @ weight.float().T, torch.tensor([0]))
    plain.backward()
    assert total.item() == pytest.approx(plain.item(), rel=0.02)
    assert torch.allclose(states.grad.float(), exact.grad, rtol=0.05)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32])
def test_the_loss_of_unlikely_words_in_every_number_type(kind: torch.dtype) -> None:
    """float16 has no number for a chance of e**-20."""
    weight = torch.tensor([[10.0], [-7.5], [-10.0], [-15.0]], dtype=kind)
    states = torch.ones(3, 1, dtype=kind, requires_grad=True)
    total = _HeadLoss.apply(states, weight, torch.tensor([1, 2, 3]), None)
    total.backward()
    assert total.item() == pytest.approx(17.5 + 20 + 25, rel=0.01)
    assert states.grad.dtype == kind
    assert torch.allclose(states.grad.float(), torch.tensor([[17.5], [20.0], [25.0]]), rtol=0.01)


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_what_is_no_number_stays_none(broken: float) -> None:
    model, batch = random_model("llama"), random_batch()
    assert torch.isfinite(completion_loss(model, **batch))
    with torch.no_grad():
        model.get_output_embeddings().weight[7, 0] = broken
    assert not torch.isfinite(completion_loss(model, **batch))


def test_a_batch_without_labels_gives_zero() -> None:
    batch = random_batch()
    batch["labels"] = torch.full_like(batch["labels"], -100)
    assert completion_loss(random_model("llama"), **batch) == 0


def test_the_held_out_loss_is_the_mean_over_all_answers_tokens(tiny: models.LoadedModel) -> None:
    records = company.records("questions", "validation")[:11]
    total = count = 0.0
    for row in encoding.encode(records, tiny.tokenizer, "qa").dataset:
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
        with torch.no_grad():
            mean = tiny.model(ids, labels=labels).loss.item()
        trained = int((labels != -100).sum())
        total, count = total + mean * trained, count + trained
    found = finetuning.mean_loss(tiny, encoding.encode(records, tiny.tokenizer, "qa"))
    assert found == pytest.approx(total / count, abs=1e-4)


# --- architectures that scale, cap or mix their logits --------------------------------------------

TINY = LLAMA | {
    "hidden_size": 32,
    "head_dim": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "max_position_embeddings": 64,
}
SCALES = {
    "cohere": {"logit_scale": 0.25},
    "gemma2": {"final_logit_softcapping": 2.0},
    "falcon_h1": {
        "lm_head_multiplier": 0.25,
        "mamba_d_ssm": 32,
        "mamba_n_heads": 4,
        "mamba_d_state": 8,
        "mamba_chunk_size": 16,
    },
    "recurrent_gemma": {"logits_soft_cap": 2.0},
    "granite": {"logits_scaling": 3.0},
    "qwen3": {},
    "olmo2": {},
}


@pytest.mark.parametrize("name", SCALES)
def test_the_loss_of_an_architecture_is_that_of_its_own_logits(name: str) -> None:
    """Two of them once trained on a wrong loss in silence: a list named what scales logits."""
    config = transformers.CONFIG_MAPPING[name](**TINY, **SCALES[name])
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    for weight in model.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.05)
    ids = torch.randint(3, 83, (2, 12))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.clone()}
    batch["labels"][:, :5] = -100
    with torch.no_grad():
        assert completion_loss(model, **batch).item() == pytest.approx(
            14 * plain_loss(model, batch | {"use_cache": False}).item(), rel=1e-4
        )


def test_the_usual_architectures_keep_the_fast_way() -> None:
    for name in ("llama", "gemma3", "capped", "gpt_neox", "bias"):
        assert loss.separate_head_agrees(random_model(name), torch.arange(9)[None]), name
    assert not loss.separate_head_agrees(random_model("scaled"), torch.arange(9)[None])


def test_layers_are_fast_for_several_at_once_and_slow_in_copies(tiny: models.LoadedModel) -> None:
    """A chat answers in a thread of its own while another cell asks, copies or trains."""
    chat, cell = fast_layers(tiny.model), fast_layers(tiny.model)
    chat.__enter__()
    cell.__enter__()
    twin = copied(tiny.model)
    chat.__exit__(None, None, None)  # the first to come is the first to go
    cell.__exit__(None, None, None)
    for model in (twin, tiny.model):
        assert not [layer for layer in model.modules() if "forward" in vars(layer)]
