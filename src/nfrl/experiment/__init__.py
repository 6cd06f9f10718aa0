"""From a task and an agent to a scored, recorded run: with data, online, or exploring."""

from nfrl.experiment.config import DatasetInfo, Experiment
from nfrl.experiment.run import run

__all__ = ["DatasetInfo", "Experiment", "run"]
