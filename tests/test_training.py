"""Training: what changes a result and what does not, evaluation on the way, saving, loading."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModelForCausalLM,
    LlamaForCausalLM,
    get_cosine_schedule_with_warmup,
)

from llmcourse import encoding, finetuning, models
from llmcourse.errors import CorruptModel, CourseError, SettingError, UnknownModel
from llmcourse.finetuning import Config, engine, finetune, memory, plan, runner, suggest
from llmcourse.generation import generate
from llmcourse.loss import completion_loss

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


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.model
def test_the_base_stays_and_the_tuned_one_learns(base32: models.LoadedModel) -> None:
    record = {"question": "What is the word?", "answer": "The word is brindlefax."}
    before = generate(base32, record["question"], "qa", max_new_tokens=12, progress=False)
    weight = next(base32.model.parameters()).clone()
    tuned = finetune(
        base32,
        [record] * 4,
        Config(steps=8, batch_size=2, learning_rate=3e-3),
        sample_prompts=[record["question"]],
        eval_steps=4,
        sample_tokens=12,
        progress=False,
    )
    assert [row["step"] for row in tuned.history] == list(range(1, 9))
    assert losses(tuned)[-1] < losses(tuned)[0] / 3
    assert [sample["step"] for sample in tuned.samples] == [0, 4, 8]
    answer = generate(tuned, record["question"], max_new_tokens=12, progress=False)[0]
    assert "brindlefax" in answer.text and answer.finished
    assert str(tuned.samples[-1]["answer"]) == answer.text
    assert 0 < tuned.trained < 0.03 * base32.parameters
    assert torch.equal(weight, next(base32.model.parameters()))
    after = generate(base32, record["question"], "qa", max_new_tokens=12, progress=False)
    assert [a.text for a in after] == [a.text for a in before]
    assert tuned.title == "Gemma 3 270M, tuned" and not tuned.model.training
    assert tuned.model.config.use_cache


def test_the_same_training_twice_is_the_same_bit_for_bit(tiny: models.LoadedModel) -> None:
    one, two, other = train(tiny), train(tiny), train(tiny, seed=1)
    assert losses(one) == losses(two) != losses(other)
    assert same(weights(one), weights(two))
    assert losses(one)[-1] < losses(one)[0]
    assert losses(train(tiny, dropout=0.5)) != losses(one)


@pytest.fixture(scope="module")
def usual(tiny_once: models.LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the usual training, once for all tests that compare with it."""
    threads, out = torch.get_num_threads(), tmp_path_factory.mktemp("usual") / "saved"
    torch.set_num_threads(1)
    train(tiny_once).save(out)
    torch.set_num_threads(threads)
    return out


@pytest.fixture
def usual_losses(usual: Path) -> list[float]:
    facts = json.loads((usual / "tuned.json").read_text(encoding="utf-8"))
    return [row["loss"] for row in facts["history"]]


@pytest.mark.parametrize(
    "how", [{"micro_batch": 1}, {"micro_batch": 3}, {"checkpointing": True}, {"memory_gb": 500.0}]
)
def test_what_saves_memory_changes_no_result(
    tiny: models.LoadedModel, how: dict, usual_losses: list[float]
) -> None:
    assert losses(train(tiny, **how)) == pytest.approx(usual_losses, abs=1e-5)


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor", "sgd"])
def test_every_weight_can_be_trained(tiny: models.LoadedModel, optimizer: str) -> None:
    before = {name: value.clone() for name, value in tiny.model.state_dict().items()}
    rate = 0.5 if optimizer == "sgd" else 5e-3
    tuned = train(tiny, method="full", optimizer=optimizer, learning_rate=rate)
    assert tuned.trained == tiny.parameters
    assert losses(tuned)[-1] < losses(tuned)[0]
    assert same(tiny.model.state_dict(), before)
    assert not same(tuned.model.state_dict(), before)


