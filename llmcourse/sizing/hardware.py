"""Machines to train on: what they can compute at best, and how much they remember."""

from __future__ import annotations

import time
from dataclasses import dataclass

from llmcourse import tiers


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


def _laptop(memory: float) -> Hardware:
    # 4 cores x 2.5 GHz x 32 operations a cycle (two fused multiply-adds on 8 float32, AVX2)
    return Hardware(f"laptop {memory / 1e9:.0f} GB", 4 * 2.5e9 * 32, memory, 3e9, "float32")


_SOLD = (
    _laptop(8e9),
    _laptop(16e9),
    Hardware("Colab T4 16 GB", 65e12, 16e9, dtype="float16"),
    Hardware("L4 24 GB", 121e12, 24e9),
    Hardware("A100 80 GB", 312e12, 80e9),
    Hardware("H100 80 GB", 989e12, 80e9),
    Hardware("8 × A100 80 GB", 312e12, 80e9, count=8),
)
HARDWARE: dict[str, Hardware] = {hardware.name: hardware for hardware in _SOLD}
SHOWN = ("laptop 8 GB", "laptop 16 GB", "Colab T4 16 GB", "A100 80 GB", "8 × A100 80 GB")
