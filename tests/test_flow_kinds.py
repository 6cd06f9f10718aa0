"""The kinds of flows behind ``--agent.flow``: what each must be as a density, and within agents."""

import dataclasses
import json
import re
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pages
import pytest
from flowjax.distributions import StandardNormal
from test_flows import check_bijection, jitted, to_latent

import nfrl
from nfrl.agents import NFBCConfig, NFGCBCConfig, NFRLBCConfig
from nfrl.agents.parts.flow_policy import FlowPolicyConfig, LikelihoodActing
from nfrl.agents.parts.optimization import AdamW
from nfrl.analysis.flow_kinds import KINDS as FLOW_KINDS
from nfrl.cli.main import main
from nfrl.data.samplers import GoalBatch
from nfrl.errors import UserError
from nfrl.flows import (
    AutoregressiveConfig,
    FlowConfig,
    GaussianConfig,
    MaskedAutoregressiveConfig,
    NeuralSplineConfig,
    RealNVP,
    RealNVPConfig,
    TransformerCouplingConfig,
    guide,
    refine,
    sample_at,
)
from nfrl.interfaces.agent import ChunkShape
from nfrl.networks import split_trainable
from nfrl.reports.flow_kinds import flow_kinds
from nfrl.spec import Spec

TOKENS, WIDTH, COND = 3, 2, 2
AUTOREGRESSIVE = AutoregressiveConfig(blocks=2, channels=8, layers=1, heads=2)
KINDS: dict[str, FlowConfig] = {
    "autoregressive": AUTOREGRESSIVE,
    "transformer-coupling": TransformerCouplingConfig(
        blocks=2, channels=8, layers=1, heads=2, condition_tokens=2
    ),
    "masked-autoregressive": MaskedAutoregressiveConfig(blocks=2, channels=8, layers=1),
    "neural-spline": NeuralSplineConfig(blocks=2, channels=8, layers=1),
    "gaussian": GaussianConfig(hidden=(8,)),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def shaken(flow, scale=0.25):
    """Return a flow with noise on every parameter, so that the last layers are not zero."""
    rng = np.random.default_rng(0)
    parameters, constants = split_trainable(flow)

    def shake(leaf):
        return leaf + jnp.asarray(scale * rng.normal(size=leaf.shape), leaf.dtype)

    return eqx.combine(jax.tree.map(shake, parameters), constants)


@pytest.fixture(scope="module")
def sequences():
    """Return each kind's density of three tokens of two numbers."""
    return {kind: shaken(sequence(each)) for kind, each in KINDS.items()}


def sequence(config):
    build = partial(config.build_sequence, tokens=TOKENS, width=WIDTH, cond_dim=COND)
    # flowjax's flows keep what their constructors compute, and must not be traced.
    ours = isinstance(config, (AutoregressiveConfig, TransformerCouplingConfig))
    return (eqx.filter_jit(build) if ours else build)(jr.key(0))


# As densities


@every_kind
def test_inverses_and_log_determinants(sequences, kind):
    """Of the autoregressive flow one pass is parallel, and the other goes by a cache."""
    x = jr.normal(jr.key(1), (8, TOKENS * WIDTH))
    check_bijection(sequences[kind].bijection, x, jr.normal(jr.key(2), (COND,)))


@every_kind
def test_a_density_of_one_number_integrates_to_one_and_is_sampled(kind):
    flow = shaken(KINDS[kind].build(jr.key(0), dim=1, cond_dim=COND))
    y, count = jnp.array([1.0, -0.5]), 2000
    x = (jnp.arange(4000) + 0.5) / 4000 * 40 - 20
    mass = np.exp(jitted(flow.log_prob, x[:, None], y)) * 40 / 4000
    assert abs(mass.sum() - 1) < 2e-3
    samples = np.sort(jitted(flow.sample, jr.key(7), (count,), y)[:, 0])
    cdf = np.interp(samples, x, np.cumsum(mass) - mass / 2)
    rank = np.arange(count + 1) / count
    distance = max(np.abs(cdf - rank[1:]).max(), np.abs(cdf - rank[:-1]).max())
    assert distance < 1.95 / np.sqrt(count)  # Kolmogorov and Smirnov, at 0.001


@every_kind
def test_products_are_float32s_on_every_device(sequences, kind):
    parameters, constants = split_trainable(sequences[kind])

    def log_prob(parameters, x, y):
        return eqx.combine(parameters, constants).log_prob(x, y).sum()

    def sample(parameters, y):
        return eqx.combine(parameters, constants).sample(jr.key(1), (), y).sum()

    x, y = jnp.ones((4, TOKENS * WIDTH)), jnp.ones((4, COND))
    for lowered in (
        jax.jit(jax.grad(log_prob)).lower(parameters, x, y),
        jax.jit(jax.grad(sample)).lower(parameters, y),
    ):
        found = re.findall(r"dot_general.*?precision = \[(\w+), (\w+)\]", lowered.as_text())
        assert len(found) > 3
        assert set(found) == {("HIGHEST", "HIGHEST")}


def products(lowered):
    """Return the precision of each product of a lowered program."""
    lines = [line for line in lowered.as_text().splitlines() if "dot_general" in line]
    return ["HIGHEST" if "HIGHEST" in line else "default" for line in lines]


def test_training_lets_a_device_round_what_networks_multiply_and_nothing_else():
    """TF32 on a GPU: of the loss the networks' products, never those of the linear flows."""
    config = NFGCBCConfig(flow=RealNVPConfig(blocks=1, channels=4), encoder=(4,), condition_dim=2)
    agent = config.build(jr.key(0), Spec.vectors(3, 2), 10)
    batch = GoalBatch(jnp.ones((4, 3)), jnp.ones((4, 2)), jnp.ones((4, 3)))
    update = jax.jit(lambda batch: agent.update(batch, jr.key(0))[1]["loss"]).lower(batch)
    told = jax.jit(lambda batch: agent.validate(batch, jr.key(0))["log_prob"]).lower(batch)
    encoder, linear, networks = 2, 2, 6  # of the encoder's layers; of L U and x W; of s and of t
    assert products(told).count("HIGHEST") >= linear + networks
    assert products(told).count("default") == encoder
    rounded = products(update)
    assert rounded.count("default") >= encoder + networks
    assert "HIGHEST" in rounded


def test_a_token_moves_as_those_before_it_say(sequences):
    """The Jacobian of a block is triangular over tokens; the next block reads the other way."""
    blocks = sequences["autoregressive"].bijection.bijections[::-1]
    x, y = jr.normal(jr.key(1), (1, TOKENS * WIDTH)), jnp.ones(COND)
    for block, order in zip(blocks, (1, -1), strict=True):
        _, _, jacobian = to_latent(block, x, y)
        # (token of the latent, its number, token of the data, its number)
        moved = np.abs(np.asarray(jacobian[0])).reshape(TOKENS, WIDTH, TOKENS, WIDTH)
        depends = moved.max((1, 3))[::order, ::order] > 1e-6
        np.testing.assert_array_equal(depends, np.tril(np.ones((TOKENS, TOKENS), bool)))
        for token in range(TOKENS):  # an affine map of each of a token's numbers
            np.testing.assert_allclose(moved[token, 0, token, 1], 0, atol=1e-7)


def test_every_token_moves_within_two_couplings(sequences):
    x, y = jr.normal(jr.key(1), (1, TOKENS * WIDTH)), jnp.ones(COND)
    _, _, jacobian = to_latent(sequences["transformer-coupling"].bijection, x, y)
    assert (np.abs(np.asarray(jacobian[0])) > 1e-6).any(1).all()


def test_untrained_it_changes_nothing():
    x, y = jr.normal(jr.key(1), (TOKENS * WIDTH,)), jnp.ones(COND)
    np.testing.assert_array_equal(jitted(sequence(AUTOREGRESSIVE).bijection.inverse, x, y), x)


@every_kind
def test_a_temperature_of_zero_gives_the_image_of_the_origin(sequences, kind):
    flow, y = sequences[kind], jnp.ones(COND)
    cold = eqx.filter_jit(lambda key: sample_at(0.0, flow, key, y, (3,)))(jr.key(1))
    middle = jitted(flow.bijection.transform, jnp.zeros(TOKENS * WIDTH), y)
    np.testing.assert_allclose(cold, np.tile(middle, (3, 1)), atol=1e-5)


def test_sizes_are_checked():
    for wrong in (
        dataclasses.replace(AUTOREGRESSIVE, heads=3),
        TransformerCouplingConfig(channels=30, heads=4),
    ):
        with pytest.raises(UserError, match="must divide the width"):
            wrong.build(jr.key(0), dim=2, cond_dim=2)
    with pytest.raises(UserError, match="blocks of a flow must be at least 1"):
        MaskedAutoregressiveConfig(blocks=0).build(jr.key(0), dim=2, cond_dim=2)


# Guidance and refinement


def test_a_guided_flow_is_a_density(sequences):
    guided = guide(sequences["autoregressive"], 1.5)
    x, pair = jr.normal(jr.key(1), (8, TOKENS * WIDTH)), jr.normal(jr.key(2), (2 * COND,))
    check_bijection(guided.bijection, x, pair)


def test_guidance_moves_away_from_the_other_condition(sequences):
    flow = sequences["autoregressive"]
    x, y, other = jr.normal(jr.key(1), (TOKENS * WIDTH,)), jnp.ones(COND), -jnp.ones(COND)

    @eqx.filter_jit
    def log_probs(y, other):
        pair = jnp.concatenate([y, other])
        return jnp.stack([guide(flow, weight).log_prob(x, pair) for weight in (0.0, 2.0)])

    plain = jitted(flow.log_prob, x, y)
    np.testing.assert_allclose(log_probs(y, y), [plain, plain], rtol=1e-5)
    none, much = log_probs(y, other)
    np.testing.assert_allclose(none, plain, rtol=1e-5)
    assert abs(much - plain) > 1e-2
    with pytest.raises(UserError, match=r"--agent\.flow autoregressive"):
        guide(RealNVP(jr.key(0), dim=2, cond_dim=2, blocks=1, channels=4), 1.0)


def test_refining_climbs(sequences):
    flow, y = sequences["autoregressive"], jnp.ones(COND)
    x = jr.normal(jr.key(1), (TOKENS * WIDTH,))
    climbed = eqx.filter_jit(lambda x: refine(flow, x, y, 5, 0.01))(x)
    before, after = jitted(flow.log_prob, jnp.stack([x, climbed]), y)
    assert after > before
    assert refine(flow, x, y, 0, 0.01) is x


def test_the_likeliest_of_several_acts_and_is_refined():
    config = FlowPolicyConfig(AUTOREGRESSIVE, encoder=(8,), condition_dim=COND)
    build = partial(config.build_policy, inputs=3, action_dim=TOKENS * WIDTH, chunk=TOKENS)
    policy = shaken(eqx.filter_jit(build)(jr.key(0)), 0.1)
    seen, key = jnp.ones(3), jr.key(5)

    @eqx.filter_jit
    def expected():
        flow, condition = policy.flow, policy.condition(seen)
        samples = flow.sample(key, (6,), condition)
        best = samples[jnp.argmax(flow.log_prob(samples, condition))]
        return best, best + 0.01 * jax.grad(flow.log_prob)(best, condition)

    @eqx.filter_jit
    def found():
        acting = LikelihoodActing(best_of=6, refine_rate=0.01)
        refined = dataclasses.replace(acting, refine_steps=1)
        return [policy.act(key, 0.0, seen, acting=each) for each in (acting, refined)]

    np.testing.assert_allclose(found(), np.clip(expected(), -1, 1), atol=1e-5)


def test_a_share_of_the_examples_is_not_shown_the_goal():
    config = FlowPolicyConfig(AUTOREGRESSIVE, encoder=(8,), condition_dim=COND)
    acting = LikelihoodActing(condition_dropout=0.3)
    policy = config.build_policy(jr.key(0), 6, 2, acting=acting)
    seen, goals = jr.normal(jr.key(1), (2, 1000, 3))

    @eqx.filter_jit
    def conditions():
        hide = eqx.filter_vmap(lambda *each: policy.condition(*each, shown=False))
        told = [policy.training_conditions(jr.key(2), share, seen, goals) for share in (0, 0.3)]
        return *told, policy.conditions(seen, goals), hide(seen, goals), hide(seen, -goals)

    all_told, told, shown, hidden, also_hidden = map(np.asarray, conditions())
    np.testing.assert_allclose(hidden, also_hidden, atol=1e-6)
    np.testing.assert_allclose(all_told, shown, atol=1e-6)
    as_shown, as_hidden = (np.isclose(told, each, atol=1e-5).all(1) for each in (shown, hidden))
    assert (as_shown ^ as_hidden).all()
    assert 0.24 < as_hidden.mean() < 0.36


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"guidance": 1.0}, "trained with --agent.condition-dropout"),
        ({"condition_dropout": 1.0}, r"must lie in \[0, 1\)"),
        ({"best_of": 0}, "best-of must be at least 1"),
        ({"refine_rate": 0.0}, "refine-rate more than 0"),
        ({"temperature": -1.0}, "temperature must be at least 0"),
    ],
)
@pytest.mark.parametrize("kind", [NFBCConfig, NFGCBCConfig])
def test_acting_is_checked(kind, values, message):
    with pytest.raises(UserError, match=message):
        kind(**values)


