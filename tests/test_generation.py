"""Answers: the same one at a time and in batches, only the new text, in input order."""

from __future__ import annotations

import sys
import threading
from types import SimpleNamespace
from typing import Any

import pandas
import pytest
import torch

from llmcourse import models, progress
from llmcourse.errors import NotFinite, PromptError, SettingError, TemplateError
from llmcourse.finetuning import finetune
from llmcourse.generation import generate
from llmcourse.models import LoadedModel
from llmcourse.prompts import INSTRUCTIONS, QUESTIONS

PROMPTS = (*INSTRUCTIONS[:2], "Mars", QUESTIONS[0], "A longer prompt. " * 12)
SHOTS = "Question: How many legs has a spider?\nAnswer: Eight.\n\n" * 3 + "Question: "


@pytest.mark.parametrize("role", ["base", "chat"])
@pytest.mark.model
def test_batched_answers_are_those_given_one_at_a_time(
    role: str, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(f"{role}32")
    together = generate(model, PROMPTS, max_new_tokens=10, batch_size=5)
    alone = [generate(model, prompt, max_new_tokens=10)[0] for prompt in PROMPTS]
    assert [a.text for a in together] == [a.text for a in alone]
    assert [a.finished for a in together] == [a.finished for a in alone]
    assert [a.new_tokens for a in together] == [a.new_tokens for a in alone]
    assert [a.prompt for a in together] == list(PROMPTS)  # input order, whatever the lengths


@pytest.mark.parametrize("role", ["base", "chat"])
@pytest.mark.model
def test_what_prompts_begin_with_is_read_once(role: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(f"{role}32")
    prompts = [f"{SHOTS}{question}\nAnswer:" for question in QUESTIONS[:4]]
    read = []
    hook = model.model.get_input_embeddings().register_forward_hook(
        lambda _, inputs, __: read.append(inputs[0].shape)
    )
    together = generate(model, prompts, max_new_tokens=6)
    hook.remove()
    assert read[0][0] == 1 and read[1][0] == len(prompts) and read[0][1] > read[1][1]
    alone = [generate(model, prompt, max_new_tokens=6)[0] for prompt in prompts]
    assert [a.text for a in together] == [a.text for a in alone]
    assert [a.prompt_tokens for a in together] == [a.prompt_tokens for a in alone]


def test_answers_are_transformers_own(chat32: LoadedModel) -> None:
    """The same as `model.generate` on the rendered prompt, cut by token count."""
    answer = generate(chat32, "Name a colour", max_new_tokens=16)[0]
    ids = chat32.tokenizer(answer.sent, return_tensors="pt", add_special_tokens=False).input_ids
    out = chat32.model.generate(ids, max_new_tokens=16, do_sample=False)[0, ids.shape[1] :]
    assert answer.text == chat32.tokenizer.decode(out, skip_special_tokens=True)
    assert answer.prompt_tokens == ids.shape[1]


def test_an_answer_that_ends_is_told_from_one_cut_off(chat32: LoadedModel) -> None:
    questions = ["What is the capital of Mexico?", "Tell me about Mars"]
    ended, cut = generate(chat32, questions, max_new_tokens=24)
    assert ended.finished and ended.new_tokens < 24
    assert not cut.finished and cut.new_tokens == 24


def test_the_remembered_template_is_used(chat32: LoadedModel, base32: LoadedModel) -> None:
    assert generate(chat32, "Hi", max_new_tokens=1)[0].sent.startswith("<|im_start|>")
    assert generate(chat32, "Hi", "plain", max_new_tokens=1)[0].sent == "Hi"
    assert generate(base32, "Hi", max_new_tokens=1)[0].sent == "Hi"


def test_drawing_is_reproducible_by_seed_and_leaves_torchs_state(chat32: LoadedModel) -> None:
    def draw(seed: int) -> str:
        return generate(chat32, "Tell a story", max_new_tokens=12, temperature=1.0, seed=seed)[
            0
        ].text

    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    assert draw(1) == draw(1) != draw(2)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("prompts", "options", "error", "message"),
    [
        (["Hi", " \n"], {}, PromptError, "Prompt 2 of 2: The question is empty"),
        (["Hi", {"text": "x"}], {}, TemplateError, "Prompt 2 of 2: "),
        ("\udcff", {}, PromptError, "characters that are no text"),
        ("Hi", {"batch_size": 0}, SettingError, "batch_size=0"),
        ("Hi", {"temperature": -1}, SettingError, "temperature=-1"),
        ("word " * 9000, {}, PromptError, r"has 9\d{3} tokens, but .* 8192 tokens in all"),
    ],
)
def test_what_cant_be_answered_is_refused_before_any_work(
    chat32: LoadedModel, prompts: Any, options: dict, error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        generate(chat32, prompts, **options)
    if error is not SettingError and not options:  # or it is noted, and the others are answered
        failures: dict[int, str] = {}
        prompts = [*(prompts if isinstance(prompts, list) else ["Hi", prompts]), "Hi"]
        answers = generate(chat32, prompts, max_new_tokens=1, failures=failures)
        assert [answer is None for answer in answers] == [False, True, False]
        assert list(failures) == [1]


def test_one_record_is_one_prompt_and_any_iterable_will_do(chat32: LoadedModel) -> None:
    record = {"question": "Name a colour"}
    one = generate(chat32, record, max_new_tokens=4)
    assert len(one) == 1 and one[0].prompt == "Name a colour"
    for many in (
        (q for q in ("Name a colour", "Hi")),
        pandas.DataFrame([record, {"question": "Hi"}]),
    ):
        answers = generate(chat32, many, max_new_tokens=4)
        assert [a.prompt for a in answers] == ["Name a colour", "Hi"]
        assert answers[0].text == one[0].text
    assert generate(chat32, []) == []
    with pytest.raises(SettingError, match=r"Load it first, e.g. models.load\('chat'\)"):
        generate("chat", "Hi")


def small_machine(rows: int, error: Exception) -> LoadedModel:
    """A stand-in whose memory holds `rows` prompts; it writes token 7, then the end token 9."""
    seen: list[int] = []

    def run(ids: torch.Tensor, **_: object) -> torch.Tensor:
        if len(ids) > rows:
            raise error
        seen.append(len(ids))
        return torch.cat([ids, torch.tensor([[7, 9]] * len(ids))], dim=1)

    config = SimpleNamespace(max_position_embeddings=100, get_text_config=lambda: config)
    model = SimpleNamespace(
        device=torch.device("cpu"),
        dtype=torch.bfloat16,
        generate=run,
        seen=seen,
        generation_config=SimpleNamespace(eos_token_id=9),
        config=config,
        get_input_embeddings=lambda: SimpleNamespace(num_embeddings=10),
        get_output_embeddings=torch.nn.Identity,
        training=False,
        eval=lambda: None,
        train=lambda mode: None,
    )

    class Words:
        """A tokenizer of words, all of which are number 1."""

        pad_token_id, eos_token_id = 0, 9

        def __call__(self, texts: list[str], **_: Any) -> Any:
            return SimpleNamespace(input_ids=[[1] * len(text.split()) for text in texts])

        def decode(self, ids: list[int], **_: Any) -> str:
            return " ".join(map(str, ids))

    return LoadedModel(model, Words(), "stand-in", "plain")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes"),
        MemoryError(),
    ],
)
def test_a_batch_is_halved_where_memory_runs_out(error: Exception) -> None:
    model = small_machine(2, error)
    answers = generate(model, [f"p{n} " * (n + 1) for n in range(7)], batch_size=7)
    assert [a.prompt.split()[0] for a in answers] == [f"p{n}" for n in range(7)]
    assert all(a.text == "7" and a.finished for a in answers)
    assert max(model.model.seen) <= 2 and sum(model.model.seen) == 7


