"""Speed, beside what it is to be measured against.

Every comparison is made in one run, its sides in turn, so that a machine whose speed drifts
does not favour one of them.
"""

from nfrl.analysis.speed_collecting import CollectingSpeed, collecting_speed
from nfrl.analysis.speed_exploring import ExploringSpeed, exploring_speed
from nfrl.analysis.speed_training import TrainingSpeed, sampling_milliseconds, training_speed

__all__ = [
    "CollectingSpeed",
    "ExploringSpeed",
    "TrainingSpeed",
    "collecting_speed",
    "exploring_speed",
    "sampling_milliseconds",
    "training_speed",
]
