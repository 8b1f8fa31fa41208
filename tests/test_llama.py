"""The course's own interface: asking, data, training and substitutes, on this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pandas
import pytest
import torch
import transformers

from llmcourse import finetuning, generation, hosted, llama, models
from llmcourse.generation import Answer
from llmcourse.llama.settings import Settings, settings, taken
from llmcourse_legacy import jobs, names, tags
from tests import faulty_proxy as faulty

SECRET = "sk-test-77aa10-not-for-anyones-eyes"
PAIRS = [{"question": f"What is number {n}?", "answer": f"It is {n}."} for n in range(12)]
FAST = {"max_steps": 2, "per_device_train_batch_size": 4}
DOG = "Tell me how to train my dog to sit"
Says = Callable[..., list[str]]


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A work folder and a hub cache of the test's own, no hub, no hosted model, usual settings."""
    monkeypatch.setenv("LLMCOURSE_WORK", str(tmp_path / "work"))
    monkeypatch.setenv("LLMCOURSE_TIER", "smoke")
    monkeypatch.setenv("LLMCOURSE_DTYPE", "float32")
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL", "LLMCOURSE_MODELS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for name, value in vars(Settings()).items():
        monkeypatch.setattr(settings, name, value)
    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    taken()
    yield
    taken()
    torch.set_num_threads(usual)


