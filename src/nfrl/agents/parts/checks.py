"""Checks of hyperparameters that several configurations have."""

from nfrl.errors import UserError


def check_discount(discount: float) -> None:
    """Refuse a discount outside [0, 1).

    Raises:
        UserError: It is.
    """
    if not 0 <= discount < 1:
        raise UserError(f"discount must lie in [0, 1); got {discount}")


def check_temperature(temperature: float) -> None:
    """Refuse a temperature of samples that is below zero.

    Raises:
        UserError: It is.
    """
    if not temperature >= 0:
        raise UserError(f"temperature must be at least 0; got {temperature}")


def check_expectile(expectile: float) -> None:
    """Refuse an expectile outside (0, 1).

    Raises:
        UserError: It is.
    """
    if not 0 < expectile < 1:
        raise UserError(f"expectile must lie in (0, 1); got {expectile}")


def check_unit(unit: float) -> None:
    """Refuse a unit of a critic's outputs that is not greater than zero.

    Raises:
        UserError: It is not.
    """
    if not unit > 0:
        raise UserError(f"critic-unit must be greater than 0; got {unit}")


def check_positive(config: object, *names: str) -> None:
    """Refuse a configuration whose fields of these names, counts of something, are not all >= 1.

    Raises:
        UserError: One is less; the message names it as the command line does.
    """
    for name in names:
        value = getattr(config, name)
        if value < 1:
            raise UserError(f"{name.replace('_', '-')} must be at least 1; got {value}")
