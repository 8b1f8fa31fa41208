"""Encoding: exact masks, one end token, nothing lost in silence, records that stay apart."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
import torch
from datasets import Dataset
from hypothesis import given, strategies
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from llmcourse import company, generation, models, templates
from llmcourse.encoding import (
    UNTRAINED,
    Collator,
    batches_by_length,
    encode,
    padding_share,
)
from llmcourse.errors import DataError, SettingError, TemplateError

RECORDS = company.records("questions", "train")[:40]
RECORDS.append({"question": "Add", "input": "1 2", "answer": "  3\n\n\tdone — 日本 🎉 "})
CASES = [("gemma", "qa"), ("gemma", "alpaca"), ("smol", "chat"), ("smol", "qa")]


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, PreTrainedTokenizerBase]:
    """The packaged models' tokenizers, as they are on disk."""
    names = {"gemma": "gemma-3-270m", "smol": "smollm2-135m-instruct"}
    return {key: AutoTokenizer.from_pretrained(models.convert(n)) for key, n in names.items()}


@pytest.fixture(scope="module")
def gemma(tokenizers: dict[str, PreTrainedTokenizerBase]) -> PreTrainedTokenizerBase:
    return tokenizers["gemma"]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small are slower on many threads, and wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def record(words: int = 3, **fields: str) -> dict[str, str]:
    return {"question": "one two three four five", "answer": "six " * words} | fields


def split(row: dict[str, Any]) -> tuple[list[int], list[int]]:
    """A row's ids that are only read, and those that are trained on."""
    border = next(n for n, label in enumerate(row["labels"]) if label != UNTRAINED)
    assert row["labels"] == [UNTRAINED] * border + row["input_ids"][border:]
    return row["input_ids"][:border], row["input_ids"][border:]


# --- what a row holds ----------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "template"), CASES)
def test_only_answer_and_end_are_trained_on(
    tokenizers: dict[str, PreTrainedTokenizerBase], name: str, template: str
) -> None:
    tokenizer = tokenizers[name]
    encoded = encode(RECORDS, tokenizer, template)
    assert encoded.dataset["record"][:] == list(range(len(RECORDS)))
    for source, row in zip(RECORDS, encoded.dataset, strict=True):
        read, trained = split(row)
        wanted = templates.render(source, template, tokenizer=tokenizer)
        assert tokenizer.decode(trained) == source["answer"] + tokenizer.eos_token
        begin = tokenizer.bos_token if name == "gemma" else ""
        assert tokenizer.decode(read) == begin + wanted.prompt
        assert row["length"] == len(row["input_ids"])
        assert trained.count(tokenizer.eos_token_id) == 1
        if name == "gemma":
            assert row["input_ids"].count(tokenizer.bos_token_id) == 1
    assert (encoded.cut, encoded.left_out) == ([], [])


@pytest.mark.parametrize(("name", "template"), CASES)
@pytest.mark.parametrize("system", [None, "Be brief."])
def test_the_prompt_is_what_generation_sends(
    tokenizers: dict[str, PreTrainedTokenizerBase], name: str, template: str, system: str | None
) -> None:
    embeddings = SimpleNamespace(num_embeddings=10**6)
    model: Any = SimpleNamespace(
        tokenizer=tokenizers[name],
        context_length=8192,
        title="x",
        model=SimpleNamespace(get_input_embeddings=lambda: embeddings),
    )
    asked = [
        templates.render(one, template, tokenizer=model.tokenizer, system=system) for one in RECORDS
    ]
    rows = encode(RECORDS, tokenizers[name], template, system=system).dataset
    assert [split(row)[0] for row in rows] == [
        generation.prompt_ids(model, one, "it") for one in asked
    ]


def test_a_chat_template_that_begins_the_text_gets_no_second_beginning() -> None:
    tokenizer = word_tokenizer()
    tokenizer.chat_template = "<bos> {{ messages[-1]['content'] }}"
    row = encode([record(1)], tokenizer, "chat").dataset[0]
    assert tokenizer.decode(row["input_ids"]) == "<bos> one two three four five six <eos>"


