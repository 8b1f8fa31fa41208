"""The course's own interface: asking, data, training, and the old names, on this machine."""

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

from llmcourse import company, finetuning, generation, hosted, llama, models
from llmcourse.errors import CourseError, PromptError
from llmcourse.generation import Answer
from llmcourse.llama import helpers, jobs, names, records, tags
from llmcourse.llama.settings import Settings, settings, taken
from llmcourse.llama.training import SMOKE_STEPS
from tests import faulty_proxy as faulty

SECRET = "sk-test-77aa10-not-for-anyones-eyes"
PAIRS = [{"question": f"What is number {n}?", "answer": f"It is {n}."} for n in range(12)]
FAST = {"max_steps": 2, "per_device_train_batch_size": 4}
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


def told(kind: str = "") -> list[str]:
    """What the learner was told since the last look."""
    return [note["text"] for note in taken() if note["kind"] == kind or not kind]


def python(code: str, *arguments: str, cwd: Path | None = None, **environment: str) -> str:
    """What a fresh process prints; the package is found from any folder."""
    path = os.pathsep.join([str(Path(__file__).parent.parent), environment.pop("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, encoding="utf-8",
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"} | environment, cwd=cwd,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- asking --------------------------------------------------------------------------------------


def test_a_text_gives_a_text_without_the_prompt(
    runner: llama.BasicModelRunner, tiny: models.LoadedModel
) -> None:
    answer = runner("Mars is a", max_tokens=6)
    assert isinstance(answer, str) and answer and not answer.startswith("Mars is a")
    bare = generation.generate(tiny, "Mars is a", "plain", max_new_tokens=6, progress=False)
    assert answer == bare[0].text == runner.call("Mars is a", max_tokens=6)


def test_a_list_gives_texts_in_input_order_whatever_the_lengths(
    runner: llama.BasicModelRunner,
) -> None:
    prompts = [f"Number {n}: " + "word " * (n * 7 % 11) for n in range(9)]
    answers = runner(prompts, max_tokens=5)
    assert answers == [runner(prompt, max_tokens=5) for prompt in prompts]
    assert answers == runner(tuple(prompts), max_tokens=5)
    assert len(set(answers)) > 3  # or any order would do


def test_the_launch_shape_is_one_setting(
    runner: llama.BasicModelRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = runner(["a", "bb"], max_tokens=3)
    monkeypatch.setattr(settings, "launch_shape", True)
    shaped = runner(["a", "bb"], max_tokens=3)
    assert shaped == [{"input": "a", "output": plain[0]}, {"input": "bb", "output": plain[1]}]
    assert runner([]) == [] and runner("a", max_tokens=3) == plain[0]


@pytest.mark.parametrize("given", [5, None, {"input": "a"}, ["a", 3], ["a", None], b"a", {"a"}])
def test_only_texts_are_asked(runner: llama.BasicModelRunner, given: Any) -> None:
    with pytest.raises(llama.UserError, match="text"):
        runner(given)


def test_an_empty_text_is_named_and_an_empty_list_is_nothing(
    runner: llama.BasicModelRunner,
) -> None:
    with pytest.raises(PromptError, match="Prompt 2 of 2"):
        runner(["a", " "])
    assert runner([]) == [] == runner([], output_type={"n": "int"})


def test_the_system_prompt_stands_before_each_text(tiny_folder: Path, sent: list[str]) -> None:
    runner = llama.BasicModelRunner(str(tiny_folder), "Be brief.")
    runner(["a", "b"], max_tokens=1)
    runner("a", "Be long.", max_tokens=1)
    runner("a", system_prompt="", max_tokens=1)
    assert sent == ["Be brief.\n\na", "Be brief.\n\nb", "Be long.\n\na", "a"]
    for wrong in (5, ["x"]):
        with pytest.raises(llama.UserError, match="system_prompt must be text"):
            runner("a", system_prompt=wrong)
        with pytest.raises(llama.UserError, match="system_prompt must be text"):
            llama.BasicModelRunner(str(tiny_folder), system_prompt=wrong)


@pytest.mark.parametrize(("template", "reads"), [
    ("Q: {prompt}\nA:", "S\n\nQ: a {x} {{y}}\nA:"),
    ("{system}|{question}", "S|a {x} {{y}}"),
    ('{"q": "{input}"}', 'S\n\n{"q": "a {x} {{y}}"}'),
    ("{user}", "S\n\na {x} {{y}}"),
    ("{instruction} {instruction}", "S\n\na {x} {{y}} a {x} {{y}}"),
])  # fmt: skip
def test_a_template_is_filled_in_one_pass(
    tiny_folder: Path, sent: list[str], template: str, reads: str
) -> None:
    runner = llama.BasicModelRunner(str(tiny_folder), "S", template)
    runner("a {x} {{y}}", max_tokens=1)
    llama.BasicModelRunner(str(tiny_folder), "S")(
        "a {x} {{y}}", max_tokens=1, prompt_template=template
    )
    assert sent == [reads, reads]


@pytest.mark.parametrize(("template", "message"), [
    ("{prompt} {why}", "a place for {why}, which nothing fills"),
    ("{0}", "a place for {0}"),
    ("Answer.", "no place for the text"),
    ("{system}", "no place for the text"),
    (5, "must be text with {prompt} in it"),
])  # fmt: skip
def test_a_wrong_template_is_told_at_once(
    tiny_folder: Path, runner: llama.BasicModelRunner, template: Any, message: str
) -> None:
    with pytest.raises(llama.UserError, match=message):
        llama.BasicModelRunner(str(tiny_folder), prompt_template=template)
    with pytest.raises(llama.UserError, match=message):
        runner("a", prompt_template=template)


def test_max_tokens_and_its_later_name(runner: llama.BasicModelRunner) -> None:
    long = runner("Mars", max_tokens=12)
    count = len(models.load_tokenizer("smollm2-135m-instruct")(long).input_ids)
    assert count > 4
    short = runner("Mars", max_tokens=4)
    assert long.startswith(short) and short != long == runner("Mars", max_new_tokens=12)
    for wrong in (0, -1, 2.5, "4", True):
        with pytest.raises(llama.UserError, match=r"^max_tokens="):
            runner("Mars", max_tokens=wrong)
    with pytest.raises(llama.UserError, match=r"^max_new_tokens="):
        runner("Mars", max_new_tokens=0)


def test_stop_ends_an_answer_before_the_first_of_the_words(
    runner: llama.BasicModelRunner, says: Says
) -> None:
    says("one\ntwo END three", "one\ntwo END three", "none of them")
    assert runner("a", stop="END") == "one\ntwo "
    assert runner(["a", "b"], stop=["END", "\n"]) == ["one", "none of them"]
    for wrong in (5, "", ["a", ""], [3]):
        with pytest.raises(llama.UserError, match="stop="):
            runner("a", stop=wrong)


# --- typed answers -------------------------------------------------------------------------------


class Legs(llama.Type):
    animal: str = llama.Context("which animal")
    count: int = llama.Context("how many legs it has")


class Question(llama.Type):
    text: str = llama.Context("what is asked")


def test_one_text_field_is_the_answer_itself(runner: llama.BasicModelRunner) -> None:
    bare = runner(["a", "b"], max_tokens=4)
    typed = runner(["a", "b"], max_tokens=4, output_type={"answer": "str"})
    assert typed == [{"answer": text} for text in bare]
    assert runner("a", output_type={"answer": "string"}, max_tokens=4) == {"answer": bare[0]}


@pytest.mark.parametrize(("kind", "words", "value"), [
    ("int", " It has 1,000 legs, 5 toes", 1000), ("int", "2,3", 2), ("integer", "-4.", -4),
    ("int", "1234567", 1234567), ("float", "about 2.50 m", 2.5), ("float", ".5", 0.5),
    ("float", "1,234.5", 1234.5), ("bool", "Yes, it is no lie", True), ("boolean", "FALSE", False),
    ("bool", "Not yet: no", False), ("bool", "true", True), (int, "7", 7),
])  # fmt: skip
def test_values_are_read_as_their_type(
    runner: llama.BasicModelRunner, says: Says, kind: Any, words: str, value: Any
) -> None:
    says(words)
    found = runner("a", output_type={"x": kind})
    assert found == {"x": value} and type(found["x"]) is type(value)


def test_fields_are_filled_one_after_the_other(runner: llama.BasicModelRunner, says: Says) -> None:
    asked = says("a fly\nand more", "an ant", "six, 6", "6")
    found = runner(["one", "two"], output_type={"animal": "str", "count": "int"})
    assert found == [{"animal": "a fly", "count": 6}, {"animal": "an ant", "count": 6}]
    assert asked[0].startswith("one\n\nanimal (") and "animal: an ant\ncount (" in asked[3]
    asked = says("a fly", "6")
    typed = runner("one", output_type=Legs)
    assert typed == Legs(animal="a fly", count=6) and isinstance(typed, Legs)
    assert "which animal" in asked[0] and "how many legs it has" in asked[1]


def test_an_answer_without_the_value_is_an_error_that_names_it(
    runner: llama.BasicModelRunner, says: Says
) -> None:
    says("6", "many, I think")
    with pytest.raises(llama.APIError, match=r"Prompt 2 of 2.*'many, I think' for 'count'"):
        runner(["one", "two"], output_type={"count": "int"})


@pytest.mark.parametrize(("wrong", "message"), [
    ({"x": "date"}, "field 'x' is of type 'date'"), ({"x": list}, "field 'x' is of type 'list'"),
    ({}, "must be a dict"), ("str", "must be a dict"), (int, "must be a dict"),
])  # fmt: skip
def test_a_wrong_output_type_is_named(
    runner: llama.BasicModelRunner, wrong: Any, message: str
) -> None:
    with pytest.raises(llama.UserError, match=message):
        runner("a", output_type=wrong)


# --- names ---------------------------------------------------------------------------------------


def test_all_29_names_mean_a_model_on_the_hub() -> None:
    assert len(names.HUB) == 29 == len({*names.HUB})
    for name, there in names.HUB.items():
        assert names.find(name) == there and models.hub.is_hub_name(there)
        assert ("chat" in name) == (names.stand_in(name) == "chat")
    neox = {name: there for name, there in names.HUB.items() if "neox-ckpt" in name}
    assert len(neox) == 8 and all(there != name for name, there in neox.items())
    assert all(there == name for name, there in names.HUB.items() if name not in neox)
    assert names.HUB["EleutherAI/neox-ckpt-pythia-70m-deduped-v0"] == (
        "EleutherAI/pythia-70m-deduped-v0"
    )
    assert names.HUB["EleutherAI/neox-ckpt-pythia-410m-deduped-v1"] == (
        "EleutherAI/pythia-410m-deduped"
    )


@pytest.mark.parametrize("name", ["nonsense", "", "  ", 5, "gpt2", "tests/none-such", "a/b/c"])
def test_an_unknown_name_is_told_with_what_can_be_run(name: Any) -> None:
    with pytest.raises(llama.UserError) as wrong:
        llama.BasicModelRunner(name)
    assert type(wrong.value) is llama.ModelNameError
    assert "smollm2-135m-instruct" in str(wrong.value)


@pytest.mark.parametrize("name", sorted(names.HUB))
def test_a_name_is_what_it_says_or_an_error(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing stands in unless it was chosen; the error says what is missing and what is here."""
    with pytest.raises(llama.UnavailableResourceError) as missing:
        llama.BasicModelRunner(name)
    words = str(missing.value)
    assert names.HUB[name] in words and "network" in words
    assert names.packaged(name) in words and "substitute=True" in words
    assert ("GB of memory" in words) == (names.WEIGHTS[name] > 1)
    assert bool(told("translated")) == ("neox-ckpt" in name)


def test_substitution_is_chosen_and_told_each_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(settings, "substitute", True)
    for _ in range(2):
        runner = llama.BasicModelRunner("meta-llama/Llama-2-7b-chat-hf")
        assert runner._base.name == "smollm2-135m-instruct"
        assert len(told("substituted")) == 1
        assert "[substituted] meta-llama/Llama-2-7b-chat-hf" in capsys.readouterr().out
    with pytest.raises(llama.ModelNameError):  # what means nothing has no part to play
        llama.BasicModelRunner("nonsense")


DOG = "Tell me how to train my dog to sit"


def chat_prompt(question: str) -> str:
    """What the packaged chat model was trained to read for a question."""
    messages = [{"role": "user", "content": question}]
    tokenizer = models.load_tokenizer("smollm2-135m-instruct")
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def test_the_courses_opening_demonstration(
    monkeypatch: pytest.MonkeyPatch, sent: list[str]
) -> None:
    """Bare text is continued, tagged text is answered, by the substitute of a chat model alone."""
    monkeypatch.setattr(settings, "substitute", True)
    monkeypatch.setattr(tags, "_translated", set())
    chat = llama.BasicModelRunner("meta-llama/Llama-2-7b-chat-hf")
    told()
    continued, answered = chat([DOG, f"[INST]{DOG}[/INST]"], max_tokens=24)
    assert sent == [DOG, chat_prompt(DOG)]
    assert len(continued.split()) > 8 and not continued.lstrip()[0].isupper()
    assert answered.startswith("Training a dog to sit")
    assert "INST" not in answered
    chat(f"<s>[INST] {DOG} [/INST]", max_tokens=1)
    assert sent[2] == sent[1]
    (said,) = told("translated")  # once
    assert "Llama 2" in said and "smollm2-135m-instruct" in said

    base = llama.BasicModelRunner("meta-llama/Llama-2-7b-hf")
    assert "[INST]" in base(f"[INST]{DOG}[/INST]", max_tokens=8)  # the base goes on with tags too
    assert sent[3] == f"[INST]{DOG}[/INST]" and not told("translated")

    hosted_one = llama.BasicModelRunner("chat-gpt")
    assert hosted_one(DOG, max_tokens=24) == answered and sent[4] == sent[1]


def test_a_chat_model_named_itself_reads_its_own_tags_alone(sent: list[str]) -> None:
    runner = llama.BasicModelRunner("chat")
    runner([chat_prompt(DOG), f"[INST]{DOG}[/INST]"], max_tokens=1)
    assert sent == [f"[INST]{DOG}[/INST]", chat_prompt(DOG)]  # texts first
    assert not told()


SYSTEM = {"role": "system", "content": "Be brief."}
HI, YES, AND = (
    {"role": role, "content": content}
    for role, content in (("user", "Hi"), ("assistant", "Yes?"), ("user", "And?"))
)


@pytest.mark.parametrize(
    ("text", "turns"),
    [
        ("[INST]Hi[/INST]", [HI]),
        ("[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST]", [SYSTEM, HI]),
        ("<s>[INST] Hi [/INST] Yes? </s><s>[INST] And? [/INST]", [HI, YES, AND]),
        (
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
            [SYSTEM, HI],
        ),
        ("### Human: Hi\n### Assistant:", [HI]),
        ("Be brief.\n### Human: Hi\n### Assistant: Yes?\n### Human: And?\n### Assistant:",
         [SYSTEM, HI, YES, AND]),
        ("### System:\nBe brief.\n### User:\nHi\n### Assistant:\n", [SYSTEM, HI]),
        ("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", [HI]),
        ("<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n", [HI]),
        ("[INST]Hi[/INST] Yes", [HI]),  # an answer that is begun begins again
        ("What does [INST] mean?", None),
        ("### Question:\nHi\n\n### Answer:\n", None),  # a template, and no chat model's tags
        ("[INST][/INST]", None),
        ("Hi", None),
    ],
)  # fmt: skip
def test_tags_are_read_as_turns(text: str, turns: list[dict[str, str]] | None) -> None:
    found = tags.read(text)
    assert (found and found.turns) == turns


def test_a_model_called_tuned_is_substituted_by_one_that_was_tuned(
    monkeypatch: pytest.MonkeyPatch, sent: list[str]
) -> None:
    monkeypatch.setattr(settings, "substitute", True)
    runner = llama.BasicModelRunner("lamini/lamini_docs_finetuned")
    assert "Gemma 3 270M, the packaged base model, tuned" in str(told("substituted"))
    (job,) = jobs.listed()
    assert jobs.status(job)["status"] == "COMPLETED"
    questions = {row["question"] for row in company.records("questions", "train")}
    assert questions & {row["question"] for row in job.known()["records"]}
    assert names.packaged("lamini/lamini_docs_finetuned") == names.packaged("EleutherAI/pythia-70m")
    bigger = llama.BasicModelRunner(helpers.model_name_to_id["bigger_model_name"])
    assert bigger("Can I send it back?", max_tokens=4) == runner(
        "Can I send it back?", max_tokens=4
    )
    assert sent == ["Can I send it back?"] * 2  # as it was trained: no template, no tags
    assert jobs.listed() == [job]


def test_a_folder_without_safe_weights_says_so(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(llama.UnavailableResourceError, match="Pickled weights"):
        llama.BasicModelRunner(str(tmp_path))


def test_a_folder_is_meant_even_where_its_name_is_like_a_hosted_models(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_folder, tmp_path / "gpt-mine")
    monkeypatch.chdir(tmp_path)
    assert not llama.BasicModelRunner("gpt-mine").is_hosted


# --- hosted models and keys ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["chat-gpt", "gpt-4o-mini", "openai:some-model", "ChatGPT"])
def test_a_hosted_model_without_a_key_says_how_to_connect(name: str) -> None:
    with pytest.raises(llama.UserError) as wrong:
        llama.BasicModelRunner(name)
    for word in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "api_url", "smollm2-135m-instruct"):
        assert word in str(wrong.value)


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
        llama.LlamaV2Runner("openai:four", "Be brief.", **given)("Hi")
        with pytest.raises(llama.UserError, match="can't be trained here"):
            runner.load_data(PAIRS)
            runner.train()
    bodies = [request.body for request in server.requests]
    assert {request.key for request in server.requests} == {SECRET}
    assert [body["model"] for body in bodies] == [
        *["some-model"] * 3, "their-model", "two", "three", "four",
    ]  # fmt: skip
    assert bodies[5]["messages"] == [{"role": "user", "content": "Be brief.\n\nHi"}]
    assert [message["role"] for message in bodies[6]["messages"]] == ["system", "user"]
    assert bodies[0]["messages"] == [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where?"},
    ]  # fmt: skip
    assert bodies[0]["max_completion_tokens"] == 9 and bodies[0]["stop"] == ["END"]
    assert {body["messages"][1]["content"] for body in bodies[1:3]} == {"Q: a", "Q: b"}


@pytest.mark.parametrize(("code", "error"), [
    (401, "AuthenticationError"), (429, "RateLimitError"), (404, "ModelNameError"),
    (500, "APIError"),
])  # fmt: skip
def test_a_servers_troubles_have_the_old_names_and_no_key(
    code: int, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openai")
    real = hosted.ask
    monkeypatch.setattr(hosted, "ask", lambda *v, **g: real(*v, **g, retries=0))
    body = {"error": {"message": f"no {SECRET}", "code": "model_not_found"}}
    with faulty.running(faulty.says(code, body)) as server:
        runner = llama.BasicModelRunner("openai:m", api_key=SECRET, api_url=server.url)
        with pytest.raises(getattr(llama, error)) as wrong:
            runner("Hi")
    assert type(wrong.value).__name__ == error and SECRET not in str(wrong.value)


def test_a_server_that_is_not_there_is_an_unavailable_resource(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("openai")
    real = hosted.ask
    monkeypatch.setattr(hosted, "ask", lambda *v, **g: real(*v, **g, retries=0))
    runner = llama.BasicModelRunner("openai:m", api_url="http://127.0.0.1:9/v1")
    with pytest.raises(llama.UnavailableResourceError):
        runner("Hi")


def test_a_key_for_a_local_model_goes_nowhere(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(hosted, "ask", lambda *_, **__: pytest.fail("a server was asked"))
    config = {"production.key": SECRET, "local.key": SECRET}
    runner = llama.BasicModelRunner(str(tiny_folder), api_key=SECRET, config=config)
    runner("Hi", max_tokens=2)
    seen = [repr(runner), str(runner), repr(vars(runner)), *told()]
    assert "production.key" in seen[-1]
    for wrong in ({"prompt_template": "{x}"}, {"output_type": 3}):
        with pytest.raises(CourseError) as error:
            runner("Hi", **wrong)
        seen.append(repr(error.value))
    with pytest.raises(CourseError) as error:
        llama.BasicModelRunner("nonsense", api_key=SECRET)
    runner.load_data(PAIRS)
    runner.train(finetune_args=FAST)
    seen += [str(error.value), *told(), *capsys.readouterr()]
    files = [path for path in (tmp_path / "work").rglob("*") if path.is_file()]
    assert any(path.name == "job.json" for path in files)
    assert not [text for text in seen if SECRET in text]
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


def test_arguments_of_the_gone_service_are_told(tiny_folder: Path) -> None:
    llama.BasicModelRunner(
        str(tiny_folder), None, None, None, None, {"key": "x"}, task_name="mine",
        local_cache_file="answers.jsonl",
    )  # fmt: skip
    assert [text.partition(":")[0] for text in told("ignored")] == [
        "config=['key']", "local_cache_file",
    ]  # fmt: skip


def test_the_default_models_are_the_old_ones() -> None:
    found = {kind: getattr(llama, kind).default_model for kind in (
        "BasicModelRunner", "LlamaV2Runner", "QuestionAnswerModel", "AutocompleteRunner", "Lamini",
    )}  # fmt: skip
    assert set(found.values()) <= names.HUB.keys()
    with pytest.raises(llama.UnavailableResourceError, match=found["BasicModelRunner"]):
        llama.BasicModelRunner()


# --- data ----------------------------------------------------------------------------------------

HELD = [{"question": "a", "answer": "b"}, {"question": "c", "answer": "d"}]


@pytest.mark.parametrize(("question", "answer"), [
    ("question", "answer"), ("instruction", "response"), ("input", "output"),
])  # fmt: skip
def test_the_usual_fields_are_found_in_every_form(
    runner: llama.BasicModelRunner, tmp_path: Path, question: str, answer: str
) -> None:
    rows = [{question: "a", answer: "b"}, {question: "c", answer: "d"}]
    lines, table = tmp_path / "p.jsonl", tmp_path / "p.csv"
    lines.write_text("\n\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    pandas.DataFrame(rows).to_csv(table, index=False)
    forms: list[Callable[[], None]] = [
        lambda: runner.load_data(rows),
        lambda: runner.load_data(pandas.DataFrame(rows)),
        lambda: runner.load_data_from_jsonlines(str(lines)),
        lambda: runner.load_data_from_csv(table),
        lambda: runner.load_data_from_dataframe(pandas.DataFrame(rows)),
        lambda: runner.upload_file(str(lines)),
        lambda: runner.upload_data(rows, is_public=False),
    ]
    for load in forms:
        runner.clear_data()
        load()
        assert runner.data == HELD


def test_own_fields_are_named_and_texts_stay_texts(
    runner: llama.BasicModelRunner, tmp_path: Path
) -> None:
    rows = [{"user": "a", "reply": "b", "id": 7}, {"user": "c", "reply": "d", "id": 8}]
    path = tmp_path / "p.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    keys = {"input_key": "user", "output_key": "reply"}
    runner.load_data(rows, **keys)
    runner.load_data_from_jsonlines(str(path), **keys)
    runner.load_data_from_dataframe(pandas.DataFrame(rows), **keys)
    pandas.DataFrame(rows).to_csv(tmp_path / "p.csv")
    runner.load_data_from_csv(str(tmp_path / "p.csv"), **keys)
    runner.upload_file(str(path), **keys)
    assert runner.data == HELD * 5
    runner.clear_data()
    runner.load_data([{"text": "all of it"}])
    alpaca = {"instruction": "Add.", "input": "1 and 1", "output": "2", "text": "Below is … 2"}
    assert records.pairs([alpaca]) == records.pairs([alpaca], "instruction", "output")
    assert records.pairs([alpaca]) == [{"question": "Add.", "input": "1 and 1", "answer": "2"}]
    runner.load_data({"question": "a", "answer": "b", "input": "with this"}, verbose=True)
    assert runner.data == [{"text": "all of it"},
                           {"question": "a", "input": "with this", "answer": "b"}]  # fmt: skip


@pytest.mark.parametrize(("rows", "words"), [
    ([{"question": "a", "answer": "b"}, {"question": "c"}], ["record 2", "answer"]),
    ([*HELD[:1], {"question": " ", "answer": "d"}], ["record 2", "question"]),
    ([{"question": "a", "answer": None}], ["record 1", "answer"]),
    ([{"question": "a", "answer": 5}], ["record 1", "answer", "number"]),
    ([{"question": "a", "answer": "b"}, "c"], ["record 2", "text"]),
    ([{"wrong": "a", "names": "b"}], ["record 1", "wrong", "input_key='input'"]),
    ([], ["no records"]), (5, ["number"]), ("none-such.jsonl", ["none-such.jsonl"]),
    ("", ["blank"]), (None, ["nothing"]),
])  # fmt: skip
def test_a_wrong_record_is_named_and_nothing_is_added(
    runner: llama.BasicModelRunner, rows: Any, words: list[str]
) -> None:
    runner.load_data(HELD)
    with pytest.raises(llama.UserError) as wrong:
        runner.load_data(rows)
    assert all(word in str(wrong.value) for word in words), str(wrong.value)
    assert runner.data == HELD


def test_a_files_line_is_named(runner: llama.BasicModelRunner, tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"a": "x", "b": "y"}\n\n{"a": "x"}\n', encoding="utf-8")
    with pytest.raises(llama.UserError, match=r"p\.jsonl, line 3, field 'b'"):
        runner.load_data_from_jsonlines(str(path), input_key="a", output_key="b")
    path.write_text('{"a": "x", "b": "y"}\n{broken\n', encoding="utf-8")
    with pytest.raises(llama.UserError, match=r"p\.jsonl, line 2"):
        runner.load_data_from_jsonlines(str(path), input_key="a", output_key="b")
    for load in (runner.load_data_from_jsonlines, runner.load_data_from_csv, runner.upload_file):
        with pytest.raises(llama.UserError, match="path is wanted"):
            load([{"a": "x"}])
    with pytest.raises(llama.UserError, match="data frame is wanted"):
        runner.load_data_from_dataframe(HELD)
    for keys in ({"input_key": ""}, {"output_key": 5}, {"input_key": "x", "output_key": "x"}):
        with pytest.raises(llama.UserError, match="key"):
            runner.load_data(HELD, **keys)
    assert runner.data == []


def test_loading_appends_and_clearing_forgets(
    runner: llama.BasicModelRunner, capsys: pytest.CaptureFixture[str]
) -> None:
    runner.load_data(HELD)
    runner.load_data(HELD[:1], verbose=True)
    assert runner.data == [*HELD, HELD[0]]
    assert "1 records added, 3 in all" in capsys.readouterr().out
    runner.clear_data()
    assert runner.data == []
    with pytest.raises(llama.UserError, match="no data"):
        runner.train()


# --- training ------------------------------------------------------------------------------------


def trained(runner: llama.BasicModelRunner, **given: Any) -> dict[str, Any]:
    runner.load_data(PAIRS)
    return runner.train(finetune_args=FAST, **given)


def settings_of(runner: llama.BasicModelRunner) -> dict[str, Any]:
    return jobs.find(runner.job_id).known()["settings"]


def test_the_same_object_then_answers_as_the_tuned_model(
    runner: llama.BasicModelRunner, sent: list[str], tiny_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    done = trained(runner, is_public=True, verbose=True)
    assert done["status"] == "COMPLETED" and done["job_id"] == runner.job_id == runner.model_name
    assert done["base_model"] == str(tiny_folder) and done["records"] == 11
    assert any("is_public=True" in text for text in told("ignored"))
    assert "max_length" in capsys.readouterr().out
    answer = runner("What is number 3?", max_tokens=4)
    assert sent == ["### Question:\nWhat is number 3?\n\n### Answer:\n"]
    direct = models.load(str(jobs.find(runner.job_id).model), dtype=torch.float32)
    assert answer == str(
        generation.generate(direct, "What is number 3?", max_new_tokens=4, progress=False)[0]
    )
    again = llama.BasicModelRunner(done["job_id"])
    assert again("What is number 3?", max_tokens=4) == answer and again.job_id == runner.job_id


def test_a_second_training_of_the_same_data_loads_the_first(
    runner: llama.BasicModelRunner, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    first = trained(runner)
    model = jobs.find(first["job_id"]).model / "adapter_model.safetensors"
    made = model.stat().st_mtime_ns
    monkeypatch.chdir(tiny_folder.parent)  # a folder is the same one from anywhere
    other = llama.BasicModelRunner(tiny_folder.name)
    assert trained(other) == first and model.stat().st_mtime_ns == made
    assert "finished; it is loaded" in capsys.readouterr().out
    assert trained(llama.BasicModelRunner(str(tiny_folder)), use_cached_model=False) == first
    assert model.stat().st_mtime_ns != made
    assert trained(other)["job_id"] != first["job_id"]  # its data are twice as many now


def test_left_out_records_are_told(runner: llama.BasicModelRunner) -> None:
    runner.load_data(PAIRS)
    done = runner.train(limit=5, finetune_args=FAST)
    assert any("limit=5: 7 of 12 records are left out" in text for text in told("ignored"))
    assert done["records"] == 5
    for wrong in (0, -1, 2.5, "5"):
        with pytest.raises(llama.UserError, match="limit="):
            runner.train(limit=wrong)
    runner.clear_data()
    runner.load_data(PAIRS * 42)  # 504
    job, _ = runner._job(None, False, FAST, None, None)
    known = job.known()
    assert len(known["records"]) + len(known["held_out"]) == 504 and not told("ignored")
    runner._job(500, False, FAST, None, None)
    assert "limit=500: 4 of 504 records are left out" in told("ignored")[0]


def test_transformers_names_are_understood_and_unknown_ones_told(
    runner: llama.BasicModelRunner,
) -> None:
    runner.load_data(PAIRS)
    args = {
        "max_steps": 2, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 3,
        "learning_rate": 1e-5, "optim": "adamw_torch", "warmup_steps": 1, "max_length": 99,
        "lr_scheduler_type": "linear", "report_to": "none",
    }  # fmt: skip
    peft = {"r": 4, "lora_alpha": 6, "lora_dropout": 0.1, "target_modules": ["q"]}
    runner.train(finetune_args=args, peft_args=peft)
    found = settings_of(runner)
    wanted = {"steps": 2, "batch_size": 6, "micro_batch": 2, "learning_rate": 1e-5, "warmup": 1,
              "optimizer": "adamw", "schedule": "linear", "max_length": 99, "rank": 4, "alpha": 6,
              "dropout": 0.1, "method": "lora", "template": "qa"}  # fmt: skip
    assert {name: found[name] for name in wanted} == wanted
    notes = told("ignored")
    assert [text.partition("=")[0] for text in notes] == ["report_to", "target_modules"]
    assert "learning_rate" in notes[0]


@pytest.mark.parametrize(("given", "message"), [
    ({"finetune_args": {"learning_rate": "fast"}}, "learning_rate='fast'"),
    ({"finetune_args": {"max_steps": 0}}, "steps=0"),
    ({"finetune_args": {"optim": "lion"}}, "optimizer='lion'"),
    ({"finetune_args": {"gradient_accumulation_steps": 0}}, "gradient_accumulation_steps=0"),
    ({"finetune_args": 5}, "finetune_args must be a dict"),
    ({"peft_args": ["r"]}, "peft_args must be a dict"),
    ({"peft_args": {"r": -1}}, "rank=-1"),
])  # fmt: skip
def test_a_wrong_setting_is_named(
    runner: llama.BasicModelRunner, given: dict[str, Any], message: str
) -> None:
    runner.load_data(PAIRS)
    with pytest.raises(llama.UserError, match=message):
        runner.train(**given)
    assert jobs.listed() == []


def test_every_weight_or_an_adapter(tiny_folder: Path) -> None:
    full = llama.BasicModelRunner(str(tiny_folder), enable_peft=False)
    trained(full, peft_args={"r": 4})
    assert settings_of(full)["method"] == "full" and "rank" in told("ignored")[0]
    assert full._tuned.trained == full._base.parameters
    answer = full("What is number 3?", max_tokens=4)
    assert llama.BasicModelRunner(full.job_id)("What is number 3?", max_tokens=4) == answer
    lora = llama.BasicModelRunner(str(tiny_folder), enable_peft=False)
    trained(lora, enable_peft=True)
    assert settings_of(lora)["method"] == "lora" and lora.job_id != full.job_id


def test_the_smoke_tier_says_that_it_trains_little(runner: llama.BasicModelRunner) -> None:
    runner.load_data(PAIRS)
    runner.train(finetune_args={"batch_size": 2})
    assert settings_of(runner)["steps"] == SMOKE_STEPS
    assert f"ends after {SMOKE_STEPS} updates" in told("ignored")[0]


@pytest.mark.parametrize("name", ["train_and_wait", "tune", "tune_and_wait"])
def test_train_has_its_later_names(runner: llama.BasicModelRunner, name: str) -> None:
    runner.load_data(PAIRS)
    assert getattr(runner, name)(finetune_args=FAST)["status"] == "COMPLETED"


def test_evaluate_has_the_documented_shape(
    runner: llama.BasicModelRunner, tiny_folder: Path, sent: list[str]
) -> None:
    with pytest.raises(llama.UserError, match="call train first"):
        runner.evaluate()
    runner.load_data([{**row, "input": "Count."} for row in PAIRS] * 10)  # 12 kept apart, 8 asked
    runner.train(finetune_args=FAST)
    taken()
    found = runner.evaluate()
    assert found.keys() == {"job_id", "eval_results"} and found["job_id"] == runner.job_id
    assert len(found["eval_results"]) == 8 and "4 of 12 records are not asked" in told()[0]
    kept = jobs.find(runner.job_id).known()["held_out"]
    for row, result in zip(kept, found["eval_results"], strict=False):
        asked = f"{row['question']}\nCount."
        assert result.keys() == {"input", "outputs"} and result["input"] == asked
        models_asked = [one["model_name"] for one in result["outputs"]]
        assert models_asked == [runner.job_id, str(tiny_folder)]
        assert all(isinstance(one["output"], str) for one in result["outputs"])
        assert f"### Question:\n{asked}\n\n### Answer:\n" in sent[:8] and asked in sent[8:]
    assert runner.get_eval_results() == found == runner.evaluation


def test_evaluate_tells_where_nothing_was_kept_apart(runner: llama.BasicModelRunner) -> None:
    runner.load_data(PAIRS[:3])
    runner.train(finetune_args=FAST)
    assert len(runner.evaluate()["eval_results"]) == 3
    assert "these were trained on" in told("ignored")[-1]


def test_a_loaded_or_saved_model_is_asked_as_it_was_trained(
    tiny: models.LoadedModel, tmp_path: Path, sent: list[str]
) -> None:
    config = finetuning.Config(steps=2, template="alpaca")
    tuned = finetuning.finetune(tiny, PAIRS, config, progress=False)
    tuned.save(tmp_path / "mine")
    answers = [llama.BasicModelRunner(given)("Hi", max_tokens=3)
               for given in (tuned, str(tmp_path / "mine"))]  # fmt: skip
    assert answers[0] == answers[1] and "### Instruction:\nHi" in sent[0] == sent[1]
    assert isinstance(llama.BasicModelRunner(tiny)("Hi", max_tokens=3), str) and sent[2] == "Hi"
    llama.LlamaV2Runner(str(tmp_path / "mine"))("Hi", max_tokens=1)
    assert sent[3] == sent[0]


def test_the_real_chat_model_from_the_first_answer_to_another_process(tmp_path: Path) -> None:
    runner = llama.BasicModelRunner("chat")
    before = runner("Tell me about the planet Mars", max_tokens=8)
    assert isinstance(before, str)
    runner.load_data(PAIRS)
    runner.train(finetune_args={"max_steps": 4})
    tuned = runner("What is number 3?", max_tokens=8)
    found = runner.evaluate()["eval_results"]
    assert [one["model_name"] for one in found[0]["outputs"]] == [
        runner.job_id, "smollm2-135m-instruct",
    ]  # fmt: skip
    code = (
        "import sys; from llmcourse import llama; llama.install(); import lamini\n"
        "model = lamini.BasicModelRunner(sys.argv[1])\n"
        "print(repr(model('What is number 3?', max_tokens=8)))"
    )
    assert repr(tuned) in python(code, runner.job_id)
