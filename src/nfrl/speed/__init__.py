"""Speed, beside what it is to be measured against.

Every comparison is made in one run, its sides in turn, so that a machine whose speed drifts
does not favour one of them.
"""

from nfrl.speed.exploring import ExploringSpeed, exploring_speed
from nfrl.speed.training import TrainingSpeed, sampling_milliseconds, training_speed

__all__ = [
    "ExploringSpeed",
    "TrainingSpeed",
    "exploring_speed",
    "sampling_milliseconds",
    "training_speed",
]