def test_what_halving_does_not_help_is_told() -> None:
    with pytest.raises(PromptError, match="too small for one prompt"):
        generate(small_machine(0, MemoryError()), "one two three")
    with pytest.raises(RuntimeError, match="shapes do not match"):
        generate(small_machine(0, RuntimeError("shapes do not match")), "Hi")
    model = small_machine(2, MemoryError())
    model.model.get_input_embeddings = lambda: SimpleNamespace(num_embeddings=1)
    with pytest.raises(PromptError, match="tokenizer belongs to another model"):
        generate(model, "one two")


CELL = """
from llmcourse.progress import bar
with bar(9, "Nine", enabled=True) as line:
    line.update(2)
    raise KeyboardInterrupt
"""


def test_an_interrupt_in_a_notebook_is_told_in_one_line() -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    NotebookClient(notebook, kernel_name="python3", timeout=120, allow_errors=True).execute()
    line, error = notebook.cells[0].outputs
    assert line["data"]["text/plain"].startswith("Nine: stopped after 00:0")
    assert error["ename"] == "KeyboardInterrupt"
    [told] = error["traceback"]
    assert told.startswith("KeyboardInterrupt: stopped by you")


def test_two_threads_that_are_quiet_put_everything_back() -> None:
    import warnings

    from transformers.utils import logging as hf

    before = sys.stderr, hf.get_verbosity(), list(warnings.filters)
    inside, over = threading.Event(), threading.Event()

    def longer() -> None:
        with progress.quiet():
            inside.set()
            over.wait(10)

    thread = threading.Thread(target=longer)
    with progress.quiet():
        thread.start()
        assert inside.wait(10)
    assert sys.stderr is not before[0], "the other one still wants it quiet"
    over.set()
    thread.join()
    assert (sys.stderr, hf.get_verbosity(), list(warnings.filters)) == before


# --- numbers that are none ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "way_out"), [(torch.float16, "dtype=torch.float32"), (torch.float32, "are damaged")]
)
def test_logits_that_are_not_finite_are_told(
    tiny: models.LoadedModel, kind: torch.dtype, way_out: str
) -> None:
    tiny.model.to(kind)
    with torch.no_grad():
        tiny.model.model.layers[0].mlp.down_proj.weight[0, 0] = torch.inf
    with pytest.raises(NotFinite, match=way_out):
        generate(tiny, "Why?", max_new_tokens=3, progress=False)
    with pytest.raises(NotFinite, match=way_out):
        finetune(tiny, [{"question": "Why?", "answer": "So."}], progress=False)
