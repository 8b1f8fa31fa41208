"""The other runners of the course's interface, and the old libraries' names in a fresh process."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas
import pytest

from llmcourse import generation, llama, models
from llmcourse.llama import jobs
from tests import test_llama as shared
from tests.test_llama import FAST, HELD, PAIRS, Legs, Question, Says, python, told

alone, runner, says, sent = shared.alone, shared.runner, shared.says, shared.sent
TAGGED = ("LlamaV2Runner", "LlamaV3Runner", "MistralRunner")


@pytest.fixture
def untagged(tiny_folder: Path, tmp_path: Path) -> str:
    """The small model without a chat template."""
    loaded = models.load(str(tiny_folder))
    loaded.tokenizer.chat_template = None
    loaded.model.save_pretrained(tmp_path / "untagged")
    loaded.tokenizer.save_pretrained(tmp_path / "untagged")
    return str(tmp_path / "untagged")


@pytest.mark.parametrize("kind", [
    "BasicModelRunner", *TAGGED, "QuestionAnswerModel", "AutocompleteRunner", "Lamini", "LLMEngine",
    "InputOutputRunner",
])  # fmt: skip
def test_every_runner_takes_the_old_arguments(kind: str, tiny_folder: Path) -> None:
    given = {"model_name": str(tiny_folder), "api_key": "k", "api_url": "http://127.0.0.1:9/v1",
             "config": {}, "system_prompt": "Be brief.", "enable_peft": True}  # fmt: skip
    typed = {"input_type": Question, "output_type": Legs} if kind == "InputOutputRunner" else {}
    other = {} if kind == "LLMEngine" else {"prompt_template": "{system}: {prompt}"}
    runner = getattr(llama, kind)(**given, **typed, **other)
    assert runner.system_prompt == "Be brief." and runner.enable_peft is True
    assert repr(runner) == f"{kind}({str(tiny_folder)!r})"
    if kind not in ("LLMEngine", "Lamini", "InputOutputRunner"):
        by_place = getattr(llama, kind)(str(tiny_folder), "Be brief.", "{prompt}", "k", None, {})
        assert by_place.prompt_template == "{prompt}"


# --- runners with tags ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TAGGED)
def test_a_runner_with_tags_sends_the_models_own(
    kind: str, tiny_folder: Path, sent: list[str]
) -> None:
    runner = getattr(llama, kind)(str(tiny_folder), system_prompt="Be brief.")
    assert isinstance(runner("Hi", max_tokens=1), str)
    own = models.load_tokenizer(str(tiny_folder))
    system = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    before = [{"role": "user", "content": "Be brief.\n\nHi"}]
    wanted = before if kind == "MistralRunner" else system
    assert sent == [own.apply_chat_template(wanted, tokenize=False, add_generation_prompt=True)]
    assert "<|im_start|>" in sent[0]
    runner("Hi", max_tokens=1, prompt_template="({system}) {prompt}")
    assert sent[1] == "(Be brief.) Hi"


def test_without_a_template_llama_2s_tags_are_known_and_others_are_not(
    untagged: str, sent: list[str]
) -> None:
    runner = llama.LlamaV2Runner(untagged, "Be brief.")
    runner(["Hi", "You"], max_tokens=1)
    assert sent == [f"[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n{text} [/INST]"
                    for text in ("Hi", "You")]  # fmt: skip
    for kind in ("LlamaV3Runner", "MistralRunner"):
        with pytest.raises(llama.UserError, match=f"no chat template, and {kind} needs one"):
            getattr(llama, kind)(untagged)("Hi")


def test_a_runner_with_tags_finds_its_default_model_or_a_stand_in(
    monkeypatch: pytest.MonkeyPatch, sent: list[str]
) -> None:
    for kind in TAGGED:
        with pytest.raises(llama.UnavailableResourceError, match="smollm2-135m-instruct"):
            getattr(llama, kind)()
    monkeypatch.setattr(shared.settings, "substitute", True)
    llama.LlamaV2Runner()("Hi", max_tokens=1)
    assert "<|im_start|>user\nHi<|im_end|>" in sent[0] and len(told("substituted")) == 1


@pytest.mark.parametrize("kind", TAGGED)
def test_runners_with_tags_read_user_and_output(
    kind: str, tiny_folder: Path, tmp_path: Path
) -> None:
    rows = [{"user": "a", "output": "b"}, {"user": "c", "output": "d"}]
    lines = tmp_path / "p.jsonl"
    lines.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    pandas.DataFrame(rows).to_csv(tmp_path / "p.csv", index=False)
    runner = getattr(llama, kind)(str(tiny_folder))
    runner.load_data(rows)
    runner.load_data_from_jsonlines(str(lines))
    runner.load_data_from_csv(str(tmp_path / "p.csv"))
    runner.load_data_from_dataframe(pandas.DataFrame(rows))
    runner.upload_file(str(lines))
    assert runner.data == HELD * 5
    with pytest.raises(llama.UserError, match="user"):
        runner.load_data(HELD)
    runner.load_data(HELD, input_key="question", output_key="answer")
    assert runner.train(finetune_args=FAST)["status"] == "COMPLETED"


def test_a_tuned_runner_with_tags_is_asked_as_it_was_trained(
    tiny_folder: Path, sent: list[str]
) -> None:
    runner = llama.LlamaV2Runner(str(tiny_folder))
    runner.load_data(PAIRS, input_key="question", output_key="answer")
    runner.train(finetune_args=FAST)
    runner("Hi", max_tokens=1)
    assert sent == ["### Question:\nHi\n\n### Answer:\n"]


# --- questions, texts ----------------------------------------------------------------------------


def test_questions_get_answers(tiny_folder: Path, sent: list[str], tmp_path: Path) -> None:
    model = llama.QuestionAnswerModel(str(tiny_folder))
    one = model.get_answer("Who?")
    many = model.get_answers(["Who?", "What is that?"])
    assert isinstance(one, str) and many[0] == {"question": "Who?", "answer": one}
    assert [row["question"] for row in many] == ["Who?", "What is that?"]
    assert model.get_answers([]) == [] and sent == ["Who?", "Who?", "What is that?"]
    with pytest.raises(llama.UserError, match="question is wanted"):
        model.get_answer(["Who?"])
    for wrong in ("Who?", 5):
        with pytest.raises(llama.UserError):
            model.get_answers(wrong)
    lines = tmp_path / "p.jsonl"
    lines.write_text("\n".join(map(json.dumps, HELD)), encoding="utf-8")
    pandas.DataFrame(HELD).to_csv(tmp_path / "p.csv", index=False)
    model.load_question_answer(HELD)
    model.load_question_answer_from_jsonlines(str(lines))
    model.load_question_answer_from_csv(str(tmp_path / "p.csv"))
    model.load_question_answer_from_dataframe(pandas.DataFrame(HELD))
    assert model.data == HELD * 4
    with pytest.raises(llama.UserError, match="question"):
        model.load_question_answer([{"input": "a", "output": "b"}])
    assert model.train(finetune_args=FAST)["status"] == "COMPLETED"
    assert isinstance(model.get_answer("Who?"), str)


def test_autocomplete_learns_from_texts(tiny_folder: Path, sent: list[str], tmp_path: Path) -> None:
    model = llama.AutocompleteRunner(str(tiny_folder))
    rows = [{"title": "one", "body": "two"}, {"title": "three", "body": "four"}]
    lines = tmp_path / "p.jsonl"
    lines.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    pandas.DataFrame(rows).to_csv(tmp_path / "p.csv", index=False)
    model.load_data(["one", "two"])
    model.load_data(rows)
    model.load_data(rows, keys=["body"])
    model.load_data_from_jsonlines(str(lines), keys="title")
    model.load_data_from_csv(str(tmp_path / "p.csv"), columns=["title", "body"])
    model.load_data_from_dataframe(pandas.DataFrame(rows), columns="body")
    model.upload_file(str(lines), keys="body")
    words = ["one", "two", "one", "two", "three", "four", "two", "four", "one", "three", "one",
             "two", "three", "four", "two", "four", "two", "four"]  # fmt: skip
    assert [row["text"] for row in model.data] == words
    for wrong, message in (
        ([{"body": "a"}, {"title": "b"}], "record 2, field 'body'"), ([{"body": " "}], "record 1"),
        ([{"body": 5}], "'body'"), ([], "no texts"), ("just words", "list of texts"),
        ([5], "record 1"), ("none-such.jsonl", "none-such"),
    ):  # fmt: skip
        with pytest.raises(llama.UserError, match=message):
            model.load_data(wrong, keys="body")
    assert len(model.data) == len(words)
    model.train(finetune_args=FAST)
    assert jobs.find(model.job_id).known()["settings"]["template"] == "plain"
    model("Once upon", max_tokens=1)
    assert sent == ["Once upon"]
    results = model.evaluate()["eval_results"]
    assert len(results) == 2 and all(one["input"] in words for one in results)


# --- typed runners -------------------------------------------------------------------------------

TYPED = [(Question(text=f"{n}?"), Legs(animal=f"animal {n}", count=n)) for n in range(12)]


def typed_runner(folder: Path) -> llama.InputOutputRunner:
    return llama.InputOutputRunner(Question, Legs, str(folder))


def test_typed_in_typed_out(tiny_folder: Path, says: Says) -> None:
    runner = typed_runner(tiny_folder)
    asked = says("a fly", "6")
    assert runner(Question(text="Which?"), max_tokens=4) == Legs(animal="a fly", count=6)
    assert asked[0].startswith("Which?") and "which animal" in asked[0]
    says("a fly", "an ox", "6", "4")
    two = runner([{"text": "one"}, Question(text="two")])
    assert two == [Legs(animal="a fly", count=6), Legs(animal="an ox", count=4)]
    says()
    assert runner([]) == []
    for wrong, message in (("Which?", "dict of fields"), ({"txt": "x"}, "text"),
                           ([{"text": "x"}, {"text": 5}], "input 2")):  # fmt: skip
        with pytest.raises(llama.UserError, match=message):
            runner(wrong)
    says("a fly", "none")
    with pytest.raises(llama.APIError, match="'count'"):
        runner({"text": "x"})
    for kinds in ((Question, dict), ({"text": "str"}, Legs), (None, Legs)):
        with pytest.raises(llama.UserError, match=r"must be a subclass of llama\.Type"):
            llama.InputOutputRunner(*kinds, str(tiny_folder))


def test_typed_answers_keep_the_input_order_in_both_shapes(
    tiny_folder: Path, says: Says, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared.settings, "launch_shape", True)
    says("a", "b", "1", "2")
    found = typed_runner(tiny_folder)([{"text": "x"}, {"text": "a longer one"}])
    assert found == [Legs(animal="a", count=1), Legs(animal="b", count=2)]


def test_typed_pairs_in_every_form(tiny_folder: Path, tmp_path: Path) -> None:
    flat = [{"input-text": "0?", "output-animal": "animal 0", "output-count": 0}]
    lines = tmp_path / "p.jsonl"
    lines.write_text(json.dumps(flat[0]), encoding="utf-8")
    pandas.DataFrame(flat).to_csv(tmp_path / "p.csv", index=False)
    as_dicts = ({"text": "0?"}, {"animal": "animal 0", "count": 0})
    other = {"ask-text": "0?", "reply-animal": "animal 0", "reply-count": 0}
    runner = typed_runner(tiny_folder)
    runner.load_data(TYPED[:1])
    runner.load_data([[*as_dicts]])
    runner.load_data([dict(zip(("input", "output"), as_dicts, strict=True))])
    runner.load_data_from_paired_dicts([{"input": TYPED[0][0], "output": TYPED[0][1]}])
    runner.load_data_from_paired_lists([list(TYPED[0])])
    runner.load_data_from_jsonlines(str(lines))
    runner.load_data_from_csv(str(tmp_path / "p.csv"))
    runner.load_data_from_dataframe(pandas.DataFrame(flat))
    runner.load_data([other], input_key="ask", output_key="reply")
    runner.upload_file(str(lines))
    assert runner.data == [{"question": "0?", "answer": "animal: animal 0\ncount: 0"}] * 10


@pytest.mark.parametrize(("wrong", "message"), [
    ([[{"text": "a"}]], "record 1: a pair is wanted"),
    ([{"input": {"text": "a"}}], "record 1: a pair is wanted"),
    ([[{"text": "a"}, {"animal": "b"}]], "record 1, output: field 'count'"),
    ([[{"text": "a"}, {"animal": "b", "count": "two"}]], "field 'count'"),
    ([TYPED[0], [{"txt": "a"}, TYPED[0][1]]], "record 2, input: field 'text'"),
    (["a"], "record 1: a pair is wanted"), ([], "no pairs"), (5, "number"),
    ("none-such.jsonl", "none-such"),
])  # fmt: skip
def test_a_wrong_typed_pair_is_named(tiny_folder: Path, wrong: Any, message: str) -> None:
    runner = typed_runner(tiny_folder)
    with pytest.raises(llama.UserError, match=message):
        runner.load_data(wrong)
    assert runner.data == []


def test_a_broken_line_of_typed_pairs_is_named(tiny_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("{broken\n", encoding="utf-8")
    with pytest.raises(llama.UserError, match=r"p\.jsonl, record 1: (?!a pair)"):
        typed_runner(tiny_folder).load_data_from_jsonlines(str(path))


def test_a_tuned_typed_runner_writes_its_fields(
    tiny_folder: Path, says: Says, sent: list[str]
) -> None:
    runner = typed_runner(tiny_folder)
    runner.load_data(TYPED)
    runner.train(finetune_args=FAST)
    says("animal: a fly\nor two\ncount: 6", "animal: a fly\ncount: 6")
    assert runner({"text": "x"}) == Legs(animal="a fly\nor two", count=6)
    assert runner([{"text": "x"}]) == [Legs(animal="a fly", count=6)]
    for words in ("nothing of it", "animal: a fly", "animal: a fly\ncount: six"):
        says(words)
        with pytest.raises(llama.APIError, match="The model wrote"):
            runner({"text": "x"})


def test_the_engine_takes_its_types_with_each_call(
    tiny_folder: Path, says: Says, sent: list[str]
) -> None:
    class Prompt:
        prompt_template = "Q: {input}"

    engine = llama.LLMEngine("mine", Prompt(), str(tiny_folder), config={})
    assert engine.id == "mine" and engine.prompt_template == "Q: {input}"
    assert isinstance(engine("Hi", max_tokens=1), str)
    assert [isinstance(one, str) for one in engine.run(["a", "b"], max_tokens=1)] == [True, True]
    assert sent == ["Q: Hi", "Q: a", "Q: b"]
    for ask in (engine, engine.run, engine.call):
        says("a fly", "6")
        assert ask(Question(text="x"), Legs) == Legs(animal="a fly", count=6)
        says("a fly", "6")
        assert ask(input=[Question(text="x")], output_type=Legs)[0].count == 6
    with pytest.raises(llama.UserError, match="output_type is missing"):
        engine(Question(text="x"))


@pytest.mark.parametrize("load", ["load_data", "save_data", "add_data"])
def test_the_engine_learns_from_typed_pairs(tiny_folder: Path, says: Says, load: str) -> None:
    engine = llama.LLMEngine(id="mine", model_name=str(tiny_folder))
    getattr(engine, load)(TYPED[:6])
    engine.load_data_from_paired_lists([list(pair) for pair in TYPED[6:]])
    for wrong in ([{"input": "a", "output": "b"}], [], "a", [[Question(text="a"), "b"]], 5):
        with pytest.raises(llama.UserError, match="list of pairs"):
            engine.load_data(wrong)
    assert len(engine.data) == 12
    if load == "load_data":
        engine.train(finetune_args=FAST)
        says("animal: a fly\ncount: 6")
        assert engine(Question(text="x"), Legs) == Legs(animal="a fly", count=6)
        other = llama.LLMEngine(model_name=str(tiny_folder))
        assert other.train(TYPED, finetune_args=FAST)["job_id"] == engine.job_id


# --- Lamini --------------------------------------------------------------------------------------


def test_lamini_generates(tiny_folder: Path, tmp_path: Path, says: Says, sent: list[str]) -> None:
    model = llama.Lamini(str(tiny_folder), None, None, None, {}, system_prompt="Be brief.")
    one = model.generate("Hi", max_tokens=3)
    assert model.generate(["Hi", "You"], max_new_tokens=3)[0] == one == model("Hi", max_tokens=3)
    model.generate("Hi", system_prompt="", max_tokens=1)
    assert sent[:2] == ["Be brief.\n\nHi"] * 2 and sent[-1] == "Hi"
    shutil.copytree(tiny_folder, tmp_path / "other")
    model.generate("Hi", model_name=str(tmp_path / "other"), max_tokens=1)
    assert sent[-1] == "Be brief.\n\nHi"  # the other model is asked as this one is
    with pytest.raises(llama.ModelNameError):
        model.generate("Hi", model_name="nonsense")
    says("4 END", "a END b")
    assert model.generate("Hi", output_type={"n": "int"}) == {"n": 4}
    assert model.generate("Hi", stop=["END"]) == "a "


def test_lamini_trains_here_and_evaluates(tiny_folder: Path) -> None:
    model = llama.Lamini(str(tiny_folder))
    with pytest.raises(llama.UserError, match="call train first"):
        model.evaluate()
    done = model.train(PAIRS, FAST)
    assert done["status"] == "COMPLETED" and done == model.check_job_status()
    assert model.tune_and_wait(PAIRS, finetune_args=FAST) == done  # the same data, not twice
    assert model.train_and_wait(finetune_args=FAST) == done == model.get_jobs()[-1]
    with pytest.raises(llama.UserError, match="record 1"):
        model.train([{"question": "a"}])
    assert len(model.data) == 12
    other = llama.Lamini(str(tiny_folder))
    assert other.evaluate(done["job_id"]) == model.evaluate()
    assert other.model_name == done["job_id"]


# --- the old libraries' names --------------------------------------------------------------------

EVERYTHING = """
import json, sys
from llmcourse import errors, llama as ours
ours.install()
import llama, lamini, config, llama.error, lamini.error.error
from llama import BasicModelRunner, Type, Context, LLMEngine, QuestionAnswerModel
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
assert sys.modules["llama"] is llama and llama.BasicModelRunner is ours.BasicModelRunner
names = ["UserError", "AuthenticationError", "RateLimitError", "ModelNameError",
         "UnavailableResourceError", "APIError"]
