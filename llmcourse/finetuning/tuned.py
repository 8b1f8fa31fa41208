"""What a training gives: a model that answers like any other, and the folder it is saved in.

A folder with an adapter holds `adapter_model.safetensors` and peft's `adapter_config.json`; one
with a complete model is an ordinary model folder. Both have `tuned.json`, from which `models.load`
learns the base and the template, and the model card, `README.md`. Nothing is pickled.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2

from llmcourse import encoding, files, models
from llmcourse.errors import CourseError, SettingError, is_disk_full
from llmcourse.finetuning.checkpoints import RUN
from llmcourse.finetuning.settings import Config
from llmcourse.generation import Answer
from llmcourse.models import FACTS, PACKAGED, LoadedModel, load_adapter
from llmcourse.progress import quiet

PACKAGES = ("torch", "transformers", "peft", "accelerate", "datasets")
RECORDED = ("history", "held_out", "notes", "seconds")  # JSON holds these as they are


@dataclass
class TunedModel(LoadedModel):
    """A tuned model; it answers and shows itself like any other model.

    Attributes:
        history: One row per update: step, loss (mean over its completion tokens, in nats), and how
            many tokens it read.
        samples: The answers to the sample prompts during training: step, prompt, answer.
        seconds: How long training took, evaluation during training included.
        trained: How many weights were trained.
        encoded: What it was trained on, token by token, and which records were too long.
        held_out: One row per evaluation: step, and the loss on the held-out records.
        config: How it was trained.
        notes: What happened during training that one should know, such as a batch that had to
            shrink.
        folder: Where it was saved, if it was.
        base_weights: Identifies the base; see `models.fingerprint`.
    """

    history: list[dict[str, Any]] = field(default_factory=list, repr=False)
    samples: list[dict[str, Any]] = field(default_factory=list, repr=False)
    seconds: float = 0.0
    trained: int = 0
    encoded: encoding.Encoded | None = field(default=None, repr=False)
    held_out: list[dict[str, Any]] = field(default_factory=list, repr=False)
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
        """Tokens read per second in training, padding not counted."""
        read = sum(row["tokens"] for row in self.history)
        return read / self.seconds if self.seconds else 0.0

    def save(self, folder: Path | str, results: Mapping[str, Any] | None = None) -> Path:
        """Save the adapter, or the complete model, with a model card, for `models.load(folder)`.

        Args:
            folder: New or empty, or holding a tuned model's folder to be replaced by this one.
            results: Measured numbers for the card, name by name, say an accuracy.

        Raises:
            SettingError: the folder holds something else.
            NoSpace: the disk is full.
        """
        target = Path(folder).expanduser()
        used = target.is_file() or (target.is_dir() and any(target.iterdir()))
        # `tuned.json` tells a tuned model's folder from a thesis
        if used and not is_saved(target):
            raise SettingError(
                f"{files.shown(target)} holds something else already, and nothing of it is "
                f"overwritten. Name another folder, new or empty."
            )
        with files.new_folder(target) as draft:
            here = self.folder is not None and self.folder.resolve() == target.resolve()
            if here and (target / RUN).is_file():
                shutil.copyfile(target / RUN, draft / RUN)  # it stays the folder of that training
            write(self, draft, results)
        self.folder = target
        return target

    def recorded(self) -> dict[str, Any]:
        """What was seen during training, as JSON can hold it."""
        rows = [{**row, "answer": dataclasses.asdict(row["answer"])} for row in self.samples]
        return {name: getattr(self, name) for name in RECORDED} | {"samples": rows}

    def take(self, recorded: Mapping[str, Any]) -> None:
        """Take over what `recorded` gave."""
        for name in RECORDED:
            setattr(self, name, recorded[name])
        self.samples = [{**row, "answer": Answer(**row["answer"])} for row in recorded["samples"]]


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


def write(tuned: TunedModel, folder: Path, results: Mapping[str, Any] | None = None) -> None:
    """Write a tuned model's files into `folder`; `tuned.json`, the last, makes it complete.

    Raises:
        NoSpace: the disk is full.
    """
    try:
        with quiet():
            if tuned.config.method == "lora":
                for adapter in tuned.model.peft_config.values():
                    adapter.base_model_name_or_path = _hub_name(tuned)  # not its path on this disk
                # With "auto", peft would ask the hub about the base's vocabulary.
                tuned.model.save_pretrained(folder, save_embedding_layers=False)
            else:
                tuned.model.save_pretrained(folder)
                tuned.tokenizer.save_pretrained(folder)
        for path in folder.glob("*.safetensors"):
            path.chmod(0o644)  # safetensors makes its files readable by their owner alone
            files.flush(path)
        files.write_text(folder / "README.md", card(tuned, results))
        files.write_json(folder / FACTS, facts(tuned, results))
    except Exception as error:
        if is_disk_full(error):
            raise files.no_space(folder) from error
        raise


def is_saved(folder: Path) -> bool:
    """Whether a tuned model's folder is complete."""
    return (folder / FACTS).is_file()


def facts(tuned: TunedModel, results: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What the folder remembers, for programs."""
    return {
        "format": 1,  # of this file
        "base": tuned.name,
        "base_weights": tuned.base_weights,
        "template": tuned.template,
        "method": tuned.config.method,
        "settings": dataclasses.asdict(tuned.config),
        "versions": versions(),
        "trained": tuned.trained,
        "results": dict(results or {}),
        **tuned.recorded(),
    }


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that a result may depend on."""
    packages = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **packages}


def load(folder: Path, base: LoadedModel, encoded: encoding.Encoded | None = None) -> TunedModel:
    """A finished training, from its folder.

    Raises:
        CorruptModel: its files are damaged, or belong to another base.
    """
    known = models.facts(folder)
    names = {setting.name for setting in dataclasses.fields(Config)}  # without those since removed
    config = Config(**{name: value for name, value in known["settings"].items() if name in names})
    if config.method == "lora":
        model = load_adapter(base, folder).model  # on the weights that are in memory already
    else:
        model = models.load(str(folder), device=base.device, dtype=base.dtype).model
    tuned = TunedModel(
        model,
        base.tokenizer,
        base.name,
        known["template"],
        trained=known["trained"],
        encoded=encoded,
        config=config,
        folder=folder,
        base_weights=known["base_weights"],
    )
    tuned.take(known)
    return tuned


def card(tuned: TunedModel, results: Mapping[str, Any] | None = None) -> str:
    """The model card, in the hub's form: https://huggingface.co/docs/hub/model-cards."""
    base = _hub_name(tuned)
    template = (Path(__file__).parent / "card.md").read_text(encoding="utf-8")
    return jinja2.Template(template, trim_blocks=True, keep_trailing_newline=True).render(
        tuned=tuned,
        config=tuned.config,
        lora=tuned.config.method == "lora",
        base=base,
        base_title=LoadedModel.title.fget(tuned),  # type: ignore[attr-defined]
        on_hub="/" in base and not Path(base).is_absolute(),
        data=tuned.encoded.as_text().splitlines() if tuned.encoded else ["Not known."],
        settings=dataclasses.asdict(tuned.config),
        versions=versions(),
        results=results or {},
    )


def _hub_name(tuned: TunedModel) -> str:
    """What people elsewhere know the base as."""
    return PACKAGED[tuned.name].hub if tuned.name in PACKAGED else tuned.name