@pytest.fixture
def runner(tiny_folder: Path) -> llama.BasicModelRunner:
    """The small random model."""
    return llama.BasicModelRunner(str(tiny_folder))


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the models read, call by call."""
    real, found = generation.generate, []

    def spy(*values: Any, **given: Any) -> list[Answer]:
        answers = real(*values, **given)
        found.extend(answer.sent for answer in answers)
        return answers

    monkeypatch.setattr(generation, "generate", spy)
    return found


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Says:
    """Let every model write these texts, one a prompt; gives the list of what was asked."""

    def begin(*texts: str) -> list[str]:
        left, asked = list(texts), []

        def write(model: Any, prompts: list[Any], *_: Any, **__: Any) -> list[Answer]:
            asked.extend(prompts)
            return [Answer(str(p), str(p), left.pop(0), True, 1, 1, 0.0) for p in prompts]

        monkeypatch.setattr(generation, "generate", write)
        return asked

    return begin


def notes(kind: str = "") -> list[str]:
    """The notes since the last call."""
    return [note["text"] for note in taken() if note["kind"] == kind or not kind]


def python(code: str, *arguments: str, cwd: Path | None = None, **environment: str) -> str:
    """What a fresh process prints; the package is found from any folder."""
    path = os.pathsep.join([str(Path(__file__).parent.parent), environment.pop("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"} | environment,
        cwd=cwd,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def chat_prompt(question: str, *before: dict[str, str]) -> str:
    """What the packaged chat model was trained to read for a question, and the turns before it."""
    messages = [*before, {"role": "user", "content": question}]
    tokenizer = models.load_tokenizer("smollm2-135m-instruct")
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


# --- answers -------------------------------------------------------------------------------------


def test_texts_give_texts_in_input_order_without_the_prompt(
    runner: llama.BasicModelRunner, tiny: models.LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [f"Number {n}: " + "word " * (n * 7 % 11) for n in range(9)]
    answers = runner(prompts, max_tokens=5)
    bare = generation.generate(tiny, prompts, "plain", max_new_tokens=5, progress=False)
    assert answers == [answer.text for answer in bare]
    assert answers[0] == runner(prompts[0], max_new_tokens=5)
    assert len(set(answers)) > 3 and not answers[0].startswith(prompts[0])  # or any order would do
    monkeypatch.setattr(settings, "launch_shape", True)
    shaped = runner(prompts[:2], max_tokens=5)
    assert shaped == [{"input": p, "output": a} for p, a in zip(prompts, answers[:2], strict=False)]
    assert runner([]) == []


def test_system_prompt_and_template_go_around_the_text(tiny_folder: Path, sent: list[str]) -> None:
    runner = llama.BasicModelRunner(str(tiny_folder), "Be brief.")
    runner("a", max_tokens=1)
    runner("a", "Be long.", max_tokens=1)
    runner("a {x} {{y}}", max_tokens=1, prompt_template="Q: {prompt}\nA:")
    llama.BasicModelRunner(str(tiny_folder), "S", "{system}|{question}")("a", max_tokens=1)
    assert sent == ["Be brief.\n\na", "Be long.\n\na", "Be brief.\n\nQ: a {x} {{y}}\nA:", "S|a"]


def test_stop_ends_an_answer(runner: llama.BasicModelRunner, says: Says) -> None:
    says("one\ntwo END three", "none of them")
    assert runner(["a", "b"], stop=["END", "\n"]) == ["one", "none of them"]


# --- names and substitutes -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nonsense", "", 5, "a/b/c"])
@pytest.mark.model
def test_an_unknown_name_is_an_error_with_what_can_be_run(name: Any) -> None:
    settings.substitute = True  # nothing substitutes for a name without a meaning
    with pytest.raises(llama.ModelNameError, match="smollm2-135m-instruct"):
        llama.BasicModelRunner(name)


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("meta-llama/Llama-2-7b-hf", "meta-llama/Llama-2-7b-hf"),
        ("EleutherAI/neox-ckpt-pythia-70m-deduped-v1", "EleutherAI/pythia-70m-deduped"),
        (None, "EleutherAI/pythia-410m-deduped"),
    ],
)
def test_a_name_is_what_it_says_or_an_error(name: str | None, there: str) -> None:
    with pytest.raises(llama.UnavailableResourceError) as missing:
        llama.BasicModelRunner(name)
    words = str(missing.value)
    assert there in words and "network" in words and "GB of memory" in words
    assert "gemma-3-270m" in words and "substitute=True" in words
    assert bool(notes("translated")) == ("neox-ckpt" in (name or ""))


@pytest.mark.model
def test_the_courses_opening_demonstration(
    monkeypatch: pytest.MonkeyPatch, sent: list[str]
) -> None:
    """Bare text is continued, tagged text is answered, by the substitute of a chat model alone."""
    monkeypatch.setattr(settings, "substitute", True)
    monkeypatch.setattr(tags, "_translated", set())
    chat = llama.BasicModelRunner("meta-llama/Llama-2-7b-chat-hf")
    assert "smollm2-135m-instruct, a packaged model, answers" in notes("substituted")[0]
    continued, answered = chat([DOG, f"[INST]{DOG}[/INST]"], max_tokens=24)
    assert sent == [DOG, chat_prompt(DOG)]
    assert len(continued.split()) > 8 and not continued.lstrip()[0].isupper()
    assert answered.startswith("Training a dog to sit") and "INST" not in answered
    chat(f"<s>[INST] {DOG} [/INST]", max_tokens=1)
    assert sent[2] == sent[1]
    (said,) = notes("translated")  # once
    assert "Llama 2" in said and "smollm2-135m-instruct" in said

    base = llama.BasicModelRunner("meta-llama/Llama-2-7b-hf")
    assert "[INST]" in base(f"[INST]{DOG}[/INST]", max_tokens=8)  # the base goes on with tags too
    assert sent[3] == f"[INST]{DOG}[/INST]" and not notes("translated")

    hosted_one = llama.BasicModelRunner("chat-gpt")
    assert hosted_one(DOG, max_tokens=24) == answered and sent[4] == sent[1]

    # Named itself, the packaged model reads its own tags alone.
    assert notes()
    llama.BasicModelRunner("chat")([chat_prompt(DOG), f"[INST]{DOG}[/INST]"], max_tokens=1)
    assert sent[5:] == [f"[INST]{DOG}[/INST]", chat_prompt(DOG)] and not notes()  # texts first

    chat(HUMAN, max_tokens=1)
    chat("[INST]Hi[/INST]", "Be brief.", max_tokens=1)
    assert sent[7:] == [chat_prompt("And?", SYSTEM, HI, YES), chat_prompt("Hi", SYSTEM)]


SYSTEM = {"role": "system", "content": "Be brief."}
HI, YES, AND = (
    {"role": role, "content": content}
    for role, content in (("user", "Hi"), ("assistant", "Yes?"), ("user", "And?"))
)
LLAMA_3 = (
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n"
)
HUMAN = "Be brief.\n### Human: Hi\n### Assistant: Yes?\n### Human: And?\n### Assistant:"


@pytest.mark.parametrize(
    ("text", "turns"),
    [
        ("[INST]Hi[/INST]", [HI]),
        ("[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST]", [SYSTEM, HI]),
        ("<s>[INST] Hi [/INST] Yes? </s><s>[INST] And? [/INST]", [HI, YES, AND]),
        (LLAMA_3, [SYSTEM, HI]),
        (HUMAN, [SYSTEM, HI, YES, AND]),
        ("### System:\nBe brief.\n### User:\nHi\n### Assistant:\n", [SYSTEM, HI]),
        ("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", [HI]),
        ("<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n", [HI]),
        ("[INST]Hi[/INST] Yes", [HI]),  # an answer that is begun begins again
        ("What does [INST] mean?", None),
        ("### Question:\nHi\n\n### Answer:\n", None),  # a template, and no chat model's tags
        ("Hi", None),
    ],
)
def test_tags_are_read_as_turns(text: str, turns: list[dict[str, str]] | None) -> None:
    found = tags.read(text)
    assert (found and found.turns) == turns


# --- hosted models and keys ----------------------------------------------------------------------


@pytest.mark.model
def test_a_hosted_model_without_a_key_says_how_to_connect() -> None:
    for name in ("chat-gpt", "gpt-4o-mini", "openai:some-model"):
        with pytest.raises(llama.UserError, match=r"OPENAI_API_KEY.*OPENAI_BASE_URL.*smollm2"):
            llama.BasicModelRunner(name)


def test_a_hosted_model_is_asked_at_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openai")
    with faulty.running(faulty.answers("Paris. END more")) as server:
        given = {"api_key": SECRET, "api_url": server.url}
        runner = llama.BasicModelRunner("openai:some-model", "Be brief.", **given)
        assert runner("Where?", max_tokens=9, stop="END") == "Paris. "
        assert runner(["a", "b"], prompt_template="Q: {prompt}")[0].startswith("Paris.")
        with pytest.raises(llama.UserError, match="OPENAI_MODEL"):
            llama.BasicModelRunner("chat-gpt", **given)
        monkeypatch.setenv("OPENAI_MODEL", "their-model")
        llama.BasicModelRunner("chat-gpt", **given)("Hi")
        llama.Lamini("openai:one", SECRET, server.url).generate("Hi", model_name="OpenAI:two")
        llama.MistralRunner("openai:three", "Be brief.", **given)("Hi")
        with pytest.raises(llama.UserError, match="can't be trained here"):
            runner.train()
    bodies = [request.body for request in server.requests]
    assert {request.key for request in server.requests} == {SECRET}
    asked = ["some-model"] * 3 + ["their-model", "two", "three"]
    assert [body["model"] for body in bodies] == asked
    assert bodies[5]["messages"] == [{"role": "user", "content": "Be brief.\n\nHi"}]
    assert bodies[0]["messages"] == [SYSTEM, {"role": "user", "content": "Where?"}]
    assert bodies[0]["max_completion_tokens"] == 9
    assert {body["messages"][1]["content"] for body in bodies[1:3]} == {"Q: a", "Q: b"}


def test_a_key_for_a_local_model_goes_nowhere(
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(hosted, "ask", lambda *_, **__: pytest.fail("a server was asked"))
    config = {"production.key": SECRET}
    runner = llama.BasicModelRunner(str(tiny_folder), api_key=SECRET, config=config)
    seen = [repr(runner), repr(vars(runner)), *notes()]
    assert "production.key" in seen[-1]
    runner.load_data(PAIRS)
    runner.train(finetune_args=FAST)
    runner("Hi", max_tokens=2)
    files = [path for path in (tmp_path / "work").rglob("*") if path.is_file()]
    assert any(path.name == "job.json" for path in files)
    assert SECRET not in "".join([*seen, *notes(), *capsys.readouterr()])
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


# --- data ----------------------------------------------------------------------------------------

HELD = [{"question": "a", "answer": "b"}, {"question": "c", "answer": "d"}]


@pytest.mark.parametrize("keys", [("question", "answer"), ("user", "reply")])
def test_pairs_in_every_form(
    runner: llama.BasicModelRunner, tmp_path: Path, keys: tuple[str, str]
) -> None:
    rows = [{keys[0]: "a", keys[1]: "b"}, {keys[0]: "c", keys[1]: "d"}]
    lines, table, frame = tmp_path / "p.jsonl", tmp_path / "p.csv", pandas.DataFrame(rows)
    lines.write_text("\n\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    frame.to_csv(table, index=False)
    named = {} if "user" not in keys else {"input_key": keys[0], "output_key": keys[1]}
    runner.load_data(rows, **named)
    runner.load_data_from_jsonlines(str(lines), **named)
    runner.load_data_from_csv(str(table), **named)
    runner.load_data_from_dataframe(frame, **named)
    runner.upload_file(str(lines), **named)
    assert runner.data == HELD * 5
    runner.clear_data()
    assert runner.data == []
    runner.load_data([{"text": "all of it"}])
    runner.load_data({"question": "a", "answer": "b", "input": "with this"}, verbose=True)
    assert runner.data[1:] == [{"question": "a", "input": "with this", "answer": "b"}]


# --- training ------------------------------------------------------------------------------------


def trained(runner: llama.BasicModelRunner, **given: Any) -> dict[str, Any]:
    runner.load_data(PAIRS)
    return runner.train(finetune_args=FAST, **given)


def test_the_same_object_then_answers_as_the_tuned_model(
    runner: llama.BasicModelRunner,
    sent: list[str],
    tiny_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    done = trained(runner, is_public=True, verbose=True)
    assert done["status"] == "COMPLETED" and done["job_id"] == runner.job_id == runner.model_name
    assert done["base_model"] == str(tiny_folder) and done["records"] == 11
    assert any("is_public=True" in text for text in notes("ignored"))
    assert "max_length" in capsys.readouterr().out
    answer = runner("What is number 3?", max_tokens=4)
    assert sent == ["### Question:\nWhat is number 3?\n\n### Answer:\n"]
    again = llama.BasicModelRunner(done["job_id"])
    assert again("What is number 3?", max_tokens=4) == answer and again.job_id == runner.job_id

    model = jobs.find(done["job_id"]).model / "adapter_model.safetensors"
    made = model.stat().st_mtime_ns
    monkeypatch.chdir(tiny_folder.parent)  # a folder is the same one from anywhere
    other = llama.BasicModelRunner(tiny_folder.name)
    assert trained(other) == done and model.stat().st_mtime_ns == made
    assert trained(llama.BasicModelRunner(str(tiny_folder)), use_cached_model=False) == done
    assert model.stat().st_mtime_ns != made
    assert trained(other)["job_id"] != done["job_id"]  # its data are twice as many now


def test_transformers_names_are_understood_and_unknown_ones_noted(
    runner: llama.BasicModelRunner,
) -> None:
    runner.load_data(PAIRS)
    args = {
        "max_steps": 2,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 3,
        "learning_rate": 1e-5,
        "optim": "adamw_torch",
        "warmup_steps": 1,
        "report_to": "none",
    }
    runner.train(finetune_args=args, peft_args={"r": 4, "lora_alpha": 6})
    found = jobs.find(runner.job_id).known()["settings"]
    wanted = {
        "steps": 2,
        "batch_size": 6,
        "micro_batch": 2,
        "learning_rate": 1e-5,
        "warmup": 1,
        "optimizer": "adamw",
        "rank": 4,
        "alpha": 6,
        "method": "lora",
        "template": "qa",
    }
    assert {name: found[name] for name in wanted} == wanted
    (note,) = notes("ignored")
    assert note.startswith("report_to='none'") and "learning_rate" in note


def test_evaluate_has_the_documented_shape(
    runner: llama.BasicModelRunner, tiny_folder: Path, sent: list[str]
) -> None:
    with pytest.raises(llama.UserError, match="call train first"):
        runner.evaluate()
    runner.load_data([{**row, "input": "Count."} for row in PAIRS] * 10)  # 12 held out, 8 evaluated
    runner.train(finetune_args=FAST)
    taken()
    found = runner.evaluate()
    assert found.keys() == {"job_id", "eval_results"} and found["job_id"] == runner.job_id
    assert len(found["eval_results"]) == 8 and "4 of 12 records are not evaluated" in notes()[0]
    kept = jobs.find(runner.job_id).known()["held_out"]
    for row, result in zip(kept, found["eval_results"], strict=False):
        asked = f"{row['question']}\nCount."
        assert result.keys() == {"input", "outputs"} and result["input"] == asked
        models_asked = [one["model_name"] for one in result["outputs"]]
        assert models_asked == [runner.job_id, str(tiny_folder)]
        assert all(isinstance(one["output"], str) for one in result["outputs"])
        assert f"### Question:\n{asked}\n\n### Answer:\n" in sent[:8] and asked in sent[8:]
    assert runner.get_eval_results() == found == runner.evaluation


def test_a_loaded_or_saved_model_is_asked_as_it_was_trained(
    tiny: models.LoadedModel, tmp_path: Path, sent: list[str]
) -> None:
    config = finetuning.Config(steps=2, template="alpaca")
    tuned = finetuning.finetune(tiny, PAIRS, config, progress=False)
    tuned.save(tmp_path / "mine")
    shutil.copytree(tmp_path / "mine", tmp_path / "gpt-mine")  # a folder, and no hosted model
    for given in (tuned, str(tmp_path / "mine"), str(tmp_path / "gpt-mine")):
        llama.BasicModelRunner(given)("Hi", max_tokens=1)
    llama.LlamaV2Runner(str(tmp_path / "mine"))("Hi", max_tokens=1)
    assert set(sent) == {sent[0]} and "### Instruction:\nHi" in sent[0]
    llama.BasicModelRunner(tiny)("Hi", max_tokens=1)
    assert sent[4] == "Hi"


def test_lessons_change_no_library(tiny_folder: Path) -> None:
    """The patches of transformers and datasets belong to the labs' kernel and `install` alone."""
    code = (
        "import sys, datasets, transformers\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments\n"
        "def seen():\n"
        "    return [Trainer.__init__, TrainingArguments.__init__, datasets.load_dataset,\n"
        "            AutoTokenizer.from_pretrained.__func__,\n"
        "            AutoModelForCausalLM.from_pretrained.__func__]\n"
        "before = seen()\n"
        "from llmcourse import cli, finetuning, llama, widgets\n"
        "runner = llama.BasicModelRunner(sys.argv[1])\n"
        "runner('[INST]Hi[/INST]', max_tokens=1)\n"
        "runner.load_data([{'question': 'a', 'answer': 'b'}] * 3)\n"
        "runner.train(finetune_args={'steps': 1})\n"
        "patches = ('libraries', 'installing', 'kernel', 'helpers')\n"
        "print(seen() == before, [n for n in sys.modules if n in ('llama', 'lamini', 'config')],\n"
        "      [n for n in patches if f'llmcourse_legacy.{n}' in sys.modules])"
    )
    assert python(code, str(tiny_folder)).splitlines()[-1] == "True [] []"


