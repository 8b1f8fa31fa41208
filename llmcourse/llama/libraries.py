"""Makes today's transformers and datasets take what the course's notebooks say.

`adapt()` changes the two libraries in this process only, in their own classes, so that whoever
imports a name from them gets the changed one:

- `TrainingArguments` takes the arguments that were removed or renamed since, and says so.
- `Trainer` takes `tokenizer=` and the old order of positional arguments.
- models have `floating_point_ops` again.
- `AutoTokenizer`, `AutoModelForCausalLM` and `load_dataset` say what can't be had, and under
  `substitute` take this project's own in its place. Weights are read in float32, the default of
  the course's transformers, from safetensors only, and `trust_remote_code` is never passed on.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import os
from pathlib import Path
from typing import Any

from llmcourse import models
from llmcourse.data import readers
from llmcourse.errors import (
    CourseError,
    DataError,
    HubError,
    SettingError,
    UnknownModel,
    causes,
)
from llmcourse.llama import names, sets, tuned
from llmcourse.llama.settings import note, settings
from llmcourse.models import PACKAGED, hub

WAY = (
    "Or let this project's own stand in: `--substitute` with `python -m llmcourse notebook`, "
    "`llama.install(substitute=True)` in a notebook."
)

# Arguments of TrainingArguments that have another name today.
RENAMED = {
    "evaluation_strategy": "eval_strategy",
    "no_cuda": "use_cpu",
    "per_gpu_train_batch_size": "per_device_train_batch_size",
    "per_gpu_eval_batch_size": "per_device_eval_batch_size",
    "push_to_hub_model_id": "hub_model_id",
    "push_to_hub_token": "hub_token",
    "warmup_ratio": "warmup_steps",  # below 1 it is a share there
    "xpu_backend": "ddp_backend",
}
# Arguments that said what another one says today: name -> (value it has an effect with, the
# argument, its value).
REPLACED = {
    "adafactor": (True, "optim", "adafactor"),
    "group_by_length": (True, "train_sampling_strategy", "group_by_length"),
    "include_inputs_for_metrics": (True, "include_for_metrics", ["inputs"]),
}
# Arguments that have no counterpart, with what holds today.
REMOVED = {
    "overwrite_output_dir": "a folder that is there is written into",
    "save_safetensors": "weights are always saved as safetensors",
    "logging_dir": "TensorBoard's folder is set by TENSORBOARD_LOGGING_DIR",
    "use_mps_device": "an Apple GPU is found by itself",
    "include_tokens_per_second": "",
    "half_precision_backend": "",
    "fp16_backend": "",
    "fp16_opt_level": "",
    "tpu_num_cores": "",
    "tpu_metrics_debug": "",
    "past_index": "",
    "mp_parameters": "",
    "sharded_ddp": "",
    "fsdp_min_num_params": "",
    "fsdp_transformer_layer_cls_to_wrap": "",
    "push_to_hub_organization": "",
    "jit_mode_eval": "",
    "use_ipex": "",
    "torchdynamo": "",
    "ray_scope": "",
    "dispatch_batches": "",
    "split_batches": "",
    "use_legacy_prediction_loop": "",
}
# The order of Trainer's positional arguments in the course's transformers.
TRAINER = (
    "model", "args", "data_collator", "train_dataset", "eval_dataset", "tokenizer", "model_init",
    "compute_metrics", "callbacks", "optimizers", "preprocess_logits_for_metrics",
)  # fmt: skip
# Of `from_pretrained`, what belongs to the name and not to what stands in.
_OF_THE_NAME = (
    "revision", "subfolder", "cache_dir", "force_download", "local_files_only", "token",
    "use_auth_token", "code_revision", "variant",
)  # fmt: skip
_DONE = "_llmcourse"  # marks what is changed already


def adapt(substitute: bool | None = None) -> None:
    """Change transformers and datasets in this process; a second call changes nothing more.

    Args:
        substitute: True takes this project's own models and data where those named can't be had;
            None leaves `settings.substitute` as it is.
    """
    import datasets
    import transformers

    if substitute is not None:
        settings.substitute = substitute
    if not hasattr(transformers.PreTrainedModel, "floating_point_ops"):
        transformers.PreTrainedModel.floating_point_ops = floating_point_ops
    _change(transformers.TrainingArguments, "__init__", _arguments)
    _change(transformers.Trainer, "__init__", _trainer)
    for kind in (transformers.AutoTokenizer, transformers.AutoModelForCausalLM):
        weights = kind is transformers.AutoModelForCausalLM
        _change(kind, "from_pretrained", functools.partial(_from_pretrained, weights=weights))
    _change(datasets, "load_dataset", _load_dataset)


def _change(owner: Any, name: str, made: Any) -> None:
    """Put `made(original)` in the place of a function, class method or method, once."""
    original = getattr(owner, name)
    original = getattr(original, "__func__", original)
    if hasattr(original, _DONE):
        return
    changed = functools.wraps(original)(made(original))
    setattr(changed, _DONE, original)
    as_class = name == "from_pretrained"
    setattr(owner, name, classmethod(changed) if as_class else changed)


def floating_point_ops(model: Any, inputs: dict[str, Any], exclude_embeddings: bool = True) -> int:
    """Floating-point operations of one training step: six for each weight and token.

    The estimate of Kaplan et al. (2020), https://arxiv.org/abs/2001.08361, which transformers
    uses.

    Args:
        model: A transformers model.
        inputs: A batch; of `input_ids` only the number of places counts.
        exclude_embeddings: True leaves the embeddings' weights out.

    Raises:
        SettingError: the batch has no input ids.
    """
    tokens = inputs.get(getattr(model, "main_input_name", "input_ids"))
    if not hasattr(tokens, "numel"):
        raise SettingError(
            'floating_point_ops takes a batch of tensors: {"input_ids": torch.zeros((1, 2048))}.'
        )
    return 6 * tokens.numel() * model.num_parameters(exclude_embeddings=exclude_embeddings)


# --- TrainingArguments and Trainer ----------------------------------------------------------------


def _arguments(original: Any) -> Any:
    known = [name for name in inspect.signature(original).parameters if name != "self"]

    def __init__(self: Any, *values: Any, **given: Any) -> None:
        original(self, *values, **translated(given, known, values))

    return __init__


def translated(
    given: dict[str, Any], known: list[str], values: tuple[Any, ...] = ()
) -> dict[str, Any]:
    """Arguments of the course's `TrainingArguments` as today's has them.

    What is renamed, replaced, removed or unknown is told by a note.

    Args:
        given: What the notebook says.
        known: The names that there are today, in order.
        values: What it gives by place.

    Raises:
        SettingError: an argument is a misspelt one; the message has the nearest name.
    """
    found, taken = {}, {*known[: len(values)], *given}
    every = [*known, *RENAMED, *REPLACED, *REMOVED]
    for name, value in given.items():
        new = RENAMED.get(name)
        if name in known:
            found[name] = value
        elif new in taken:
            note("ignored", f"TrainingArguments: {name} is called {new} today, which is given too")
        elif new:
            found[new] = value
            note("translated", f"TrainingArguments: {name} is called {new} today")
        elif name in REPLACED:
            effect, new, wanted = REPLACED[name]
            if value == effect and new not in taken:
                found[new] = wanted
                told = f"TrainingArguments: {name}={value} is {new}={wanted!r} today"
                note("translated", told)
            else:
                note("ignored", f"TrainingArguments: {name}={value} has no effect today")
        elif name in REMOVED:
            now = REMOVED[name] and f" ({REMOVED[name]})"
            note("ignored", f"TrainingArguments: there is no {name} any more{now}")
        elif close := difflib.get_close_matches(name, every, n=1, cutoff=0.75):
            nearest = RENAMED.get(close[0], close[0])
            raise SettingError(f"TrainingArguments has no {name!r}. Did you mean {nearest!r}?")
        else:
            note("ignored", f"TrainingArguments: {name} is not known today")
    return found


def _trainer(original: Any) -> Any:
    def __init__(self: Any, *values: Any, **given: Any) -> None:
        if len(values) > len(TRAINER):
            raise SettingError(f"Trainer takes {len(TRAINER)} arguments by place: {TRAINER}.")
        by_place = dict(zip(TRAINER, values, strict=False))
        if twice := sorted(by_place.keys() & given.keys()):
            raise SettingError(f"Trainer: {twice[0]!r} is given twice, by place and by name.")
        given = by_place | given
        if "tokenizer" in given:
            tokenizer = given.pop("tokenizer")
            if given.setdefault("processing_class", tokenizer) is not tokenizer:
                raise SettingError(
                    "Trainer: tokenizer and processing_class are the same today, and two "
                    "different ones are given. Leave one out."
                )
            note("translated", "Trainer: tokenizer is called processing_class today")
        original(self, **given)

    return __init__


# --- models ---------------------------------------------------------------------------------------


def _from_pretrained(original: Any, *, weights: bool) -> Any:
    def from_pretrained(cls: Any, name: Any, *more: Any, **given: Any) -> Any:
        if given.pop("trust_remote_code", False):
            note("ignored", f"{name}: trust_remote_code; nobody's program code is run here")
        given["trust_remote_code"] = False
        if weights:
            _weights(given)
        text = os.fspath(name)
        if Path(text).exists() or not hub.is_hub_name(text):
            return original(cls, name, *more, **given)
        try:
            _check_meant(text, given)
            return original(cls, name, *more, **given)
        except (OSError, ValueError, CourseError) as error:
            told, unknown = _told(text, error), _is_unknown(text, error)
        if not isinstance(told, HubError) or unknown:
            raise told
        if not settings.substitute:
            raise type(told)(f"{told} {WAY}")
        for key in _OF_THE_NAME:
            given.pop(key, None)
        if weights and names.is_tuned(text):
            from peft import PeftModel

            adapter = tuned.job(text).model
            base = original(cls, models.convert(names.packaged(text)), *more, **given)
            return PeftModel.from_pretrained(base, adapter).merge_and_unload()
        return original(cls, _packaged(text), *more, **given)

    return from_pretrained


def _weights(given: dict[str, Any]) -> None:
    """Say how weights are read: from safetensors, and in float32 where nothing else is asked."""
    import torch

    if given.get("use_safetensors") is False:
        note("ignored", "use_safetensors=False: pickled weights can run code and are not read")
    given["use_safetensors"] = True
    if "torch_dtype" in given:
        given.setdefault("dtype", given.pop("torch_dtype"))
    given.setdefault("dtype", torch.float32)


def _check_meant(name: str, given: dict[str, Any]) -> None:
    """Refuse at once what can't be loaded, where transformers would try for a while.

    Raises:
        UnknownModel: a folder is meant, and there is none.
        HubError: the model is not in the local cache and the hub can't be reached.
    """
    folder = Path(name).parent.is_dir() or given.get("local_files_only")
    if folder and not hub.is_cached(name) and name not in names.HUB.values():
        raise UnknownModel(f"There is no folder {name!r} with a model or tokenizer in it.")
    if not given.get("local_files_only"):
        hub.check_reachable(name)


def _told(name: str, error: Exception) -> Exception:
    """What a failed load means; what is no question of having the model stays as it is."""
    if isinstance(error, CourseError):
        return error
    if "trust_remote_code" in str(error):
        return UnknownModel(
            f"{name} brings program code of its own, which is never run here. Choose a model that "
            f"transformers knows by itself."
        )
    return hub.hub_error(name, error) if isinstance(error, OSError) else error


def _is_unknown(name: str, error: Exception) -> bool:
    """True where the hub answered that it has no such model, and it is none of the course's."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    missing = any(
        isinstance(one, RepositoryNotFoundError) and not isinstance(one, GatedRepoError)
        for one in causes(error)
    )
    return missing and name not in names.HUB and not name.startswith("lamini/")


