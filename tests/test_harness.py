"""The lm-evaluation-harness on our models: its figures are what one computes by hand."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from llmcourse import company, finetuning, models, templates
from llmcourse.errors import HubError, PromptError, SettingError, TemplateError
from llmcourse.evaluation import harness
from llmcourse.generation import generate
from tests.conftest import ROOT

CHOICES = company.records("choices")
GUARD = str(ROOT / "tests" / "guard")
needs_harness = pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None,
    reason="lm-eval is not installed: pip install -r requirements-harness.txt",
)


def written(folder: Path, task: str) -> list[dict[str, Any]]:
    text = (folder / f"{task}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def settings(folder: Path, task: str) -> dict[str, Any]:
    text = (folder / f"{task}.yaml").read_text(encoding="utf-8").replace("!function ", "")
    return yaml.safe_load(text)


def log_likelihood(model: models.LoadedModel, prompt: str, ending: str) -> float:
    """Of `ending` after `prompt`, in nats. Blanks at the prompt's end count with what follows."""
    start = model.tokenizer(prompt.rstrip()).input_ids
    ids = model.tokenizer(prompt + ending).input_ids
    assert ids[: len(start)] == start
    with torch.inference_mode():
        logits = model.model(torch.tensor([ids])).logits[0].float()
    places = torch.arange(len(start), len(ids))
    return logits.log_softmax(-1)[places - 1, torch.tensor(ids)[places]].sum().item()


# --- the files, which need no harness -----------------------------------------------------------


def test_the_tasks_are_whole_and_in_the_models_template(
    tiny: models.LoadedModel, tmp_path: Path
) -> None:
    for template in ("plain", "qa", "chat"):
        folder = harness.write_tasks(tmp_path / template, tiny, template, max_new_tokens=7)
        asked, facts = (written(folder, task) for task in harness.LOCAL)
        assert [r["id"] for r in asked] == [r["id"] for r in CHOICES]
        assert [r["id"] for r in facts] == [r["id"] for r in company.records("questions", "test")]
        for row in (asked[0], facts[0]):
            prompt = templates.render(row["question"], template, tokenizer=tiny.tokenizer).prompt
            if template == "plain" and "choices" in row:
                prompt = f"Question: {row['question']}\nAnswer:"
            assert row["prompt"] == prompt
        for task in harness.LOCAL:
            found = settings(folder, task)
            assert found["task"] == task and found["metadata"]["template"] == template
            assert found["dataset_kwargs"]["data_files"] == {"test": str(folder / f"{task}.jsonl")}
        assert settings(folder, harness.LOCAL[0])["target_delimiter"] == " " * (template == "plain")
        assert settings(folder, harness.LOCAL[1])["generation_kwargs"]["max_gen_toks"] == 7


def test_a_tuned_model_is_asked_in_the_template_it_remembers(
    tiny: models.LoadedModel, tmp_path: Path
) -> None:
    folder = harness.write_tasks(tmp_path, dataclasses.replace(tiny, template="qa"))
    for task in harness.LOCAL:
        assert all(row["prompt"].startswith("### Question:\n") for row in written(folder, task))


def test_without_a_model_the_tasks_are_for_a_base_model(tmp_path: Path) -> None:
    folder = harness.write_tasks(tmp_path / "new" / "folder")
    assert written(folder, harness.LOCAL[0])[0]["prompt"].startswith("Question: ")
    with pytest.raises(TemplateError, match="no chat template"):
        harness.write_tasks(tmp_path, template="chat")
    with pytest.raises(TemplateError, match="There is no template 'poem'"):
        harness.write_tasks(tmp_path, template="poem")
    with pytest.raises(SettingError, match="max_new_tokens=0"):
        harness.write_tasks(tmp_path, max_new_tokens=0)


