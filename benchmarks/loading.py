"""How long does loading take, once the models are unpacked?

    python benchmarks/loading.py [--times 3]

Each figure is from fresh processes: importing the package, importing torch and transformers,
and loading the base and the chat model after that. The median is printed.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

# transformers imports a model's code, and much of torch with it, only when it is first asked for.
_CODE = "import torch; from transformers import Gemma3ForCausalLM, LlamaForCausalLM"
_STEPS = {
    "import llmcourse": ("pass", "import llmcourse"),
    "import torch and transformers' model code": ("pass", _CODE),
    "load the base model": (
        f"{_CODE}; from llmcourse import models",
        "models.load('gemma-3-270m')",
    ),
    "load the chat model": (
        f"{_CODE}; from llmcourse import models",
        "models.load('smollm2-135m-instruct')",
    ),
}


def seconds(before: str, timed: str) -> float:
    """Seconds that `timed` takes in a fresh process, after `before`."""
    code = (
        f"import time; {before}; start = time.perf_counter(); {timed}; "
        "print(time.perf_counter() - start)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    print("| step | seconds |\n|---|---|")
    for name, (before, timed) in _STEPS.items():
        taken = [seconds(before, timed) for _ in range(options.times)]
        print(f"| {name} | {statistics.median(taken):.2f} |", flush=True)


if __name__ == "__main__":
    main()
