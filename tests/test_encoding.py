"""Encoding: exact masks, one end token, nothing lost in silence, records that stay apart."""

from __future__ import annotations

import errno
import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy
import pandas
import pytest
import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
)

from llmcourse import company, encoding, generation, models, templates
from llmcourse.encoding import (
    UNTRAINED,
    Collator,
    batches_by_length,
    check_packing,
    encode,
    pack,
    padding_share,
)
from llmcourse.encoding.packing import first_fit_decreasing
from llmcourse.errors import CourseError, DataError, NoSpace, SettingError, TemplateError

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


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder; returns where rows go."""
    monkeypatch.setenv("LLMCOURSE_CACHE", str(tmp_path))
    return tmp_path / "records"


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
        tokenizer=tokenizers[name], context_length=8192, title="x",
        model=SimpleNamespace(get_input_embeddings=lambda: embeddings),
    )  # fmt: skip
    jobs = generation._prepare(model, RECORDS, template, system, 10)
    rows = encode(RECORDS, tokenizers[name], template, system=system).dataset
    assert [split(row)[0] for row in rows] == [job.ids for job in jobs]


def test_a_chat_template_that_begins_the_text_gets_no_second_beginning() -> None:
    tokenizer = word_tokenizer()
    tokenizer.chat_template = "<bos> {{ messages[-1]['content'] }}"
    row = encode([record(1)], tokenizer, "chat").dataset[0]
    assert tokenizer.decode(row["input_ids"]) == "<bos> one two three four five six <eos>"


def test_the_end_token_is_one_that_generation_stops_at(gemma: PreTrainedTokenizerBase) -> None:
    model: Any = SimpleNamespace(
        tokenizer=gemma,
        model=SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=None)),
    )
    row = encode([record()], gemma).dataset[0]
    assert row["input_ids"][-1] in generation.end_tokens(model)


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
        tokenizer_object=inner, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>",
        unk_token="<unk>",
    )  # fmt: skip


def test_rows_are_counted_and_told(gemma: PreTrainedTokenizerBase) -> None:
    encoded = encode([record(), record(900), record()], gemma)
    rows = list(encoded.dataset)
    assert len(encoded) == 2 and encoded.left_out == [1]
    assert encoded.tokens == sum(row["length"] for row in rows)
    assert encoded.trained_tokens == sum(len(split(row)[1]) for row in rows)
    told = encoded.as_text()
    assert "3 records in, template 'qa', at most 512 tokens" in told
    assert "2 encoded; shortened: none; left out as too long: 1 (record 1)" in told
    share = 100 * encoded.trained_tokens / encoded.tokens
    assert f"{encoded.tokens} tokens, {encoded.trained_tokens} ({share:.0f} %)" in told


# --- too long ------------------------------------------------------------------------------------


def fitted(words: int, too_long: str, template: str = "plain", **question: str) -> tuple[Any, str]:
    """What becomes of one record in 9 tokens: the result, and the row as text."""
    tokenizer = word_tokenizer()
    encoded = encode(
        [record(words, **question)], tokenizer, template, max_length=9, too_long=too_long
    )
    return encoded, tokenizer.decode(encoded.dataset[0]["input_ids"]) if len(encoded) else ""


@pytest.mark.parametrize("too_long", encoding.TOO_LONG)
def test_what_just_fits_is_left_alone(too_long: str) -> None:
    encoded, text = fitted(2, too_long)
    assert text == "<bos> one two three four five six six <eos>"
    assert (encoded.cut, encoded.left_out) == ([], [])


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
def test_what_is_too_long_is_cut_or_left_out_and_told(words: int, too_long: str, text: str) -> None:
    encoded, found = fitted(words, too_long)
    assert found == text
    assert encoded.cut == ([0] if text else []) and encoded.left_out == ([] if text else [0])
    if text:
        read, trained = split(encoded.dataset[0])
        assert len(read) + len(trained) == 9
        assert len(trained) == (words + 1 if too_long == "cut prompt" else 3)


def test_a_prompt_that_fills_the_row_is_left_out() -> None:
    encoded, _ = fitted(1, "cut completion", question="one " * 8)
    assert encoded.left_out == [0] and len(encoded) == 0
    assert "left out as too long: 1" in encoded.as_text()


def test_an_error_names_record_tokens_and_way_out() -> None:
    with pytest.raises(DataError, match=r"Record 0 \(counted from 0\) has 10 tokens.*cut prompt"):
        fitted(3, "error")


# --- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("records", "options", "error", "message"),
    [
        ([], {}, DataError, "There are no records"),
        (record(), {}, DataError, "A list of records or a data set is wanted, not dict"),
        ("my.csv", {}, DataError, r"data.load_records\('my.csv'\)"),
        (Path("my.csv"), {}, DataError, r"Load records first: data.load_records"),
        (pandas.DataFrame([record()]), {}, DataError, r"data.load_records\(frame\)"),
        (datasets.DatasetDict(train=Dataset.from_list([record()])), {}, DataError,
         r"several data sets: 'train'. Choose one, such as records\['train'\]"),
        (Dataset.from_list([record()]).to_iterable_dataset(), {}, DataError,
         r"is a stream.*list\(records.take\(1000\)\)"),
        (7, {}, DataError, "A list of records or a data set is wanted, not int"),
        ([record(), "Hi"], {}, DataError, "Record 1 .* is str; a mapping"),
        ([record(), {"question": "Hi"}], {}, DataError, "Record 1 .*no field 'answer' or"),
        ([record(), record(answer=" \n")], {}, DataError, "Record 1 .*, field 'answer': blank"),
        ([{"instruction": "Hi", "response": ""}], {}, DataError, "Record 0 .*, field 'response'"),
        ([record(), record(question=" ")], {}, DataError, "Record 1 .*, field 'question': blank"),
        ([{"text": " "}], {}, DataError, "Record 0 .*, field 'text': blank"),
        ([{"q": "Hi"}], {}, DataError, "Record 0 .*no field 'question' or"),
        ([record() | {"answer": 7}], {}, DataError, "Record 0 .*must be text, but it is int: 7"),
        ([record(answer="\udcff")], {}, DataError, "Record 0 .*'answer': .* no text"),
        ([record()], {"too_long": "cut"}, SettingError, "too_long='cut' is not known"),
        ([record()], {"max_length": 7}, SettingError, "max_length=7 must .* at least 8"),
        ([record()], {"max_length": 9.5}, SettingError, "max_length=9.5"),
        ([record()], {"workers": 0}, SettingError, "workers=0"),
        ([record()], {"system": 3}, SettingError, "system=3 must be text"),
        ([record()], {"template": "qq"}, TemplateError, "^There is no template 'qq'"),
        ([record()], {"template": "chat"}, TemplateError, "^This model has no chat template"),
    ],
)  # fmt: skip
def test_mistakes_are_told(records: Any, options: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        encode(records, word_tokenizer(), **options)


def test_a_data_set_tells_the_same_mistakes() -> None:
    for rows, message in (
        ({"question": ["Hi", "Ho"], "answer": ["So", " "]}, "Record 1 .*, field 'answer': blank"),
        ({"question": ["Hi", "Ho"], "answer": ["So", None]}, "Record 1 .*no field 'answer'"),
        ({"frage": ["Hi"]}, "Record 0 .*no field 'question' or .* It has: 'frage'"),
    ):
        with pytest.raises(DataError, match=message):
            encode(Dataset.from_dict(rows), word_tokenizer())


@pytest.mark.parametrize("kind", ["pandas", "torch", "numpy", "arrow"])
def test_a_data_sets_format_changes_nothing(kind: str) -> None:
    data, tokenizer = Dataset.from_list([record(n) for n in (1, 2)]), word_tokenizer()
    wanted = list(encode(data, tokenizer).dataset)
    assert list(encode(data.with_format(kind), tokenizer).dataset) == wanted
    strange = Dataset.from_dict({"frage": ["Hi"]}).with_format(kind)
    with pytest.raises(DataError, match="Record 0 .*no field 'question' or .* It has: 'frage'"):
        encode(strange, tokenizer)


def test_a_data_sets_transform_is_not_looked_at() -> None:
    data, tokenizer = Dataset.from_list([record()]), word_tokenizer()
    shouted = data.with_transform(lambda rows: {k: [t.upper() for t in v] for k, v in rows.items()})
    assert list(encode(shouted, tokenizer).dataset) == list(encode(data, tokenizer).dataset)
    made = Dataset.from_dict({"q": ["Hi"]}).with_transform(
        lambda rows: {"question": rows["q"], "answer": rows["q"]}
    )
    with pytest.raises(DataError, match="Record 0 .* no field 'question'.* It has: 'q'"):
        encode(made, tokenizer)


@pytest.mark.parametrize(
    "use", [lambda t: encode([record()], t), Collator], ids=["encode", "collate"]
)
def test_the_tokenizer_may_come_in_its_model_but_not_by_name(use: Callable) -> None:
    tokenizer = word_tokenizer()
    for good in (tokenizer, SimpleNamespace(tokenizer=tokenizer)):
        use(good)
    for bad, message in (
        ("base", r"'base' is a name.* models.load_tokenizer\('base'\)"),
        (None, r'A tokenizer is wanted.*, not NoneType. Load one: models.load_tokenizer\("base"\)'),
        (SimpleNamespace(tokenizer=None), "A tokenizer is wanted.*, not SimpleNamespace"),
        (type(tokenizer), "A tokenizer is wanted"),
        (small(LlamaConfig), "A tokenizer is wanted.*, not LlamaForCausalLM"),
    ):
        with pytest.raises(SettingError, match=message):
            use(bad)


def test_a_tokenizer_without_end_or_padding_is_refused() -> None:
    tokenizer = word_tokenizer()
    tokenizer.eos_token = tokenizer.pad_token = None
    with pytest.raises(SettingError, match="no end-of-sequence token"):
        encode([record()], tokenizer)
    with pytest.raises(SettingError, match="no padding token"):
        Collator(tokenizer)


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


def test_the_librarys_bars_are_off_for_the_time_being(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a notebook they are no lines on stderr but widgets of their own."""
    seen: list[bool] = []
    mapped = Dataset.map

    def map_(self: Dataset, *arguments: Any, **options: Any) -> Dataset:
        seen.append(datasets.are_progress_bars_disabled())
        return mapped(self, *arguments, **options)

    monkeypatch.setattr(Dataset, "map", map_)
    before = datasets.are_progress_bars_disabled()
    encode([record()], word_tokenizer())
    assert seen == [True] and datasets.are_progress_bars_disabled() == before