def test_the_labs_faults_can_be_shown(gemma: PreTrainedTokenizerBase) -> None:
    good = encode([record()], gemma).dataset[0]
    whole = encode([record()], gemma, mask_prompt=False).dataset[0]
    assert whole["input_ids"] == good["input_ids"]
    assert whole["labels"] == [UNTRAINED, *good["input_ids"][1:]]
    endless = encode([record()], gemma, add_end=False).dataset[0]
    assert endless["input_ids"] == good["input_ids"][:-1]


def test_text_is_all_completion(tokenizers: dict[str, PreTrainedTokenizerBase]) -> None:
    for name, read in (("gemma", [2]), ("smol", [])):
        row = encode([{"text": "Mars is red."}], tokenizers[name]).dataset[0]
        ids = tokenizers[name]("Mars is red.", add_special_tokens=False).input_ids
        assert row["input_ids"] == [*read, *ids, tokenizers[name].eos_token_id]
        assert row["labels"] == [UNTRAINED, *row["input_ids"][1:]]


def test_a_tokenizer_that_ends_every_text_does_not_end_the_prompt() -> None:
    tokenizer = word_tokenizer(single="$A <eos>")
    assert tokenizer("six").input_ids[-1] == tokenizer.eos_token_id
    row = encode([record()], tokenizer, "plain").dataset[0]
    assert tokenizer.decode(row["input_ids"]) == "one two three four five six six six <eos>"
    assert len(split(row)[0]) == 5


