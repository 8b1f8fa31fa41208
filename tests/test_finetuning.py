"""The first floor of fine-tuning: the loss is the plain one, and a few updates teach something."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from llmcourse import company, encoding, loss, models
from llmcourse.errors import DataError, SettingError
from llmcourse.finetuning import Config, completion_loss, finetune, held_out_loss
from llmcourse.generation import generate


@pytest.fixture(scope="module")
def batch(base32: models.LoadedModel) -> dict[str, torch.Tensor]:
    rows = encoding.encode(company.records("questions", "train")[:4], base32.tokenizer).dataset
    return encoding.Collator(base32.tokenizer)(list(rows))


def test_the_loss_is_transformers_own(
    base32: models.LoadedModel, batch: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    labelled = int((batch["labels"][:, 1:] != -100).sum())
    with torch.no_grad():
        plain = base32.model(**batch).loss
        for chunk in (2**25, 128 * 2**20):
            monkeypatch.setattr(loss, "SCORE_BYTES", chunk)
            ours = completion_loss(base32.model, **batch) / labelled
            assert ours.item() == pytest.approx(plain.item(), abs=1e-5)


def test_the_held_out_loss_is_the_mean_over_all_answers_tokens(base32: models.LoadedModel) -> None:
    records = company.records("questions", "validation")[:11]
    total = count = 0.0
    for record in records:
        row = encoding.encode([record], base32.tokenizer, "qa").dataset[0]
        labels = torch.tensor([row["labels"]])
        with torch.no_grad():
            loss = base32.model(torch.tensor([row["input_ids"]]), labels=labels).loss
        total += loss.item() * int((labels != -100).sum())
        count += int((labels != -100).sum())
    assert held_out_loss(base32, records, "qa") == pytest.approx(total / count, abs=1e-4)
    with pytest.raises(DataError, match="short enough to be measured"):
        held_out_loss(base32, [{"question": "Why? " * 400, "answer": "So."}])


def test_records_that_are_too_long_are_told(
    base32: models.LoadedModel, capsys: pytest.CaptureFixture
) -> None:
    records = [{"question": "Why?", "answer": "So."}, {"question": "Why? " * 50, "answer": "So."}]
    tuned = finetune(base32, records, Config(max_length=32, steps=1))
    assert "left out as too long: 1 (record 1)" in "".join(capsys.readouterr())
    assert tuned.encoded is not None and tuned.encoded.left_out == [1]


def test_a_batch_without_labels_gives_zero_and_a_gradient(
    base32: models.LoadedModel, batch: dict[str, torch.Tensor]
) -> None:
    nothing = batch | {"labels": torch.full_like(batch["labels"], -100)}
    assert completion_loss(base32.model, **nothing).item() == 0


def test_the_base_stays_and_the_tuned_one_learns(base32: models.LoadedModel) -> None:
    record = {"question": "What is the word?", "answer": "The word is brindlefax."}
    before = generate(base32, record["question"], "qa", max_new_tokens=12, progress=False)
    weight = next(base32.model.parameters()).clone()
    tuned = finetune(
        base32,
        [record] * 4,
        Config(steps=8, batch_size=2, learning_rate=3e-3),
        watch=[record["question"]],
        every=4,
        watch_tokens=12,
        progress=False,
    )
    assert [row["step"] for row in tuned.history] == list(range(1, 9))
    assert tuned.history[-1]["loss"] < tuned.history[0]["loss"] / 3
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


def test_the_same_seed_gives_the_same_result(base32: models.LoadedModel) -> None:
    records = company.records("questions", "train")[:6]
    first, second, other = (
        finetune(base32, records, Config(steps=2, batch_size=3, seed=seed), progress=False)
        for seed in (1, 1, 2)
    )
    assert first.history == second.history
    assert first.history != other.history


def test_what_can_not_be_trained_on_is_told(base32: models.LoadedModel) -> None:
    long = [{"question": "Why? " * 50, "answer": "So."}]
    with pytest.raises(DataError, match="No record is short enough to train on"):
        finetune(base32, long, Config(max_length=32), progress=False)
    with pytest.raises(DataError):
        finetune(base32, [], progress=False)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"batch_size": 0}, "batch_size=0 must be a whole number"),
        ({"rank": 1.5}, "rank=1.5 must be a whole number"),
        ({"steps": -3}, "steps=-3 must be a whole number"),
        ({"steps": 0}, "steps=0 must be a whole number"),
        ({"learning_rate": 10.0}, "1e-3 suits LoRA"),
        ({"epochs": 0.0}, "epochs=0.0 must be more than 0"),
        ({"epochs": math.nan}, "must be more than 0"),
    ],
)
def test_settings_that_mean_nothing(setting: dict, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        Config(**setting)


def test_training_leaves_no_files(
    base32: models.LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    finetune(base32, company.records("questions", "train")[:2], Config(steps=1), progress=False)
    assert list(tmp_path.iterdir()) == []