def test_lists_and_data_sets_give_the_same_rows(gemma: PreTrainedTokenizerBase) -> None:
    mixed = [{"instruction": r["question"], "output": r["answer"]} for r in RECORDS[:20]]
    data = Dataset.from_list([{"id": "x", **r} for r in RECORDS]).shuffle(seed=1)
    shuffled = encode(data, gemma)
    assert list(shuffled.dataset) == list(encode(list(data), gemma).dataset)
    rows = encode([*mixed, *RECORDS[20:]], gemma).dataset
    assert list(rows) == list(encode(RECORDS, gemma).dataset)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_a_worker_arrives_as_it_is(workers: int, cache: Path) -> None:
    data = Dataset.from_list([record()] * 9 + [record(answer=" ")])
    with pytest.raises(DataError) as caught:
        encode(data, word_tokenizer(), workers=workers)
    assert str(caught.value).startswith("Record 9 (counted from 0), field 'answer': blank")
    assert list(cache.iterdir()) == []


def test_the_files_go_with_the_result(cache: Path) -> None:
    encoded = encode([record()], word_tokenizer())
    packed = pack(encoded, 20)
    assert len(list(cache.iterdir())) == 2
    del encoded, packed
    gc.collect()
    assert list(cache.iterdir()) == []


def test_a_full_disk_is_told(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Dataset, "map", full)
    with pytest.raises(NoSpace, match="No space left in"):
        encode([record()], word_tokenizer())
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(
    ("raised", "arrives"),
    [
        (RuntimeError("One of the subprocesses has abruptly died during map"), CourseError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (ZeroDivisionError(), ZeroDivisionError),
    ],
)
def test_what_ends_the_work_from_outside(
    raised: BaseException, arrives: type, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        try:
            raise raised
        except KeyboardInterrupt as error:
            raise TimeoutError from error  # as waiting for the workers ends

    monkeypatch.setattr(Dataset, "map", stop)
    with pytest.raises(arrives):
        encode([record()], word_tokenizer())
    assert list(cache.iterdir()) == []


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
        for name, fill in (("input_ids", tokenizer.pad_token_id), ("labels", UNTRAINED),
                           ("attention_mask", 0)):  # fmt: skip
            assert batch[name][line, :size].tolist() == alone[name][0].tolist()
            assert batch[name][line, size:].tolist() == [fill] * (width - size)
        assert alone["input_ids"][0].tolist() == row["input_ids"]
        assert alone["labels"][0, -1] == tokenizer.eos_token_id
        assert alone["attention_mask"].all()


def test_a_batch_has_the_loss_of_its_rows() -> None:
    tokenizer = word_tokenizer()
    model = small(LlamaConfig, num_key_value_heads=2)
    rows = list(encode([record(n) for n in (1, 5, 3, 8)], tokenizer).dataset)
    alone = [losses(model, Collator(tokenizer)([row])) for row in rows]
    assert torch.allclose(losses(model, Collator(tokenizer)(rows)), torch.cat(alone), atol=1e-5)


def test_batches_by_length_hold_every_record_once() -> None:
    lengths = [(7 * n) % 50 + 1 for n in range(203)]
    batches = batches_by_length(lengths, 8, seed=3)
    assert sorted(n for batch in batches for n in batch) == list(range(203))
    assert sorted(map(len, batches)) == [3] + [8] * 25
    assert batches == batches_by_length(lengths, 8, seed=3) != batches_by_length(lengths, 8, seed=4)
    ordered = batches_by_length(lengths, 8, shuffle=False)
    flat = [lengths[n] for batch in ordered for n in batch]
    assert flat == sorted(lengths)
    assert [lengths[batch[0]] for batch in batches] != sorted(lengths[b[0]] for b in batches)
    shuffled = [list(range(start, min(start + 8, 203))) for start in range(0, 203, 8)]
    assert padding_share(lengths, batches) < 0.1 < 0.3 < padding_share(lengths, shuffled)
    assert batches_by_length(lengths, 8, seed=numpy.int64(3)) == batches
    assert batches_by_length(numpy.array(lengths), 8, seed=3) == batches
    assert batches_by_length(Dataset.from_dict({"length": lengths})["length"], 8, seed=3) == batches


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"batch_size": 0}, SettingError, "batch_size=0"),
        ({"batch_size": 2.0}, SettingError, "batch_size=2.0"),
        ({"seed": "a"}, SettingError, "seed='a' must be a whole number"),
        ({"seed": None}, SettingError, "seed=None must be a whole number"),
        ({"lengths": None}, DataError, r'encoded.dataset\["length"\], not NoneType'),
        ({"lengths": [1, 2.5]}, DataError, r"Lengths are wanted.*: \[1, 2.5\]"),
        ({"lengths": ["a"]}, DataError, "Lengths are wanted"),
        ({"lengths": [-1]}, DataError, "Lengths are wanted"),
        ({"lengths": [[1]]}, DataError, "Lengths are wanted"),
        ({"lengths": Dataset.from_dict({"length": [1]})}, DataError, "not Dataset"),
    ],
)
def test_batches_of_something_else_are_refused(
    change: dict[str, Any], error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        batches_by_length(**{"lengths": [1, 2], "batch_size": 2} | change)


def test_padding_share_counts_places() -> None:
    assert padding_share([2, 4, 6], [[0, 1], [2]]) == pytest.approx(2 / 14)
    assert padding_share([], []) == padding_share([3], [[0], []]) == 0
    found = padding_share(numpy.array([2, 4]), [torch.tensor([0, 1])])
    assert type(found) is float and found == 0.25


@pytest.mark.parametrize("batches", [[0, 1], 3, None, [[0], [7]], [[0], [-1]], [[0], [1.0]]])
def test_padding_of_what_is_no_batch_is_refused(batches: Any) -> None:
    with pytest.raises(DataError, match=r"Batch [01] \(counted from 0\) must be a list of record"):
        padding_share([2, 4], batches)


@pytest.mark.parametrize("lengths", [[[0, 1]], 3, None, [-1], [2.5], "ab"])
def test_padding_of_what_are_no_lengths_is_refused(lengths: Any) -> None:
    with pytest.raises(DataError, match="Lengths are wanted"):
        padding_share(lengths, [[0]])


GOOD = {"input_ids": [4, 5], "labels": [-100, 5]}
FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"labels": [5]}, "has 2 input_ids, 1 labels; each token"),
    ({"labels": [5, 5, 5]}, "has 2 input_ids, 3 labels; each token"),
    ({"input_ids": [], "labels": []}, "has no tokens. Leave it out"),
    ({"input_ids": [4.5, 5]}, r"has input_ids that are no list of whole numbers: \[4.5"),
    ({"input_ids": ["4", "5"]}, "has input_ids that are no list of whole numbers"),
    ({"labels": [[4, 5]]}, "has labels that are no list of whole numbers"),
    ({"input_ids": [4, None]}, r"has input_ids that are no list of whole numbers: \[4, None\]"),
    ({"input_ids": 4}, "has input_ids that are no list of whole numbers: 4"),
    ({"input_ids": [-4, 5]}, "has -4 among its input_ids, which is not in the tokenizer's voc"),
    ({"input_ids": [4, 2**40]}, f"has {2**40} among its input_ids"),
    ({"labels": [-100, -7]}, "has -7 among its labels"),
    ({"labels": None}, "has no labels; it has: 'input_ids'"),
]


