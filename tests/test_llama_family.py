"""The other runners of the course's interface, and the old libraries' names in a fresh process."""

from __future__ import annotations

import json
from pathlib import Path

import pandas
import pytest

from llmcourse import llama, models
from llmcourse_legacy import jobs
from tests import test_llama as shared
from tests.test_llama import FAST, HELD, PAIRS, Says, python

alone, runner, says, sent = shared.alone, shared.runner, shared.says, shared.sent
TAGGED = ("LlamaV2Runner", "LlamaV3Runner", "MistralRunner")


class Legs(llama.Type):
    animal: str = llama.Context("which animal")
    count: int = llama.Context("how many legs it has")


class Question(llama.Type):
    text: str = llama.Context("what is asked")


@pytest.mark.parametrize(
    "kind", ["BasicModelRunner", *TAGGED, "QuestionAnswerModel", "AutocompleteRunner", "Lamini"]
)
def test_every_runner_takes_the_old_arguments(kind: str, tiny_folder: Path) -> None:
    given = {"api_key": "k", "api_url": "http://127.0.0.1:9/v1", "config": {}, "enable_peft": True}
    made = getattr(llama, kind)(model_name=str(tiny_folder), system_prompt="Be brief.", **given)
    assert made.system_prompt == "Be brief." and made.enable_peft is True
    assert repr(made) == f"{kind}({str(tiny_folder)!r})"
    if kind != "Lamini":
        by_place = getattr(llama, kind)(str(tiny_folder), "Be brief.", "{prompt}", "k", None, {})
        assert by_place.prompt_template == "{prompt}"


# --- runners with tags ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TAGGED)
def test_a_runner_with_tags_sends_the_models_own(
    kind: str, tiny_folder: Path, sent: list[str]
) -> None:
    runner = getattr(llama, kind)(str(tiny_folder), system_prompt="Be brief.")
    runner("Hi", max_tokens=1)
    system = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    before = [{"role": "user", "content": "Be brief.\n\nHi"}]
    wanted = before if kind == "MistralRunner" else system
    own = models.load_tokenizer(str(tiny_folder))
    assert sent == [own.apply_chat_template(wanted, tokenize=False, add_generation_prompt=True)]
    runner.load_data([{"user": "a", "output": "b"}, {"user": "c", "output": "d"}])
    assert runner.data == HELD
    runner.train(finetune_args=FAST)
    runner("Hi", "", max_tokens=1)
    assert sent[1] == "### Question:\nHi\n\n### Answer:\n"  # as it was trained


def test_without_a_template_llama_2s_tags_are_known_and_others_are_not(
    tiny: models.LoadedModel, tmp_path: Path, sent: list[str]
) -> None:
    tiny.model.save_pretrained(tmp_path)
    tiny.tokenizer.save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    llama.LlamaV2Runner(str(tmp_path), "Be brief.")("Hi", max_tokens=1)
    assert sent == ["[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST]"]
    with pytest.raises(llama.UserError, match="no chat template, and MistralRunner needs one"):
        llama.MistralRunner(str(tmp_path))("Hi")


# --- questions, texts ----------------------------------------------------------------------------


def test_questions_get_answers(tiny_folder: Path, sent: list[str]) -> None:
    model = llama.QuestionAnswerModel(str(tiny_folder))
    one = model.get_answer("Who?")
    many = model.get_answers(["Who?", "What is that?"])
    assert many[0] == {"question": "Who?", "answer": one} and len(many) == 2
    assert model.get_answers([]) == [] and sent == ["Who?", "Who?", "What is that?"]
    model.load_question_answer(HELD)
    model.load_question_answer_from_dataframe(pandas.DataFrame(HELD))
    assert model.data == HELD * 2


def test_autocomplete_learns_from_texts(tiny_folder: Path, sent: list[str], tmp_path: Path) -> None:
    model = llama.AutocompleteRunner(str(tiny_folder))
    rows = [{"title": "one", "body": "two"}, {"title": "three", "body": "four"}]
    lines = tmp_path / "p.jsonl"
    lines.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    model.load_data(["one", "two"])
    model.load_data(rows)
    model.load_data_from_jsonlines(str(lines), keys="title")
    model.load_data_from_dataframe(pandas.DataFrame(rows), columns=["title", "body"])
    model.upload_file(str(lines), keys="body")
    words = "one two one two three four one three one two three four two four"
    assert " ".join(row["text"] for row in model.data) == words
    with pytest.raises(llama.UserError, match="record 2, field 'body'"):
        model.load_data([{"body": "a"}, {"title": "b"}], keys="body")
    assert len(model.data) == 14
    model.train(finetune_args=FAST)
    model("Once upon", max_tokens=1)
    assert sent == ["Once upon"]
    assert all(one["input"] in words for one in model.evaluate()["eval_results"])


# --- typed answers and runners -------------------------------------------------------------------

TYPED = [(Question(text=f"{n}?"), Legs(animal=f"animal {n}", count=n)) for n in range(12)]


