"""Going on from an offline run in the environment itself: act, store, update, in turn.

A batch is drawn from the offline data and the new experience together, each transition as likely as
any other. A new episode begins at every checkpoint, so that a checkpoint (agent and replay) is all
that the rest of the run depends on: a resumed run is an uninterrupted one to the bit.

An agent that chooses chunks of h actions stores each that it executed as one transition, which is
drawn as often as h.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from nfrl.acting.acting import Act, compile_act
from nfrl.agents.parts.optimization import mean_metrics
from nfrl.data.dataset import Dataset
from nfrl.data.experience import Experience, Replay, add, empty_replay, sample
from nfrl.data.samplers import Transitions
from nfrl.errors import UserError
from nfrl.interfaces.agent import Agent
from nfrl.runs import checkpoints
from nfrl.runs.folder import RunFolder
from nfrl.training.loop import Line, NonFiniteLossError, Report, last_checkpoint, loop, spans_of

if TYPE_CHECKING:  # which imports simulators, and training from data alone needs none
    from nfrl.environments.rewarded import RewardedEnvironment, Step

ROLLOUT = 20
"""Environment steps, and as many updates, between two calls of the compiled updates."""


@dataclasses.dataclass(frozen=True)
class OnlineTraining:
    """How long, and how often things are written down."""

    steps: int
    """Environment steps, with a gradient step each; a chunk that an episode's end cuts short counts
    as whole."""
    batch_size: int = 256
    """Transitions a gradient step."""
    log_every: int = 1000
    """Steps between two lines of metrics."""
    checkpoint_every: int = 5000
    """Steps between checkpoints, where a new episode begins."""

    def __post_init__(self):
        if self.steps < 1 or self.batch_size < 1:
            raise UserError("online-steps and batch-size must be at least 1")
        for name, divisor in (
            ("steps", ROLLOUT),
            ("log_every", ROLLOUT),
            ("checkpoint_every", self.log_every),
        ):
            if getattr(self, name) % divisor:
                raise UserError(f"online {name.replace('_', '-')} must be a multiple of {divisor}")


def go_online(
    run: RunFolder,
    agent: Agent,
    environment: "RewardedEnvironment",
    dataset: Dataset,
    training: OnlineTraining,
    *,
    seed: int,
    report: Report = lambda step, metrics: None,
) -> Agent:
    """Train an agent on in its environment, from the checkpoint that the run holds, if any.

    Args:
        run: Where metrics and checkpoints go.
        agent: The agent as it left its offline run.
        environment: What to act in.
        dataset: The offline data, with rewards.
        training: How long.
        seed: Of the actions and the batches.
        report: Told the step and the metrics after each line of metrics.

    Returns:
        The trained agent.

    Raises:
        UserError: See :func:`check_chunk`.
        NonFiniteLossError: A loss was not finite.
        KeyboardInterrupt: What came after the last checkpoint is lost.
    """
    chunk, discount = _chunk_of(agent)
    check_chunk(chunk)
    sizes = (dataset.observations.shape[1], dataset.actions.shape[1])
    replay = _room_for(agent, sizes, training.steps)
    found = checkpoints.steps_in(run.checkpoints)
    start = max(found, default=0)
    if start:
        agent, replay = checkpoints.load(found[start], (agent, replay))
    learn = compile_updates(agent, dataset, training.batch_size)
    policy_of = compile_act(agent, seed)
    observation = np.empty(0, np.float32)

    def advance(state: Any, begin: int, end: int) -> tuple[Any, list[Line]]:
        nonlocal observation
        agent, replay = state
        rows: list[dict[str, Array]] = []
        tally = _Tally()
        for step in range(begin, end, ROLLOUT):
            if step % training.checkpoint_every == 0:
                # Numbers of episodes that no stretch between checkpoints shares with another.
                observation = environment.begin(step)
            new, observation = _roll_out(
                policy_of(agent), environment, observation, step, tally, chunk, discount
            )
            agent, replay, metrics = learn(agent, replay, new, jr.key(seed), step)
            rows.append(metrics)
        line = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        if not np.isfinite(line["loss"]):
            raise NonFiniteLossError(
                f"seed {seed}: the loss of the updates before online step {end} is not finite; "
                f"last good checkpoint: {last_checkpoint(run)}; a lower learning rate helps",
                seed,
            )
        return (agent, replay), [line | tally.line()]

    agent, _ = loop(
        [run],
        (agent, replay),
        start,
        spans_of(training.log_every, training.steps),
        advance,
        lambda state, step: checkpoints.save_only(run.checkpoints, state, step=step),
        due=lambda step: step % training.checkpoint_every == 0 or step == training.steps,
        anywhere=False,
        report=report,
    )
    return agent


def load_online(run: RunFolder, agent: Agent, step: int | None = None) -> Agent:
    """Load the agent of :func:`go_online`'s latest checkpoint, or of that of a step.

    Args:
        run: Where the checkpoints are.
        agent: An agent, or its shapes, to give the structure.
        step: Of the environment.

    Raises:
        UserError: There is no such checkpoint, or it is cut short.
    """
    found = checkpoints.steps_in(run.checkpoints)
    if not found:
        raise UserError(f"{run.path} has no checkpoint yet")
    path = checkpoints.path_of(run.checkpoints, max(found) if step is None else step)
    return checkpoints.load(path, (agent,))[0]


def check_chunk(chunk: int) -> None:
    """Refuse chunks that do not fill what is executed between two calls of the updates.

    Raises:
        UserError: It is such a one.
    """
    if ROLLOUT % chunk:
        raise UserError(f"to go on online, chunk must divide {ROLLOUT}; got {chunk}")


def _chunk_of(agent: Agent) -> tuple[int, float]:
    """Return how many actions the agent chooses at once, and the discount between them."""
    can = agent.capabilities
    return (1, 1.0) if can.predicted is None else (can.predicted, can.discount)


def _room_for(agent: Agent, sizes: tuple[int, int], steps: int) -> Replay:
    """Return an empty replay for so many environment steps; sizes as the environment's."""
    chunk, _ = _chunk_of(agent)
    observation_dim, action_dim = sizes
    return empty_replay(steps // chunk, observation_dim, chunk * action_dim)


def compile_updates(
    agent: Agent, dataset: Dataset, batch_size: int
) -> Callable[[Agent, Replay, Experience, PRNGKeyArray, int], tuple[Agent, Replay, dict]]:
    """Compile ``ROLLOUT`` updates into one call; the replay passed to it is consumed."""
    _, static = eqx.partition(agent, eqx.is_array)

    @partial(jax.jit, donate_argnames="replay")
    def advance(
        dynamic: Any, replay: Replay, new: Experience, key: PRNGKeyArray, data: Dataset
    ) -> Any:
        replay = add(replay, new)

        def update(dynamic: Any, key: PRNGKeyArray) -> tuple[Any, dict[str, Array]]:
            batch_key, update_key = jr.split(key)
            agent = eqx.combine(dynamic, static)
            batch = draw_from_both(agent, data, replay, batch_key, batch_size)
            agent, metrics = agent.update(batch, update_key)
            return eqx.filter(agent, eqx.is_array), metrics

        dynamic, metrics = jax.lax.scan(update, dynamic, jr.split(key, ROLLOUT))
        return dynamic, replay, mean_metrics(metrics)

    def learn(
        agent: Agent, replay: Replay, new: Experience, key: PRNGKeyArray, step: int
    ) -> tuple[Agent, Replay, dict[str, Array]]:
        dynamic = eqx.filter(agent, eqx.is_array)
        dynamic, replay, metrics = advance(dynamic, replay, new, jr.fold_in(key, step), dataset)
        return eqx.combine(dynamic, static), replay, metrics

    return learn


def draw_from_both(
    agent: Agent, dataset: Dataset, replay: Replay, key: PRNGKeyArray, batch_size: int
) -> Transitions:
    """Draw from the data and the replay together, uniformly over all steps of the environment."""
    choice_key, old_key, new_key = jr.split(key, 3)
    chunk, _ = _chunk_of(agent)
    count_new = chunk * jnp.minimum(replay.added, len(replay.rows.rewards))
    share = count_new / (count_new + len(dataset.transitions))
    take_new = jr.uniform(choice_key, (batch_size,)) < share
    old = agent.draw(dataset, old_key, batch_size)
    new = sample(replay, new_key, batch_size)
    both = Transitions(**new._asdict(), next_actions=jnp.zeros_like(new.actions))

    def choose(new: Array, old: Array) -> Array:
        return jnp.where(take_new.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return jax.tree.map(choose, both, old)


class _Tally:
    """What the environment gave since the last line of metrics."""

    def __init__(self) -> None:
        self.rewards: list[float] = []
        self.outcomes: list[bool] = []

    def line(self) -> dict[str, float]:
        """Return the mean reward of a step, and the share of finished episodes that succeeded."""
        line = {"reward": float(np.mean(self.rewards))}
        return line | ({"online_success": float(np.mean(self.outcomes))} if self.outcomes else {})


def _roll_out(
    act: Act,
    environment: "RewardedEnvironment",
    observation: np.ndarray,
    first: int,
    tally: _Tally,
    chunk: int,
    discount: float,
) -> tuple[Experience, np.ndarray]:
    """Take ``ROLLOUT`` steps, ``chunk`` at once; return what happened, and what to act on next."""
    rows = []
    for time_step in range(first, first + ROLLOUT, chunk):
        state = observation[None]
        # The key is of (seed, 0, step): an action depends on nothing else.
        action = act(state, state, np.zeros(1), np.full(1, time_step))[0].reshape(-1)
        step = _execute(environment, action.reshape(chunk, -1), discount, tally)
        rows.append((observation, action, step.reward, step.mask, step.next_observation))
        observation = step.observation
    columns = (jnp.asarray(np.stack(column), jnp.float32) for column in zip(*rows, strict=True))
    return Experience(*columns), observation


def _execute(
    environment: "RewardedEnvironment", actions: np.ndarray, discount: float, tally: _Tally
) -> "Step":
    """Take actions until one ends an episode; return them as one step.

    Rewards and mask are as :func:`nfrl.data.samplers.sample_chunk_transitions` makes them.
    """
    reward = 0.0
    for i, action in enumerate(actions):
        step = environment.step(action)
        reward += discount**i * step.reward
        tally.rewards.append(step.reward)
        if step.ended:
            tally.outcomes.append(step.success)
            break
    return step._replace(reward=reward, mask=discount**i * step.mask)
