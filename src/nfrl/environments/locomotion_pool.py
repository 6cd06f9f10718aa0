"""Many bodies stepped together, in this process or in several, with the same outcome."""

import contextlib
import itertools
import multiprocessing
import signal
from multiprocessing.connection import Connection
from types import TracebackType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nfrl.environments.locomotion import Body, Locomotion
from nfrl.errors import UserError


class Outcome(NamedTuple):
    """What a step led to, for n environments.

    Attributes:
        next_observations: (n, d) float32, where the step led.
        observations: (n, d) float32, what to act on next: where an episode was over, the beginning
            of the next one.
        rewards: (n,) float32.
        masks: (n,) float32, 0 where all reward ended.
    """

    next_observations: NDArray
    observations: NDArray
    rewards: NDArray
    masks: NDArray


class Bodies:
    """Some environments of a pool, in the process that steps them.

    Episode e of environment i in period p depends on the seed, i, p and e, and on its actions.

    Args:
        body: What moves.
        indices: Which environments of the pool these are.
        seed: Of the pool.
    """

    def __init__(self, body: Body, indices: range, seed: int):
        self._indices = indices
        self._seed = seed
        self._environments = [Locomotion(body) for _ in indices]
        self._period = 0
        self._episodes = [0] * len(indices)
        self.observation_dim = self._environments[0].observation_dim
        self.action_dim = self._environments[0].action_dim

    def reset(self, period: int) -> NDArray:
        """Begin a period, all episodes anew; return the observations (n, d)."""
        self._period = period
        self._episodes = [0] * len(self._indices)
        return np.stack([self._begin(place) for place in range(len(self._indices))])

    def step(self, actions: NDArray) -> Outcome:
        """Take one step in each; begin the next episode where one is over."""
        rows = []
        for place, (environment, action) in enumerate(
            zip(self._environments, actions, strict=True)
        ):
            following, reward, final, over = environment.step(action)
            if over:
                self._episodes[place] += 1
            observation = self._begin(place) if over else following
            rows.append((following, observation, reward, 1.0 - final))
        return Outcome(*(np.asarray(column, np.float32) for column in zip(*rows, strict=True)))

    def _begin(self, place: int) -> NDArray:
        key = (self._indices[place], self._period, self._episodes[place])
        return self._environments[place].reset(np.random.SeedSequence(self._seed, spawn_key=key))


class Pool:
    """The environments of a pool, each worker process with its share.

    Use as a context manager; leaving it ends the workers.

    Args:
        body: What moves.
        environments: How many.
        workers: Processes; 0 to step in this one.
        seed: Non-negative.

    Raises:
        UserError: A worker failed, here or later.
    """

    def __init__(self, body: Body, environments: int, workers: int, seed: int):
        self._local: Bodies | None = None
        self._connections: list[Connection] = []
        self._processes: list[multiprocessing.process.BaseProcess] = []
        self._shares: list[slice] = []
        if workers == 0:
            self._local = Bodies(body, range(environments), seed)
            self.observation_dim = self._local.observation_dim
            self.action_dim = self._local.action_dim
            return
        bounds = np.linspace(0, environments, min(workers, environments) + 1).astype(int)
        context = multiprocessing.get_context("spawn")
        try:
            for first, last in itertools.pairwise(bounds.tolist()):
                ours, theirs = context.Pipe()
                share = range(first, last)
                process = context.Process(target=_serve, args=(theirs, body, share, seed))
                process.daemon = True
                process.start()
                theirs.close()
                self._shares.append(slice(share.start, share.stop))
                self._connections.append(ours)
                self._processes.append(process)
            sizes = [np.frombuffer(self._receive(each), np.int64) for each in self._connections]
        except BaseException:
            self.close()
            raise
        self.observation_dim, self.action_dim = map(int, sizes[0])

    def __enter__(self) -> "Pool":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def reset(self, period: int) -> NDArray:
        """Begin a period, all episodes anew; return the observations (n, d) float32."""
        if self._local is not None:
            return self._local.reset(period)
        for connection in self._connections:
            connection.send_bytes(b"r" + np.int64(period).tobytes())
        return np.concatenate(
            [
                np.frombuffer(self._receive(each), np.float32).reshape(-1, self.observation_dim)
                for each in self._connections
            ]
        )

    def step(self, actions: NDArray) -> Outcome:
        """Take one step in each environment.

        Args:
            actions: (n, a) float32, in [-1, 1].
        """
        if self._local is not None:
            return self._local.step(actions)
        for connection, share in zip(self._connections, self._shares, strict=True):
            connection.send_bytes(b"s" + np.ascontiguousarray(actions[share], np.float32).tobytes())
        rows = np.concatenate(
            [
                np.frombuffer(self._receive(each), np.float32).reshape(
                    -1, 2 * self.observation_dim + 2
                )
                for each in self._connections
            ]
        )
        d = self.observation_dim
        return Outcome(rows[:, :d], rows[:, d : 2 * d], rows[:, -2], rows[:, -1])

    def close(self) -> None:
        """End the workers. May be called twice."""
        for connection in self._connections:
            connection.close()
        for process in self._processes:
            process.join(timeout=5)
            if process.is_alive():
                process.kill()
                process.join()
        self._connections, self._processes = [], []

    def _receive(self, connection: Connection) -> bytes:
        try:
            return connection.recv_bytes()
        except (EOFError, ConnectionError) as error:
            raise UserError("a worker process died (out of memory?); try fewer workers") from error


def _serve(connection: Connection, body: Body, share: range, seed: int) -> None:
    """Step a share of the environments until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The parent hears Ctrl-C and ends its workers.
    bodies = Bodies(body, share, seed)
    connection.send_bytes(np.array([bodies.observation_dim, bodies.action_dim]).tobytes())
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            message = connection.recv_bytes()
            if message[:1] == b"r":
                period = int(np.frombuffer(message[1:], np.int64)[0])
                connection.send_bytes(bodies.reset(period).tobytes())
            else:
                actions = np.frombuffer(message[1:], np.float32).reshape(len(share), -1)
                outcome = bodies.step(actions)
                rows = [each.reshape(len(share), -1) for each in outcome]
                connection.send_bytes(np.concatenate(rows, axis=1).tobytes())
