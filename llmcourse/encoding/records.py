"""Records to token ids and labels, and rows to batches: padding, and which records share one."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from llmcourse import templates
from llmcourse.data.records import WEIGHTS, as_records
from llmcourse.data.tables import mapped
from llmcourse.encoding.tokens import end_ids, tokenized
from llmcourse.errors import CourseError, DataError, SettingError, one_of, whole
from llmcourse.stats import percent

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

TOO_LONG = ("leave out", "cut prompt", "cut completion")
_IDS = ["int32"]  # a list of numbers
COLUMNS = {"input_ids": _IDS, "labels": _IDS, "length": "int32", "record": "int64", "cut": "bool"}
SHORTEST = 8  # tokens; a max_length below this is a mistake
UNTRAINED = -100  # the label that torch's cross-entropy leaves out


@dataclass(frozen=True, eq=False)
class Encoded:
    """Records as token ids.

    Attributes:
        dataset: A row a record: `input_ids`, `labels` (the same ids, or -100 where not trained
            on), `length` (tokens) and `record` (its place in what was encoded, from 0).
        cut: Records whose prompt or completion was shortened.
        left_out: Records that have no row because they are too long.
        template: The template they were rendered with.
        max_length: The most tokens a row may have.
    """

    dataset: Dataset
    cut: list[int]
    left_out: list[int]
    template: str
    max_length: int

    def __len__(self) -> int:
        return len(self.dataset)

    @cached_property
    def tokens(self) -> int:
        """Tokens in all rows."""
        return sum(self.dataset["length"])

    @cached_property
    def trained_tokens(self) -> int:
        """Tokens that the loss is computed on."""
        import pyarrow.compute as compute

        # in Arrow, as a million lists of Python's own are slow
        tables = self.dataset.with_format("arrow").iter(5000)
        labels = (compute.list_flatten(table["labels"]) for table in tables)
        return sum(compute.sum(compute.not_equal(part, UNTRAINED)).as_py() or 0 for part in labels)

    def as_text(self) -> str:
        """What became of the records, in a few lines."""
        tokens, trained = self.tokens, self.trained_tokens
        share = f" ({percent(trained / tokens)} %)" if tokens else ""
        return "\n".join(
            [
                f"{len(self) + len(self.left_out):,} records in, template {self.template!r}, at "
                f"most {self.max_length:,} tokens each",
                f"{len(self):,} encoded; shortened: {_listed(self.cut)}; left out as too long: "
                f"{_listed(self.left_out)}",
                f"{tokens:,} tokens, {trained:,}{share} of them trained on",
            ]
        )


def _listed(numbers: Sequence[int]) -> str:
    """How many, and the first few of them."""
    if not numbers:
        return "none"
    more = ", …" if len(numbers) > 5 else ""
    return f"{len(numbers):,} (record {', '.join(map(str, numbers[:5]))}{more})"


def encode(
    records: Any,
    tokenizer: PreTrainedTokenizerBase,
    template: str = "qa",
    *,
    system: str | None = None,
    max_length: int = 512,
    too_long: str = "leave out",
    mask_prompt: bool = True,
    every_turn: bool = True,
    add_end: bool = True,
    workers: int | None = None,
) -> Encoded:
    """Turn records into token ids and labels: prompt, completion, end-of-sequence token.

    A record with a `text` and no question is all completion. Of a conversation every turn of the
    assistant is trained on, with the token that ends it, but those whose weight is 0 in the data.
    The first token of a row is never trained
    on, as nothing before it could predict it.

    Args:
        records: What `data.load_records` gives, or whatever it takes.
        tokenizer: The tokenizer of the model to be trained, or the model from `models.load`.
        template: Name in `templates.NAMES`.
        system: A system text before each question.
        max_length: The most tokens a row may have.
        too_long: What becomes of a longer record. "leave out": it gets no row. "cut prompt": what
            comes before the last answer loses its beginning (a beginning-of-sequence token stays),
            the answer stays complete; left out where even that does not fit. "cut completion": the
            last answer loses its end and gets no end token, since the text does not end there;
            left out where the rest alone fills the row. What was cut or left out is listed in
            the result.
        mask_prompt: False trains on the prompt as well.
        every_turn: False trains on the last answer of a conversation alone.
        add_end: False leaves out the last end token, and the model never learns to stop.
        workers: Processes; if not given 1 below 20,000 records, else one a usable core.

    Raises:
        SettingError: `max_length`, `too_long` or `workers` means nothing, or `tokenizer` is none
            or has no end-of-sequence token.
        TemplateError: see `templates.render` and `tokens.prompt_ids`.
        DataError: there are no records, or one is blank or has a problem.
    """
    import numpy

    too_long = one_of("too_long", too_long, TOO_LONG)
    max_length = whole("max_length", max_length, SHORTEST)
    tokenizer = templates.tokenizer_of(tokenizer)
    if tokenizer.eos_token_id is None:
        raise SettingError(
            "This tokenizer has no end-of-sequence token, so a model could never learn to stop. "
            "Set tokenizer.eos_token, or use another model."
        )
    # once at the start, instead of in the middle of a million records
    templates.render("Hi", template, tokenizer=tokenizer, system=system)  # fails for all or none
    source = as_records(records)
    names = (*templates.FIELDS, "history", "text", WEIGHTS)
    texts = source.select_columns([name for name in names if name in source.column_names])
    end = end_ids(tokenizer, template) if add_end else []
    encoder = _Encoder(
        tokenizer, template, system, max_length, too_long, mask_prompt, every_turn, end
    )
    rows = mapped(texts, encoder, COLUMNS, workers, "Encoding")
    record, cut = (rows.data.column(name).to_numpy() for name in ("record", "cut"))
    left_out = numpy.setdiff1d(numpy.arange(len(source)), record, assume_unique=True)
    return Encoded(
        rows.remove_columns("cut"), record[cut].tolist(), left_out.tolist(), template, max_length
    )


# (a class and no closure: worker processes get it pickled)
@dataclass(frozen=True)
class _Encoder:
    """Encodes batches of records, in whichever process."""

    tokenizer: Any
    template: str
    system: str | None
    max_length: int
    too_long: str
    mask_prompt: bool
    every_turn: bool
    end: list[int]

    def __call__(self, batch: dict[str, list], numbers: list[int]) -> dict[str, list]:
        """Rows for a batch of records; those that are left out have none.

        Raises:
            CourseError: a record has a problem; the message says which.
        """
        records = (dict(zip(batch, row, strict=True)) for row in zip(*batch.values(), strict=True))
        rendered = list(map(self._rendered, records, numbers))
        rows: dict[str, list] = {name: [] for name in COLUMNS}
        weights = batch.get(WEIGHTS, [""] * len(numbers))
        every = zip(numbers, tokenized(rendered, self.tokenizer), weights, strict=True)
        for number, parts, said in every:
            parts[-1] += self.end  # as a token: spelt out in the text it would be read as text
            weighed = json.loads(said) if said and self.every_turn else []
            ids: list[int] = []
            labels: list[int] = []
            for place, part in enumerate(parts, 1):
                # parts are read and written by turns; the last one is the last answer
                written = place == len(parts) or (self.every_turn and place % 2 == 0)
                if written and place // 2 <= len(weighed):
                    written = weighed[place // 2 - 1] != 0
                ids += part
                labels += part if written or not self.mask_prompt else [UNTRAINED] * len(part)
            fitted = self._fitted(ids, labels, len(parts[-1]))
            if fitted is not None:
                rows["cut"].append(len(fitted[0]) < len(ids))
                rows["input_ids"].append(fitted[0])
                # the loss is on the next token, so nothing predicts the first
                rows["labels"].append([UNTRAINED, *fitted[1][1:]])
                rows["length"].append(len(fitted[0]))
                rows["record"].append(number)
        return rows

    def _rendered(self, record: dict[str, Any], number: int) -> templates.Rendered:
        """A record's prompt and completion; a text is all completion."""
        if record.get("text") and templates.is_blank(record.get("question")):
            text = templates.Controls.of(self.tokenizer).as_text(record["text"])
            return templates.Rendered(("", text))
        try:
            if templates.is_blank(record.get("answer")):
                raise DataError("there is no answer to train on; `data.clean` leaves such out.")
            return templates.render(
                record, self.template, tokenizer=self.tokenizer, system=self.system
            )
        except CourseError as error:
            raise type(error)(f"Record {number} (counted from 0): {error}") from error

    def _fitted(
        self, ids: list[int], labels: list[int], answer: int
    ) -> tuple[list[int], list[int]] | None:
        """The ids and labels of a row within `max_length`; None leaves it out.

        Args:
            ids: All of the record.
            labels: Its labels.
            answer: How many of them, at the end, are the last answer and its end.
        """
        size, start = self.max_length, len(ids) - answer
        if len(ids) <= size:
            return ids, labels
        if self.too_long == "cut prompt":
            # models lean on the first token whatever it says (attention sinks, Xiao et al., 2023)
            begin = 1 if ids[:1] == [self.tokenizer.bos_token_id] else 0
            if size - answer - begin >= 1 and start > begin:
                rest = len(ids) - size + begin
                return ids[:begin] + ids[rest:], labels[:begin] + labels[rest:]
        if self.too_long == "cut completion" and start < size:
            return ids[:size], labels[:size]
        return None