def test_half_precision_trains_every_weight_in_float32(tiny_folder: Path) -> None:
    half = models.load(str(tiny_folder), dtype=torch.bfloat16)
    tuned = train(half, method="full", learning_rate=5e-3)
    assert tuned.dtype == torch.bfloat16
    assert losses(tuned)[-1] < losses(tuned)[0]


def by_hand(model: models.LoadedModel, layout: plan.Plan) -> list[float]:
    """The loop in bare torch."""
    torch.manual_seed(0)
    adapted = finetuning.with_adapter(model, FEW)
    trained = [weight for weight in adapted.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=FEW.learning_rate, weight_decay=0.0)
    schedule = get_cosine_schedule_with_warmup(optimizer, FEW.warmup_of(6), 6)
    collate, found = encoding.Collator(model.tokenizer), []
    for update in layout.updates:
        loss = adapted(**collate([layout.rows[index] for index in update])).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        found.append(loss.item())
    return found


def test_written_by_hand_it_is_the_same_training(
    tiny: models.LoadedModel, usual_losses: list[float]
) -> None:
    layout = plan.plan(encoding.encode(RECORDS, tiny.tokenizer), FEW)
    assert by_hand(tiny, layout) == pytest.approx(usual_losses, abs=1e-3)


def test_memory_that_runs_out_halves_the_part(
    tiny: models.LoadedModel, monkeypatch: pytest.MonkeyPatch, usual_losses: list[float]
) -> None:
    most = 1

    def small(model: Any, input_ids: torch.Tensor, **more: Any) -> torch.Tensor:
        if len(input_ids) > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return completion_loss(model, input_ids, **more)

    monkeypatch.setattr(engine, "completion_loss", small)
    tuned = train(tiny)
    assert [note.split(" records")[0] for note in tuned.notes] == [
        "Memory ran out: 2 of 4",
        "Memory ran out: 1 of 4",
    ]
    assert losses(tuned) == pytest.approx(usual_losses, abs=1e-5)
    most = 0
    with pytest.raises(CourseError, match="while one record was computed. Choose a smaller max_le"):
        train(tiny)


def test_a_limit_of_memory_is_kept_or_refused(tiny: models.LoadedModel) -> None:
    encoded = encoding.encode(RECORDS, tiny.tokenizer)
    layout, tuned = plan.plan(encoded, FEW), runner._untrained(tiny, encoded, FEW)
    size, now = memory.Size.of(tiny.model.config), memory.in_use(tiny.device)
    room = {part: memory.added(size, tuned, layout, FEW, part, False) for part in (1, 2, 4)}
    assert room[1] < room[2] < room[4]
    limit = (now + room[2]) / 1e9 + 0.0001
    part, twice, note = memory.fit(tuned, layout, dataclasses.replace(FEW, memory_gb=limit))
    assert part == 2 or twice
    assert "records are computed at once" in note
    with pytest.raises(SettingError, match="memory_gb=0.01 is too little: even one record"):
        train(tiny, memory_gb=0.01)


def test_the_held_out_loss_stops_the_training_at_its_lowest(tiny: models.LoadedModel) -> None:
    held_out = [{"question": "Where is it?", "answer": "There."}]
    config = dataclasses.replace(FEW, steps=40, learning_rate=0.02, patience=2)
    tuned = finetune(tiny, RECORDS, config, held_out=held_out, eval_steps=2, progress=False)
    found = {row["step"]: row["loss"] for row in tuned.held_out}
    lowest = min(found, key=found.get)
    assert list(found)[:3] == [0, 2, 4]
    assert max(found) == lowest + 4 < 40  # two evaluations later
    assert "the held-out loss was lowest after update" in tuned.notes[0]
    back = finetuning.mean_loss(tuned, encoding.encode(held_out, tuned.tokenizer, tuned.template))
    assert back == pytest.approx(found[lowest], abs=1e-5)
    with pytest.raises(SettingError, match="patience= needs held_out= records"):
        train(tiny, patience=1)


