"""Set up the course from an offline kit, with nothing but Python and no network.

    python3 install_kit.py                            from the folder that this file is in
    python3 install_kit.py http://192.168.1.20:8700   from the teacher's laptop

The course goes into the folder `llmcourse` in your home folder; `--to FOLDER` names another. A
stopped set-up goes on where it was. Notebooks that are there already stay as they are.
"""

import argparse
import hashlib
import http.client
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import time
import urllib.parse
import urllib.request
from pathlib import Path

TRIES = 5  # for each file: Wi-Fi in a full room breaks off


class KitError(Exception):
    """What is wrong with the kit or this machine, and what to do."""


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kit = "the kit's folder or address (default: this file's folder)"
    parser.add_argument("kit", nargs="?", default=str(Path(__file__).resolve().parent), help=kit)
    home = "for the course (default: %(default)s)"
    parser.add_argument("--to", type=Path, default=Path("~/llmcourse"), metavar="FOLDER", help=home)
    options = parser.parse_args(arguments)
    try:
        set_up(options.kit.rstrip("/\\") or options.kit, options.to.expanduser().absolute())
    except KeyboardInterrupt:
        print("\nStopped. Start it again to go on.", file=sys.stderr)
        return 130
    except KitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        return 1
    return 0


def set_up(kit: str, to: Path) -> None:
    """Do all of it; each part is skipped where a stopped set-up had finished it."""
    begun = to / ".kit"  # there until all is done
    ours = begun.is_dir() or (to / "install.py").is_file()
    if not ours and to.is_dir() and any(to.iterdir()):
        raise KitError(f"{to} has other files in it. Name another folder with --to FOLDER.")
    listed = manifest(kit)
    wheels = choose(listed, kit)
    begun.mkdir(parents=True, exist_ok=True)
    say(f"Checking {len(wheels)} packages for {target()}")
    from_web = is_address(kit)
    # From a folder pip takes the wheels where they are; over the network they come first.
    folder = begun if from_web else Path(kit)
    for name in wheels:
        if from_web:
            get(kit, name, folder / name, listed)
        elif not (folder / name).is_file():
            raise KitError(missing(name))
        elif digest(folder / name) != listed["files"][name][1]:
            raise KitError(damaged(name))
    say(f"Copying the course to {to}")
    copy_course(kit, to, listed)
    environment = dict(os.environ, LLMCOURSE_KIT=str(folder / "wheels"), PYTHONUTF8="1")
    command = [sys.executable, str(to / "install.py")]
    if subprocess.run(command, env=environment).returncode:
        raise KitError("The packages could not be installed; the message is above.")
    copy_models(kit, to, listed)
    shutil.rmtree(begun, ignore_errors=True)
    # (no activation: most Windows laptops forbid its script)
    python = r".venv\Scripts\python" if os.name == "nt" else ".venv/bin/python"
    say(f'\nReady. From now on:\n    cd "{to}"\n    {python} -m llmcourse lab')


# --- what the kit has -----------------------------------------------------------------------------


def manifest(kit: str) -> dict:
    """What `kit.json` lists: targets with their wheels, files with their size and SHA-256."""
    try:
        with opened(kit, "kit.json", 0) as stream:
            return json.loads(stream.read().decode("utf-8"))
    except (OSError, ValueError, http.client.HTTPException) as error:
        what = "a kit can't be reached" if is_address(kit) else "there is no complete kit"
        raise KitError(
            f"At {kit} {what} ({error}). Name its folder, or the address on the teacher's screen."
        ) from error


def target() -> str:
    """This machine and Python, as the kit calls them."""
    system = {"Darwin": "macos"}.get(platform.system(), platform.system().lower())
    machine = platform.machine().lower()
    if system == "windows":  # the Python's, not the processor's: they differ on ARM
        machine = sysconfig.get_platform().replace("win-", "")
    return f"{system}-{machine}-{python_version()}"


def python_version() -> str:
    return "{}.{}".format(*sys.version_info[:2])


