"""Records become prompts in one place, and mistakes in records are told."""

from __future__ import annotations

from typing import Any

import pytest

from llmcourse.errors import PromptError, TemplateError
from llmcourse.templates import render


def test_alpaca_with_and_without_input() -> None:
    bare = render({"instruction": "Add", "output": "3"}, "alpaca").prompt
    assert "### Input:" not in bare
    assert bare.endswith("### Instruction:\nAdd\n\n### Response:\n")
    assert render({"instruction": "Add", "input": "", "output": "3"}, "alpaca").prompt == bare
    full = render({"instruction": "Add", "input": "1 2", "output": "3"}, "alpaca").prompt
    assert full.endswith("### Instruction:\nAdd\n\n### Input:\n1 2\n\n### Response:\n")


def test_earlier_turns_come_before_the_question() -> None:
    turns = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Well")]
    history = [{"role": role, "content": content} for role, content in turns]
    record = {"question": "Why?", "answer": "So.", "history": history}
    parts = render(record, "llama2").parts
    system = "<<SYS>>\nBe brief.\n<</SYS>>\n\n"
    assert parts == (f"[INST] {system}Hi [/INST]", "Hello", "\n\n[INST] Well\nWhy? [/INST]", "So.")
    assert render(record).parts == ("Be brief.\n\nHi", "Hello", "\n\nWell\nWhy?", "So.")
    assert render(record, system="Be long.").parts[0] == "Be brief.\n\nHi"  # its own comes first


def test_braces_in_a_record_stay_text() -> None:
    record = {"instruction": "Print {input} and {question}", "input": "{question}"}
    assert (
        "Print {input} and {question}\n\n### Input:\n{question}\n"
        in render(record, "alpaca").prompt
    )


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"q": "Hi", "a": "Ho"}, "'question' or 'instruction' or 'prompt'.*It has: 'q', 'a'.$"),
        ({f"f{n}": "x" for n in range(99)}, "It has: 'f0', .*'f7' and 91 more.$"),
        ({"question": 7}, "needs text in the field"),
        (["Hi"], "is text or a record"),
    ],
)
def test_a_record_without_a_question_is_refused(record: Any, message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        render(record, "plain")


def test_empty_questions_and_unknown_templates_are_refused() -> None:
    for record in ({"question": "  "}, "", "\u200b\n"):
        with pytest.raises(PromptError, match="The question is empty"):
            render(record, "plain")
    with pytest.raises(TemplateError, match="no template 'chatml'.*plain, qa, alpaca"):
        render("Hi", "chatml")
