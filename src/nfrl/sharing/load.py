"""Loading a policy of someone else's: numbers and names, and no code that was not allowed."""

from collections.abc import Sequence

from nfrl import registry
from nfrl.acting import saving
from nfrl.acting.policy import DESCRIPTION, WEIGHTS, Policy
from nfrl.errors import UserError
from nfrl.reading import one_line
from nfrl.sharing import address as addresses
from nfrl.sharing import hub

LIMITS = {DESCRIPTION: 1_000_000, WEIGHTS: 2_000_000_000}
"""The files of a shared policy, and the most bytes of each. Nothing else is fetched."""
OWN = ("nfrl.agents", "nfrl.flows")
"""Where what nfrl itself brings may be referred to."""


def load(text: str, *, allow: Sequence[str] = (), seed: int = 0) -> Policy:
    """Load ``hf:user/name`` or ``hf:user/name@revision``.

    Args:
        text: The address.
        allow: Your modules and packages that the policy may import, of an agent or a flow that is
            a reference, ``package.module:name``. Names that installed packages announce are always
            found.
        seed: Of the policy's own random numbers.

    Raises:
        UserError: There is no such policy, it cannot be fetched, it is damaged, or it refers to
            code that is not allowed.
    """
    if isinstance(allow, str):
        allow = (allow,)
    address = addresses.parse(text)
    folder = hub.download(address, LIMITS)
    try:
        with registry.references_only_to((*OWN, *allow)):
            return saving.load(folder, seed=seed)
    except UserError as error:
        said = str(error).replace(f"{folder}/", "")
        raise UserError(f"{address}: {one_line(said)}") from error
    except Exception as error:
        # Whatever odd values make of what is built from them.
        raise UserError(
            f"{address} is not a policy that can be built: {type(error).__name__}: "
            f"{one_line(error)}"
        ) from error