def choose(listed: dict, kit: str) -> list:
    """The wheels for this machine."""
    if target() in listed["targets"]:
        return listed["targets"][target()]
    here = target().rsplit("-", 1)[0]
    versions = [name.rsplit("-", 1)[1] for name in listed["targets"] if name.startswith(here + "-")]
    if versions:
        raise KitError(
            f"The kit has packages for Python {', '.join(versions)} here, and this is Python "
            f"{python_version()}. Start it with another one: "
            f'{"py -" if os.name == "nt" else "python"}{versions[-1]} "{Path(__file__).resolve()}" '
            f'"{kit}"'
        )
    raise KitError(
        f"The kit has packages for {', '.join(listed['targets'])}, and this is {target()}. Ask "
        f"your teacher for a kit with it, or set the course up over the network: python install.py"
    )


def missing(name: str) -> str:
    return (
        f"{name} is missing from the kit, and {target()} needs it. Copy the kit again; if it is "
        f"missing there too, the teacher runs make kit once more."
    )


def damaged(name: str) -> str:
    return f"{name} of the kit is damaged or incomplete. Copy the kit again."


# --- files ----------------------------------------------------------------------------------------


def is_address(kit: str) -> bool:
    return kit.startswith(("http://", "https://"))


def opened(kit: str, name: str, start: int):
    """A stream of one of the kit's files from the byte `start` on."""
    if not is_address(kit):
        stream = (Path(kit) / name).open("rb")
        stream.seek(start)
        return stream
    request = urllib.request.Request(f"{kit}/{urllib.parse.quote(name)}")
    if start:
        request.add_header("Range", f"bytes={start}-")
    # The teacher's laptop is in the room: no proxy of the house leads there.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return direct.open(request, timeout=60)


def get(kit: str, name: str, to: Path, listed: dict) -> None:
    """Copy or download one of the kit's files, going on where a stopped try left it."""
    size, sha256 = listed["files"][name]
    if to.is_file() and to.stat().st_size == size and digest(to) == sha256:
        return
    part = to.with_name(to.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    for left in reversed(range(TRIES)):
        start = part.stat().st_size if part.exists() else 0
        if start >= size and part.exists():
            break
        try:
            with opened(kit, name, start) as stream, part.open("ab") as out:
                shutil.copyfileobj(stream, out, 1 << 20)
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, FileNotFoundError) or getattr(error, "code", 0) == 404:
                raise KitError(missing(name)) from error
            if not left:
                raise KitError(
                    f"{name} could not be fetched ({error}). Start it again to go on."
                ) from error
            time.sleep(2)
    if part.stat().st_size < size:  # a server that closes the connection raises no error
        raise KitError(f"{name} could not be fetched. Start it again to go on.")
    if digest(part) != sha256:
        part.unlink()
        raise KitError(damaged(name))
    part.replace(to)


def digest(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            found.update(block)
    return found.hexdigest()


def copy_course(kit: str, to: Path, listed: dict) -> None:
    """Copy the course; a notebook that is there already may be the learner's, and stays."""
    kept = []
    for name in listed["files"]:
        if name.startswith("course/"):
            inside = name[len("course/") :]
            if inside.startswith("notebooks/") and (to / inside).exists():
                if digest(to / inside) != listed["files"][name][1]:
                    kept.append(inside)
                continue
            get(kit, name, to / inside, listed)
    if kept:
        say(f"Left as they are, though the kit has others: {', '.join(kept)}")


def copy_models(kit: str, to: Path, listed: dict) -> None:
    """Copy the unpacked models into the cache folder; each appears complete or not at all."""
    python = to / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    ask = [str(python), "-c", "from llmcourse.files import cache_dir; print(cache_dir())"]
    environment = dict(os.environ, PYTHONUTF8="1")
    done = subprocess.run(ask, cwd=str(to), env=environment, stdout=subprocess.PIPE)
    if done.returncode:
        raise KitError("The course does not start; its message is above.")
    cache = Path(done.stdout.decode("utf-8").strip())
    files = [name for name in listed["files"] if name.startswith("models/")]
    for model in sorted({name.split("/")[1] for name in files}):
        if (cache / model).is_dir():
            continue
        say(f"Copying {model} to {cache}")
        draft = cache / f".{model}.kit"
        for name in files:
            if name.split("/")[1] == model:
                get(kit, name, draft / name.split("/", 2)[2], listed)
        draft.replace(cache / model)


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