# --- the hub, with a local cache and no network --------------------------------------------------

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def snapshot(name: str) -> Path:
    """The folder of a model's files in the hub cache, made with what belongs beside it."""
    cache = Path(huggingface_hub.constants.HF_HUB_CACHE)
    repository = cache / f"models--{name.replace('/', '--')}"
    files = repository / "snapshots" / COMMIT
    for folder in (files, repository / "refs", repository / "blobs"):
        folder.mkdir(parents=True, exist_ok=True)
    (repository / "refs" / "main").write_text(COMMIT)
    return files


@pytest.mark.parametrize("name", ["EleutherAI/neox-ckpt-pythia-410m-deduped-v1", None])
def test_a_name_of_the_course_is_loaded_asked_and_trained(
    name: str | None, tiny_folder: Path
) -> None:
    there = names.on_hub(name or llama.BasicModelRunner.default_model)
    shutil.copytree(tiny_folder, snapshot(there), dirs_exist_ok=True)
    model = llama.BasicModelRunner(name)
    assert model("Mars is", max_tokens=6) == llama.BasicModelRunner(str(tiny_folder))(
        "Mars is", max_tokens=6
    )
    assert bool(notes("translated")) == ("neox-ckpt" in (name or ""))
    model.load_data(PAIRS)
    job = model.train(finetune_args=FAST)
    assert job["status"] == "COMPLETED" and job["base_model"] == there
    again = llama.BasicModelRunner(job["job_id"])
    assert again("What is number 3?", max_tokens=4) == model("What is number 3?", max_tokens=4)
    assert model.evaluate()["eval_results"][0]["outputs"][1]["model_name"] == there


def test_offline_the_error_says_what_is_missing(tiny_folder: Path) -> None:
    """Not there, too large for any machine, and pickled weights alone."""
    missing, pickled = "meta-llama/Llama-2-7b-hf", "EleutherAI/pythia-70m-v0"
    large = "meta-llama/Llama-2-70b-chat-hf"
    shape = {"hidden_size": 65536, "intermediate_size": 262144, "num_hidden_layers": 80}
    transformers.LlamaConfig(**shape, num_attention_heads=64).save_pretrained(snapshot(large))
    shutil.copytree(tiny_folder, snapshot(pickled), dirs_exist_ok=True)
    (snapshot(pickled) / "model.safetensors").unlink()
    (snapshot(pickled) / "pytorch_model.bin").write_bytes(b"pickle")
    for name, words in (
        (missing, "not in the local hub cache.* need .* GB of memory.*'gemma-3-270m' does"),
        (large, "billion weights.*GB of memory are free.*'smollm2-135m-instruct' does"),
        (pickled, "ickled weights.*substitute=True"),
    ):
        with pytest.raises(llama.UnavailableResourceError, match=words):
            llama.BasicModelRunner(name)
