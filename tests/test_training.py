"""Training as a whole: settings that change nothing or something, looks, saving, loading."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Trainer,
    TrainingArguments,
    get_cosine_schedule_with_warmup,
)

from llmcourse import encoding, finetuning, models
from llmcourse.errors import CorruptModel, DataError, SettingError, UnknownModel
from llmcourse.finetuning import Config, completion_loss, finetune, plan, suggest
from llmcourse.generation import generate

RECORDS = [
    {"question": f"What is number {n}?", "answer": f"It is {'very ' * (n % 4)}{n}."}
    for n in range(12)
]
FEW = Config(steps=6, batch_size=4, learning_rate=3e-3, rank=4)


def train(model: models.LoadedModel, **changed: Any) -> finetuning.TunedModel:
    return finetune(model, RECORDS, dataclasses.replace(FEW, **changed), progress=False)


def losses(tuned: finetuning.TunedModel) -> list[float]:
    return [row["loss"] for row in tuned.history]


def weights(tuned: models.LoadedModel) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in tuned.model.named_parameters() if "lora" in n}


def test_the_same_run_twice_is_the_same_bit_for_bit(tiny: models.LoadedModel) -> None:
    one, two, other = train(tiny), train(tiny), train(tiny, seed=1)
    assert losses(one) == losses(two) != losses(other)
    assert all(torch.equal(value, weights(two)[name]) for name, value in weights(one).items())
    assert losses(one)[-1] < losses(one)[0]


@pytest.mark.parametrize(
    "how",
    [
        {"micro_batch": 1},
        {"micro_batch": 3},
        {"checkpointing": True},
        {"memory_gb": 500.0},
    ],
)
def test_what_saves_memory_changes_no_result(tiny: models.LoadedModel, how: dict) -> None:
    assert losses(train(tiny, **how)) == pytest.approx(losses(train(tiny)), abs=1e-5)


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor", "sgd"])
def test_every_weight_can_be_trained(tiny: models.LoadedModel, optimizer: str) -> None:
    before = {name: value.clone() for name, value in tiny.model.state_dict().items()}
    rate = 0.5 if optimizer == "sgd" else 5e-3
    tuned = train(tiny, method="full", optimizer=optimizer, learning_rate=rate)
    assert tuned.trained == tiny.parameters
    assert losses(tuned)[-1] < losses(tuned)[0]
    assert all(torch.equal(value, before[name]) for name, value in tiny.model.state_dict().items())
    assert any(
        not torch.equal(value, before[name]) for name, value in tuned.model.state_dict().items()
    )


def test_half_precision_trains_every_weight_in_float32(tiny_folder: Path) -> None:
    half = models.load(str(tiny_folder), dtype=torch.bfloat16)
    tuned = train(half, method="full", learning_rate=5e-3)
    assert tuned.dtype == torch.bfloat16
    assert losses(tuned)[-1] < losses(tuned)[0]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_schedules_differ_after_the_first_update(tiny: models.LoadedModel, schedule: str) -> None:
    tuned = train(tiny, schedule=schedule, warmup=0)
    assert losses(tuned)[0] == losses(train(tiny))[0]
    if schedule != "cosine":
        assert losses(tuned)[-1] != losses(train(tiny, schedule="cosine", warmup=0))[-1]


def by_hand(model: models.LoadedModel, layout: plan.Plan) -> list[float]:
    """The loop in bare torch."""
    torch.manual_seed(0)
    adapted = finetuning.with_adapter(model, FEW)
    trained = [weight for weight in adapted.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=FEW.learning_rate, weight_decay=0.0)
    schedule = get_cosine_schedule_with_warmup(optimizer, FEW.warmup_of(6), 6)
    collate, found = encoding.Collator(model.tokenizer), []
    for number in range(6):
        batch = collate([layout.rows[place] for place in layout.updates[number]])
        loss = adapted(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        found.append(loss.item())
    return found


def by_trainer(model: models.LoadedModel, layout: plan.Plan, folder: Path) -> list[float]:
    """The same with transformers' Trainer as it comes."""
    torch.manual_seed(0)
    adapted = finetuning.with_adapter(model, FEW)
    rows = [layout.rows[place] for update in layout.updates for place in update]
    arguments = TrainingArguments(
        str(folder),
        max_steps=6,
        learning_rate=FEW.learning_rate,
        per_device_train_batch_size=4,
        lr_scheduler_type="cosine",
        warmup_steps=FEW.warmup_of(6),
        weight_decay=0.0,
        seed=0,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        remove_unused_columns=False,
        train_sampling_strategy="sequential",
    )
    trainer = Trainer(
        adapted, arguments, train_dataset=rows, data_collator=encoding.Collator(model.tokenizer)
    )
    trainer.train()
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


