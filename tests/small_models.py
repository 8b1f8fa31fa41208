"""A cache folder in which the packaged models have few random weights, and their own tokenizers."""

from __future__ import annotations

import functools
import json
import os
import shutil
from pathlib import Path

FEW = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
FEW |= {"num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 16}


@functools.cache
def small_cache() -> str:
    """The folder, for LLMCOURSE_CACHE: whatever loads, trains and answers is done in seconds."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from llmcourse import files, models, progress

    made = Path(os.environ["LLMCOURSE_WORK"]) / "small-models"
    made.mkdir(parents=True)
    for name in models.PACKAGED:
        folder = models.convert(name)
        target = Path(shutil.copytree(folder, made / folder.name))
        config = json.loads((folder / "config.json").read_text("utf-8")) | FEW
        if "layer_types" in config:
            config["layer_types"] = config["layer_types"][4:6]  # one of each kind
        (target / "config.json").write_text(json.dumps(config), "utf-8")
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(target))
        with progress.quiet():
            model.to(torch.bfloat16).save_pretrained(target)
    if (measured := files.cache_dir() / "bfloat16.json").exists():
        shutil.copy(measured, made)
    return str(made)
