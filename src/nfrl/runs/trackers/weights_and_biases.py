"""Weights & Biases: online for who is logged in, else in files for ``wandb sync``."""

import functools
import netrc
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from nfrl.interfaces.tracker import Bookmark, RunDescription

INIT_SECONDS = 25.0
"""How long the server may take to answer at the start."""
FINISH_SECONDS = 25.0
"""How long data may take to upload at the end. The rest stays in files for ``wandb sync``."""


class WeightsAndBiases:
    """Logs to the project ``nfrl``, or WANDB_PROJECT; wandb's own variables count."""

    requires = ("wandb",)

    def start(self, run: RunDescription, resume: Bookmark | None) -> Bookmark:
        import wandb

        mode: Any = os.environ.get("WANDB_MODE") or ("online" if _is_logged_in() else "offline")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "nfrl"),
            id=None if resume is None else resume.id,
            # It warns of a resumption that offline runs cannot check: their server is asked later.
            resume=None if mode == "offline" else "allow",
            name=run.name,
            group=run.group,
            config=dict(run.config),
            dir=os.environ.get("WANDB_DIR") or run.folder,
            mode=mode,
            # Seeds that train together have runs side by side.
            reinit="create_new",
            settings=wandb.Settings(
                silent=True,
                console="off",
                init_timeout=INIT_SECONDS,
                finish_timeout=FINISH_SECONDS,
            ),
        )
        if mode == "offline" and "WANDB_MODE" not in os.environ:
            _say_offline()
        step = 0 if resume is None else resume.step
        # The server knows which step comes next, also where a kill came before our bookmark.
        return Bookmark(self._run.id, max(step, self._run.step - 1))

    def metrics(self, step: int, numbers: Mapping[str, float]) -> None:
        self._run.log(dict(numbers), step=step, commit=True)

    def image(self, name: str, path: Path, step: int) -> None:
        import wandb

        # Without the step: wandb takes nothing more of one that was committed.
        self._run.log({name: wandb.Image(str(path))})

    def video(self, name: str, path: Path, step: int) -> None:
        import wandb

        kind: Any = path.suffix.removeprefix(".")
        self._run.log({name: wandb.Video(str(path), format=kind)})

    def finish(self, status: str, summary: Mapping[str, float]) -> None:
        self._run.summary.update({"status": status, **{f"result/{k}": summary[k] for k in summary}})
        self._run.finish(exit_code=0 if status == "finished" else 1)


def _is_logged_in() -> bool:
    """Whether wandb finds a key, so that it need not ask for one."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname
    file = os.environ.get("NETRC") or Path("~/.netrc").expanduser()
    try:
        return netrc.netrc(str(file)).authenticators(host or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


@functools.cache
def _say_offline() -> None:
    """Say it once, however many runs there are."""
    print(
        "wandb: not logged in, so runs stay on this machine; `wandb login`, then "
        "`wandb sync RUN/wandb/offline-run-*` sends them",
        file=sys.stderr,
        flush=True,
    )