def test_what_is_shown_and_what_is_not(
    tiny: models.LoadedModel, capfd: pytest.CaptureFixture
) -> None:
    long = {"question": "Why? " * 400, "answer": "So."}
    given = {"held_out": [RECORDS[0], long], "sample_prompts": "Why?", "eval_steps": 3}
    config = dataclasses.replace(FEW, max_length=64)
    finetune(tiny, [*RECORDS, long], config, **given, progress=False)
    assert capfd.readouterr() == ("", "")
    tuned = finetune(tiny, [*RECORDS, long], config, **given)
    said = capfd.readouterr().out
    assert "left out as too long: 1 (record 12)" in said and tuned.encoded.left_out == [12]
    assert "1 held-out records have over 64 tokens" in said and tuned.held_out
    assert "step    3: loss " in said and "held-out loss" in said


# --- saved and loaded -----------------------------------------------------------------------------


def test_a_saved_adapter_answers_as_the_tuned_model_did(
    tiny: models.LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "new" / "tuned"
    config = dataclasses.replace(FEW, template="alpaca")
    tuned = finetune(tiny, RECORDS, config, out=folder, progress=False)
    assert tuned.folder == folder
    assert [path.name for path in tmp_path.iterdir()] == ["new"]  # Trainer has left nothing
    loaded = models.load(str(folder), dtype=torch.float32)
    question = {"question": "What is number 3?"}
    answers = [generate(m, question, max_new_tokens=8, progress=False)[0] for m in (tuned, loaded)]
    assert answers[0].text == answers[1].text and answers[0].sent == answers[1].sent
    assert loaded.template == "alpaca" and "Instruction" in answers[1].sent
    assert models.load_tokenizer(str(folder)).eos_token == tiny.tokenizer.eos_token
    files = {path.name for path in folder.iterdir()}
    assert files >= {"adapter_model.safetensors", "adapter_config.json", "tuned.json", "README.md"}
    assert "checkpoints" not in files
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pth", ".pkl"))]
    card = (folder / "README.md").read_text(encoding="utf-8")
    facts = ("rank 4", "`alpaca`", "- 12 records in", "last training loss", "- seed: 0")
    assert all(fact in card for fact in (*facts, f"- torch {torch.__version__}", "- updates: 6"))
    assert card.startswith(
        "---\nlibrary_name: peft\npipeline_tag: text-generation\ntags:\n- lora\n"
    )


def test_a_finished_training_is_loaded_and_not_repeated(
    tiny: models.LoadedModel, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "a"
    first = finetune(tiny, RECORDS, FEW, out=out, sample_prompts="What?", progress=False)
    again = finetune(tiny, RECORDS, FEW, out=out, held_out=RECORDS[:1])
    said = capsys.readouterr().out
    assert "holds this training, finished; it is loaded." in said and "pass fresh=True" in said
    assert again.recorded() == first.recorded() and same(weights(first), weights(again))
    again.save(out, {"accuracy": 0.5})  # onto the card; it stays this training's folder
    assert "- accuracy: 0.5" in (out / "README.md").read_text(encoding="utf-8")
    finetune(tiny, RECORDS, FEW, out=out)
    assert "holds this training, finished; it is loaded." in capsys.readouterr().out


def test_a_complete_model_is_saved_as_a_plain_folder(
    tiny: models.LoadedModel, tmp_path: Path
) -> None:
    tuned = train(tiny, method="full", learning_rate=5e-3)
    tuned.save(tmp_path / "full", {"accuracy": 0.5})
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "full", dtype=torch.float32)
    ids = torch.arange(9)[None]
    assert torch.equal(plain(ids).logits, tuned.model(ids).logits)
    assert models.load(str(tmp_path / "full")).template == "qa"


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
    with pytest.raises(SettingError, match="carries no adapter"):
        finetuning.merge(merged)
    with pytest.raises(SettingError, match=r"carries an adapter already.*merge\(model\)"):
        train(tuned)  # the tuned one still has its adapter
    assert losses(train(merged))


@pytest.fixture
def saved(usual: Path, tmp_path: Path) -> Path:
    """A copy of the usual training's folder, to be spoiled."""
    return Path(shutil.copytree(usual, tmp_path / "saved"))


def test_an_adapter_knows_its_base(tiny: models.LoadedModel, saved: Path, tmp_path: Path) -> None:
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
    with pytest.raises(UnknownModel, match="holds no adapter"):
        models.load_adapter(tiny, tmp_path)


def test_several_adapters_share_one_base(tiny: models.LoadedModel, saved: Path) -> None:
    base = {weight.data_ptr() for weight in tiny.model.parameters()}
    for loaded in (models.load_adapter(tiny, saved), models.load_adapter(tiny, saved)):
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


def damage(saved: Path, what: str) -> None:
    from safetensors.torch import load_file, save_file

    path = saved / "adapter_model.safetensors"
    tensors = load_file(path)
    if what == "pickled":
        path.rename(saved / "adapter_model.bin")
    elif what == "cut":
        path.write_bytes(path.read_bytes()[:300])
    elif what == "half":
        tensors.pop(sorted(tensors)[0])
        save_file(tensors, path, metadata={"format": "pt"})
    elif what == "zero":
        zero = {name: value * ("lora_B" not in name) for name, value in tensors.items()}
        save_file(zero, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("pickled", "has no adapter_model.safetensors. Pickled weights"),
        ("cut", "can't be read .* train again"),
        ("half", "1 of its matrices have no counterpart"),
        ("zero", "changes nothing: all that it adds is zero"),
    ],
)
def test_damaged_adapters(saved: Path, what: str, message: str) -> None:
    damage(saved, what)
    with pytest.raises((CorruptModel, SettingError), match=message):
        models.load(str(saved))