def test_an_answer_counts_where_it_has_every_key(tmp_path: Path) -> None:
    path = harness.write_tasks(tmp_path) / "ferrowick_scoring.py"
    spec = importlib.util.spec_from_file_location("ferrowick_scoring", path)
    scoring = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(scoring)
    reference = {r["id"]: r["answer"] for r in company.records("questions", "test")}
    for row in written(tmp_path, "ferrowick_facts"):
        assert row["reference"] == reference[row["id"]]
        assert scoring.process_results(row, [row["reference"]]) == {"facts": 1.0}, row["id"]
        assert scoring.process_results(row, ["I do not know."]) == {"facts": 0.0}, row["id"]


def test_what_is_not_installed_is_named(
    tiny: models.LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(SettingError, match=re.escape('pip install "llmcourse[harness]"')):
        harness.run(tiny)


def test_the_harness_has_pins_of_its_own() -> None:
    def pins(name: str) -> dict[str, str]:
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        return dict(line.split()[0].split("==") for line in lines if line and line[0] != "#")

    own, others = pins("requirements-harness.txt"), pins("requirements.txt")
    assert "lm-eval" in own
    assert not set(own) & set(others), "what requirements.txt pins is not pinned twice"


# --- real runs ----------------------------------------------------------------------------------


@needs_harness
@pytest.mark.parametrize(("template", "joint"), [("chat", ""), ("qa", ""), ("plain", " ")])
def test_choices_are_judged_by_the_likelihoods_that_one_computes_by_hand(
    tiny: models.LoadedModel, template: str, joint: str
) -> None:
    results = harness.run(tiny, template=template, limit=8, batch_size=4, progress=False)
    samples = results.samples["ferrowick_choices"]
    assert [sample["doc"]["id"] for sample in samples] == [r["id"] for r in CHOICES[:8]]
    right, right_norm = [], []
    for sample, record in zip(samples, CHOICES, strict=False):
        prompt = templates.render(record["question"], template, tokenizer=tiny.tokenizer).prompt
        if template == "plain":
            prompt = f"Question: {record['question']}\nAnswer:"
        hand = [log_likelihood(tiny, prompt, joint + option) for option in record["choices"]]
        assert [said[0] for said in sample["filtered_resps"]] == pytest.approx(hand, abs=1e-3)
        norm = [ll / len(option) for ll, option in zip(hand, record["choices"], strict=True)]
        right.append(hand.index(max(hand)) == record["answer"])
        right_norm.append(norm.index(max(norm)) == record["answer"])
    share = sum(right) / 8
    assert results.value("ferrowick_choices", "acc") == share
    assert results.value("ferrowick_choices", "acc_norm") == sum(right_norm) / 8
    assert list(results.table.columns) == list(harness.COLUMNS)
    assert results.table["n"].tolist() == [8, 8]
    error = math.sqrt(share * (1 - share) / 7)  # of the mean of eight numbers
    assert results.table["stderr"].iloc[0] == pytest.approx(error)
    assert not results.notes
    with pytest.raises(SettingError, match="Measured: ferrowick_choices acc, "):
        results.value("ferrowick_choices", "f1")


@needs_harness
@pytest.mark.parametrize("template", ["chat", "qa", "plain"])
def test_facts_are_the_answers_that_generate_gives(tiny: models.LoadedModel, template: str) -> None:
    results = harness.run(
        tiny, ["ferrowick_facts"], template=template, limit=5, batch_size=2, max_new_tokens=6,
        progress=False,
    )  # fmt: skip
    samples = results.samples["ferrowick_facts"]
    asked = [record["question"] for record in company.records("questions", "test")[:5]]
    answers = generate(tiny, asked, template, max_new_tokens=6, progress=False)
    assert [sample["resps"][0][0] for sample in samples] == [answer.text for answer in answers]
    assert results.value("ferrowick_facts", "facts") == 0.0  # of a model with random weights


@needs_harness
def test_an_adapters_folder_is_measured_with_its_adapter(
    tiny: models.LoadedModel, tmp_path: Path
) -> None:
    config = finetuning.Config(template="qa", steps=3, learning_rate=0.05, rank=2)
    records = company.records("questions", "train")[:16]
    finetuning.finetune(tiny, records, config, out=tmp_path, progress=False)
    tuned = models.load(str(tmp_path), dtype=torch.float32)
    said = harness.run(tuned, limit=1, progress=False).samples["ferrowick_choices"][0]
    assert said["doc"]["prompt"].startswith("### Question:\n")
    hand, untuned = (
        [log_likelihood(model, said["doc"]["prompt"], option) for option in said["doc"]["choices"]]
        for model in (tuned, tiny)
    )
    assert [value for value, _ in said["filtered_resps"]] == pytest.approx(hand, abs=1e-3)
    assert hand != pytest.approx(untuned, abs=1e-2)


@needs_harness
def test_a_folder_runs_quietly_in_a_process_without_a_network(
    tiny_folder: Path, tmp_path: Path
) -> None:
    folder, log, out = tmp_path / "tuned", tmp_path / "log", tmp_path / "out.json"
    shutil.copytree(tiny_folder, folder)
    (folder / models.FACTS).write_text(json.dumps({"template": "qa"}), encoding="utf-8")
    code = (
        "import argparse, sys; from llmcourse.evaluation import harness; "
        "sys.exit(harness.main(argparse.Namespace(model=sys.argv[1], tasks=None, limit=8, "
        "batch_size=None, chat_template=False, out=sys.argv[2])))"
    )
    env = os.environ | {"PYTHONPATH": f"{GUARD}{os.pathsep}{ROOT}",
                        "LLMCOURSE_GUARD_LOG": str(log), "OMP_NUM_THREADS": "1"}  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code, str(folder), str(out)], env=env,
                          capture_output=True, text=True, cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert not log.exists(), f"tried to reach {log.read_text()}"
    assert done.stdout.splitlines()[0].split() == list(harness.COLUMNS)
    assert len(done.stdout.splitlines()) == 4  # the head, two metrics, and where the file is
    saved = json.loads(out.read_text(encoding="utf-8"))
    assert (saved["model"], saved["template"], saved["limit"]) == (str(folder), "qa", 8)
    assert saved["harness"].startswith("lm-eval 0.")
    by_hand = harness.run(str(folder), template="qa", limit=8, progress=False)
    for row, (_, wanted) in zip(saved["results"], by_hand.table.iterrows(), strict=True):
        assert row == dict(wanted)