@pytest.mark.parametrize(("change", "message"), FAULTS, ids=lambda value: str(value)[:30])
def test_a_row_with_a_problem_is_named(change: dict[str, Any], message: str) -> None:
    bad = GOOD | change
    with pytest.raises(DataError, match=r"Row 1 of the batch \(counted from 0\) " + message):
        Collator(word_tokenizer())([GOOD, bad])
    rows = Dataset.from_list([bad])
    with pytest.raises(DataError, match=r"Row 0 \(counted from 0\) " + message):
        pack(rows, 8)


def test_a_row_with_a_problem_is_named_among_many() -> None:
    rows = Dataset.from_list([GOOD] * 6000 + [GOOD | {"labels": [5]}] + [GOOD])
    with pytest.raises(DataError, match=r"Row 6000 \(counted from 0\) has 2 input_ids, 1 labels"):
        pack(rows, 8)
    with pytest.raises(DataError, match=r"Row 1 .* has no tokens"):
        pack(Dataset.from_dict({"input_ids": [[4], [], None], "labels": [[4], [], None]}), 8)


PACKED = GOOD | {"position_ids": [0, 1]}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "There are no rows to put into a batch"),
        ({"input_ids": [], "labels": []}, "There are no rows to put into a batch"),
        (None, r"such as encoded.dataset\[:8\], not NoneType"),
        (GOOD, r"Put a single row into a list: \[row\]"),
        (GOOD | {"length": 2}, "not one row or columns of different length"),
        ({"input_ids": [[4], [5]], "labels": [[4]]}, "columns of different length"),
        ([record()], "Row 0 .* has no input_ids; it has: 'question', 'answer'. Encode records"),
        ([GOOD, None], "Row 1 .* is NoneType; a mapping"),
        ("ab", "Row 0 .* is str; a mapping"),
        ([GOOD, {"input_ids": [4]}], "Row 1 .* has no labels; it has: 'input_ids'"),
        ([GOOD, {"input_ids": [4, 10], "labels": [4, 5]}], "Row 1 .* has 10 among its input_ids"),
        ([GOOD, {"input_ids": [4, 5], "labels": [4, 10]}], "Row 1 .* has 10 among its labels"),
        ([GOOD, GOOD, PACKED], "Row 0 of the batch is plain, and row 2 .* is packed"),
        ([PACKED, GOOD], "Row 0 of the batch is packed, and row 1 .* is plain"),
        ([PACKED, PACKED | {"position_ids": [0]}], "Row 1 .* 2 labels, 1 position_ids"),
        ([PACKED, PACKED | {"position_ids": [0, -1]}], "Row 1 .* -1 among .*, which is not a pos"),
    ],
)  # fmt: skip
def test_what_is_no_batch_is_refused(rows: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Collator(word_tokenizer())(rows)


def test_rows_may_come_as_columns_arrays_or_tensors() -> None:
    tokenizer = word_tokenizer()
    data, collate = encode([record(n) for n in (1, 4, 2)], tokenizer).dataset, Collator(tokenizer)
    for encoded in (data, pack(data, 20)):
        wanted = collate(list(encoded))
        ways = [encoded, encoded[:], (row for row in encoded)]
        ways += [
            way
            for k in ("numpy", "torch")
            for way in (encoded.with_format(k), encoded.with_format(k)[:])
        ]
        for way in ways:
            found = collate(way)
            assert found.keys() == wanted.keys()
            assert all(torch.equal(found[k], wanted[k]) for k in wanted if k != "use_cache")


def test_trainer_takes_encoded_and_packed_rows(tmp_path: Path) -> None:
    tokenizer = word_tokenizer()
    encoded = encode([record(n % 5 + 1) for n in range(8)], tokenizer)
    for number, rows in enumerate((encoded.dataset, pack(encoded, 40))):
        model = small(LlamaConfig, num_key_value_heads=2)
        before = model.lm_head.weight.clone()
        arguments = TrainingArguments(
            output_dir=str(tmp_path / str(number)), max_steps=2, per_device_train_batch_size=2,
            report_to="none", use_cpu=True, save_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        trainer = Trainer(model, arguments, Collator(tokenizer), rows, rows)
        assert trainer.train().global_step == 2
        assert not torch.equal(model.lm_head.weight, before)
        assert 0 < trainer.evaluate()["eval_loss"] < 10


# --- packing -------------------------------------------------------------------------------------


def small(kind: type, attention: str = "sdpa", **options: Any) -> Any:
    """A model of random weights, large enough for one record to change what another gets."""
    size = {
        "vocab_size": 10, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 64, "max_position_embeddings": 64, "pad_token_id": 0,
        "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.3,
    }  # fmt: skip
    torch.manual_seed(0)
    config = kind(**size | options)
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()


def losses(model: Any, batch: dict[str, Any]) -> torch.Tensor:
    """The loss of every token that is trained on, row after row."""
    with torch.no_grad():
        logits = model(**{name: part for name, part in batch.items() if name != "labels"}).logits
    wanted = batch["labels"][:, 1:]
    found = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), wanted.flatten(), reduction="none"
    )
    return found[wanted.flatten() != UNTRAINED]


