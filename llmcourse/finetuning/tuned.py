"""What a training gives: a model that answers like any other, and the folder it is saved in.

A folder with an adapter holds `adapter_model.safetensors` and peft's `adapter_config.json`; one
with a whole model is an ordinary model folder. Both have `tuned.json`, from which
`models.load` learns the base and the template, and the card, `README.md`. Nothing is pickled.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmcourse import encoding, files, models
from llmcourse.errors import CourseError, SettingError, is_disk_full
from llmcourse.finetuning.checkpoints import RUN
from llmcourse.finetuning.settings import Config
from llmcourse.generation import Answer
from llmcourse.models import FACTS, PACKAGED, LoadedModel, load_adapter
from llmcourse.progress import quiet

PACKAGES = ("torch", "transformers", "peft", "accelerate", "datasets")


@dataclass
class TunedModel(LoadedModel):
    """A tuned model; asked and shown like any other model.

    Attributes:
        history: A row an update: step, loss (mean over its completion tokens, in nats), and how
            many tokens it read.
        held_out: A row a look: step, and the loss on the held-out records.
        samples: What the model answered to the watched prompts on the way: step, prompt, answer.
        seconds: How long training took, the looks on the way among it.
        trained: How many weights were trained.
        encoded: What it was trained on, token by token, and which records were too long.
        config: How it was trained.
        notes: What happened on the way that one should know, such as a batch that had to shrink.
        folder: Where it was saved, if it was.
        base_weights: By which the base is known again; see `models.fingerprint`.
    """

    history: list[dict[str, float]] = field(default_factory=list, repr=False)
    samples: list[dict[str, Any]] = field(default_factory=list, repr=False)
    seconds: float = 0.0
    trained: int = 0
    encoded: encoding.Encoded | None = field(default=None, repr=False)
    held_out: list[dict[str, float]] = field(default_factory=list, repr=False)
    config: Config = field(default_factory=Config, repr=False)
    notes: list[str] = field(default_factory=list, repr=False)
    folder: Path | None = None
    base_weights: list[float] = field(default_factory=list, repr=False)

    @property
    def title(self) -> str:
        """A name for people and pictures."""
        return f"{super().title}, tuned"

    @property
    def tokens_per_second(self) -> float:
        """Tokens read a second in training, padding not counted."""
        read = sum(row["tokens"] for row in self.history)
        return read / self.seconds if self.seconds else 0.0

    def save(self, folder: Path | str, results: Mapping[str, Any] | None = None) -> Path:
        """Save the adapter, or the whole model, with a model card; see `finetuning.save`."""
        return save(self, folder, results)


class TrainingStopped(CourseError):
    """A training ended before its last update; what it had learned until then is in `model`.

    Attributes:
        model: With the last good weights.
        step: Updates done.
        by_user: True where Ctrl-C or Interrupt ended it.
    """

    def __init__(self, message: str, model: TunedModel, step: int, by_user: bool = False) -> None:
        super().__init__(message)
        self.model, self.step, self.by_user = model, step, by_user


def save(tuned: TunedModel, folder: Path | str, results: Mapping[str, Any] | None = None) -> Path:
    """Save a tuned model so that `models.load(folder)` answers as it does.

    Args:
        tuned: From `finetune`.
        folder: New or empty, or holding a tuned model's folder to be replaced by this one.
        results: Measured numbers for the card, name by name, say an accuracy.

    Raises:
        SettingError: the folder holds something else.
        NoSpace: the disk is full.
    """
    target = Path(folder).expanduser()
    if target.is_file() or (
        target.is_dir() and any(target.iterdir()) and not (target / FACTS).is_file()
    ):
        raise SettingError(
            f"{files.shown(target)} holds something else already, and nothing of it is "
            f"overwritten. Name another folder, new or empty."
        )
    with files.new_folder(target) as draft:
        here = tuned.folder is not None and tuned.folder.resolve() == target.resolve()
        if here and (target / RUN).is_file():
            shutil.copyfile(target / RUN, draft / RUN)  # it stays the folder of that training
        write(tuned, draft, results)
    tuned.folder = target
    return target


def write(tuned: TunedModel, folder: Path, results: Mapping[str, Any] | None = None) -> None:
    """Write a tuned model's files into `folder`; `tuned.json`, the last, makes it complete.

    Raises:
        NoSpace: the disk is full.
    """
    try:
        with quiet():
            if tuned.config.method == "lora":
                for described in tuned.model.peft_config.values():
                    described.base_model_name_or_path = _hub_name(tuned)  # not where it lies here
                # With "auto", peft would ask the hub about the base's vocabulary.
                tuned.model.save_pretrained(folder, save_embedding_layers=False)
            else:
                tuned.model.save_pretrained(folder)
                tuned.tokenizer.save_pretrained(folder)
        for path in folder.glob("*.safetensors"):
            path.chmod(0o644)  # made private while it was written
        files.write_text(folder / "README.md", card(tuned, results))
        files.write_json(folder / FACTS, facts(tuned, results))
    except Exception as error:
        if is_disk_full(error):
            raise files.no_space(folder) from error
        raise
    tuned.folder = folder


def is_saved(folder: Path) -> bool:
    """Whether a tuned model's folder is complete."""
    return (folder / FACTS).is_file()