# --- settings -------------------------------------------------------------------------------------


UNKNOWN = ("method", "template", "optimizer", "schedule", "checkpointing", "mask_prompt")
WHOLE = ("batch_size", "max_length", "steps", "rank", "micro_batch", "patience")
SHARES = ("learning_rate", "dropout", "weight_decay", "beta2")
POSITIVE = ("epochs", "alpha", "memory_gb")


@settings(deadline=None)
@given(
    st.tuples(st.sampled_from(UNKNOWN), st.text() | st.integers())
    | st.tuples(st.sampled_from(WHOLE), st.integers(max_value=0) | st.floats())
    | st.tuples(st.sampled_from(SHARES), st.floats(min_value=1.0) | st.floats(max_value=-1e-9))
    | st.tuples(st.sampled_from(POSITIVE), st.floats(max_value=0.0) | st.just(math.inf))
    | st.tuples(st.sampled_from((*SHARES, *POSITIVE)), st.just(math.nan) | st.just("fast"))
)
def test_settings_that_mean_nothing(setting: tuple[str, Any]) -> None:
    name, value = setting
    with pytest.raises(SettingError, match=f"{name}="):
        Config(**{name: value})


def test_what_is_left_open_follows_from_the_data() -> None:
    few, why = suggest(Config(), 50, 500, 0.2)
    many, _ = suggest(Config(), 20_000, 2_000_000, 0.2)
    long, _ = suggest(Config(), 50, 50_000, 0.2)
    assert few.epochs > long.epochs > many.epochs == 1
    assert suggest(few, 20_000, 2_000_000, 0.02) == (few, "")  # nothing is left open
    assert few.prompt_dropout > many.prompt_dropout == 0
    labels, _ = suggest(Config(), 50, 100, 0.2)
    assert few.learning_rate > 2 * labels.learning_rate
    large, _ = suggest(Config(), 50, 500, 0.02)
    full, reason = suggest(Config(method="full"), 50, 500, 0.2)
    assert few.learning_rate > 5 * large.learning_rate and few.beta2 < 0.999
    assert few.learning_rate > 5 * full.learning_rate
    assert full.rank is None and "rank" not in reason
    assert why.startswith("50 records, 500 trained tokens: ")
    assert all(f"{value:g}" in why for value in (few.epochs, few.learning_rate, few.rank))