ARCHITECTURES: list[tuple[type, dict[str, Any]]] = [
    (LlamaConfig, {"num_key_value_heads": 2}),
    (MistralConfig, {"num_key_value_heads": 2, "sliding_window": 6}),
    (GPTNeoXConfig, {}),
    (GPT2Config, {}),
    (Gemma3TextConfig, {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 6,
                        "layer_types": ["sliding_attention", "full_attention"]}),
]  # fmt: skip


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(
    ("kind", "options"), ARCHITECTURES, ids=[kind.__name__ for kind, _ in ARCHITECTURES]
)
def test_packed_records_have_the_loss_they_have_alone(
    kind: type, options: dict[str, Any], attention: str
) -> None:
    tokenizer, model = word_tokenizer(), small(kind, attention, **options)
    encoded = encode([record(n) for n in (1, 9, 4, 2, 7, 3, 5)], tokenizer, "plain")
    packed = pack(encoded, 30)
    collate = Collator(tokenizer)
    assert len(packed) < len(encoded) and packed[0]["records"] != packed[1]["records"]
    order = [number for row in packed for number in row["records"]]
    alone = torch.cat([losses(model, collate([encoded.dataset[n]])) for n in order])
    assert torch.allclose(losses(model, collate(list(packed))), alone, atol=1e-5)
    one_by_one = torch.cat([losses(model, collate([row])) for row in packed])
    assert torch.allclose(one_by_one, alone, atol=1e-5)
    check_packing(model)
    # The test can fail: without restarting positions the records see each other.
    leaking = collate([packed[0]])
    leaking["position_ids"] = torch.arange(leaking["input_ids"].shape[1])[None]
    assert not torch.allclose(losses(model, leaking), losses(model, collate([packed[0]])))


