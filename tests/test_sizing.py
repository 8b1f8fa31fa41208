"""The sums about models agree with models: counted, multiplied, kept and saved for real."""

from __future__ import annotations

import dataclasses
import runpy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

from llmcourse import models, sizing
from llmcourse.errors import SettingError, UnknownModel
from llmcourse.sizing import HARDWARE, KNOWN, Size
from tests.conftest import ROOT, get_peft_model

DOCUMENT = ROOT / "docs" / "scaling.md"
TEXT = {"vocab_size": 211, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
SHAPE = TEXT | {"hidden_size": 64, "num_attention_heads": 4}
GPT2 = {"attn_pdrop": 0, "embd_pdrop": 0, "resid_pdrop": 0, "activation_function": "gelu"}
WINDOW = {"num_key_value_heads": 1, "sliding_window": 16}
SMALL: dict[str, dict[str, Any]] = {
    "gpt2": TEXT | GPT2 | {"n_embd": 64, "n_head": 4},
    "gpt_neox": SHAPE | {"intermediate_size": 256},
    "llama": SHAPE | {"intermediate_size": 172, "num_key_value_heads": 2},
    "mistral": SHAPE | WINDOW | {"intermediate_size": 224},
    "gemma3_text": SHAPE | WINDOW | {"intermediate_size": 204, "head_dim": 26},
}
PUBLISHED = {
    "pythia-70m": 70_426_624,
    "pythia-410m": 405_334_016,
    "pythia-1b": 1_011_781_632,
    "pythia-2.8b": 2_775_208_960,
    "gpt2": 124_439_808,
    "smollm2-135m-instruct": 134_515_008,
    "smollm2-1.7b": 1_711_376_384,
    "gemma-3-270m": 268_098_176,
    "gemma-3-1b": 999_885_952,
    "llama-2-7b": 6_738_415_616,
    "mistral-7b-v0.1": 7_241_732_096,
    "llama-2-13b": 13_015_864_320,
    "llama-2-70b": 68_976_648_192,
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Products as small as these are slower on many."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small(kind: str, layers: int = 2, attention: str = "sdpa") -> Any:
    """The configuration of a small model of some architecture."""
    return AutoConfig.for_model(
        kind, num_hidden_layers=layers, attn_implementation=attention, **SMALL[kind]
    )


def built(config: Any, dtype: torch.dtype = torch.float32, rank: int = 0) -> Any:
    """A random model, with an adapter of the same type on frozen weights where `rank` is given."""
    from peft import LoraConfig

    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    if not rank:
        return model.train()
    lora = LoraConfig(
        r=rank,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
        fan_in_fan_out=config.model_type == "gpt2",
    )
    return get_peft_model(model, lora, autocast_adapter_dtype=dtype == torch.float32).train()


def test_every_known_model_has_its_published_weights() -> None:
    assert {name: Size.of(name).parameters for name in KNOWN} == PUBLISHED


@pytest.mark.parametrize("kind", SMALL)
def test_the_parts_are_those_of_the_model(kind: str) -> None:
    config = small(kind, layers=3)
    size, model = Size.of(config), built(config)
    head, tied = model.get_output_embeddings(), kind in ("gpt2", "gemma3_text")
    kinds = {type(m).__name__: 0 for m in model.modules()}
    for module in model.modules():
        if module is not head:
            own = module.parameters(recurse=False)
            kinds[type(module).__name__] += sum(weight.numel() for weight in own)
    assert size.parameters == model.num_parameters()
    assert size.embeddings == sum(count for name, count in kinds.items() if "Embedding" in name)
    assert size.linear == kinds.get("Linear", 0) + kinds.get("Conv1D", 0)
    assert size.head == 211 * 64 and size.vocabulary == 211 and size.tied == tied
    assert (size.layers, size.width, size.heads) == (3, 64, 4)
    assert size.head_dim == (26 if kind == "gemma3_text" else 16)
    assert size.kv_heads == SMALL[kind].get("num_key_value_heads", 4)
    trained = sum(w.numel() for w in built(config, rank=8).parameters() if w.requires_grad)
    assert size.lora_parameters(8) == trained, "peft's adapter"


@pytest.mark.parametrize("name", models.PACKAGED)
@pytest.mark.model
def test_the_packaged_models_are_among_the_known(name: str) -> None:
    known, folder = Size.of(name), Size.of(models.convert(name))
    assert dataclasses.replace(folder, name=name) == known


def step(model: Any, length: int, labelled: int) -> None:
    """Forward and backward over two records, with the head on the labelled tokens alone."""
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    ids = torch.ones(2, length, dtype=torch.long, device=plain.device)
    states = plain.base_model(input_ids=ids, use_cache=False).last_hidden_state
    scores = plain.get_output_embeddings()(states.flatten(0, 1)[: 2 * labelled])
    targets = ids.flatten()[: 2 * labelled]
    torch.nn.functional.cross_entropy(scores.float(), targets).backward()


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("method", sizing.METHODS)
@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointed"])
def test_operations_are_those_that_torch_counts(
    kind: str, method: str, checkpointing: bool
) -> None:
    """All matrix products are counted, those of attention among them.

    The sum has a little more than torch in two places. With frozen embeddings nothing flows back
    through the first layer's queries, keys and values (checkpointing asks for that gradient). And
    with trained weights, the last product of a checkpointed block is not made a second time.
    """
    config, length, rank = small(kind, layers=6, attention="eager"), 40, 4
    model = built(config, rank=rank if method == "lora" else 0)
    if checkpointing:
        model.enable_input_require_grads()
        newer = hasattr(model, "activation_checkpointing_enable")
        kind = "activation" if newer else "gradient"
        getattr(model, f"{kind}_checkpointing_enable")({"use_reentrant": False})
    with FlopCounterMode(display=False) as counter:
        step(model, length, labelled=10)
    how = {"labelled_share": 10 / length, "length": length, "checkpointing": checkpointing}
    computed = 2 * length * Size.of(config).flops_per_token(method, rank=rank, **how)
    above = 0.005
    if (method == "lora") != checkpointing:
        above = 0.09 if checkpointing else 0.04
    ratio = computed / counter.get_total_flops()
    assert 0.995 < ratio < 1 + above


def kept_bytes(model: Any, tokens: int, half: bool) -> tuple[int, int]:
    """What autograd keeps of a pass through the blocks: activations, and weights cast to half."""
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    own = {weight.data_ptr() for weight in (*model.parameters(), *model.buffers())}
    shapes = {tuple(weight.shape) for weight in model.parameters()}
    shapes |= {shape[::-1] for shape in shapes}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor  # (held, so that none is reused)
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=half),
    ):
        plain.base_model(input_ids=torch.randint(3, 211, (2, tokens // 2)), use_cache=False)
    sizes = [0, 0]
    for tensor in kept.values():  # (no activation here has the shape of a weight)
        cast = half and tensor.dtype == torch.bfloat16 and tuple(tensor.shape) in shapes
        sizes[cast] += tensor.untyped_storage().nbytes()
    return sizes[0], sizes[1]


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("method", sizing.METHODS)
def test_activations_are_what_autograd_keeps(kind: str, dtype: torch.dtype, method: str) -> None:
    """A layer's share: the difference between models with three layers and with one."""
    half, full, tokens = dtype != torch.float32, method == "full", 262
    kept, computed = [], []
    for layers in (1, 3):
        size = Size.of(small(kind, layers))
        model = built(small(kind, layers), torch.float32 if full else dtype, 0 if full else 2)
        activations, copies = kept_bytes(model, tokens, half and full)
        memory = size.training_bytes(method, dtype, batch_tokens=tokens, length=131)
        kept.append(activations)
        computed.append(memory.activations)
    assert (computed[1] - computed[0]) / (kept[1] - kept[0]) == pytest.approx(1, abs=0.2)
    if half and full:  # autocast's copies of the matrices, until they have been used
        assert copies == 2 * sum(n_in * n_out for n_in, n_out in size.matrices)
        # The head's comes on top; biases are cast as well, but not kept.
        assert copies <= memory.copies - 2 * size.head < 1.02 * copies


@pytest.mark.parametrize("method", sizing.METHODS)
def test_the_state_of_training_is_what_torch_allocates(method: str) -> None:
    """Weights, gradients and AdamW's moments after a step, byte for byte."""
    config = small("llama")
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    if method == "lora":
        from peft import LoraConfig

        model = get_peft_model(model, LoraConfig(r=3, target_modules="all-linear"))
    else:
        model = model.float()
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained)
    step(model, 8, labelled=8)
    optimizer.step()
    memory = Size.of(config).training_bytes(method, torch.bfloat16, rank=3)
    moments = [state[n] for state in optimizer.state.values() for n in ("exp_avg", "exp_avg_sq")]
    assert memory.weights == sum(weight.nbytes for weight in model.parameters())
    assert memory.gradients == sum(weight.grad.nbytes for weight in trained)
    assert memory.optimizer == sum(moment.nbytes for moment in moments)


def test_qlora_stores_the_linear_layers_in_four_bits() -> None:
    """bitsandbytes' layout: 4 bits a weight, a byte for 64 of them, 4 bytes for 256 of those."""
    size = Size.of("llama-2-7b")
    lora, qlora = (size.training_bytes(method) for method in ("lora", "qlora"))
    blocks = size.linear / 64
    packed = size.linear / 2 + blocks + 4 * blocks / 256
    kept = 2 * (size.parameters - size.linear)  # embeddings, head and norms
    assert qlora.weights == pytest.approx(packed + kept + 4 * size.lora_parameters())
    assert qlora.copies == 2 * 4096 * 11008, "the largest layer, unpacked"
    rest = ("gradients", "optimizer", "activations", "scores")
    assert all(getattr(lora, name) == getattr(qlora, name) for name in rest)


@pytest.mark.parametrize("kind", SMALL)
def test_the_cache_is_as_large_as_transformers(kind: str) -> None:
    config = small(kind)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    with torch.no_grad():
        cache = model(torch.randint(3, 211, (2, 40)), use_cache=True).past_key_values
    real = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    memory = Size.of(config).generation_bytes("bfloat16", batch=2, length=40)
    layer = 2 * 2 * 2 * Size.of(config).kv_heads * Size.of(config).head_dim
    # a layer with a window of 16 tokens keeps the last 15, for the 16th is the one that is read
    windowed = 2 if kind in ("mistral", "gemma3_text") else 0
    assert memory.cache == real + windowed * layer
    assert memory.weights == 2 * model.num_parameters()
    assert memory.total == memory.weights + memory.cache + 2 * 211 * 4


def test_the_document_has_the_numbers_that_are_computed_now(
    capsys: pytest.CaptureFixture[str],
) -> None:
    runpy.run_module("llmcourse.sizing", run_name="__main__")
    printed = capsys.readouterr().out.strip().split("\n\n")
    text = DOCUMENT.read_text(encoding="utf-8")
    assert len(printed) == 2 and all(table in text for table in printed)
    for machine in HARDWARE.values():
        peak, memory, reserved = (
            f"{number:g}"
            for number in (machine.peak / 1e12, machine.memory / 1e9, machine.reserved / 1e9)
        )
        row = [machine.name, machine.dtype, peak, memory, reserved]
        assert f"| {' | '.join(row)} |" in text


def test_the_fsdp_configurations_are_that_of_7b_with_more_gpus() -> None:
    """`test_distributed.py` launches the one of 7b."""
    places = ("num_machines", "main_process_ip", "main_process_port")
    configs = []
    for name, count in sizing.FSDP.items():
        path = DOCUMENT.with_name(f"fsdp_{name.rpartition('-')[2]}.yaml")
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert config.pop("num_processes") == count
        configs.append({key: value for key, value in config.items() if key not in places})
        how = {"checkpointing": True, "processes": count, "sharded": True}
        for method in sizing.METHODS:
            assert Size.of(name).training_bytes(method, **how).total < 78e9, "it fits"
    assert all(config == configs[0] for config in configs)
    assert configs[0]["mixed_precision"] == "bf16" and not configs[0]["use_cpu"]
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**KNOWN["llama-2-7b"]))
    block = configs[0]["fsdp_config"]["fsdp_transformer_layer_cls_to_wrap"]
    assert {type(module).__name__ for module in model.model.layers} == {block}


def test_models_that_the_sums_do_not_cover_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = SHAPE | {"intermediate_size": 64, "num_hidden_layers": 1, "num_local_experts": 2}
    with pytest.raises(SettingError, match="no mixtures of experts"):
        Size.of(AutoConfig.for_model("mixtral", num_key_value_heads=2, **shape))
    with pytest.raises(UnknownModel, match="vit is no language model"):
        Size.of(AutoConfig.for_model("vit"))
    with pytest.raises(SettingError, match="no state-space models"):
        Size.of(AutoConfig.for_model("mamba", num_hidden_layers=1, hidden_size=64, vocab_size=99))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UnknownModel, match="No configuration of 'nobody/nothing'.*pythia-70m"):
        Size.of("nobody/nothing")
