"""Unix accounts for a class, as root: one for each name in a file, with a password of its own.

    sudo sh -c 'umask 077; python3 classroom/hub/accounts.py names.txt >> passwords.csv'
    sudo python3 classroom/hub/accounts.py names.txt --remove

One name a line: small letters, digits and hyphens. The passwords are printed once and kept nowhere.
An account that exists already is left as it is. Home folders are private.
"""

from __future__ import annotations

import argparse
import grp
import os
import pwd
import re
import secrets
import stat
import subprocess
import sys
from pathlib import Path

GROUP = "learners"
# without l, 1, o and 0: people type these from a slip of paper
LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"


def read_names(path: Path) -> list[str]:
    """The names in a file, in order.

    Raises:
        ValueError: a line is no name of an account, or a name comes twice.
    """
    names: list[str] = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        name = line.strip()
        if not name:
            continue
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", name):
            raise ValueError(
                f"{path}, line {number}: {name!r} can't be an account. Use small letters, digits "
                "and hyphens, beginning with a letter."
            )
        if name in names:
            raise ValueError(f"{path}, line {number}: {name} comes twice.")
        names.append(name)
    return names


def exists(name: str) -> bool:
    """Whether the machine has an account of this name."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def make(name: str, password: str) -> None:
    """Make an account in the group `GROUP`, with a home folder that nobody else can read."""
    subprocess.run(["groupadd", "--force", GROUP], check=True)
    shell = ["--shell", "/bin/bash", "--key", "UMASK=077"]
    subprocess.run(["useradd", "--create-home", "--groups", GROUP, *shell, name], check=True)
    Path(pwd.getpwnam(name).pw_dir).chmod(0o700)
    subprocess.run(["chpasswd"], input=f"{name}:{password}\n", text=True, check=True)


def remove(name: str) -> None:
    """Remove an account of the group and all of its files.

    Raises:
        ValueError: it is not one of a class, or can't be removed.
    """
    if name not in grp.getgrnam(GROUP).gr_mem:
        raise ValueError(f"{name} is not in the group {GROUP} and is left as it is.")
    # userdel refuses an account that still runs something, an idle server say
    subprocess.run(["pkill", "-KILL", "-u", name], check=False)
    done = subprocess.run(
        ["userdel", "--force", "--remove", name], stderr=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise ValueError(f"{name} was not removed: {done.stderr.strip()}")


def new_password() -> str:
    """Twelve random characters in three groups: 60 bits."""
    return "-".join("".join(secrets.choice(LETTERS) for _ in range(4)) for _ in range(3))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", type=Path, help="a file with one name a line")
    parser.add_argument("--remove", action="store_true", help="the accounts and all their files")
    options = parser.parse_args()
    try:
        names = read_names(options.names)
        if stat.S_ISREG(os.fstat(1).st_mode):  # a file of passwords: nobody else reads it
            os.fchmod(1, 0o600)
        for name in names:
            if options.remove:
                if exists(name):
                    remove(name)
            elif not exists(name):
                password = new_password()
                make(name, password)
                print(f"{name},{password}", flush=True)
    except (OSError, ValueError, KeyError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
