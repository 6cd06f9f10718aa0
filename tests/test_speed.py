"""What training is measured against does the work that it says."""

import jax
import jax.numpy as jnp
import pages
import pytest

from nfrl.agents import NFGCBCConfig
from nfrl.analysis.kernels import kernels_of
from nfrl.analysis.speed_flowjax import beside_flowjax
from nfrl.analysis.speed_starting import starting_speed
from nfrl.analysis.speed_streaming import write_random
from nfrl.analysis.speed_training import product_loop
from nfrl.flows import RealNVPConfig
from nfrl.reading import read_json
from nfrl.reports.scaling import scaling


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


def test_the_tables_of_the_page_are_the_records():
    page, bench = pages.page("speed.md"), pages.DOCS.parent / "results" / "bench"
    assert scaling(read_json(bench / "scale-cpu.json")).markdown() in page
    for name, flow in read_json(bench / "flowjax.json")["flows"].items():
        rates = flow["steps_per_second"], flow["products_per_second"]
        cells = [*(f"{rate:.1f}" for rate in rates), f"{rates[0] / rates[1]:.0%}"]
        assert f"| {name} | {flow['megaflop']:.2f} | {' | '.join(cells)} |" in page
    for name, start in read_json(bench / "start.json")["agents"].items():
        times = start["first_seconds"], start["again_seconds"]
        assert f"| {name} | {times[0]:.1f} | {times[1]:.1f} |" in page
    for preset in ("paper", "laptop"):
        counts = read_json(bench / f"kernels-{preset}.json")
        all_of = [str(counts[side]["kernels"]["all"]) for side in ("before", "after")]
        assert f"| {' | '.join(all_of)} | `results/bench/kernels-{preset}.json` |" in page


def test_what_the_first_start_compiled_the_next_one_finds(tmp_path, monkeypatch):
    """Load may make the second the slower one; but nothing is compiled anew."""
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    write_random(tmp_path / "data", 2000, 3, 2)
    place = tmp_path / "place"
    words = ("gcbc", "--agent.hidden", "8", "--training.batch-size", "8")
    starting_speed(tmp_path / "data", words, place, again=1)
    (begun,) = (place / "runs-1").rglob("run.toml")
    written = [path.stat().st_mtime for path in (place / "cache").rglob("*-cache")]
    assert written
    assert max(written) < begun.stat().st_mtime
