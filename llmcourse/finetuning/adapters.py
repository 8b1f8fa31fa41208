"""LoRA: a copy of a model that shares its weights and carries two thin matrices per layer.

Hu et al., LoRA: Low-Rank Adaptation of Large Language Models (2021,
https://arxiv.org/abs/2106.09685). peft holds the adapter; `models.lora` makes its layers fast.
"""

from __future__ import annotations

import statistics
from typing import Any

import torch

from llmcourse.errors import SettingError
from llmcourse.finetuning.settings import RANK, Config
from llmcourse.models import LoadedModel
from llmcourse.models.lora import copied, sharing, without_old_torchao
from llmcourse.progress import quiet


def with_adapter(model: LoadedModel, config: Config) -> Any:
    """A copy of `model` that shares its weights and carries a fresh adapter.

    Raises:
        SettingError: the model carries an adapter already.
    """
    from peft import LoraConfig, PeftModel, get_peft_model

    if isinstance(model.model, PeftModel):
        raise SettingError(
            f"{model.title} carries an adapter already. To train on top of it, make it a plain "
            f"model of its own: plain = finetuning.merge(model), then "
            f"plain.model.save_pretrained(FOLDER), plain.tokenizer.save_pretrained(FOLDER), and "
            f"train models.load(FOLDER)."
        )
    rank = config.rank or RANK
    settings = LoraConfig(
        r=rank,
        lora_alpha=config.alpha or 2 * rank,
        lora_dropout=config.dropout,
        # every linear layer: on attention alone it learns less (Schulman et al., 2025)
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    without_old_torchao()
    with quiet():
        return get_peft_model(sharing(model.model), settings)


def all_weights(model: LoadedModel) -> Any:
    """A copy of `model` in float32 whose every weight is to be trained.

    Small changes are lost in half precision: there the weights' own rounding is larger.

    Raises:
        SettingError: they are in 4 bits.
    """
    _require_numbers(model, 'train an adapter: method="lora"')
    model_copy = copied(model.model).float()
    return model_copy.requires_grad_(True)  # also where an adapter had frozen them


def _require_numbers(model: LoadedModel, way_out: str) -> None:
    if getattr(model.model, "is_loaded_in_4bit", False):
        raise SettingError(f"{model.title} is loaded with bits=4. For this, {way_out}.")


def weight_size(model: LoadedModel) -> float:
    """The root mean square of a matrix's weights, for the median matrix, from its first rows."""
    from transformers.integrations.bitsandbytes import dequantize_bnb_weight

    rows = [
        # the first rows tell as much as a quarter of a million rows of embeddings
        weight.detach()[:64].float()
        for weight in map(dequantize_bnb_weight, model.model.parameters())  # unpacks 4 bits alone
        if weight.ndim == 2 and weight.is_floating_point()
    ]
    return statistics.median(row.square().mean().sqrt().item() for row in rows)


def merge(model: LoadedModel) -> LoadedModel:
    """A plain model with the adapter added into its weights; `model` stays as it is.

    The sums are made in float32 and rounded once. In half precision the small changes of an
    adapter can fall below the weights' rounding, so answers may differ in places. Save the result
    and load that folder before you train it further: an adapter names its base, and this one has
    no name of its own yet.

    Raises:
        SettingError: the model carries no adapter, or is in 4 bits.
    """
    from peft import PeftModel

    if not isinstance(model.model, PeftModel):
        raise SettingError(f"{model.title} carries no adapter, so there is nothing to merge.")
    _require_numbers(model, "save the adapter, and load it without them: its base is the same")
    with quiet(), torch.no_grad():
        plain = copied(model.model)
        kind = plain.dtype
        plain = plain.float().merge_and_unload().to(kind).eval()
    plain.requires_grad_(True)  # peft had frozen them
    return LoadedModel(plain, model.tokenizer, model.name, model.template)
