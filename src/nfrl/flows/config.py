"""A flow as a configuration: the slot that every agent with a flow has."""

import abc

from flowjax.distributions import AbstractDistribution
from jaxtyping import PRNGKeyArray


class FlowConfig(abc.ABC):
    """A frozen dataclass that builds a conditional density; the name of a kind of flow.

    Any flowjax distribution with ``log_prob`` and ``sample`` will do. A flow of yours is a subclass
    of this, named on the command line as ``--agent.flow package.module:MyFlowConfig``.
    """

    @abc.abstractmethod
    def build(self, key: PRNGKeyArray, *, dim: int, cond_dim: int) -> AbstractDistribution:
        """Build an untrained density p(x | y).

        Args:
            key: Random key of the initial weights.
            dim: Number of coordinates of x, one or more.
            cond_dim: Number of coordinates of the condition y.
        """
