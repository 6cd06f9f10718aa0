"""What training is measured against does the work that it says."""

import pytest

from nfrl.analysis.speed_training import product_loop


@pytest.mark.usefixtures("optimised")
def test_all_bare_products_are_made_in_every_step():
    """A compiler takes out of a loop what does not change in it: that would flatter the machine."""
    run, operands = product_loop([(8, 16), (16, 4)], batch_size=32, steps=3)
    program = run.lower(operands).compile().as_text()
    products = [line for line in program.splitlines() if " dot(" in line]
    assert len(products) == 3 * 2
    once = program[program.index("\nENTRY ") :]
    assert "dot_general" not in once
    assert " while(" in once
