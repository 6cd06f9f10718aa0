"""What training is measured against does the work that it says."""

import jax
import jax.numpy as jnp
import pytest

from nfrl.agents import NFGCBCConfig
from nfrl.analysis.kernels import kernels_of
from nfrl.analysis.speed_flowjax import beside_flowjax
from nfrl.analysis.speed_training import product_loop
from nfrl.flows import RealNVPConfig


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


@pytest.mark.usefixtures("optimised")
def test_kernels_are_what_a_loop_has_left():
    """Nothing outside the loop counts, and what is fused counts once."""

    @jax.jit
    def run(x, w):
        def step(x, _):
            y = jnp.tanh(x @ w) @ w.T
            return y / jnp.sqrt(jnp.square(y).sum()), None

        return jax.lax.scan(step, jnp.cos(x) @ w @ w.T, length=10)[0]

    program = run.lower(jnp.ones((8, 16)), jnp.ones((16, 4))).compile().as_text()
    kernels = kernels_of(program)
    assert kernels["products"] == 2
    # tanh; the sum of squares; the division; counting the loop: with what each backend copies.
    assert 3 <= kernels["others"] <= 8
    with pytest.raises(ValueError, match="no loop"):
        kernels_of(jax.jit(jnp.sin).lower(1.0).compile().as_text())


def test_flowjaxs_flow_has_as_much_arithmetic():
    config = NFGCBCConfig(RealNVPConfig(2, 64), encoder=(32,), condition_dim=16)
    speeds = beside_flowjax(
        config, observation_dim=6, action_dim=4, batch_size=16, steps=2, rounds=1
    )
    assert list(speeds) == ["nfrl", "flowjax"]
    ours, theirs = speeds.values()
    assert theirs.megaflop == pytest.approx(ours.megaflop, rel=0.1)
    assert min(ours.steps_per_second, theirs.products_per_second) > 0