def typed_runner(folder: Path) -> llama.InputOutputRunner:
    return llama.InputOutputRunner(Question, Legs, str(folder))


def test_values_are_found_by_their_type(runner: llama.BasicModelRunner, says: Says) -> None:
    for kind, answer, value in (
        ("int", " It has 1,000 legs, 5 toes", 1000),
        ("integer", "-4.", -4),
        ("float", "about 2.50 m", 2.5),
        ("bool", "Yes, it is no lie", True),
        (bool, "FALSE", False),
    ):
        says(answer)
        found = runner("a", output_type={"x": kind})
        assert found == {"x": value} and type(found["x"]) is type(value)


def test_fields_are_filled_one_after_the_other(runner: llama.BasicModelRunner, says: Says) -> None:
    bare = runner("a", max_tokens=4)
    assert runner("a", output_type={"answer": "str"}, max_tokens=4) == {"answer": bare}
    asked = says("a fly\nand more", "an ant", "six, 6", "6")
    found = runner(["one", "two"], output_type={"animal": "str", "count": "int"})
    assert found == [{"animal": "a fly", "count": 6}, {"animal": "an ant", "count": 6}]
    assert asked[0].startswith("one\n\nanimal (") and "animal: an ant\ncount (" in asked[3]
    asked = says("a fly", "6")
    assert runner("one", output_type=Legs) == Legs(animal="a fly", count=6)
    assert "which animal" in asked[0] and "how many legs it has" in asked[1]
    says("6", "many, I think")
    with pytest.raises(llama.APIError, match=r"Prompt 2.*'many, I think' for 'count'"):
        runner(["one", "two"], output_type={"count": "int"})


