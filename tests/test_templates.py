"""Records become prompts in one place, and mistakes in records are told."""

from __future__ import annotations

import pytest

from llmcourse.errors import PromptError, TemplateError
from llmcourse.models import LoadedModel
from llmcourse.templates import render


def test_plain_sends_the_text_as_it_is() -> None:
    assert render("Mars is").prompt == "Mars is"
    assert render({"question": "Mars is"}, "plain").prompt == "Mars is"


@pytest.mark.parametrize(
    "record",
    [
        {"question": "Why?", "answer": "So."},
        {"instruction": "Why?", "response": "So."},
        {"instruction": "Why?", "output": "So."},
        {"prompt": "Why?", "completion": "So."},
    ],
)
def test_the_usual_field_names_are_known(record: dict) -> None:
    rendered = render(record, "qa")
    assert rendered.prompt == "### Question:\nWhy?\n\n### Answer:\n"
    assert rendered.completion == "So."


def test_alpaca_with_and_without_input() -> None:
    bare = render({"instruction": "Add", "output": "3"}, "alpaca").prompt
    assert "### Input:" not in bare
    assert bare.endswith("### Instruction:\nAdd\n\n### Response:\n")
    assert render({"instruction": "Add", "input": "", "output": "3"}, "alpaca").prompt == bare
    full = render({"instruction": "Add", "input": "1 2", "output": "3"}, "alpaca").prompt
    assert full.endswith("### Instruction:\nAdd\n\n### Input:\n1 2\n\n### Response:\n")


def test_llama2_puts_the_system_text_inside_its_tags() -> None:
    assert render("Hi", "llama2").prompt == "[INST] Hi [/INST]"
    wanted = "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST]"
    assert render("Hi", "llama2", system="Be brief.").prompt == wanted


def test_system_text_stands_before_other_prompts() -> None:
    assert render("Hi", "plain", system="Be brief.").prompt == "Be brief.\n\nHi"


def test_braces_in_a_record_stay_text() -> None:
    record = {"instruction": "Print {input} and {question}", "input": "{question}"}
    assert (
        "Print {input} and {question}\n\n### Input:\n{question}\n"
        in render(record, "alpaca").prompt
    )


def test_the_models_own_template(chat32: LoadedModel) -> None:
    rendered = render("Hi", "chat", tokenizer=chat32.tokenizer, system="Be brief.")
    assert rendered.prompt.startswith("<|im_start|>system\nBe brief.<|im_end|>")
    assert rendered.prompt.endswith("<|im_start|>assistant\n")
    assert rendered.special


def test_a_model_without_chat_template_says_so(base32: LoadedModel) -> None:
    with pytest.raises(TemplateError, match='no chat template.*template="plain"'):
        render("Hi", "chat", tokenizer=base32.tokenizer)


@pytest.mark.parametrize(
    ("record", "error", "message"),
    [
        (
            {"q": "Hi", "a": "Ho"},
            TemplateError,
            "no field 'question' or 'instruction' or 'prompt' for the question. It has: 'q', 'a'.",
        ),
        ({}, TemplateError, "It has: no fields at all."),
        ({f"f{n}": "x" for n in range(99)}, TemplateError, "It has: 'f0', .*'f7' and 91 more.$"),
        ({"y" * 999 + "'": "x", "a\n": "x"}, TemplateError, r"""It has: "y{40}…", 'a\\n'.$"""),
        ({"question": 7}, TemplateError, "Field 'question' must be text, but it is int: 7"),
        (["Hi"], TemplateError, "must be a mapping of field names to text, not list"),
        ({"question": "  "}, PromptError, "The question is empty"),
        ("", PromptError, "The question is empty"),
    ],
)
def test_mistakes_are_told(record: object, error: type, message: str) -> None:
    with pytest.raises(error, match=message.replace("(", r"\(")):
        render(record, "plain")


def test_an_unknown_template_lists_the_known() -> None:
    with pytest.raises(TemplateError, match="no template 'chatml'.*plain, qa, alpaca"):
        render("Hi", "chatml")
