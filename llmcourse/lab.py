"""How `python -m llmcourse lab` shows the lessons."""

from __future__ import annotations

from typing import Any

from ipykernel.ipkernel import IPythonKernel
from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager


class Lessons(AsyncLargeFileManager):
    """Notebooks with this machine's kernel and version of Python in their metadata.

    JupyterLab would note both itself as soon as a lesson opens, and show the lesson as unsaved.
    The files stay as they are until they are saved.
    """

    async def get(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """A file or folder for JupyterLab, see `jupyter_server`."""
        model = await super().get(*args, **kwargs)
        if model["type"] == "notebook" and model["content"]:
            metadata = model["content"]["metadata"]
            try:
                kernel = KernelSpecManager().get_kernel_spec(metadata["kernelspec"]["name"])
            except (KeyError, NoSuchKernel):
                return model  # JupyterLab will ask which kernel to use
            names = {"display_name": kernel.display_name, "language": kernel.language}
            metadata["kernelspec"] |= names
            if kernel.language == "python":
                metadata["language_info"] = IPythonKernel.language_info
        return model
