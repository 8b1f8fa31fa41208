"""Makes today's transformers and datasets accept what the course's notebooks say.

`adapt()` changes the two libraries in this process only, in their own classes, so that whoever
imports a name from them gets the changed one:

- `TrainingArguments` accepts the arguments that were removed or renamed since, with a note.
- `Trainer` accepts `tokenizer=` and the old order of positional arguments.
- Models have `floating_point_ops` again.
- `AutoTokenizer`, `AutoModelForCausalLM` and `load_dataset` say what is not available, and under
  `substitute` load this project's own instead. Weights are read in float32, the default of the
  course's transformers, from safetensors only, and `trust_remote_code` is never passed on.
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
from llmcourse.errors import CourseError, DataError, HubError, SettingError, UnknownModel, causes
from llmcourse.llama.settings import note, settings
from llmcourse.models import PACKAGED, hub
from llmcourse_legacy import names, sets, substitutes

INSTEAD = (
    "Or let this project's own substitute for it: `--substitute` with `python -m llmcourse "
    "notebook`, `llama.install(substitute=True)` in a notebook."
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
# Arguments that another one replaced: name -> (value with an effect, the new argument, its value).
REPLACED = {
    "adafactor": (True, "optim", "adafactor"),
    "group_by_length": (True, "train_sampling_strategy", "group_by_length"),
    "include_inputs_for_metrics": (True, "include_for_metrics", ["inputs"]),
}
# Arguments that have no counterpart.
REMOVED = (
    "overwrite_output_dir save_safetensors logging_dir use_mps_device include_tokens_per_second "
    "half_precision_backend fp16_backend fp16_opt_level tpu_num_cores tpu_metrics_debug past_index "
    "mp_parameters sharded_ddp fsdp_min_num_params fsdp_transformer_layer_cls_to_wrap "
    "push_to_hub_organization jit_mode_eval use_ipex torchdynamo ray_scope dispatch_batches "
    "split_batches use_legacy_prediction_loop"
)
# The order of Trainer's positional arguments in the course's transformers.
TRAINER = (
    "model args data_collator train_dataset eval_dataset tokenizer model_init compute_metrics "
    "callbacks optimizers preprocess_logits_for_metrics"
)
# Of `from_pretrained`, what belongs to the name and not to its substitute.
OF_THE_NAME = (
    "revision subfolder cache_dir force_download local_files_only token use_auth_token "
    "code_revision variant"
)
_ORIGINAL = "_llmcourse"  # an attribute of what is changed already


def adapt(substitute: bool | None = None) -> None:
    """Change transformers and datasets in this process; a second call changes nothing more.

    Args:
        substitute: True loads this project's own models and data where those named are not
            available; None leaves `settings.substitute` as it is.
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
        _change(kind, "from_pretrained", _from_pretrained)
    _change(datasets, "load_dataset", _load_dataset)


def _change(owner: Any, name: str, made: Any) -> None:
    """Replace a function, class method or method by `made(original)`, once."""
    original = getattr(owner, name)
    original = getattr(original, "__func__", original)  # of a class method
    if not hasattr(original, _ORIGINAL):
        changed = functools.wraps(original)(made(original))
        setattr(changed, _ORIGINAL, original)
        setattr(owner, name, classmethod(changed) if name == "from_pretrained" else changed)


def floating_point_ops(model: Any, inputs: dict[str, Any], exclude_embeddings: bool = True) -> int:
    """Floating-point operations of one training step: six for each weight and token.

    The estimate of Kaplan et al. (2020), https://arxiv.org/abs/2001.08361, which transformers
    uses.

    Args:
        model: A transformers model.
        inputs: A batch; of `input_ids` only the number of places counts.
        exclude_embeddings: True leaves the embeddings' weights out.
    """
    tokens = inputs[getattr(model, "main_input_name", "input_ids")]
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
    """Arguments of the course's `TrainingArguments` as today's has them, with a note for each.

    Args:
        given: What the notebook says.
        known: The names that there are today, in order.
        values: What it gives by place.

    Raises:
        SettingError: an argument is a misspelt one; the message has the nearest name.
    """
    found: dict[str, Any] = {}
    taken = {*known[: len(values)], *given}
    for name, value in given.items():
        if name in known:
            found[name] = value
            continue
        effect, new, new_value = REPLACED.get(name, (value, RENAMED.get(name, ""), value))
        kind, change = "ignored", "is not known today"
        if new in taken:
            change = f"is called {new} today, which is given too"
        elif new and value == effect:
            found[new] = new_value
            is_value = name in REPLACED
            kind = "translated"
            change = f"is {new}={new_value!r} today" if is_value else f"is called {new} today"
        elif name in REPLACED:
            change = f"={value} has no effect today"
        elif name not in REMOVED.split():
            _check_spelling(name, [*known, *RENAMED, *REPLACED, *REMOVED.split()])
        note(kind, f"TrainingArguments: {name} {change}")
    return found


def _check_spelling(name: str, known: list[str]) -> None:
    if close := difflib.get_close_matches(name, known, 1, 0.75):
        nearest = RENAMED.get(close[0], close[0])
        raise SettingError(f"TrainingArguments has no {name!r}. Did you mean {nearest!r}?")


