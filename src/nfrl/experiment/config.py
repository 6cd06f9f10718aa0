"""What decides a run's outcome, as a value and as config.json."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cattrs

from nfrl import registry
from nfrl.agents import configs
from nfrl.errors import UserError
from nfrl.interfaces.agent import AgentConfig
from nfrl.presets import Training, beyond_paper
from nfrl.reading import one_line
from nfrl.runs.folder import RunFolder
from nfrl.runs.provenance import provenance
from nfrl.spec import Spec
from nfrl.task import Task, find_task
from nfrl.training.exploring import ExploreTraining
from nfrl.training.offline import OfflineTraining

SCHEMA = 1
"""The version of config.json. Files of before have none."""

# A value that this version does not know must not be dropped in silence.
_CONVERTER = cattrs.Converter(forbid_extra_keys=True)


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """What a run is trained on."""

    name: str
    """The data set's name, or that of its file or folder."""
    path: str
    """Where it lies on this machine, absolute."""
    origin: str
    """Where it comes from, in words."""
    transitions: int
    sha256: str
    spec: Spec
    """What an observation and an action are, in the data's units."""
    uri: str = ""
    """How it is named on any machine: ``minari:D4RL/door/human-v2``; a file's path where it has no
    other name."""
    observation_keys: tuple[str, ...] = ()
    """What makes an observation, where that was chosen."""
    action_key: str = ""
    """The name of the action, where that was chosen."""
    tasks: tuple[str, ...] = ()
    """Which of the data's tasks were chosen."""

    def to_record(self) -> dict[str, Any]:
        """Return what a record says of it: nothing of this machine."""
        return {
            "name": self.name,
            "origin": self.origin,
            "transitions": self.transitions,
            "observation_dim": self.spec.width,
            "action_dim": self.spec.action_dim,
            "sha256": self.sha256,
        }


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything that decides a run's outcome."""

    task: Task
    agent: str
    """The agent's name, or ``package.module:name``."""
    preset: str
    variant: str
    """What was changed from the preset, in a word: "no-linear"; empty for nothing."""
    seeds: tuple[int, ...]
    agent_config: AgentConfig
    training: Training
    dataset: DatasetInfo | None = None
    """What it is trained on; None for an explorer."""
    episodes: int = 50
    """Evaluation episodes per goal; 0 for no evaluation."""
    curve_episodes: int = 10
    """Episodes per goal of each evaluation on the way, where ``training`` asks for some."""
    online_steps: int = 0
    """Steps in the environment that follow the offline run; 0 for an offline run alone."""

    @property
    def offline(self) -> "Experiment":
        """The offline run that this one begins with: itself, if nothing follows."""
        return dataclasses.replace(self, online_steps=0)

    @property
    def explores(self) -> bool:
        """Whether it explores, with no data."""
        return isinstance(self.training, ExploreTraining)

    @property
    def steps(self) -> int:
        """The step that a finished run's last line of metrics has."""
        if isinstance(self.training, ExploreTraining):
            return self.training.rounds * self.training.round_steps
        return self.online_steps or self.training.steps

    @property
    def data(self) -> DatasetInfo:
        """What it is trained on, of a run that is trained on data."""
        assert self.dataset is not None, "an explorer has no data"
        return self.dataset

    @property
    def offline_training(self) -> OfflineTraining:
        """How long it is trained, of a run that is trained on data."""
        assert isinstance(self.training, OfflineTraining), "an explorer is not trained offline"
        return self.training

    @property
    def label(self) -> str:
        """What records call its variant: whatever makes it another algorithm than the paper's."""
        words = (
            self.preset if beyond_paper(self.preset) else "",
            self.variant,
            "online" if self.online_steps else "",
        )
        return "-".join(filter(None, words))

    def run_folders(self, root: Path) -> list[RunFolder]:
        """Return the folder of each seed: ROOT/TASK/AGENT-PRESET[-VARIANT][-online]/seed-N."""
        words = (self.agent, self.preset, self.variant, "online" if self.online_steps else "")
        place = root / file_name(self.task.name) / file_name("-".join(filter(None, words)))
        return [RunFolder(place / f"seed-{seed}") for seed in self.seeds]

    def offline_folder(self, folder: RunFolder) -> RunFolder:
        """Return where the run is, or will be, that one of this experiment goes on from online."""
        root = folder.path.parent.parent.parent
        folders = self.offline.run_folders(root)
        return next(each for each in folders if each.path.name == folder.path.name)

    def to_json(self, seed: int) -> dict[str, Any]:
        """Return config.json of one of the seeds."""
        return {
            "schema": SCHEMA,
            "seed": seed,
            "task": self.task.name,
            **({} if _is_announced(self.task) else {"own_task": dataclasses.asdict(self.task)}),
            **{name: getattr(self, name) for name in ("agent", "preset", "variant")},
            "seeds": list(self.seeds),
            "agent_config": configs.to_json(self.agent_config),
            "training": dataclasses.asdict(self.training),
            "dataset": self.dataset and dataclasses.asdict(self.dataset),
            **{
                name: getattr(self, name) for name in ("episodes", "curve_episodes", "online_steps")
            },
            **provenance(),
        }

    @classmethod
    def of(cls, folder: RunFolder) -> "Experiment":
        """Read what a run is of.

        Raises:
            UserError: See :meth:`from_json`; the message names the file.
        """
        config = folder.read_config()
        try:
            return cls.from_json(config)
        except UserError as error:
            raise UserError(f"{folder.config_file}: {error}") from error

    @classmethod
    def from_json(cls, config: Mapping[str, Any]) -> "Experiment":
        """Read config.json back, also one of before it had a schema.

        Raises:
            UserError: It is of another program's making, or of a newer version's.
        """
        schema = config.get("schema", 0)
        if schema not in (0, SCHEMA):
            raise UserError(
                f"this was made by a newer nfrl: schema {schema}; this one reads up to {SCHEMA}"
            )
        if schema == 0:
            config = _upgraded(config)
        try:
            agent_config = configs.from_json(config["agent"], config["agent_config"])
            explores = agent_config.capabilities.explores
            own = config.get("own_task")
            return cls(
                task=find_task(config["task"]) if own is None else structure(own, Task),
                **{name: config[name] for name in ("agent", "preset", "variant")},
                seeds=tuple(config["seeds"]),
                agent_config=agent_config,
                training=structure(
                    config["training"], ExploreTraining if explores else OfflineTraining
                ),
                dataset=None if explores else structure(config["dataset"], DatasetInfo),
                **{
                    name: config[name]
                    for name in ("episodes", "curve_episodes", "online_steps")
                    if name in config
                },
            )
        except (KeyError, TypeError, ValueError, cattrs.BaseValidationError) as error:
            raise UserError(
                f"this does not describe a run of this version: {one_line(repr(error))}"
            ) from error


def structure(value: Any, kind: type) -> Any:
    """Make a dataclass of plain JSON; a field that it does not have is an error."""
    return _CONVERTER.structure(value, kind)


def file_name(name: str) -> str:
    """Return a name as one that a folder can have on any system."""
    return re.sub(r"[^\w.+-]+", ".", name).strip(".") or "unnamed"


def _is_announced(task: Task) -> bool:
    return bool(registry.mappings("tasks").get(task.name) == task)


def _upgraded(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config.json of before schemas as one of schema 1."""
    config = dict(config)
    training = dict(config.get("training") or {})
    if "chunk" in training:
        training["log_every"] = training.pop("chunk")
    if config.get("dataset"):
        dataset = dict(config["dataset"])
        sizes = dataset.pop("observation_dim"), dataset.pop("action_dim")
        dataset.setdefault("spec", dataclasses.asdict(Spec.vectors(*sizes)))
        config["dataset"] = dataset
    return config | {"training": training}