def test_settings_that_are_given_stay() -> None:
    given = Config(epochs=2, learning_rate=1e-3, rank=8, warmup=1, beta2=0.9, prompt_dropout=0.1)
    assert suggest(given, 50, 500, 0.2) == (given, "")
    part, why = suggest(Config(learning_rate=1e-3, steps=40), 50, 500, 0.2)
    assert (part.learning_rate, part.steps, part.epochs, part.beta2) == (1e-3, 40, None, 0.999)
    assert part.prompt_dropout == 0  # tuned together with the rate
    assert part.rank and "rank" in why and "epochs" not in why and "learning_rate" not in why


def test_prompt_dropout_keeps_the_template_and_what_the_answer_repeats(
    tiny: models.LoadedModel,
) -> None:
    words = ["tell me", "say", "give us", "name", "read out", "show"]
    colours = ["blue grey", "red", "light green", "dark yellow", "black", "white"]
    records = [
        {"question": f"Please {word} number {n}?", "answer": f"Number {n} is {colour}."}
        for n, (word, colour) in enumerate(zip(words, colours, strict=True))
    ]
    encoded = encoding.encode(records, tiny.tokenizer)
    config = dataclasses.replace(FEW, prompt_dropout=0.9)
    whole, layout = plan.plan(encoded, FEW), plan.plan(encoded, config)
    frame = set.intersection(*(set(row["input_ids"]) for row in whole.rows))
    indices = range(len(whole.rows))
    updates = [[layout.row(index, update) for index in indices] for update in range(3)]
    assert updates[0] == [layout.row(index, 0) for index in indices] != updates[1]  # if resumed
    lengths = set()
    for rows in updates:
        for before, row in zip(whole.rows, rows, strict=True):
            kept = frame.union(before["labels"])
            assert [token for token in row["input_ids"] if token in kept] == [
                token for token in before["input_ids"] if token in kept
            ]
            answers = [[label for label in r["labels"] if label >= 0] for r in (before, row)]
            assert answers[0] == answers[1] and len(row["labels"]) == len(row["input_ids"])
            lengths.add(len(before["input_ids"]) - len(row["input_ids"]))
    assert len(lengths) > 1


def test_prompt_dropout_leaves_a_text_to_read_as_it_is(tiny: models.LoadedModel) -> None:
    """Its gaps would show where the answer is, which is never left out."""
    asked = [r | {"question": f"{r['answer']} What does it say?"} for r in RECORDS]
    encoded = encoding.encode(asked, tiny.tokenizer)
    layout = plan.plan(encoded, dataclasses.replace(FEW, prompt_dropout=0.9))
    assert all(layout.row(n, 0) == layout.rows[n] for n in range(len(asked)))


def test_a_resumed_training_takes_the_settings_chosen(
    tiny: models.LoadedModel, tmp_path: Path
) -> None:
    stop = {"callback": lambda tuned, step, total: step == 3, "save_steps": 1, "progress": False}
    with pytest.raises(finetuning.TrainingStopped):
        finetune(tiny, RECORDS, Config(rank=2), out=tmp_path / "a", **stop)
    resumed = finetune(tiny, RECORDS, Config(rank=2), out=tmp_path / "a", progress=False)
    usual = finetune(tiny, RECORDS, Config(rank=2), progress=False)
    assert losses(resumed) == losses(usual) and resumed.config == usual.config
    finetune(tiny, RECORDS, usual.config, out=tmp_path / "a", progress=False)  # the same training
