"""MLflow: its server, or the folder ./mlruns for ``mlflow ui``."""

import os
import re
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nfrl.interfaces.tracker import Bookmark, RunDescription

LONGEST_VALUE = 6000
"""Characters of a parameter's value that MLflow takes."""
MOST_PARAMETERS = 100
"""Parameters that MLflow takes at once."""

# Two threads would make the same experiment twice.
_experiments = threading.Lock()


class MLflow:
    """Logs to the experiment ``nfrl``, or MLFLOW_EXPERIMENT_NAME, at MLFLOW_TRACKING_URI."""

    # The module of mlflow-skinny, which the extra installs: it writes runs. To look at them takes
    # the whole package mlflow, which has the same module.
    requires = ("mlflow",)

    def start(self, run: RunDescription, resume: Bookmark | None) -> Bookmark:
        # MLflow wants to be asked for a folder as its store. Nothing is reported to its makers.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        import mlflow
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        chosen = mlflow.is_tracking_uri_set()
        where = "" if chosen else (resume and resume.where) or Path("mlruns").resolve().as_uri()
        self._client: Any = MlflowClient(mlflow.get_tracking_uri() if chosen else where)
        if resume is not None:
            self._id = resume.id
            self._client.update_run(self._id, status="RUNNING")
            return Bookmark(self._id, max(resume.step, self._last_step()), where)
        made = self._client.create_run(self._experiment(), run_name=run.name)
        self._id = made.info.run_id
        self._client.set_tag(self._id, "group", run.group)
        self._client.log_dict(self._id, dict(run.config), "config.json")
        values = [Param(_key(key), str(value)[:LONGEST_VALUE]) for key, value in _flat(run.config)]
        for begin in range(0, len(values), MOST_PARAMETERS):
            self._client.log_batch(self._id, params=values[begin : begin + MOST_PARAMETERS])
        return Bookmark(self._id, 0, where)

    def metrics(self, step: int, numbers: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        # Last of all the step itself, by which it is known what is there of a killed run.
        named = [(_key(name), value) for name, value in numbers.items()] + [("step", float(step))]
        self._client.log_batch(
            self._id, metrics=[Metric(name, value, now, step) for name, value in named]
        )

    def image(self, name: str, path: Path, step: int) -> None:
        self._client.log_artifact(self._id, str(path), "figures")

    def video(self, name: str, path: Path, step: int) -> None:
        self._client.log_artifact(self._id, str(path), "video")

    def finish(self, status: str, summary: Mapping[str, float]) -> None:
        for name, value in summary.items():
            self._client.log_metric(self._id, f"result/{_key(name)}", value)
        states = {"finished": "FINISHED", "diverged": "FAILED"}
        self._client.set_terminated(self._id, states.get(status, "KILLED"))

    def _experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "nfrl")
        with _experiments:
            found = self._client.get_experiment_by_name(name)
            return found.experiment_id if found else self._client.create_experiment(name)

    def _last_step(self) -> int:
        latest = self._client.get_run(self._id).data.metrics
        return int(latest.get("step", 0))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Go through tables of tables: ``training.steps`` and its value."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + str(key), value


def _key(name: str) -> str:
    """Return a name in the letters that MLflow takes."""
    return re.sub(r"[^\w./ -]", "_", name)
