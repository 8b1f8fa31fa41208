"""JupyterHub for a class on one Linux machine. README.md beside this file says how to start it.

What a teacher changes is a variable of the environment, `CLASS_…`, with its default below.
"""

import os
import shutil
import sys
from pathlib import Path

from jupyterhub.auth import PAMAuthenticator

HERE = Path(__file__).resolve().parent
PROGRAMS = Path(sys.executable).parent
c = get_config()  # noqa: F821 - JupyterHub defines it


def setting(name: str, default: str) -> str:
    """The variable `CLASS_<name>`, or the default where it is unset or empty."""
    return os.environ.get(f"CLASS_{name}", "").strip() or default


ADDRESS = setting("ADDRESS", "http://127.0.0.1:8000")  # where learners' browsers go
GROUP = setting("GROUP", "learners")  # the Unix group whose members may log in
TEACHER = setting("TEACHER", "")  # an account that may stop other people's servers
STATE = Path(setting("STATE", "/srv/llmcourse/hub"))  # the hub's own files; private
CACHE = setting("CACHE", "/srv/llmcourse/models")  # the models, converted once, read-only
MEMORY = setting("MEMORY", "4G")  # the most for one learner, where systemd enforces it
THREADS = setting("THREADS", "2")  # of one learner's computation
IDLE = int(setting("IDLE", "3600"))  # seconds until an idle kernel, then its server, is stopped
PROXY = setting("PROXY", shutil.which("configurable-http-proxy") or "configurable-http-proxy")


class ClassAuthenticator(PAMAuthenticator):
    """Unix accounts with a password; PAM on Debian and Ubuntu also accepts an empty one."""

    async def authenticate(self, handler, data):
        return await super().authenticate(handler, data) if data.get("password") else None


STATE.mkdir(parents=True, exist_ok=True)
STATE.chmod(0o700)
c.JupyterHub.bind_url = ADDRESS
c.JupyterHub.db_url = f"sqlite:///{STATE / 'jupyterhub.sqlite'}"
c.JupyterHub.cookie_secret_file = str(STATE / "cookie_secret")
c.ConfigurableHTTPProxy.command = [PROXY]
c.ConfigurableHTTPProxy.pid_file = str(STATE / "proxy.pid")

c.JupyterHub.authenticator_class = ClassAuthenticator
c.LocalAuthenticator.allowed_groups = {GROUP}
c.Authenticator.admin_users = {TEACHER} if TEACHER else set()

c.Spawner.cmd = [str(PROGRAMS / "jupyterhub-singleuser")]
c.Spawner.default_url = "/lab"
c.Spawner.notebook_dir = "~"
c.Spawner.start_timeout = 120  # thirty servers that start together take their time
c.Spawner.http_timeout = 120
c.Spawner.environment = {
    "LLMCOURSE_CACHE": CACHE,
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": THREADS,
    # `python` in terminals and in `!python` is the course's
    "PATH": f"{PROGRAMS}:{os.environ.get('PATH', '/usr/local/bin:/usr/bin:/bin')}",
    "VIRTUAL_ENV": str(PROGRAMS.parent),
    # Our kernel comes before the one of this name in the environment.
    "JUPYTER_PATH": str(HERE),
    # Two pools of memory instead of one per thread: a kernel gives more back.
    "MALLOC_ARENA_MAX": "2",
} | {name: os.environ[name] for name in ("LLMCOURSE_TIER", "LLMCOURSE_DTYPE") if name in os.environ}

# Idle kernels are stopped by the learner's own server, which knows whether a cell is running; the
# hub's idle culler knows only when the last message came, and would end a long silent training
# once the browser is closed. A server without kernels and terminals then stops itself.
# They are arguments because these win over a configuration of the learner's.
c.Spawner.args = [
    f"--MappingKernelManager.cull_idle_timeout={IDLE}",
    f"--MappingKernelManager.cull_interval={max(min(IDLE // 4, 300), 1)}",
    "--MappingKernelManager.cull_connected=True",  # an open browser is no running cell
    "--MappingKernelManager.cull_busy=False",
    f"--TerminalManager.cull_inactive_timeout={IDLE}",
    f"--ServerApp.shutdown_no_activity_timeout={IDLE}",
    "--ServerApp.terminado_settings={'shell_command': ['/bin/bash']}",  # a login shell resets PATH
]

if Path("/run/systemd/system").is_dir():
    c.JupyterHub.spawner_class = "systemdspawner.SystemdSpawner"
    c.SystemdSpawner.mem_limit = MEMORY
    c.SystemdSpawner.isolate_tmp = True
    # Swapping is slower than an error that says what to do.
    c.SystemdSpawner.unit_extra_properties = {"MemorySwapMax": "0"}
else:
    # One process per learner, under the learner's account. Nothing here enforces a limit.
    c.JupyterHub.spawner_class = "jupyterhub.spawner.LocalProcessSpawner"