def word_tokenizer(single: str = "<bos> $A") -> PreTrainedTokenizerBase:
    """A tokenizer of a few whole words."""
    from tokenizers import Tokenizer, pre_tokenizers, processors
    from tokenizers import models as kinds
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<bos>", "<eos>", "<unk>", "one", "two", "three", "four", "five", "six"]
    inner = Tokenizer(kinds.WordLevel({word: n for n, word in enumerate(words)}, "<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(
        single=single, special_tokens=[("<bos>", 1), ("<eos>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
    )


def test_rows_are_counted_and_reported(gemma: PreTrainedTokenizerBase) -> None:
    encoded = encode([record(), record(900), record()], gemma)
    rows = list(encoded.dataset)
    assert len(encoded) == 2 and encoded.left_out == [1]
    assert encoded.tokens == sum(row["length"] for row in rows)
    assert encoded.trained_tokens == sum(len(split(row)[1]) for row in rows)
    assert "3 records in" in encoded.as_text() and "1 (record 1)" in encoded.as_text()


# --- too long ------------------------------------------------------------------------------------


def fitted(words: int, too_long: str, template: str = "plain", **question: str) -> tuple[Any, str]:
    """What becomes of one record in 9 tokens: the result, and the row as text."""
    tokenizer = word_tokenizer()
    encoded = encode(
        [record(words, **question)], tokenizer, template, max_length=9, too_long=too_long
    )
    return encoded, tokenizer.decode(encoded.dataset[0]["input_ids"]) if len(encoded) else ""


@pytest.mark.parametrize(
    ("words", "too_long", "text"),
    [
        (3, "leave out", ""),
        (3, "cut prompt", "<bos> two three four five six six six <eos>"),
        (6, "cut prompt", "<bos> five six six six six six six <eos>"),
        (7, "cut prompt", ""),
        (3, "cut completion", "<bos> one two three four five six six six"),
        (9, "cut completion", "<bos> one two three four five six six six"),
    ],
)
def test_what_is_too_long_is_cut_or_left_out_and_listed(
    words: int, too_long: str, text: str
) -> None:
    encoded, found = fitted(words, too_long)
    assert found == text
    assert encoded.cut == ([0] if text else []) and encoded.left_out == ([] if text else [0])
    if text:
        read, trained = split(encoded.dataset[0])
        assert len(read) + len(trained) == 9
        assert len(trained) == (words + 1 if too_long == "cut prompt" else 3)


# --- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("records", "options", "error", "message"),
    [
        ([], {}, DataError, "no records"),
        ([record(), record(answer=" \n")], {}, DataError, "record 2, field 'answer': blank"),
        (Dataset.from_list([record(answer=" ")]), {}, DataError, "Record 0 .* no answer"),
        ([record()], {"max_length": 7}, SettingError, "max_length=7 must .* at least 8"),
        ([record()], {"template": "chat"}, TemplateError, "^This model has no chat template"),
        ([record()], {"tokenizer": "base"}, SettingError, r"models.load_tokenizer\('base'\)"),
    ],
)
def test_mistakes_are_named(records: Any, options: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        encode(records, **{"tokenizer": word_tokenizer()} | options)


# --- many records --------------------------------------------------------------------------------


def test_two_workers_give_the_same_rows(tokenizers: dict, capfd: pytest.CaptureFixture) -> None:
    environment, before = os.environ, dict(os.environ)
    data = Dataset.from_list(RECORDS).select_columns(["question", "answer"])
    options = {"template": "chat", "max_length": 60}  # some are left out
    one, two = (encode(data, tokenizers["smol"], workers=n, **options) for n in (1, 2))
    assert list(one.dataset) == list(two.dataset) and one.left_out == two.left_out != []
    assert one.dataset.features == two.dataset.features
    assert os.environ is environment and dict(os.environ) == before
    assert capfd.readouterr() == ("", "")


def test_nothing_is_written_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("LLMCOURSE_CACHE", "HF_DATASETS_CACHE", "TMPDIR"):
        monkeypatch.setenv(variable, str(tmp_path))
    encode([record()] * 50, word_tokenizer())
    assert list(tmp_path.iterdir()) == []


# --- conversations -------------------------------------------------------------------------------

TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Is it far? "},
    {"role": "assistant", "content": "  No.\n"},
    {"role": "user", "content": "And the mill?"},
    {"role": "assistant", "content": "Behind the shed."},
    {"role": "user", "content": "Thanks"},
    {"role": "assistant", "content": "You are welcome, of course."},
]
GENERATION = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}"
    "{% endif %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}{% else %}"
    "{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("turns", [3, 5, 7])
def test_every_turn_of_the_assistant_is_trained_on(
    tokenizers: dict[str, PreTrainedTokenizerBase], start: int, turns: int
) -> None:
    """As the mask of the library says, on the packaged template with its tags added."""
    tokenizer = copy.deepcopy(tokenizers["smol"])
    messages = [turn | {"content": turn["content"].strip()} for turn in TURNS[start:turns]]
    [row] = encode([{"messages": messages}], tokenizer, "chat").dataset
    own = tokenizer.apply_chat_template(messages, tokenize=False)
    tokenizer.chat_template = GENERATION
    assert tokenizer.apply_chat_template(messages, tokenize=False) == own
    wanted = tokenizer.apply_chat_template(
        messages, return_dict=True, return_assistant_tokens_mask=True
    )
    last = len(row["input_ids"])  # the library goes on with a line end
    assert row["input_ids"] == wanted["input_ids"][:last]
    assert tokenizer.decode(wanted["input_ids"][last:]) == "\n"
    mask = [int(label != UNTRAINED) for label in row["labels"]]
    assert mask == wanted["assistant_masks"][:last]
    assert encode([{"messages": messages}], tokenizer, "chat").dataset[0] == row


def test_a_conversation_by_turns_in_other_templates_too(gemma: PreTrainedTokenizerBase) -> None:
    [row] = encode([{"messages": TURNS}], gemma, "qa", system="Not this one.").dataset
    assert gemma.decode(row["input_ids"]) == (
        "<bos>Be brief.\n\n### Question:\nIs it far? \n\n### Answer:\n  No.\n<eos>\n\n"
        "### Question:\nAnd the mill?\n\n### Answer:\nBehind the shed.<eos>\n\n"
        "### Question:\nThanks\n\n### Answer:\nYou are welcome, of course.<eos>"
    )
    last = encode([{"messages": TURNS}], gemma, "qa", every_turn=False).dataset[0]
    assert last["input_ids"] == row["input_ids"]
    for labels, count in ((row["labels"], 3), (last["labels"], 1)):
        assert labels.count(gemma.eos_token_id) == count and labels[-1] == gemma.eos_token_id


def test_a_long_conversation_loses_its_beginning(gemma: PreTrainedTokenizerBase) -> None:
    [whole] = encode([{"messages": TURNS}], gemma, "qa").dataset
    cut = encode([{"messages": TURNS}], gemma, "qa", max_length=40, too_long="cut prompt")
    [row] = cut.dataset
    assert row["input_ids"] == [gemma.bos_token_id, *whole["input_ids"][-39:]]
    assert row["labels"][1:] == whole["labels"][-39:] and cut.cut == [0]


def test_a_template_that_forgets_turns_is_refused() -> None:
    tokenizer = word_tokenizer()
    tokenizer.chat_template = "<bos> {{ messages[-1]['content'] }}"
    with pytest.raises(TemplateError, match="leaves turns of this conversation out"):
        encode([{"messages": TURNS}], tokenizer, "chat")


# --- batches -------------------------------------------------------------------------------------


def test_batches_are_padded_on_the_right(tokenizers: dict) -> None:
    """With a tokenizer whose padding token is its end token, as many are by themselves."""
    tokenizer = tokenizers["smol"]
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    rows = list(encode(RECORDS[:8], tokenizer).dataset)
    batch = Collator(tokenizer)(rows)
    width = max(row["length"] for row in rows)
    assert list(batch) == ["input_ids", "labels", "attention_mask"]
    assert {(part.shape, part.dtype) for part in batch.values()} == {((8, width), torch.int64)}
    for line, row in enumerate(rows):
        alone = Collator(tokenizer)([row])
        size = row["length"]
        for name, fill in (
            ("input_ids", tokenizer.pad_token_id),
            ("labels", UNTRAINED),
            ("attention_mask", 0),
        ):
            assert batch[name][line, :size].tolist() == alone[name][0].tolist()
            assert batch[name][line, size:].tolist() == [fill] * (width - size)
        assert alone["input_ids"][0].tolist() == row["input_ids"]
        assert alone["labels"][0, -1] == tokenizer.eos_token_id
        assert alone["attention_mask"].all()


@given(
    strategies.lists(strategies.integers(1, 50), max_size=60),
    strategies.integers(1, 9),
    strategies.integers(0, 99),
)
def test_batches_by_length_hold_every_record_once(lengths: list, size: int, seed: int) -> None:
    batches = batches_by_length(lengths, size, seed=seed)
    assert sorted(n for batch in batches for n in batch) == list(range(len(lengths)))
    assert sorted(map(len, batches), reverse=True)[:-1] == [size] * (len(batches) - 1)
    assert batches == batches_by_length(numpy.array(lengths), size, seed=seed)
    ordered = batches_by_length(lengths, size, shuffle=False)
    flat = [lengths[n] for batch in ordered for n in batch]
    assert flat == sorted(lengths)
    assert sorted(map(len, ordered)) == sorted(map(len, batches))
    assert padding_share(lengths, batches) == pytest.approx(padding_share(lengths, ordered))


def test_the_border_is_where_the_prompt_ends_even_if_tokens_would_merge(
    tokenizers: dict[str, PreTrainedTokenizerBase],
) -> None:
    """Tokenized in one go the two texts would be other ids; the model never sees those."""
    tokenizer: Callable[..., Any] = tokenizers["gemma"]
    text = record(question="Say\n", answer="\nyes")
    row = encode([text], tokenizers["gemma"], "plain").dataset[0]
    assert split(row)[0] == tokenizer("Say\n").input_ids
    assert row["input_ids"][:-1] != tokenizer("Say\n\nyes").input_ids
