"""Write the pins anew: the newest versions that `pyproject.toml` admits, for all systems.

    python tools/lock.py

torch and transformers stay as they are pinned; change their pins by hand, then run this.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KEPT = ("torch", "transformers")
# Further files: what the extras named need beside requirements.txt, none against another.
MORE = {
    "requirements-harness.txt": ("harness",),
    "requirements-hosted.txt": ("hosted", "serve", "labs"),
    "requirements-site.txt": ("site",),
    "requirements-browser.txt": ("browser",),
    "requirements-files.txt": ("files",),
    "requirements-qlora.txt": ("qlora",),
    "requirements-classroom.txt": ("classroom",),
}
# torch's own needs with a GPU: pip gets them with the GPU build, the CPU build has none.
GPU_ONLY = re.compile(r"^(nvidia|cuda|triton)[\w.-]*==")


def main() -> int:
    old = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    header = [line for line in old if line.startswith("#")]
    pins = [line.split()[0] for line in old if line.startswith(tuple(f"{k}==" for k in KEPT))]
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "uv"], check=True)
    lines = compiled("pyproject.toml", pins, "--extra", "lab", "--extra", "test")
    text = "\n".join([*header, *lines]) + "\n"
    (ROOT / "requirements.txt").write_text(text, encoding="utf-8", newline="\n")
    print(f"requirements.txt: {len(lines)} pins")
    base = [line.split("#")[0].strip() for line in lines]
    known = list(base)
    for name, extras in MORE.items():
        known += lock_more(ROOT / name, extras, base, known)
    return 0


def lock_more(path: Path, extras: tuple[str, ...], base: list[str], known: list[str]) -> list[str]:
    """Write the pins that `extras` need beside `base`, none against `known`; returns them."""
    old = path.read_text(encoding="utf-8").splitlines()
    header = [line for line in old if line.startswith("#")]
    names = {re.split(r"[=\s]", line)[0] for line in base}
    asked = [word for extra in extras for word in ("--extra", extra)]
    lines = [
        line
        for line in compiled("pyproject.toml", known, *asked)
        if re.split(r"[=\s]", line)[0] not in names
    ]
    path.write_text("\n".join([*header, *lines]) + "\n", encoding="utf-8", newline="\n")
    print(f"{path.name}: {len(lines)} pins")
    return [line.split("#")[0].strip() for line in lines]


def compiled(source: str, pins: list[str], *options: str) -> list[str]:
    """The newest versions that satisfy `source` and `pins`, a line each with who needs it."""
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "kept.txt"
        kept.write_text("\n".join(pins) + "\n", encoding="utf-8")
        command = [sys.executable, "-m", "uv", "pip", "compile", source, *options]
        command += ["--constraint", str(kept), "--universal", "--python-version", "3.11"]
        command += ["--quiet", "--no-header", "--annotation-style", "line"]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    return [
        re.sub(r" +# via", "  # via", re.sub(r" \(pyproject\.toml\)|-c \S+(, )? ?", "", line))
        for line in done.stdout.splitlines()
        if "==" in line and not GPU_ONLY.match(line)
    ]


if __name__ == "__main__":
    sys.exit(main())
