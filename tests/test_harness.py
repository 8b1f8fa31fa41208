"""The lm-evaluation-harness on our models: its figures are what one computes by hand."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from llmcourse import company, finetuning, models, templates
from llmcourse.errors import HubError, TemplateError
from llmcourse.evaluation import harness
from llmcourse.generation import generate
from tests.conftest import ROOT

CHOICES = company.records("choices")
LOCAL = {"choices": CHOICES, "facts": company.records("questions", "test", keys=True)}
GUARD = str(ROOT / "tests" / "guard")
needs_harness = pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None,
    reason="lm-eval is not installed: pip install -r requirements-harness.txt",
)


def log_likelihood(model: models.LoadedModel, prompt: str, ending: str) -> float:
    """Of `ending` after `prompt`, in nats. Blanks at the prompt's end count with what follows."""
    start = model.tokenizer(prompt.rstrip()).input_ids
    ids = model.tokenizer(prompt + ending).input_ids
    assert ids[: len(start)] == start
    with torch.inference_mode():
        logits = model.model(torch.tensor([ids])).logits[0].float()
    places = torch.arange(len(start), len(ids))
    return logits.log_softmax(-1)[places - 1, torch.tensor(ids)[places]].sum().item()


@needs_harness
@pytest.mark.parametrize(("template", "joint"), [("chat", ""), ("qa", ""), ("plain", " ")])
def test_choices_are_judged_by_the_likelihoods_that_one_computes_by_hand(
    tiny: models.LoadedModel, tmp_path: Path, template: str, joint: str
) -> None:
    tiny.template = template
    if template == "qa":  # an adapter's folder brings its template
        config = finetuning.Config(template="qa", steps=3, learning_rate=0.05, rank=2)
        records = company.records("questions", "train")[:16]
        finetuning.finetune(tiny, records, config, out=tmp_path, progress=False)
        tiny = models.load(str(tmp_path), dtype=torch.float32)
    results = harness.run(tiny, "choices", LOCAL, limit=8, batch_size=4)
    right, right_norm = [], []
    for sample, record in zip(results.samples["choices"], CHOICES[:8], strict=True):
        prompt = templates.render(record["question"], template, tokenizer=tiny.tokenizer).prompt
        if template == "plain":
            prompt = f"Question: {record['question']}\nAnswer:"
        hand = [log_likelihood(tiny, prompt, joint + option) for option in record["choices"]]
        assert [said[0] for said in sample["filtered_resps"]] == pytest.approx(hand, abs=1e-3)
        norm = [ll / len(option) for ll, option in zip(hand, record["choices"], strict=True)]
        right.append(hand.index(max(hand)) == record["answer"])
        right_norm.append(norm.index(max(norm)) == record["answer"])
    (acc, norm) = results.table[list(harness.COLUMNS)].to_dict("records")
    assert (acc["metric"], acc["value"], acc["n"]) == ("acc", sum(right) / 8, 8)
    assert (norm["metric"], norm["value"]) == ("acc_norm", sum(right_norm) / 8)
    assert not results.notes


@needs_harness
@pytest.mark.parametrize("template", ["chat", "plain"])
def test_facts_are_the_answers_that_generate_gives(tiny: models.LoadedModel, template: str) -> None:
    records = LOCAL["facts"][:5]
    asked = [record["question"] for record in records]
    tiny.template = template
    answers = generate(tiny, asked, progress=False)
    keyed = [{**r, "keys": ["nowhere"]} for r in records]
    keyed[0]["keys"] = re.findall(r"\w+", answers[0].text)[:1]  # so that one of them is right
    results = harness.run(tiny, "facts", {"facts": keyed}, batch_size=2)
    samples = results.samples["facts"]
    assert [sample["resps"][0][0] for sample in samples] == [answer.text for answer in answers]
    assert results.table["value"].tolist() == [0.2] and not results.notes
    long = [{**records[0], "question": "word " * 400, "keys": ["nowhere"]}]
    cut = harness.run(tiny, "facts", {"facts": long})
    assert "1 times the harness cut a prompt" in cut.notes[0] and "note: " in str(cut)


@needs_harness
def test_the_command_runs_quietly_without_a_network(tiny_folder: Path, tmp_path: Path) -> None:
    log, out = tmp_path / "log", tmp_path / "out.json"
    env = {"PYTHONPATH": f"{GUARD}{os.pathsep}{ROOT}", "LLMCOURSE_GUARD_LOG": str(log)}
    command = ("harness", "--model", str(tiny_folder), "--limit", "8", "--out", str(out))
    done = subprocess.run(
        [sys.executable, "-m", "llmcourse", *command],
        env=os.environ | env,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not log.exists(), f"tried to reach {log.read_text()}"
    assert done.stdout.splitlines()[0].split() == list(harness.COLUMNS)
    assert len(done.stdout.splitlines()) == 4  # the head, two metrics, and where the file is
    saved = json.loads(out.read_text(encoding="utf-8"))
    assert (saved["model"], saved["template"], saved["limit"]) == (str(tiny_folder), "chat", 8)
    local = {"ferrowick_choices": CHOICES}
    here = harness.run(str(tiny_folder), list(local), local, limit=8)
    for row, (_, wanted) in zip(saved["results"], here.table.iterrows(), strict=True):
        assert row == pytest.approx(dict(wanted))


@needs_harness
def test_lm_eval_still_has_what_is_used_of_its_inside(tiny: models.LoadedModel) -> None:
    """Its messages on cut prompts, which `harness_log` matches, and how a task is prepared."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    long = Instance("loglikelihood", {}, ("word " * 400, "end"), 0)
    model = HFLM(pretrained=tiny.model, tokenizer=tiny.tokenizer)
    with harness.harness_log() as notes:
        model.tok_batch_encode(["one two three four five"], left_truncate_len=2)
        model.loglikelihood([long], disable_tqdm=True)
    assert len(notes) == 2 and all("left" in note.lower() for note in notes)
    task = harness._task("choices", CHOICES[:1], tiny, "qa", 4)
    task.set_config(key="num_fewshot", value=None)
    harness._prepare(task)
    assert task.get_config("num_fewshot") == 0


@needs_harness
def test_public_tasks_need_a_network_and_say_so(
    tiny: models.LoadedModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import datasets
    from huggingface_hub import constants

    assert set(harness.PUBLIC) <= set(harness._index().all_tasks)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))
    with pytest.raises(HubError, match="The data of arc_easy can't be loaded"):
        harness.run(tiny, harness.PUBLIC[0], limit=2)
    monkeypatch.setattr(tiny.tokenizer, "chat_template", None)
    with pytest.raises(TemplateError, match="no chat template"):
        harness.run(tiny, harness.PUBLIC[0], chat_template=True)