def test_a_model_that_lets_records_see_each_other_is_refused() -> None:
    model = small(OPTConfig, ffn_dim=64, word_embed_proj_dim=32).train()
    with pytest.raises(SettingError, match="OPTForCausalLM does not keep packed records apart"):
        check_packing(model)
    assert model.training


def test_packing_is_checked_of_a_model_and_of_nothing_else() -> None:
    model = small(LlamaConfig, num_key_value_heads=2)
    check_packing(SimpleNamespace(model=model))
    for bad in (None, "base", word_tokenizer()):
        with pytest.raises(SettingError, match=rf"A model is wanted.*, not {type(bad).__name__}"):
            check_packing(bad)
    with pytest.raises(SettingError, match="LlamaModel writes no text.* AutoModelForCausalLM"):
        check_packing(model.model)


def test_a_model_without_positions_is_refused() -> None:
    class Bare(torch.nn.Module):
        def get_input_embeddings(self) -> torch.nn.Embedding:
            return torch.nn.Embedding(10, 4)

        def forward(self, input_ids: torch.Tensor) -> None: ...

    bare: Any = Bare()
    bare.device = torch.device("cpu")
    with pytest.raises(SettingError, match="Bare takes no positions"):
        check_packing(bare)


def test_packed_rows_hold_every_record_once() -> None:
    tokenizer = word_tokenizer()
    sizes = [1, 90, 4, 2, 7, 3, 5]
    encoded = encode(
        [record(n) for n in sizes], tokenizer, "plain", mask_prompt=False, max_length=30
    )
    assert encoded.left_out == [1]
    packed = pack(encoded, 30)
    rows = {row["record"]: row for row in encoded.dataset}
    assert sorted(n for row in packed for n in row["records"]) == sorted(rows)
    for row in packed:
        inside = [rows[n] for n in row["records"]]
        assert row["input_ids"] == [token for part in inside for token in part["input_ids"]]
        assert row["position_ids"] == [n for part in inside for n in range(part["length"])]
        starts = [n for n, place in enumerate(row["position_ids"]) if place == 0]
        assert {row["labels"][start] for start in starts} == {UNTRAINED}
        assert len(row["input_ids"]) <= 30
    assert list(packed) == list(pack(encoded.dataset, 30))