@dataclass(frozen=True)
class Collator:
    """Rows to a batch of tensors, padded on the right; for `Trainer(data_collator=…)` as well.

    A row's length says what is padding, never its ids, so a padding token that is also the end
    token keeps its label where it ends an answer. With B rows, the longest of L tokens:
    `input_ids`, `labels` and `attention_mask`, each (B, L) and int64; padding has the padding
    token's id, label -100 and mask 0. Other columns are ignored.

    Attributes:
        tokenizer: It says which token pads; a model from `models.load` gives its own.

    Raises:
        SettingError: it is no tokenizer, or has no padding token.
    """

    tokenizer: PreTrainedTokenizerBase

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokenizer", templates.tokenizer_of(self.tokenizer))
        if getattr(self.tokenizer, "pad_token_id", None) is None:
            raise SettingError(
                "This tokenizer has no padding token. Take it from models.load, which chooses "
                "one, or set tokenizer.pad_token."
            )

    def __call__(self, rows: Iterable[Mapping[str, Any]] | Mapping[str, Any]) -> dict[str, Any]:
        """The batch of `rows`, as the class describes it: tensors of shape (rows, longest row).

        Args:
            rows: Rows, or columns as `encoded.dataset[:8]` gives them.

        Raises:
            DataError: there are no rows, or one has not a label for each token.
        """
        import torch
        from torch.nn.utils.rnn import pad_sequence

        if isinstance(rows, Mapping):
            rows = [dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True)]
        rows = list(rows)
        if not rows or any(len(r["input_ids"]) != len(r.get("labels", ())) for r in rows):
            raise DataError(
                "A batch needs rows, each with one label for each token. Encode records first: "
                "encoding.encode."
            )

        def padded(name: str, fill: int) -> torch.Tensor:
            """A column as (rows, longest row), int64, with `fill` behind each row's own."""
            # on the right, as positions count from the first token in training
            columns = [torch.as_tensor(row[name], dtype=torch.int64) for row in rows]
            return pad_sequence(columns, batch_first=True, padding_value=fill)

        ids, labels = padded("input_ids", self.tokenizer.pad_token_id), padded("labels", UNTRAINED)
        # the mask comes from the lengths: the padding token may also be one that a row ends with
        sizes = torch.tensor([[len(row["input_ids"])] for row in rows])
        mask = (torch.arange(ids.shape[1]) < sizes).to(torch.int64)
        return {"input_ids": ids, "labels": labels, "attention_mask": mask}