for library in (llama, lamini):
    for there in (library, library.error, library.errors, library.error.error):
        for name in names:
            assert getattr(there, name) is getattr(errors, name)
    for name in ours.__all__:
        assert name == "install" or getattr(library, name) is getattr(ours, name)
try:
    lamini.BasicModelRunner("nonsense")
except llama.error.UserError as error:
    assert isinstance(error, lamini.error.ModelNameError) and "secret-key" not in str(error)
    print("told")
model = llama.BasicModelRunner(sys.argv[1])
print(json.dumps([model("Hi", max_tokens=2), repr(model)]))
"""


def test_the_old_imports_work_in_a_fresh_process(tiny_folder: Path, tmp_path: Path) -> None:
    lines = python(EVERYTHING, str(tiny_folder), cwd=tmp_path).splitlines()
    assert "told" in lines and "secret-key" not in "".join(lines)
    answer, shown = json.loads(lines[-1])
    assert isinstance(answer, str) and shown == f"BasicModelRunner({str(tiny_folder)!r})"


def test_what_the_learner_chose_holds_in_the_process(tiny_folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from llmcourse import llama as ours\n"
        "ours.install(substitute=True, launch_shape=True)\n"
        "from llama import BasicModelRunner\n"
        "BasicModelRunner('chat-gpt')\n"
        "print(BasicModelRunner(sys.argv[1])(['Hi'], max_tokens=1)[0].keys())"
    )
    printed = python(code, str(tiny_folder), cwd=tmp_path)
    assert "[substituted] chat-gpt" in printed and "dict_keys(['input', 'output'])" in printed


@pytest.mark.parametrize("library", ["llama", "lamini"])
def test_a_real_package_of_the_name_is_left_alone(library: str, tmp_path: Path) -> None:
    (tmp_path / library).mkdir()
    (tmp_path / library / "__init__.py").write_text("real = True\n")
    code = (
        "import sys; from llmcourse import llama as ours\n"
        "try:\n    ours.install(substitute=True)\n"
        "except ours.UserError as error:\n    print(error)\n"
        f"import {library}; print({library}.real, ours.settings.settings.substitute)\n"
        "print([n for n in ('llama', 'lamini', 'config') if hasattr(sys.modules.get(n), "
        "'__llmcourse__')])"
    )
    printed = python(code, PYTHONPATH=str(tmp_path)).splitlines()
    assert f"called '{library}' is installed here" in printed[0] and "pip uninstall" in printed[0]
    assert "from llmcourse import llama" in printed[0]
    assert printed[1:] == ["True False", "[]"]


def test_the_learners_own_config_and_a_folder_of_weights_stay(tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text("mine = 5\n")
    (tmp_path / "llama").mkdir()  # a folder that is no package
    code = (
        "from llmcourse import llama as ours; ours.install(); import config, llama\n"
        "print(config.mine, llama.BasicModelRunner is ours.BasicModelRunner)"
    )
    assert python(code, cwd=tmp_path, PYTHONPATH=str(tmp_path)) == "5 True\n"


def test_a_missing_dotenv_is_told(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['dotenv'] = None\n"  # as if it were not installed
        "import importlib.util; find = importlib.util.find_spec\n"
        "del sys.modules['dotenv']\n"
        "importlib.util.find_spec = lambda n, *a: None if n == 'dotenv' else find(n, *a)\n"
        "from llmcourse import llama as ours; ours.install()\n"
        "from dotenv import load_dotenv, find_dotenv\n"
        "print(load_dotenv(find_dotenv()))"
    )
    printed = python(code, cwd=tmp_path).splitlines()
    assert "[ignored] load_dotenv: python-dotenv is not installed" in printed[0]
    assert printed[1] == "False"


def test_everything_offered_is_there() -> None:
    assert all(hasattr(llama, name) for name in llama.__all__)
    assert issubclass(llama.ModelNameError, llama.UserError)
    for name in ("AuthenticationError", "RateLimitError", "UnavailableResourceError"):
        assert issubclass(getattr(llama, name), llama.APIError)
    assert generation.generate and not told()
