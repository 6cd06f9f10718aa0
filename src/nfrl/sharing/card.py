"""README.md of a shared policy, the hub's model card: every number in it is the record's."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from nfrl.reports.table import Cell, Table, escape_markdown
from nfrl.reports.tables import find_task
from nfrl.runs.records import Record

_LEVEL = "95% interval"


def write(
    record: Record | None,
    *,
    repo: str,
    agent: str,
    goals: bool,
    code: Sequence[str] = (),
    licence: str = "",
) -> str:
    """Return the card.

    Args:
        record: What the run's record says; None if there is none.
        repo: Where the policy is to be found, ``user/name``.
        agent: The name of its algorithm.
        goals: Whether it is called with a goal.
        code: The modules that its configuration refers to, and that must be allowed.
        licence: The licence, as the hub names it: ``mit``; empty if none is stated.
    """
    front = yaml.safe_dump(_front(record, repo, agent, licence), sort_keys=False, width=1000)
    title = agent if record is None else f"{agent} on {record.task}"
    parts = [
        f"---\n{front}---",
        f"# {escape_markdown(title)}",
        "A policy trained with nfrl, normalizing flows for reinforcement learning.",
        "## Score",
        *_score(record),
        "## How to use it",
        *_use(repo, goals, code),
        *_training(record),
        "## Licence",
        f"{licence}." if licence else "No licence is stated. Ask the author before you use it.",
    ]
    return "\n\n".join(parts) + "\n"


def _front(record: Record | None, repo: str, agent: str, licence: str) -> dict[str, Any]:
    """Return the metadata that the hub reads."""
    tags = ["nfrl", "reinforcement-learning", "robotics", _tag(agent)]
    if record is not None:
        tags += [_tag(record.task), *([_tag(record.family)] if record.family else ())]
    front: dict[str, Any] = {
        "library_name": "nfrl",
        **({"license": licence} if licence else {}),
        "pipeline_tag": "reinforcement-learning",
        "tags": list(dict.fromkeys(tags)),
    }
    metrics = [] if record is None else list(_metrics(record))
    if record is not None and metrics:
        result = {
            "task": {"type": "reinforcement-learning", "name": "reinforcement-learning"},
            "dataset": {"type": _tag(record.task), "name": _one_line(record.task)},
            "metrics": metrics,
        }
        front["model-index"] = [{"name": repo.partition("/")[2], "results": [result]}]
    return front


def _metrics(record: Record) -> Iterable[dict[str, Any]]:
    if record.score is not None:
        measure = _measure(record)
        yield {
            "type": _tag(measure).replace("-", "_"),
            "value": record.score,
            "name": _one_line(measure),
        }
    if record.mean_return is not None and _measure(record) != "return":
        yield {"type": "mean_reward", "value": record.mean_return, "name": "mean return"}


def _score(record: Record | None) -> list[str]:
    if record is None:
        return ["No score is recorded."]
    if record.score is None:
        return [f"No score is recorded: the run was {record.outcome}."]
    rows = [
        (_measure(record), record.score, record.interval),
        ("success rate", record.success, None),
        ("furthest at any time", record.max_score, None),
        ("score before training online", record.offline_score, None),
        ("mean return", record.mean_return, record.return_interval),
    ]
    parts = [
        _table(
            ("measure", "mean", _LEVEL),
            [
                (name, value, "not recorded" if interval is None else "{} to {}".format(*interval))
                for name, value, interval in rows
                if value is not None
            ],
        ),
        _sentences(
            ("Evaluation episodes per goal", record.episodes),
            ("Of all episodes, failed by a number that is not finite", record.failures),
        ),
    ]
    if len(record.scores) > 1:
        by_goal = _table(
            ("goal", _measure(record)),
            list(enumerate(record.scores, start=1)),
        )
        parts += ["By goal:", by_goal]
    return [part for part in parts if part]


def _use(repo: str, goals: bool, code: Sequence[str]) -> list[str]:
    allowed = f", allow={list(code)!r}".replace("'", '"') if code else ""
    goal = ", goal" if goals else ""
    parts = [
        "```sh\npip install 'nfrl[hub]'\n```",
        "```python\nimport nfrl\n\n"
        f'policy = nfrl.load_policy("hf:{repo}"{allowed})\n'
        f"action = policy(observation{goal})\n"
        "policy.reset()  # the next episode\n```",
        "The weights are safetensors and the configuration is JSON. Loading runs no code of this "
        "repository.",
    ]
    if code:
        modules = ", ".join(f"`{each}`" for each in code)
        parts.append(
            f"The agent is built by code that is not here: {modules}. Install it, read it, and "
            "allow it as above."
        )
    return parts


def _training(record: Record | None) -> list[str]:
    if record is None:
        return ["## Training", "No record of the training comes with this policy."]
    data = record.dataset
    parts = []
    if data:
        names = ("name", "origin", "transitions", "observation_dim", "action_dim", "sha256")
        rows = [(name.replace("_dim", " width"), data.get(name)) for name in names]
        parts += ["## Data", _table(("data set", ""), _said(rows))]
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    rows = [
        ("task", record.task),
        ("agent", record.agent),
        ("preset", record.preset),
        ("variant", record.variant),
        ("seed", record.seed),
        ("gradient steps", record.steps),
        ("steps in the environment", record.environment_steps),
        ("steps in the environment after that", record.online_steps),
        ("trained numbers", record.parameters),
        ("device", record.device),
        ("evaluated on", record.evaluated_on),
        ("training time in seconds", record.train_seconds),
        ("seeds trained together in that time", record.seeds_together),
        ("milliseconds to sample an action", record.sample_ms),
        ("versions", versions),
        ("commit of nfrl", record.commit),
        ("date", record.date),
    ]
    said = _table(("training", ""), _said(rows))
    return [*parts, "## Training", said, "[record.json](record.json) holds every setting."]


def _said(rows: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Leave out what the record does not say; the seed may be 0."""
    return [(name, value) for name, value in rows if value or (name == "seed")]


def _table(columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> str:
    cells = tuple(tuple(Cell(str(each)) for each in row) for row in rows)
    return Table("card", "", columns, cells, left=len(columns)).markdown()


def _sentences(*said: tuple[str, Any]) -> str:
    return " ".join(f"{name}: {value}." for name, value in said if value)


def _measure(record: Record) -> str:
    """Return what the score is: what the record says, or its task."""
    if record.measure:
        return record.measure
    task = find_task(record.task)
    return task.measure if task else "success rate"


def _one_line(text: str) -> str:
    """Return a text without what could end the metadata before its time."""
    return " ".join(text.split())


def _tag(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text).strip("-.") or "unnamed"