def test_rows_made_elsewhere_are_packed_as_well() -> None:
    """Here the label of a record's first token would be predicted from the record before it."""
    rows = Dataset.from_dict({"input_ids": [[6], [4, 5]], "labels": [[6], [4, 5]]})
    assert list(pack(rows, 8)) == [
        {"input_ids": [4, 5, 6], "labels": [UNTRAINED, 5, UNTRAINED], "position_ids": [0, 1, 0],
         "records": [1, 0]}
    ]  # fmt: skip


def test_padding_of_packed_rows_is_a_record_of_its_own() -> None:
    rows = [{"input_ids": [4, 5], "labels": [-100, 5], "position_ids": [0, 1]},
            {"input_ids": [4], "labels": [-100], "position_ids": [0]},
            {"input_ids": [4, 5, 6, 7], "labels": [-100, 5, -100, 7],
             "position_ids": [0, 1, 0, 1]}]  # fmt: skip
    batch = Collator(word_tokenizer())(rows)
    assert batch["position_ids"].tolist() == [[0, 1, 0, 1], [0, 0, 1, 2], [0, 1, 0, 1]]
    assert batch["input_ids"].tolist() == [[4, 5, 0, 0], [4, 0, 0, 0], [4, 5, 6, 7]]
    assert batch["labels"][1].tolist() == [UNTRAINED] * 4
    assert batch["use_cache"] is False and "attention_mask" not in batch


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (Dataset.from_list([PACKED]), "These rows are packed already"),
        (Dataset.from_list([record()]), r"no input_ids; they have: .*pack\(encode\("),
        (Dataset.from_list([{"input_ids": [4]}]), "no labels; they have: 'input_ids'"),
        ([GOOD], r"not list. Of a list make one: Dataset.from_list\(rows\)"),
        (None, "What encode gives is wanted.*, not NoneType"),
        (datasets.DatasetDict(train=Dataset.from_list([GOOD])), "several data sets: 'train'"),
        (Dataset.from_list([GOOD]).to_iterable_dataset(), "is a stream"),
        (Dataset.from_list([GOOD]).select([]), "no rows to pack"),
    ],
    ids=["packed", "records", "no labels", "list", "none", "several", "stream", "empty"],
)  # fmt: skip
def test_what_can_not_be_packed_is_refused(rows: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        pack(rows, 8)


def test_packing_looks_at_no_other_column_and_no_format() -> None:
    rows = Dataset.from_list([GOOD | {"record": "a7"}, GOOD | {"record": "a8"}])
    fixed = rows.cast_column("labels", datasets.Sequence(datasets.Value("int32"), length=2))
    for data in (rows, fixed, rows.with_format("torch"), rows.with_format("pandas")):
        assert [row["records"] for row in pack(data, 10**30)] == [[0, 1]]


def plain_first_fit(lengths: list[int], room: int) -> list[list[int]]:
    """First-fit decreasing as one would say it."""
    bins: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lambda n: -lengths[n]):
        fits = (b for b in bins if sum(lengths[n] for n in b) + lengths[number] <= room)
        target = next(fits, None)
        if target is None:
            bins.append(target := [])
        target.append(number)
    return bins


