"""The sums: weights, floating-point operations and bytes, from a model's configuration.

No weights are read: the model is built on torch's meta device, which allocates nothing. Every
formula is in docs/scaling.md with its source and with what it leaves out.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from llmcourse import tiers
from llmcourse.errors import SettingError, UnknownModel, first_line, one_of
from llmcourse.progress import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True)
class Hardware:
    """A machine to train on.

    Attributes:
        name: For people.
        peak: Highest speed of a matrix product in `dtype` as published, in FLOP/s, of a device.
        memory: Of a device, in bytes.
        reserved: What of it the system and the libraries take, in bytes (an assumption).
        dtype: What it computes in.
        count: Devices; over several, weights are sharded (FSDP).
        utilisation: Share of `peak` that training reaches (an assumption; see docs/scaling.md).
    """

    name: str
    peak: float
    memory: float
    reserved: float = 2e9
    dtype: str = "bfloat16"
    count: int = 1
    utilisation: float = 0.3

    @classmethod
    def measured(cls, seconds: float = 1.0) -> Hardware:
        """This machine, its peak taken from products of square matrices for about `seconds`."""
        import psutil
        import torch

        device, dtype = tiers.device(), tiers.dtype()
        on_gpu = device.type == "cuda"
        # A GPU computes while Python goes on: the clock stops when it has finished.
        wait = getattr(torch, device.type).synchronize if device.type != "cpu" else lambda: None
        width = 8192 if on_gpu else 2048
        matrix = torch.ones(width, width, device=device, dtype=dtype)
        best, end = float("inf"), time.perf_counter() + seconds
        while best == float("inf") or time.perf_counter() < end:
            start = time.perf_counter()
            torch.mm(matrix, matrix)
            wait()
            best = min(best, time.perf_counter() - start)
        memory = torch.cuda.mem_get_info(device)[1] if on_gpu else psutil.virtual_memory().total
        name = torch.cuda.get_device_name(device) if on_gpu else tiers.cpu_name()
        reserved, kind = (2e9 if on_gpu else 3e9), str(dtype).removeprefix("torch.")
        return cls(name, 2 * width**3 / best, memory, reserved, kind)


# 4 cores x 2.5 GHz x 32 operations a cycle (two fused multiply-adds on 8 float32, AVX2)
_LAPTOP = 4 * 2.5e9 * 32
_SOLD = (
    Hardware("laptop 8 GB", _LAPTOP, 8e9, 3e9, "float32"),
    Hardware("laptop 16 GB", _LAPTOP, 16e9, 3e9, "float32"),
    Hardware("Colab T4 16 GB", 65e12, 16e9, dtype="float16"),
    Hardware("L4 24 GB", 121e12, 24e9),
    Hardware("A100 80 GB", 312e12, 80e9),
    Hardware("H100 80 GB", 989e12, 80e9),
    Hardware("8 × A100 80 GB", 312e12, 80e9, count=8),
)
HARDWARE: dict[str, Hardware] = {hardware.name: hardware for hardware in _SOLD}
SHOWN = ("laptop 8 GB", "laptop 16 GB", "Colab T4 16 GB", "A100 80 GB", "8 × A100 80 GB")


# Models from 70 million to 70 billion weights, so that all sums work without a network. Shapes as
# published in each model's config.json: width, inner width, layers, heads, heads of keys and
# values, vocabulary. GPT-2's are what transformers builds where nothing is said.
_FIELDS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
)
_TIED = {"tie_word_embeddings": True}
_GEMMA = {"head_dim": 256, "sliding_window": 512}
_SHAPES: tuple[tuple[str, str, tuple[int, ...], dict[str, Any]], ...] = (
    ("pythia-70m", "gpt_neox", (512, 2048, 6, 8, 8, 50304), {}),
    ("gpt2", "gpt2", (), {}),
    ("smollm2-135m-instruct", "llama", (576, 1536, 30, 9, 3, 49152), _TIED),
    ("gemma-3-270m", "gemma3_text", (640, 2048, 18, 4, 1, 262144), _GEMMA),
    ("pythia-410m", "gpt_neox", (1024, 4096, 24, 16, 16, 50304), {}),
    ("gemma-3-1b", "gemma3_text", (1152, 6912, 26, 4, 1, 262144), _GEMMA),
    ("pythia-1b", "gpt_neox", (2048, 8192, 16, 8, 8, 50304), {}),
    ("smollm2-1.7b", "llama", (2048, 8192, 24, 32, 32, 49152), _TIED),
    ("pythia-2.8b", "gpt_neox", (2560, 10240, 32, 32, 32, 50304), {}),
    ("llama-2-7b", "llama", (4096, 11008, 32, 32, 32, 32000), {}),
    ("mistral-7b-v0.1", "mistral", (4096, 14336, 32, 32, 8, 32000), {"sliding_window": 4096}),
    ("llama-2-13b", "llama", (5120, 13824, 40, 40, 40, 32000), {}),
    ("llama-2-70b", "llama", (8192, 28672, 80, 64, 8, 32000), {}),
)
# Name -> arguments of transformers' configuration.
KNOWN: dict[str, dict[str, Any]] = {
    name: {"model_type": kind, **dict(zip(_FIELDS, shape, strict=False)), **more}
    for name, kind, shape, more in _SHAPES
}


def _fields(empty: Any) -> dict[str, Any]:
    """The fields of `Size` that are counted on a model.

    Raises:
        SettingError: a weight is a matrix, but of no linear layer and no embedding.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    config, head = empty.config, empty.get_output_embeddings()
    embeddings = linear = 0
    matrices, norms, rms = [], [], False
    for name, module in empty.named_modules():
        weights = dict(module.named_parameters(recurse=False))
        numbers = sum(weight.numel() for weight in weights.values())
        if isinstance(module, torch.nn.Embedding):
            embeddings += numbers
        elif isinstance(module, torch.nn.Linear | Conv1D) and module is not head:
            shape = tuple(module.weight.shape)  # GPT-2's Conv1D has inputs first, Linear outputs
            matrices.append(shape if isinstance(module, Conv1D) else shape[::-1])
            linear += numbers
        # Normalisations are known by their class's name, as each family has a class of its own;
        # a digit in the name means that it is in a block, and not the last one before the head.
        elif "norm" in type(module).__name__.lower() and re.search(r"\.\d+\.", name):
            norms.append((name.rpartition(".")[2], weights["weight"].numel() if weights else 0))
            rms = not isinstance(module, torch.nn.LayerNorm)
        elif module is not head and any(weight.ndim > 1 for weight in weights.values()):
            raise SettingError(
                f"{config.model_type} has weights in {name} ({type(module).__name__}) that these "
                f"sums do not cover. They are for plain transformers over text: no mixtures of "
                f"experts, no pictures, no state-space models."
            )
    heads = config.num_attention_heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    # In some models, such as Gemma 3, one normalisation serves every head by itself.
    each = {("q_norm", head_dim): heads, ("k_norm", head_dim): kv_heads}
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * config.num_hidden_layers
    return {
        "parameters": sum(weight.numel() for weight in empty.parameters()),
        "embeddings": embeddings,
        "linear": linear,
        "head": head.weight.numel(),
        "tied": head.weight is empty.get_input_embeddings().weight,
        "layers": config.num_hidden_layers,
        "width": config.hidden_size,
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": head_dim,
        "vocabulary": len(head.weight),
        "windows": tuple(window if kind == "sliding_attention" else None for kind in kinds),
        "matrices": tuple(matrices),
        "norms": sum(norm[1] * each.get(norm, 1) for norm in norms),
        "rms": rms,
    }


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
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        if not isinstance(model, str | os.PathLike):
            name, config = model.model_type, model
        else:
            name = getattr(tiers.pair(), model) if model in ("base", "chat") else str(model)
            try:
                with quiet():
                    config = (
                        AutoConfig.for_model(**KNOWN[name])
                        if name in KNOWN
                        else AutoConfig.from_pretrained(name, trust_remote_code=False)
                    )
            except (OSError, ValueError) as error:
                raise UnknownModel(
                    f"No configuration of {name!r} is found ({first_line(error)}). Use one of "
                    f"{', '.join(KNOWN)}, a folder with a config.json, or a hub name like "
                    f"'owner/name'."
                ) from error
        try:
            with torch.device("meta"), quiet():
                empty = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        except ValueError as error:
            raise UnknownModel(f"{name} is no language model: {first_line(error)}") from error
        return cls(name=name, **_fields(empty))

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
            method: "lora" (frozen weights in `dtype`, the adapter in float32), "qlora" (the linear
                layers' weights in 4 bits, computed on in `dtype`: `models.load(…, bits=4)`) or
                "full" (weights in float32, computed on in `dtype`).
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
        item = bytes_per_number(dtype)
        full = one_of("method", method, (*METHODS, "qlora")) == "full"
        tokens, spread = max(batch_tokens, length), processes if sharded else 1
        trained = self.parameters if full else self.lora_parameters(rank)
        frozen = 0.0 if full else item * self.parameters
        if method == "qlora":  # embeddings and head stay as they are
            frozen -= (item - tiers.QLORA_BITS / 8) * self.linear
        # Without sharding, gradients that are on their way to the others are there a second time.
        buckets = 2 if processes > 1 and not sharded else 1
        copies = 0.0
        if sharded:  # a block at a time is gathered from the other devices, and the next one
            untied = 0 if self.tied else self.head
            copies = item * ((3 if full else 2) * self.block + self.embeddings + untied)
        elif full and item < 4:  # autocast's
            copies = item * (self.linear + self.head)
        elif method == "qlora":  # one layer at a time is unpacked
            copies = item * max(n_in * n_out for n_in, n_out in self.matrices)
        labels, row = max(1, round(tokens * labelled_share)), self.vocabulary * item
        return Memory(
            weights=(frozen + 4 * trained) / spread,
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
        **how: Any,
    ) -> float:
        """How long training on so many tokens would take.

        Args:
            tokens: Read in training, epochs counted.
            hardware: On which machine.
            method: "lora" or "full".
            how: See `flops_per_token`.
        """
        speed = hardware.peak * hardware.count * hardware.utilisation
        return tokens * self.flops_per_token(method, **how) / speed


def bytes_per_number(dtype: Any) -> int:
    """Bytes that a number of a torch.dtype, or of its name, takes."""
    return ITEM[one_of("dtype", str(dtype).removeprefix("torch."), ITEM)]