def test_three_heights_give_one_result(tiny: models.LoadedModel, tmp_path: Path) -> None:
    layout = plan.plan(encoding.encode(RECORDS, tiny.tokenizer), FEW)
    runner = losses(train(tiny))
    assert by_hand(tiny, layout) == pytest.approx(runner, abs=1e-3)
    assert by_trainer(tiny, layout, tmp_path) == pytest.approx(runner, abs=1e-3)


def test_memory_that_runs_out_halves_the_part(
    tiny: models.LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def small(model: Any, input_ids: torch.Tensor, **more: Any) -> torch.Tensor:
        if len(input_ids) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return completion_loss(model, input_ids, **more)

    usual = losses(train(tiny))
    from llmcourse.finetuning import engine

    monkeypatch.setattr(engine, "completion_loss", small)
    tuned = train(tiny)
    assert [note.split(".")[0] for note in tuned.notes] == [
        "Memory ran out: 2 of 4 records are computed at once from here on, 2 times an update",
        "Memory ran out: 1 of 4 records are computed at once from here on, 4 times an update",
    ]
    assert losses(tuned) == pytest.approx(usual, abs=1e-5)


def test_memory_that_runs_out_for_one_record_is_told(
    tiny: models.LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmcourse.errors import CourseError
    from llmcourse.finetuning import engine

    def never(*_: Any, **__: Any) -> torch.Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(engine, "completion_loss", never)
    with pytest.raises(CourseError, match="while one record was computed. Choose a smaller max_le"):
        train(tiny)


def test_a_limit_of_memory_is_kept_or_refused(tiny: models.LoadedModel) -> None:
    from llmcourse.finetuning import memory, runner

    encoded = encoding.encode(RECORDS, tiny.tokenizer)
    layout, tuned = plan.plan(encoded, FEW), runner._fresh(tiny, encoded, FEW)
    size = memory.Size.of(tiny.model.config)
    now = memory.in_use(tiny.device)
    room = {part: memory.added(size, tuned, layout, FEW, part, False) for part in (1, 2, 4)}
    assert room[1] < room[2] < room[4]
    limit = (now + room[2]) / 1e9 + 0.0001
    fitted = memory.fit(tuned, layout, dataclasses.replace(FEW, memory_gb=limit))
    assert fitted.micro_batch == 2 or fitted.checkpointing
    assert "records are computed at once" in fitted.notes[0]
    with pytest.raises(SettingError, match="memory_gb=0.01 is too little: even one record"):
        train(tiny, memory_gb=0.01)


def test_the_held_out_loss_stops_the_training_at_its_lowest(tiny: models.LoadedModel) -> None:
    held_out = [{"question": "Where is it?", "answer": "There."}]
    config = dataclasses.replace(FEW, steps=40, learning_rate=0.02, patience=2)
    tuned = finetune(tiny, RECORDS, config, held_out=held_out, every=2, progress=False)
    found = {row["step"]: row["loss"] for row in tuned.held_out}
    lowest = min(found, key=found.get)
    assert list(found)[:3] == [0, 2, 4]
    assert max(found) == lowest + 4 < 40  # two looks later
    assert "the held-out loss was lowest after update" in tuned.notes[0]
    back = finetuning.held_out_loss(tuned, held_out)
    assert back == pytest.approx(found[lowest], abs=1e-5)


def test_patience_needs_something_to_look_at(tiny: models.LoadedModel) -> None:
    with pytest.raises(SettingError, match="patience= needs held_out= records"):
        train(tiny, patience=1)


def test_a_saved_adapter_answers_as_the_tuned_model_did(
    tiny: models.LoadedModel, tiny_folder: Path, tmp_path: Path
) -> None:
    tuned = finetune(
        tiny,
        RECORDS,
        dataclasses.replace(FEW, template="alpaca"),
        out=tmp_path / "new" / "tuned",
        progress=False,
    )
    folder = tmp_path / "new" / "tuned"
    assert tuned.folder == folder
    assert not (folder / "checkpoints").exists()
    loaded = models.load(str(folder), dtype=torch.float32)
    assert loaded.template == "alpaca"
    question = {"question": "What is number 3?"}
    answers = [generate(m, question, max_new_tokens=8, progress=False)[0] for m in (tuned, loaded)]
    assert answers[0].text == answers[1].text and answers[0].sent == answers[1].sent
    assert "Instruction" in answers[1].sent
    assert models.load_tokenizer(str(folder)).eos_token == tiny.tokenizer.eos_token
    files = {path.name for path in folder.iterdir()}
    assert files >= {"adapter_model.safetensors", "adapter_config.json", "tuned.json", "README.md"}
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pth", ".pkl"))]
    card = (folder / "README.md").read_text(encoding="utf-8")
    for said in (
        "rank 4",
        "`alpaca`",
        "12 records in",
        "last training loss",
        "- seed: 0",
        f"- torch {torch.__version__}",
        "- updates: 6",
    ):
        assert said in card


def test_a_finished_training_is_loaded_and_not_repeated(
    tiny: models.LoadedModel, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    first = finetune(tiny, RECORDS, FEW, out=tmp_path / "a", watch="What?", progress=False)
    again = finetune(tiny, RECORDS, FEW, out=tmp_path / "a")
    assert "holds this training, finished; it is loaded." in capsys.readouterr().out
    assert again.history == first.history
    finetune(tiny, RECORDS, FEW, out=tmp_path / "a", held_out=RECORDS[:1])
    assert "Its losses and samples are those of then" in capsys.readouterr().out
    again.save(tmp_path / "a", {"accuracy": 0.5})  # onto the card; it stays this training's folder
    assert "accuracy: 0.5" in (tmp_path / "a" / "README.md").read_text(encoding="utf-8")
    finetune(tiny, RECORDS, FEW, out=tmp_path / "a")
    assert "holds this training, finished; it is loaded." in capsys.readouterr().out
    assert [str(row["answer"]) for row in again.samples] == [
        str(r["answer"]) for r in first.samples
    ]
    assert all(torch.equal(value, weights(again)[name]) for name, value in weights(first).items())


def test_with_patience_other_held_out_records_are_another_training(
    tiny: models.LoadedModel, tmp_path: Path
) -> None:
    config = dataclasses.replace(FEW, patience=1)
    finetune(tiny, RECORDS, config, out=tmp_path / "a", held_out=RECORDS[:1], progress=False)
    with pytest.raises(SettingError, match="held_out"):
        finetune(tiny, RECORDS, config, out=tmp_path / "a", held_out=RECORDS[1:2], progress=False)


def test_what_is_too_long_to_be_held_out_is_told(
    tiny: models.LoadedModel, capsys: pytest.CaptureFixture
) -> None:
    long = {"question": "Why? " * 400, "answer": "So."}
    tuned = finetune(
        tiny, RECORDS, dataclasses.replace(FEW, max_length=64), held_out=[RECORDS[0], long]
    )
    assert "1 held-out records have over 64 tokens" in capsys.readouterr().out
    assert tuned.held_out


def test_a_whole_model_is_saved_as_a_plain_folder(tiny: models.LoadedModel, tmp_path: Path) -> None:
    tuned = train(tiny, method="full", learning_rate=5e-3)
    tuned.save(tmp_path / "full", {"accuracy": 0.5})
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "full", dtype=torch.float32)
    ids = torch.arange(9)[None]
    assert torch.equal(plain(ids).logits, tuned.model(ids).logits)
    assert models.load(str(tmp_path / "full")).template == "qa"
    assert "- accuracy: 0.5" in (tmp_path / "full" / "README.md").read_text(encoding="utf-8")


def test_merging_gives_a_plain_model(tiny: models.LoadedModel, tmp_path: Path) -> None:
    tuned = train(tiny)
    merged = finetuning.merge(tuned)
    ids = torch.arange(9)[None]
    assert not hasattr(merged.model, "peft_config")
    assert torch.allclose(merged.model(ids).logits, tuned.model(ids).logits, atol=1e-5)
    assert not torch.allclose(merged.model(ids).logits, tiny.model(ids).logits, atol=1e-4)
    merged.model.save_pretrained(tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.allclose(plain(ids).logits, merged.model(ids).logits, atol=1e-6)
    assert weights(tuned)  # the tuned one still has its adapter
    with pytest.raises(SettingError, match="carries no adapter"):
        finetuning.merge(merged)
    with pytest.raises(SettingError, match=r"carries an adapter already.*merge\(model\)"):
        train(tuned)
    assert losses(train(merged))


@pytest.fixture
def saved(tiny: models.LoadedModel, tmp_path: Path) -> Path:
    train(tiny).save(tmp_path / "saved")
    return tmp_path / "saved"


def test_an_adapter_knows_its_base(tiny: models.LoadedModel, saved: Path) -> None:
    from transformers import LlamaForCausalLM

    torch.manual_seed(5)
    other = dataclasses.replace(tiny, model=LlamaForCausalLM(tiny.model.config), name="another")
    with pytest.raises(SettingError, match="'another' has other weights. Load it on its own base"):
        models.load_adapter(other, saved)
    facts = json.loads((saved / "tuned.json").read_text(encoding="utf-8"))
    (saved / "tuned.json").write_text(json.dumps(facts | {"base_weights": []}), encoding="utf-8")
    wider = tiny.model.config.__class__(**tiny.model.config.to_dict() | {"hidden_size": 64})
    other = dataclasses.replace(tiny, model=LlamaForCausalLM(wider), name="wider")
    with pytest.raises(SettingError, match="does not fit 'wider'"):
        models.load_adapter(other, saved)


def test_several_adapters_share_one_base(tiny: models.LoadedModel, saved: Path) -> None:
    one, two = models.load_adapter(tiny, saved), models.load_adapter(tiny, saved)
    base = {weight.data_ptr() for weight in tiny.model.parameters()}
    for loaded in (one, two):
        kept = {w.data_ptr() for n, w in loaded.model.named_parameters() if "lora" not in n}
        assert kept == base
    assert not any("lora" in name for name, _ in tiny.model.named_parameters())


def test_peft_works_beside_a_torchao_that_is_too_old_for_it(
    tiny: models.LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Colab has torchao 0.10.0 installed; peft raises an ImportError for every LoRA layer then."""
    from peft import import_utils
    from peft.tuners.lora import torchao
    from peft.utils import quantization_utils

    there = tmp_path / "installed"
    (there / "torchao").mkdir(parents=True)
    (there / "torchao" / "__init__.py").write_text("")
    (there / "torchao-0.10.0.dist-info").mkdir()
    (there / "torchao-0.10.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: torchao\nVersion: 0.10.0\n"
    )
    monkeypatch.syspath_prepend(there)
    import_utils.is_torchao_available.cache_clear()
    with pytest.raises(ImportError, match="incompatible version of torchao"):
        import_utils.is_torchao_available()
    for module in (import_utils, torchao, quantization_utils):  # as they were, afterwards
        monkeypatch.setattr(module, "is_torchao_available", module.is_torchao_available)
    tuned = train(tiny, steps=1)
    tuned.save(tmp_path / "saved")
    models.load_adapter(tiny, tmp_path / "saved")
    assert finetuning.merge(tuned).parameters == tiny.parameters


def test_an_adapter_that_changes_nothing_is_told(tiny: models.LoadedModel, tmp_path: Path) -> None:
    tuned = train(tiny, steps=1)
    for name, weight in tuned.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.zeros_(weight)
    tuned.save(tmp_path / "zero")
    with pytest.raises(CorruptModel, match="changes nothing: all that it adds is zero"):
        models.load(str(tmp_path / "zero"))


def damage(saved: Path, what: str) -> None:
    weights = saved / "adapter_model.safetensors"
    if what == "pickled":
        weights.rename(saved / "adapter_model.bin")
    elif what == "cut":
        weights.write_bytes(weights.read_bytes()[:300])
    elif what == "facts":
        (saved / "tuned.json").write_text("{", encoding="utf-8")
    elif what == "list":
        (saved / "tuned.json").write_text("[]", encoding="utf-8")
    elif what == "nameless":
        (saved / "tuned.json").unlink()
        described = json.loads((saved / "adapter_config.json").read_text(encoding="utf-8"))
        described["base_model_name_or_path"] = None
        (saved / "adapter_config.json").write_text(json.dumps(described), encoding="utf-8")
    elif what == "half":
        from safetensors.torch import load_file, save_file

        tensors = load_file(weights)
        tensors.pop(sorted(tensors)[0])
        save_file(tensors, weights, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("pickled", "has no adapter_model.safetensors. Pickled weights"),
        ("cut", "can't be read .* train again"),
        ("facts", "tuned.json can't be read"),
        ("list", "can.t be read"),
        ("nameless", "does not say which model it belongs to"),
        ("half", "1 of its matrices have no counterpart"),
    ],
)
def test_damaged_adapters(saved: Path, what: str, message: str) -> None:
    damage(saved, what)
    with pytest.raises((CorruptModel, SettingError), match=message):
        models.load(str(saved))


def test_what_is_no_adapter(tiny: models.LoadedModel, tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match="holds no adapter"):
        models.load_adapter(tiny, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"config": {}}, r"config is of type dict; write finetuning.Config"),
        ({"every": 0}, "every=0 must be a whole number"),
        ({"watch": [3]}, "must be a prompt, or a list of prompts"),
        ({"watch_tokens": -1}, "watch_tokens=-1"),
        ({"save_every": 0}, "save_every=0"),
        ({"out": ""}, "out='' must be the path of a folder"),
        ({"out": 3}, "out=3 must be the path of a folder"),
    ],
)
def test_arguments_that_mean_nothing(
    tiny: models.LoadedModel, arguments: dict, message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        finetune(tiny, RECORDS, progress=False, **arguments)


def test_a_name_is_no_model() -> None:
    with pytest.raises(SettingError, match=r"models.load\('chat'\)"):
        finetune("chat", RECORDS)


def test_records_without_a_label(tiny: models.LoadedModel) -> None:
    with pytest.raises(DataError, match="nothing to train on"):
        finetune(tiny, [{"text": "a"}], Config(add_end=False), progress=False)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"method": "qlora"}, "method='qlora' is none of 'lora', 'full'"),
        ({"template": "none"}, "template='none' is none of"),
        ({"optimizer": "adam"}, "optimizer='adam' is none of"),
        ({"schedule": None}, "schedule=None is none of"),
        ({"seed": -1}, "seed=-1 must be a whole number of at least 0"),
        ({"learning_rate": "fast"}, "learning_rate='fast' must be a number"),
        ({"epochs": float("inf")}, "more than 0 and finite"),
        ({"dropout": 1}, "dropout=1 must be at least 0 and below 1"),
        ({"alpha": 0}, "alpha=0 must be more than 0"),
        ({"memory_gb": -1}, "memory_gb=-1 must be more than 0"),
        ({"micro_batch": 0}, "micro_batch=0 must be a whole number"),
        ({"warmup": -1}, "warmup=-1"),
        ({"weight_decay": 2}, "weight_decay=2"),
        ({"checkpointing": 1}, "checkpointing=1 is none of"),
    ],
)
def test_settings_that_mean_nothing(setting: dict, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        Config(**setting)


def test_what_is_left_open_follows_from_the_data() -> None:
    few, why = suggest(Config(), 50, 500, 0.2)
    many, _ = suggest(Config(), 20_000, 2_000_000, 0.2)
    long, _ = suggest(Config(), 50, 50_000, 0.2)
    assert few.epochs > long.epochs > many.epochs == 1
    assert suggest(few, 20_000, 2_000_000, 0.02) == (few, "")  # nothing is left open
    labels, _ = suggest(Config(), 50, 100, 0.2)
    assert few.learning_rate > 3 * labels.learning_rate
    large, _ = suggest(Config(), 50, 500, 0.02)
    full, told = suggest(Config(method="full"), 50, 500, 0.2)
    assert few.learning_rate > 5 * large.learning_rate and few.beta2 < 0.999
    assert few.learning_rate > 5 * full.learning_rate and full.rank is None and "rank" not in told
    assert why.startswith("50 records, 500 trained tokens: ")
    assert all(f"{value:g}" in why for value in (few.epochs, few.learning_rate, few.rank))


def test_settings_that_are_given_stay() -> None:
    given = Config(epochs=2, learning_rate=1e-3, rank=8, warmup=1, beta2=0.9)
    assert suggest(given, 50, 500, 0.2) == (given, "")
    part, why = suggest(Config(learning_rate=1e-3, steps=40), 50, 500, 0.2)
    assert (part.learning_rate, part.steps, part.epochs, part.beta2) == (1e-3, 40, None, 0.999)
    assert part.rank and "rank" in why and "epochs" not in why and "learning_rate" not in why


def test_a_resumed_training_takes_the_settings_chosen(
    tiny: models.LoadedModel, tmp_path: Path
) -> None:
    stop = {"seen": lambda tuned, step, total: step == 3, "save_every": 1, "progress": False}
    with pytest.raises(finetuning.TrainingStopped):
        finetune(tiny, RECORDS, Config(rank=2), out=tmp_path / "a", **stop)
    resumed = finetune(tiny, RECORDS, Config(rank=2), out=tmp_path / "a", progress=False)
    usual = finetune(tiny, RECORDS, Config(rank=2), progress=False)
    assert losses(resumed) == losses(usual) and resumed.config == usual.config
    finetune(tiny, RECORDS, usual.config, out=tmp_path / "a", progress=False)  # the same training


def test_dropout_is_used(tiny: models.LoadedModel) -> None:
    assert losses(train(tiny, dropout=0.5)) != losses(train(tiny))


def test_tensorboard_or_a_word_about_it(tiny: models.LoadedModel, tmp_path: Path) -> None:
    import importlib.util

    if importlib.util.find_spec("tensorboard") is None:
        with pytest.raises(SettingError, match="pip install tensorboard"):
            finetune(tiny, RECORDS, FEW, tensorboard=tmp_path / "board", progress=False)
    else:
        finetune(tiny, RECORDS, FEW, tensorboard=tmp_path / "board", progress=False)
        assert any((tmp_path / "board").glob("events*"))


def test_without_progress_nothing_is_shown(
    tiny: models.LoadedModel, capfd: pytest.CaptureFixture
) -> None:
    finetune(tiny, RECORDS, FEW, held_out=RECORDS, watch="Why?", every=2, progress=False)
    assert capfd.readouterr() == ("", "")
