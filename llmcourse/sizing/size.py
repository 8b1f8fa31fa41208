"""The sums: weights, floating-point operations and bytes, from a model's configuration.

No weights are read: the model is built on torch's meta device, which allocates nothing. Every
formula is in docs/scaling.md with its source and with what it leaves out.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from llmcourse.errors import one_of
from llmcourse.sizing.hardware import Hardware
from llmcourse.sizing.models import counted

if TYPE_CHECKING:
    import os

    from transformers import PreTrainedConfig

SCORE_BYTES = 128 * 2**20  # the most that scores over the vocabulary take at once in training
ITEM = {"float32": 4, "bfloat16": 2, "float16": 2}  # bytes per number
MOMENTS = {"adamw": 8, "sgd": 0}  # bytes an optimizer keeps per trained weight, in float32
METHODS = ("lora", "full")


@dataclass(frozen=True)
class Memory:
    """What fills a device's memory, in bytes.

    Attributes:
        weights: Of the model, and of the adapter where there is one.
        gradients: Of all trained weights.
        optimizer: What the optimizer remembers.
        activations: What the forward pass keeps for the backward pass.
        scores: Scores over the vocabulary, and their probabilities.
        copies: Weights a second time: those that autocast makes in half precision, or those
            that are gathered from the other devices at a time.
        cache: Keys and values of the tokens read so far, in generation.
    """

    weights: float = 0
    gradients: float = 0
    optimizer: float = 0
    activations: float = 0
    scores: float = 0
    copies: float = 0
    cache: float = 0

    @property
    def total(self) -> float:
        """All of it together: an upper bound, for not all parts are there at the same moment."""
        return sum(asdict(self).values())


@dataclass(frozen=True)
class Size:
    """The measures of a model that its memory and its arithmetic follow from.

    Attributes:
        name: Of the model.
        parameters: Weights in all; those that two layers share count once.
        embeddings: Of them, in embeddings of tokens and positions.
        linear: Of them, in linear layers without the head, biases included.
        head: Weights of the language-model head (vocabulary x width).
        tied: True where the head's weights are the embeddings'.
        layers: Transformer blocks.
        width: Numbers in a hidden state.
        heads: Heads of a layer that ask; `kv_heads` is how many heads of keys and values.
        head_dim: Numbers in a head.
        vocabulary: Rows of the embedding.
        windows: For each layer how many tokens back it sees, None for all.
        matrices: (inputs, outputs) of every linear layer without the head.
        norms: Numbers that the normalisations of all blocks handle a token.
        rms: True where they are RMSNorm, which transformers computes step by step in float32.
    """

    name: str
    parameters: int
    embeddings: int
    linear: int
    head: int
    tied: bool
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    windows: tuple[int | None, ...]
    matrices: tuple[tuple[int, int], ...]
    norms: int
    rms: bool

    @classmethod
    def of(cls, model: PreTrainedConfig | str | os.PathLike) -> Size:
        """The size of a model.

        Args:
            model: A transformers configuration; "base" or "chat" (the tier's models); a name in
                `KNOWN`; a folder with a config.json; or a hub name, of which only the
                configuration is fetched.

        Raises:
            UnknownModel: no configuration is found, or it is of no language model.
            SettingError: the model has weights that these formulas do not cover.
        """
        return cls(**counted(model))

    @property
    def block(self) -> float:
        """Weights in one transformer block."""
        return (self.parameters - self.embeddings - (0 if self.tied else self.head)) / self.layers

    def lora_parameters(self, rank: int = 16) -> int:
        """Weights of an adapter on all linear layers (`target_modules="all-linear"` in peft)."""
        return rank * sum(map(sum, self.matrices))

    def flops_per_token(
        self,
        method: str = "lora",
        *,
        rank: int = 16,
        labelled_share: float = 1.0,
        length: int = 512,
        checkpointing: bool = False,
    ) -> float:
        """Floating-point operations for training on a token, forward and backward.

        Args:
            method: "lora" or "full".
            rank: Of the adapter.
            labelled_share: Share of the tokens that have a label; only they reach the head.
            length: Tokens in a record, which all look at each other.
            checkpointing: True counts the blocks' second forward pass.
        """
        # Forward a weight is multiplied once, backward twice: for the gradient of what came in, and
        # for its own. A frozen weight needs no gradient of its own: two products instead of three.
        full = one_of("method", method, METHODS) == "full"
        matrices = sum(n_in * n_out for n_in, n_out in self.matrices)
        attention = 2 * self.layers * self.heads * self.head_dim * length
        adapter = 0 if full else self.lora_parameters(rank)
        forward = matrices + attention + adapter
        passes = 3 * (attention + adapter) + (3 if full else 2) * matrices
        head = (3 if full else 2) * self.head * labelled_share
        return 2 * (passes + head + (forward if checkpointing else 0))

    def training_bytes(
        self,
        method: str = "lora",
        dtype: Any = "bfloat16",
        *,
        batch_tokens: int = 2048,
        length: int = 512,
        rank: int = 16,
        labelled_share: float = 1.0,
        checkpointing: bool = False,
        optimizer: str = "adamw",
        processes: int = 1,
        sharded: bool = False,
    ) -> Memory:
        """The memory that training takes on each device.

        Args:
            method: "lora" (frozen weights in `dtype`, the adapter in float32) or "full" (weights
                in float32, computed on in `dtype`).
            dtype: A torch.dtype or its name.
            batch_tokens: Tokens that one device reads in one forward pass, padding included.
            length: Of the longest record; a batch is never shorter than one.
            rank: Of the adapter.
            labelled_share: Share of the tokens that have a label.
            checkpointing: True keeps only the blocks' inputs and computes the rest again.
            optimizer: "adamw" or "sgd".
            processes: Devices that train together.
            sharded: True spreads weights, gradients and optimizer over them (FSDP).

        Raises:
            SettingError: a setting is none of these.
        """
        item, full = bytes_per_number(dtype), one_of("method", method, METHODS) == "full"
        tokens, spread = max(batch_tokens, length), processes if sharded else 1
        trained = self.parameters if full else self.lora_parameters(rank)
        frozen = 0 if full else self.parameters
        # Without sharding, gradients that are on their way to the others are there a second time.
        buckets = 2 if processes > 1 and not sharded else 1
        copies = 0.0
        if sharded:  # a block at a time is gathered from the other devices, and the next one
            untied = 0 if self.tied else self.head
            copies = item * ((3 if full else 2) * self.block + self.embeddings + untied)
        elif full and item < 4:  # autocast's
            copies = item * (self.linear + self.head)
        labels, row = max(1, round(tokens * labelled_share)), self.vocabulary * item
        return Memory(
            weights=(item * frozen + 4 * trained) / spread,
            gradients=4 * trained * buckets / spread,
            optimizer=MOMENTS[one_of("optimizer", optimizer, MOMENTS)] * trained / spread,
            activations=tokens * self.activation_bytes(full, item, checkpointing),
            scores=2 * min(labels * row, max(SCORE_BYTES, row)),
            copies=copies,
        )

    def activation_bytes(self, full: bool, item: int, checkpointing: bool) -> float:
        """Bytes of activations that are kept for a token."""
        norm = 4 if full else item
        if self.rms:  # computed in float32, and cast to it first where the rest is in half
            norm = 8 if full and item < 4 else 4
        blocks = item * sum(map(sum, self.matrices)) + norm * self.norms
        if not checkpointing:
            return blocks
        # Each block's input, and all of the one block that is computed again at a time.
        return self.layers * self.width * (4 if full else item) + blocks / self.layers

    def generation_bytes(
        self, dtype: Any = "bfloat16", *, batch: int = 1, length: int = 1024
    ) -> Memory:
        """The memory that answering takes: weights, keys and values, scores of the last token.

        Args:
            dtype: A torch.dtype or its name.
            batch: Prompts answered at once.
            length: Tokens of the prompt and the answer together.
        """
        item = bytes_per_number(dtype)
        seen = sum(min(length, window or length) for window in self.windows)
        return Memory(
            weights=item * self.parameters,
            cache=2 * item * batch * seen * self.kv_heads * self.head_dim,
            scores=batch * self.vocabulary * 4,
        )

    def seconds(
        self,
        tokens: float,
        hardware: Hardware,
        method: str = "lora",
        *,
        utilisation: float | None = None,
        **how: Any,
    ) -> float:
        """How long training on so many tokens would take.

        Args:
            tokens: Read in training, epochs counted.
            hardware: On which machine.
            method: "lora" or "full".
            utilisation: Share of the machine's peak; the hardware's own if not given.
            how: See `flops_per_token`.
        """
        speed = hardware.peak * hardware.count * (utilisation or hardware.utilisation)
        return tokens * self.flops_per_token(method, **how) / speed


def bytes_per_number(dtype: Any) -> int:
    """Bytes that a number of a torch.dtype, or of its name, takes."""
    return ITEM[one_of("dtype", str(dtype).removeprefix("torch."), ITEM)]