def test_typed_in_typed_out(tiny_folder: Path, says: Says, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = typed_runner(tiny_folder)
    asked = says("a fly", "6")
    assert runner(Question(text="Which?"), max_tokens=4) == Legs(animal="a fly", count=6)
    assert asked[0].startswith("Which?") and "which animal" in asked[0]
    assert runner([]) == []
    with pytest.raises(llama.UserError, match="input 2"):
        runner([{"text": "x"}, {"text": 5}])
    monkeypatch.setattr(shared.settings, "launch_shape", True)
    says("a fly", "an ox", "6", "4")
    two = runner([{"text": "one"}, Question(text="two")])
    assert two == [Legs(animal="a fly", count=6), Legs(animal="an ox", count=4)]


def test_typed_pairs_in_every_form(tiny_folder: Path, tmp_path: Path, says: Says) -> None:
    flat = [{"input-text": "0?", "output-animal": "animal 0", "output-count": 0}]
    lines = tmp_path / "p.jsonl"
    lines.write_text(json.dumps(flat[0]), encoding="utf-8")
    as_dicts = ({"text": "0?"}, {"animal": "animal 0", "count": 0})
    other = {"ask-text": "0?", "reply-animal": "animal 0", "reply-count": 0}
    runner = typed_runner(tiny_folder)
    runner.load_data(TYPED[:1])
    runner.load_data([[*as_dicts]])
    runner.load_data([dict(zip(("input", "output"), as_dicts, strict=True))])
    runner.load_data_from_paired_dicts([{"input": TYPED[0][0], "output": TYPED[0][1]}])
    runner.load_data_from_jsonlines(str(lines))
    runner.load_data_from_dataframe(pandas.DataFrame(flat))
    runner.load_data([other], input_key="ask", output_key="reply")
    assert runner.data == [{"question": "0?", "answer": "animal: animal 0\ncount: 0"}] * 7
    for wrong, message in (
        ([[{"text": "a"}]], "record 1: a pair must be"),
        ([TYPED[0], [{"txt": "a"}, TYPED[0][1]]], "record 2, input: field 'text'"),
    ):
        with pytest.raises(llama.UserError, match=message):
            runner.load_data(wrong)
    assert len(runner.data) == 7
    runner.clear_data()
    runner.load_data(TYPED)
    runner.train(finetune_args=FAST)
    says("animal: a fly\nor two\ncount: 6")
    assert runner({"text": "x"}) == Legs(animal="a fly\nor two", count=6)
    says("animal: a fly\ncount: six")
    with pytest.raises(llama.APIError, match="The model wrote"):
        runner({"text": "x"})


def test_the_engine_takes_its_types_with_each_call(
    tiny_folder: Path, says: Says, sent: list[str]
) -> None:
    class Prompt:
        prompt_template = "Q: {input}"

    engine = llama.LLMEngine("mine", Prompt(), str(tiny_folder), config={})
    assert engine.id == "mine"
    engine(["Hi", "You"], max_tokens=1)
    assert sent == ["Q: Hi", "Q: You"]
    says("a fly", "6")
    assert engine.run(input=[Question(text="x")], output_type=Legs)[0].count == 6
    engine.save_data(TYPED)
    engine.train(finetune_args=FAST)
    says("animal: a fly\ncount: 6")
    assert engine(Question(text="x"), Legs) == Legs(animal="a fly", count=6)


# --- Lamini --------------------------------------------------------------------------------------


def test_lamini_generates(tiny_folder: Path, says: Says, sent: list[str]) -> None:
    model = llama.Lamini(str(tiny_folder), None, None, None, {}, system_prompt="Be brief.")
    one = model.generate("Hi", max_tokens=3)
    assert model.generate(["Hi", "You"], max_new_tokens=3)[0] == one
    model.generate("Hi", system_prompt="", max_tokens=1)
    model.generate("Hi", model_name="chat", max_tokens=1)  # asked as this one is
    assert sent[0] == sent[-1] == "Be brief.\n\nHi" and sent[-2] == "Hi"
    says("4 END", "a END b")
    assert model.generate("Hi", output_type={"n": "int"}) == {"n": 4}
    assert model.generate("Hi", stop=["END"]) == "a "


def test_lamini_trains_here_and_evaluates(tiny_folder: Path) -> None:
    model = llama.Lamini(str(tiny_folder))
    done = model.train(PAIRS, FAST)
    assert done["status"] == "COMPLETED" and done == model.check_job_status()
    assert model.tune_and_wait(PAIRS, finetune_args=FAST) == done  # the same data, not twice
    with pytest.raises(llama.UserError, match="record 1"):
        model.train([{"question": "a"}])
    assert len(model.data) == 12 and model.get_jobs() == [done]
    other = llama.Lamini(str(tiny_folder))
    assert other.evaluate(done["job_id"]) == model.evaluate()
    assert other.model_name == done["job_id"] == jobs.find(done["job_id"]).id


# --- the old libraries' names --------------------------------------------------------------------

EVERYTHING = """
import json, sys
from llmcourse import errors, llama as ours
ours.install()
import llama, lamini, config, llama.error, lamini.error.error
from llama import BasicModelRunner, Type, Context, LLMEngine, QuestionAnswerModel
from llama2 import BasicModelRunner as same
from lamini import Lamini, LlamaV2Runner, LlamaV3Runner, MistralRunner, InputOutputRunner
from lamini import AutocompleteRunner
from llama.error.error import UserError
from lamini.errors import RateLimitError
from dotenv import load_dotenv, find_dotenv
load_dotenv(find_dotenv())
lamini.api_key, llama.api_url = "secret-key", "https://example.com"
config.anything = 1
ours.install()
assert lamini.api_key == "secret-key" and llama.api_url == "https://example.com"
assert sys.modules["llama"] is llama and same is BasicModelRunner is ours.BasicModelRunner
names = [name for name in ours.__all__ if name.endswith("Error")]
assert len(names) == 6
for library in (llama, lamini):
    for there in (library, library.error, library.errors, library.error.error):
        assert all(getattr(there, name) is getattr(errors, name) for name in names)
    for name in ours.__all__:
        assert name == "install" or getattr(library, name) is getattr(ours, name)
try:
    lamini.BasicModelRunner("nonsense")
except llama.error.UserError as error:
    assert isinstance(error, lamini.error.ModelNameError) and "secret-key" not in str(error)
    print("told")
ours.install(substitute=True, launch_shape=True)
BasicModelRunner("chat-gpt")
print(json.dumps(BasicModelRunner(sys.argv[1])(["Hi"], max_tokens=2)))
"""


def test_the_old_imports_work_in_a_fresh_process(tiny_folder: Path, tmp_path: Path) -> None:
    printed = python(EVERYTHING, str(tiny_folder), cwd=tmp_path)
    lines = printed.splitlines()
    assert "told" in lines and "secret-key" not in printed and "[substituted] chat-gpt" in printed
    (answer,) = json.loads(lines[-1])
    assert answer.keys() == {"input", "output"}


@pytest.mark.parametrize("library", ["llama", "lamini"])
def test_a_real_package_of_the_name_is_left_alone(library: str, tmp_path: Path) -> None:
    (tmp_path / library).mkdir()
    (tmp_path / library / "__init__.py").write_text("real = True\n")
    code = (
        "import sys; from llmcourse import llama as ours\n"
        "try:\n    ours.install(substitute=True)\n"
        "except ours.UserError as error:\n    print(error)\n"
        f"import {library}; print({library}.real)\n"
        "print([n for n in ('llama', 'lamini', 'config') if hasattr(sys.modules.get(n), "
        "'__llmcourse__')])"
    )
    printed = python(code, PYTHONPATH=str(tmp_path)).splitlines()
    assert f"called '{library}' is installed here" in printed[0] and "pip uninstall" in printed[0]
    assert printed[1:] == ["True", "[]"]


def test_the_learners_own_config_and_a_folder_of_weights_stay(tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text("mine = 5\n")
    (tmp_path / "llama").mkdir()  # a folder that is no package
    code = (
        "from llmcourse import llama as ours; ours.install(); import config, llama\n"
        "print(config.mine, llama.BasicModelRunner is ours.BasicModelRunner)"
    )
    assert python(code, cwd=tmp_path, PYTHONPATH=str(tmp_path)) == "5 True\n"