def _trainer(original: Any) -> Any:
    def __init__(self: Any, *values: Any, **given: Any) -> None:
        given = dict(zip(TRAINER.split(), values, strict=False)) | given
        if "tokenizer" in given:
            given.setdefault("processing_class", given.pop("tokenizer"))
            note("translated", "Trainer: tokenizer is called processing_class today")
        original(self, **given)

    return __init__


# --- models ---------------------------------------------------------------------------------------


def _from_pretrained(original: Any) -> Any:
    def from_pretrained(cls: Any, name: Any, *more: Any, **given: Any) -> Any:
        is_model = cls.__name__ != "AutoTokenizer"
        _refuse_code(name, given)
        given["trust_remote_code"] = False
        if is_model:
            _set_weights(given)
        text = os.fspath(name)
        # A folder of the learner's own, and whatever is no name of a hub model, is loaded as usual.
        if Path(text).exists() or not hub.is_hub_name(text):
            return original(cls, name, *more, **given)
        try:
            _check_available(text, given)
            return original(cls, name, *more, **given)
        except HubError as failed:
            error: CourseError = failed
        except OSError as failed:
            error = hub.hub_error(text, failed)
            error.__cause__ = failed
        if not isinstance(error, HubError) or _is_unknown(text, error):
            raise error
        if not settings.substitute:
            raise HubError(f"{error} {INSTEAD}")
        for key in OF_THE_NAME.split():  # a revision of one model means nothing for another
            given.pop(key, None)
        twin = PACKAGED[names.packaged(text)]
        folder = models.convert(twin.name)
        if is_model and names.is_tuned(text):
            from peft import PeftModel

            adapter = substitutes.tuned(text).model
            base = original(cls, folder, *more, **given)
            # Merged, because notebooks expect one of transformers' own classes.
            return PeftModel.from_pretrained(base, adapter).merge_and_unload()
        what = f"{twin.title}, the packaged {names.role(text)} model"
        note("substituted", f"{text} is not available here: {what}, is used instead")
        return original(cls, folder, *more, **given)

    return from_pretrained


def _refuse_code(name: Any, given: dict[str, Any]) -> None:
    if given.pop("trust_remote_code", False):
        note("ignored", f"{name}: trust_remote_code; code from a model's repository is never run")


def _set_weights(given: dict[str, Any]) -> None:
    """Read weights from safetensors, and in float32 where the notebook names no type."""
    import torch

    if given.get("use_safetensors") is False:
        note("ignored", "use_safetensors=False: pickled weights can run code and are not read")
    given["use_safetensors"] = True
    if "torch_dtype" in given:  # called dtype in transformers 5
        given.setdefault("dtype", given.pop("torch_dtype"))
    given.setdefault("dtype", torch.float32)


def _check_available(name: str, given: dict[str, Any]) -> None:
    """Fail fast where transformers would retry for a while.

    Raises:
        UnknownModel: the name means a folder, and there is none.
        HubError: the model is not in the local cache and the hub can't be reached.
    """
    is_local = given.get("local_files_only")
    if (is_local or Path(name).parent.is_dir()) and not hub.is_cached(name):
        raise UnknownModel(f"There is no folder {name!r} with a model or tokenizer in it.")
    if not is_local:
        hub.check_reachable(name)


def _is_unknown(name: str, error: Exception) -> bool:
    """True where the hub answered that it has no such model, and the service had none either."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    missing = any(
        isinstance(cause, RepositoryNotFoundError) and not isinstance(cause, GatedRepoError)
        for cause in causes(error)
    )
    return missing and not names.is_of_the_service(name)


# --- data sets ------------------------------------------------------------------------------------


def _load_dataset(original: Any) -> Any:
    signature = inspect.signature(original)

    def load_dataset(*values: Any, **named: Any) -> Any:
        given = dict(signature.bind(*values, **named).arguments)
        given |= given.pop("config_kwargs", {})  # `bind` collects **config_kwargs under this name
        path = given.pop("path")
        _refuse_code(path, given)
        on_hub = isinstance(path, str) and not os.path.exists(path)  # noqa: PTH110 - never raises
        if not on_hub or not (path in sets.SUBSTITUTES or hub.is_hub_name(path)):
            return original(path, **given)
        there = sets.MOVED.get(path, path)
        try:
            readers.ask_hub(there)  # fails fast, where `load_dataset` retries for half a minute
            found = original(there, **given)
        except (OSError, RuntimeError) as failed:
            error = readers.hub_error(path, str(given.get("split") or "all"), failed)
        else:
            if there != path:
                note("translated", f"{path} is called {there} on the hub today")
            return found
        if path not in sets.SUBSTITUTES:
            raise error
        if not settings.substitute:
            raise DataError(f"{error} {INSTEAD}")
        what = sets.SUBSTITUTES[path][0]
        note("substituted", f"the data set {path} is not available here: {what}, instead")
        return sets.load(path, given.get("split"), streaming=bool(given.get("streaming")))

    return load_dataset
