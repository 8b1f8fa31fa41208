"""The class's Python kernel: ipykernel that says in words when memory ran out.

Where memory runs out, the system kills the kernel; JupyterLab only says that it "appears to have
died" and starts it again, with the same connection file. The new one sees what is left of the old
one beside that file, and whether the system has killed a program for memory since.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path

from ipykernel.kernelapp import IPKernelApp


def killed_for_memory() -> int:
    """How many programs the system has killed for memory since it started."""
    with suppress(OSError):
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def ran_out(note: Path) -> bool:
    """Whether the kernel before this one was killed for memory; leaves a note for the next one.

    Args:
        note: A file beside the connection file. A kernel that ends by itself removes it.
    """
    count, before = killed_for_memory(), None
    with suppress(OSError, ValueError):
        before = int(note.read_text(encoding="ascii"))
    with suppress(OSError):  # a full disk only means no message
        note.write_text(str(count), encoding="ascii")
    atexit.register(note.unlink, missing_ok=True)
    return before is not None and count > before


def message() -> str:
    """What a learner reads at the first cell after memory ran out."""
    limit = int(os.environ.get("MEM_LIMIT") or 0)  # in bytes, from the spawner
    most = f" You have {limit / 1e9:.1f} GB here." if limit else ""
    return (
        f"The memory ran out, so this notebook's kernel was stopped and started again.{most} Your "
        "file is saved, your variables are gone. Shut down your other notebooks (the square in "
        "the left bar), then choose Run, Run All Above Selected Cell."
    )


def give_back(*_: object) -> None:
    """Return freed memory to the system; glibc keeps much of it otherwise."""
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def main() -> None:
    del sys.path[0]  # this file's folder is not for imports
    app = IPKernelApp.instance()
    app.initialize(sys.argv[1:])
    events = app.shell.events
    if ran_out(Path(app.abs_connection_file + ".memory")):

        def tell(*_: object) -> None:
            print(message(), file=sys.stderr)
            events.unregister("pre_run_cell", tell)

        events.register("pre_run_cell", tell)
    events.register("post_run_cell", give_back)
    app.start()


if __name__ == "__main__":
    main()