def batches_by_length(
    lengths: Sequence[int], batch_size: int, seed: int = 0, shuffle: bool = True
) -> list[list[int]]:
    """Batches of records of similar length, so that little is padded.

    Plain shuffling puts a record beside any other: a batch is as long as its longest record, and
    the rest is padding, which costs time like any token. Here records of similar length share a
    batch and only the order of the batches is random. The price is less variety within a batch: a
    batch of short answers pulls the weights one way, one of long answers another.

    Args:
        lengths: Tokens of each record, such as `encoded.dataset["length"]`.
        batch_size: Records in a batch; the batch of the longest may have fewer.
        seed: The same seed gives the same batches; take the epoch's number to have others in each.
        shuffle: False gives them from short to long.

    Returns:
        Lists of record numbers, each number once.

    Raises:
        SettingError: `batch_size` is below 1, or `seed` no whole number of at least 0.
    """
    size = whole("batch_size", batch_size, 1)
    tokens, rng = list(lengths), random.Random(whole("seed", seed, 0))
    order = list(range(len(tokens)))
    if shuffle:
        rng.shuffle(order)  # chance decides between records of the same length
    order.sort(key=tokens.__getitem__)  # (a stable sort, so the order above stays)
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    if shuffle:
        rng.shuffle(batches)
    return batches


def padding_share(lengths: Sequence[int], batches: Iterable[Sequence[int]]) -> float:
    """Share of the places in `batches` that are padding, from 0 to 1.

    Args:
        lengths: Tokens of each record, such as `encoded.dataset["length"]`.
        batches: Record numbers of each batch, as `batches_by_length` gives them; a batch is as
            wide as its longest record.
    """
    tokens = list(lengths)
    rows = [[tokens[number] for number in batch] for batch in batches if len(batch)]
    places = sum(max(row) * len(row) for row in rows)
    return float(1 - sum(map(sum, rows)) / places) if places else 0.0
