"""What is wrong with data that were given."""

from nfrl.errors import UserError


class DataError(UserError):
    """Data that cannot be used: which file, which key, which row, and the cure."""