def test_guidance_of_a_flow_that_cannot_is_refused_before_training():
    config = NFGCBCConfig(guidance=1.0, condition_dropout=0.1, encoder=(8,))
    with pytest.raises(UserError, match="guidance needs an autoregressive flow, not RealNVP"):
        config.build(jr.key(0), Spec.vectors(3, 2), 10)


# Within agents


LAYOUTS: list[tuple[int, int]] = []


@dataclasses.dataclass(frozen=True)
class Recorded(FlowConfig):
    """A flow that remembers how its vectors were said to split."""

    def build(self, key, *, dim, cond_dim):
        return StandardNormal((dim,))

    def build_sequence(self, key, *, tokens, width, cond_dim):
        LAYOUTS.append((tokens, width))
        return super().build_sequence(key, tokens=tokens, width=width, cond_dim=cond_dim)


@pytest.mark.parametrize(
    ("config", "layout"),
    [
        (NFBCConfig(flow=Recorded(), chunks=ChunkShape(1, 4, 2)), (4, 2)),
        (NFGCBCConfig(flow=Recorded()), (1, 2)),
        (NFGCBCConfig(flow=Recorded(), chunk=5), (5, 2)),
        (NFRLBCConfig(flow=Recorded(), critic=(8,), chunk=3), (3, 2)),
    ],
)
def test_a_flow_is_told_the_actions_of_a_chunk(config, layout):
    config = dataclasses.replace(config, encoder=(8,))
    LAYOUTS.clear()
    agent = eqx.filter_eval_shape(config.build, jr.key(0), Spec.vectors(3, 2), 10)
    assert [layout] == LAYOUTS
    assert agent.policy.flow.shape == (layout[0] * layout[1],)