@needs_harness
def test_wrong_use_is_refused(
    tiny: models.LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingError, match="has no task 'ferrowick_poems'.*ferrowick_choices"):
        harness.run(tiny, "ferrowick_poems")
    with pytest.raises(SettingError, match="No task is named"):
        harness.run(tiny, [])
    with pytest.raises(SettingError, match="limit=0"):
        harness.run(tiny, limit=0)
    with pytest.raises(SettingError, match="batch_size=0"):
        harness.run(tiny, batch_size=0)
    with pytest.raises(SettingError, match=r"ends in \.json"):
        harness.run(tiny, out=tmp_path / "out.csv")
    with pytest.raises(PromptError, match=r"Question f001-5 has \d+ tokens"):
        harness.run(tiny, "ferrowick_facts", max_new_tokens=250)
    tiny.tokenizer = type("Closing", (), {
        "__call__": lambda self, text: type("Ids", (), {"input_ids": [5, 2]}), "eos_token_id": 2
    })()  # fmt: skip
    with pytest.raises(SettingError, match="closes every text"):
        harness.run(tiny, template="qa")


@needs_harness
def test_public_tasks_need_a_network_and_say_so(
    tiny: models.LoadedModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import datasets
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))
    with pytest.raises(HubError, match="arc_easy.*need no network: ferrowick_choices"):
        harness.run(tiny, harness.PUBLIC[0], limit=2, progress=False)
    assert datasets.config.HF_HUB_OFFLINE is bool(os.environ.get("HF_HUB_OFFLINE"))
    monkeypatch.setattr(tiny.tokenizer, "chat_template", None)
    with pytest.raises(TemplateError, match="no chat template"):
        harness.run(tiny, harness.PUBLIC[0], chat_template=True)


@needs_harness
def test_every_public_task_is_one_of_the_harness() -> None:
    assert set(harness.PUBLIC) <= set(harness._index().all_tasks)