def facts(tuned: TunedModel, results: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What the folder remembers, for programs."""
    rows = [{**row, "answer": dataclasses.asdict(row["answer"])} for row in tuned.samples]
    return {
        "format": 1,
        "base": tuned.name,
        "base_weights": tuned.base_weights,
        "template": tuned.template,
        "method": tuned.config.method,
        "settings": dataclasses.asdict(tuned.config),
        "versions": versions(),
        "history": tuned.history,
        "held_out": tuned.held_out,
        "samples": rows,
        "seconds": tuned.seconds,
        "trained": tuned.trained,
        "notes": tuned.notes,
        "results": dict(results or {}),
    }


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that a result may hang on."""
    found = {"python": platform.python_version()}
    return found | {name: importlib.metadata.version(name) for name in PACKAGES}


def load(folder: Path, base: LoadedModel, encoded: encoding.Encoded | None = None) -> TunedModel:
    """A finished training, from its folder.

    Raises:
        CorruptModel: its files are damaged, or belong to another base.
    """
    known = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    names = {setting.name for setting in dataclasses.fields(Config)}
    config = Config(**{name: value for name, value in known["settings"].items() if name in names})
    if config.method == "lora":
        model = load_adapter(base, folder).model
    else:
        model = models.load(str(folder), device=base.device, dtype=base.dtype).model
    samples = [{**row, "answer": Answer(**row["answer"])} for row in known["samples"]]
    return TunedModel(
        model,
        base.tokenizer,
        base.name,
        known["template"],
        history=known["history"],
        samples=samples,
        seconds=known["seconds"],
        trained=known["trained"],
        encoded=encoded,
        held_out=known["held_out"],
        config=config,
        notes=known["notes"],
        folder=folder,
        base_weights=known["base_weights"],
    )


def card(tuned: TunedModel, results: Mapping[str, Any] | None = None) -> str:
    """The model card, in the hub's form: https://huggingface.co/docs/hub/model-cards."""
    config, lora = tuned.config, tuned.config.method == "lora"
    base = _hub_name(tuned)
    head = ["---", "library_name: " + ("peft" if lora else "transformers")]
    if "/" in base and not Path(base).is_absolute():
        head += [f"base_model: {base}"]
    head += ["pipeline_tag: text-generation", "tags:", f"- {'lora' if lora else 'full'}", "---"]
    what = (
        f"An adapter (LoRA, rank {config.rank}) for" if lora else "All weights of"
    ) + f" {LoadedModel.title.fget(tuned)}, trained on instructions."  # type: ignore[attr-defined]
    lines = [
        *head,
        "",
        f"# {tuned.title}",
        "",
        what,
        "",
        "## How it is asked",
        "",
        f"It was trained with the template `{tuned.template}`, and answers to no other as well. "
        f"`tuned.json` remembers it:",
        "",
        "```python",
        "from llmcourse import models",
        "from llmcourse.generation import generate",
        "",
        'tuned = models.load("this folder")',
        'print(generate(tuned, "Your question?")[0])',
        "```",
        "",
        "## Data",
        "",
        *_data(tuned),
        "",
        "## Measured",
        "",
        *_measured(tuned, results),
        "",
        "## Settings",
        "",
        *[
            f"- {name}: {value}"
            for name, value in dataclasses.asdict(config).items()
            if value is not None
        ],
        "",
        "## Versions",
        "",
        *[f"- {name} {number}" for name, number in versions().items()],
        "",
        "## Limits",
        "",
        "- It learned from these records only, and may be wrong about anything else, and about "
        "these too.",
        f"- The base model's licence and limits hold for it: {base}.",
        "",
    ]
    return "\n".join(lines)


def _hub_name(tuned: TunedModel) -> str:
    """What people elsewhere know the base as."""
    return PACKAGED[tuned.name].hub if tuned.name in PACKAGED else tuned.name


def _data(tuned: TunedModel) -> list[str]:
    if tuned.encoded is None:
        return ["Not known."]
    return [f"- {line}" for line in tuned.encoded.as_text().splitlines()]


def _measured(tuned: TunedModel, results: Mapping[str, Any] | None) -> list[str]:
    lines = [
        f"- trained weights: {tuned.trained:,}",
        f"- seconds: {tuned.seconds:.0f}",
        f"- updates: {len(tuned.history)}",
    ]
    if tuned.history:
        lines.append(f"- last training loss: {tuned.history[-1]['loss']:.3f} nats a token")
    if tuned.held_out:
        lowest = min(tuned.held_out, key=lambda row: row["loss"])
        lines.append(
            f"- lowest held-out loss: {lowest['loss']:.3f} nats a token, after update "
            f"{lowest['step']}"
        )
    lines += [f"- {name}: {value}" for name, value in (results or {}).items()]
    return lines + [f"- {' '.join(note.split())}" for note in tuned.notes]
