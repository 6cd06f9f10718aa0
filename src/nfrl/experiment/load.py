"""What a run has learned: its agent from a checkpoint, and the policy that acts with it."""

from collections.abc import Sequence
from pathlib import Path

import jax.random as jr

from nfrl.acting import saving, zoo
from nfrl.acting.policy import Policy
from nfrl.agents.parts.optimization import without_optimizer
from nfrl.errors import UserError
from nfrl.experiment.config import Experiment
from nfrl.interfaces.agent import Agent
from nfrl.runs import checkpoints
from nfrl.runs.folder import RunFolder
from nfrl.sharing.address import is_address
from nfrl.training.offline import load_agent
from nfrl.training.online import load_online

ZOO = "zoo:"
"""What the names of policies begin with that come with a package."""


def load_trained(experiment: Experiment, folder: RunFolder, step: int | None = None) -> Agent:
    """Load a run's agent from its latest checkpoint, or that of a step; the data are not needed.

    Raises:
        UserError: There is no such checkpoint, or it is cut short.
    """
    config, spec = experiment.agent_config, experiment.data.spec
    steps = experiment.offline_training.steps
    if experiment.online_steps:
        like = checkpoints.outline(lambda: config.build(jr.key(0), spec, steps))
        return load_online(folder, like, step)
    return load_agent(folder, config, spec, steps, step)


def load_policy(
    path: Path | str, *, step: int | None = None, seed: int = 0, allow: Sequence[str] = ()
) -> Policy:
    """Load a policy, ready to act: one that was saved or shared, or a run's.

    No simulator is imported, and no code of the folder's is run. A policy from the hub imports
    nothing but nfrl, what installed packages announce, and what ``allow`` names.

    Args:
        path: What :meth:`Policy.save` wrote; a run's folder, runs/TASK/AGENT-PRESET/seed-N;
            ``zoo:TASK``, a policy that comes with a package; or ``hf:user/name``,
            ``hf:user/name@revision`` on the Hugging Face hub.
        step: The checkpoint's step, of a run; by default the latest.
        seed: Of the policy's own random numbers.
        allow: Your modules and packages that a policy from the hub may import. A folder on this
            machine counts as your own, and may import any.

    Raises:
        UserError: It is none of them, or a run that explored a maze; there is no such checkpoint,
            or it is cut short; it is not on the hub, or refers to code that is not allowed.
    """
    if str(path).startswith(ZOO):
        path = zoo.find(str(path).removeprefix(ZOO))
    if is_address(path):
        # Imported here: most policies are on this machine.
        from nfrl.sharing import load as shared

        if step is not None:
            raise UserError(f"{path} is a saved policy: it has no steps to choose from")
        return shared.load(str(path), allow=allow, seed=seed)
    path = Path(path).expanduser().resolve()
    if saving.is_policy(path):
        if step is not None:
            raise UserError(f"{path} is a saved policy: it has no steps to choose from")
        return saving.load(path, seed=seed)
    folder = RunFolder(path)
    experiment = Experiment.of(folder)
    if experiment.explores:
        raise UserError(
            f"{folder.path} explored a maze: its agent is not made for other simulators"
        )
    agent = without_optimizer(load_trained(experiment, folder, step))
    return Policy(
        agent,
        experiment.agent_config,
        experiment.agent,
        experiment.data.spec,
        steps=experiment.offline_training.steps,
        seed=seed,
    )