def _packaged(name: str) -> Path:
    """The folder of the packaged model that plays the part of `name`."""
    role, packaged = names.stand_in(name), PACKAGED[names.packaged(name)]
    note(
        "substituted",
        f"{name} can't be had here: {packaged.title}, the packaged {role} model, is in its place",
    )
    return models.convert(packaged.name)


# --- data sets ------------------------------------------------------------------------------------


def _load_dataset(original: Any) -> Any:
    signature = inspect.signature(original)

    def load_dataset(*values: Any, **named: Any) -> Any:
        given = dict(signature.bind(*values, **named).arguments)
        given |= given.pop("config_kwargs", {})
        path = given.pop("path")
        if given.pop("trust_remote_code", False):
            note("ignored", f"{path}: trust_remote_code; nobody's program code is run here")
        if not _is_hub_dataset(path):
            return original(path, **given)
        there = sets.MOVED.get(path, path)
        try:
            readers.ask_hub(there)
            found = original(there, **given)
        except (OSError, RuntimeError) as error:
            split = str(given.get("split") or "all")
            told = readers.hub_error(path, split, error)
        else:
            if there != path:
                note("translated", f"{path} is called {there} on the hub today")
            return found
        if path not in sets.STAND_INS:
            raise told
        if not settings.substitute:
            raise DataError(f"{told} {WAY}")
        what = sets.STAND_INS[path].text
        note("substituted", f"the data set {path} can't be had here: {what}, in its place")
        return sets.load(path, given.get("split"), streaming=bool(given.get("streaming")))

    return load_dataset


def _is_hub_dataset(path: Any) -> bool:
    """True where a data set of the hub is meant, and no file, folder or kind of file."""
    if not isinstance(path, str) or os.path.exists(path):  # noqa: PTH110 - never raises
        return False
    return path in sets.STAND_INS or hub.is_hub_name(path)
