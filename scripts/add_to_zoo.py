"""Put a run's policy into the zoo: python scripts/add_to_zoo.py RUN

The weights are stored in half precision. What is recorded of the policy is what it does then: it is
evaluated anew, as its run was, with the same number of episodes.
"""

import sys
import tempfile
from pathlib import Path

import nfrl.benchmarks.zoo
from nfrl.acting import saving, zoo
from nfrl.experiment.config import Experiment
from nfrl.experiment.load import load_policy
from nfrl.experiment.scoring import score
from nfrl.files import write_json
from nfrl.runs.folder import RunFolder
from nfrl.runs.records import append_record, check_record

LIMIT = 1_000_000
"""Bytes that a policy may have."""


def add(run: Path, records: Path) -> None:
    """Save a run's policy into the package, evaluate it from there, and record what came out."""
    folder = RunFolder(run.resolve())
    config = folder.read_config()
    experiment = Experiment.from_json(config)
    (place,) = nfrl.benchmarks.zoo.__path__
    home = load_policy(folder.path).save(Path(place) / experiment.task.name, half=True)
    size = sum(each.stat().st_size for each in home.iterdir())
    if size > LIMIT:
        raise SystemExit(f"{home} has {size} bytes; at most {LIMIT} are allowed")
    with tempfile.TemporaryDirectory() as elsewhere:
        copy = RunFolder(Path(elsewhere))
        copy.write_config(config)
        copy.metrics_file.write_bytes(folder.metrics_file.read_bytes())
        agent = saving.load(home).agent
        record = score(experiment, config["seed"], copy, agent, keep=False)
    write_json(home / zoo.RECORD, check_record(record, str(home)))
    append_record(records, record)
    print(f"{home.name}: {record.score} ({size / 1e6:.2f} MB)")


if __name__ == "__main__":
    for word in sys.argv[1:]:
        add(Path(word), Path("results/zoo.jsonl"))
