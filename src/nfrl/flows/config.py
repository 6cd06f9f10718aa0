"""A flow as a configuration: the slot that every agent with a flow has."""

import abc

from flowjax.distributions import AbstractDistribution
from jaxtyping import PRNGKeyArray

from nfrl.errors import UserError


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

    def build_sequence(
        self, key: PRNGKeyArray, *, tokens: int, width: int, cond_dim: int
    ) -> AbstractDistribution:
        """Build an untrained density of sequences, laid out as one vector, token after token.

        A chunk of actions is a sequence whose tokens are the actions. A flow that has no use for
        that, as this method in the class above, sees a vector of tokens * width coordinates.

        Args:
            key: Random key of the initial weights.
            tokens: Number of tokens; 1 for a vector that is no sequence.
            width: Number of coordinates of a token.
            cond_dim: Number of coordinates of the condition y.
        """
        return self.build(key, dim=tokens * width, cond_dim=cond_dim)


class SequenceFlowConfig(FlowConfig):
    """A flow of tokens: the actions of a chunk, or the coordinates of a vector that is no chunk."""

    @abc.abstractmethod
    def build_tokens(
        self, key: PRNGKeyArray, *, tokens: int, width: int, cond_dim: int
    ) -> AbstractDistribution:
        """Build it over its tokens; arguments as in :meth:`FlowConfig.build_sequence`."""

    def build(self, key: PRNGKeyArray, *, dim: int, cond_dim: int) -> AbstractDistribution:
        return self.build_tokens(key, tokens=dim, width=1, cond_dim=cond_dim)

    def build_sequence(
        self, key: PRNGKeyArray, *, tokens: int, width: int, cond_dim: int
    ) -> AbstractDistribution:
        if tokens == 1:
            tokens, width = width, 1
        return self.build_tokens(key, tokens=tokens, width=width, cond_dim=cond_dim)


def check_sizes(**sizes: int) -> None:
    """Refuse a flow one of whose sizes is less than 1.

    Raises:
        UserError: It is; the message names it.
    """
    for name, size in sizes.items():
        if size < 1:
            raise UserError(f"{name} of a flow must be at least 1; got {size}")