@pytest.fixture(scope="module")
def data():
    """Return actions that follow from the observation, alike all along a chunk."""
    rng = np.random.default_rng(0)
    side = np.repeat(rng.choice([-0.6, 0.6], 30), 20)
    return nfrl.load(
        {
            "observations": np.stack([side, rng.normal(size=600)], 1),
            "actions": side[:, None] + 0.05 * rng.normal(size=(600, WIDTH)),
            "timeouts": np.arange(600) % 20 == 19,
        }
    )


@every_kind
def test_it_learns_within_nf_bc_and_is_saved(data, kind, tmp_path):
    config = NFBCConfig(
        flow=KINDS[kind],
        encoder=(16,),
        condition_dim=4,
        chunks=ChunkShape(1, TOKENS, 2),
        optimizer=AdamW(learning_rate=1e-2, warmup_steps=5),
    )
    policy = nfrl.fit(config, data, steps=60, batch_size=64, progress=False)
    chunk = np.full((TOKENS, WIDTH), 0.6)
    right, wrong = (policy.log_prob(np.array([side, 0.0]), chunk) for side in (0.6, -0.6))
    assert right > wrong + 1
    action = policy(np.array([0.6, 0.0]))
    assert action.shape == (WIDTH,)
    again = nfrl.load_policy(policy.save(tmp_path / "policy"))
    assert again.config.flow == KINDS[kind]
    assert again.log_prob(np.array([0.6, 0.0]), chunk) == pytest.approx(right, abs=1e-4)


def test_the_page_shows_the_record():
    record = json.loads((pages.DOCS.parent / "results/bench/flows.json").read_text())
    assert set(record["flows"]) == set(FLOW_KINDS)
    assert flow_kinds(record).markdown() in pages.page("flows.md")


def test_the_kinds_are_held_against_each_other(tmp_path, capsys):
    out, page = tmp_path / "flows.json", tmp_path / "page.md"
    page.write_text("<!-- results:flow-kinds --><!-- /results:flow-kinds -->")
    words = ["--flows", "neural-spline", "--densities", "circle", "--steps", "30", "--rounds", "1"]
    assert main(["bench", "flows", *words, "--out", str(out), "--page", str(page)]) == 0
    found = json.loads(out.read_text())["flows"]["neural-spline"]
    assert abs(found["parameters"] - 100_000) < 10_000
    score = found["densities"]["circle"]
    assert score["log_prob"] < score["true_log_prob"]
    assert min(found[name] for name in ("steps_per_second", "milliseconds_1")) > 0
    assert "| neural-spline |" in page.read_text()
    assert "neural-spline" in capsys.readouterr().out