@pytest.mark.parametrize("room", [20, 23, 64])
def test_packing_is_first_fit_decreasing(room: int) -> None:
    lengths = [(n * n * 7 + 3 * n) % 20 + 1 for n in range(150)]
    assert first_fit_decreasing(lengths, room) == plain_first_fit(lengths, room)


def test_a_record_longer_than_a_packed_row_is_told() -> None:
    encoded = encode([record(), record(20)], word_tokenizer())
    size = encoded.dataset[1]["length"]
    with pytest.raises(DataError, match=rf"Row 1 .* has {size} tokens .* max_length=20"):
        pack(encoded, 20)
    with pytest.raises(SettingError, match="max_length=0"):
        pack(encoded, 0)
    with pytest.raises(DataError, match="no rows to pack"):
        pack(encoded.dataset.select([]), 20)


def test_the_border_is_where_the_prompt_ends_even_if_tokens_would_merge(
    tokenizers: dict[str, PreTrainedTokenizerBase],
) -> None:
    """Tokenized in one go the two texts would be other ids; the model never sees those."""
    tokenizer: Callable[..., Any] = tokenizers["gemma"]
    text = record(question="Say\n", answer="\nyes")
    row = encode([text], tokenizers["gemma"], "plain").dataset[0]
    assert split(row)[0] == tokenizer("Say\n").input_ids
    assert row["input_ids"][:-1] != tokenizer("Say\n\nyes").input_ids
