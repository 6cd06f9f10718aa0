"""Imitating agents: units kept in the agent, objectives, samplers, what each can represent."""

import dataclasses
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.scipy.stats import norm

from nfrl.agents.diffusion_bc import DiffusionBCConfig, kept_shares
from nfrl.agents.fm_bc import FMBCConfig
from nfrl.agents.gaussian_bc import GaussianBCConfig
from nfrl.agents.nf_bc import NFBCConfig
from nfrl.agents.parts.optimization import AdamW
from nfrl.agents.parts.time_networks import build_time_network
from nfrl.agents.parts.unet import UNet, embed_time
from nfrl.data.dataset import Dataset
from nfrl.data.normalizer import Normalizer, Normalizers
from nfrl.data.samplers import ChunkBatch
from nfrl.errors import UserError
from nfrl.flows import RealNVPConfig
from nfrl.interfaces.agent import ChunkShape
from nfrl.networks import count_parameters, split_trainable
from nfrl.runs import checkpoints
from nfrl.spec import Spec

OBSERVATION, ACTION, STEPS, BATCH = 3, 2, 300, 64
SHAPE = ChunkShape(history=2, predicted=4, executed=2)
# A weight decay that would be seen if it reached the normalisers.
QUICK = AdamW(learning_rate=5e-3, warmup_steps=10, weight_decay=1e-3)
TINY = {
    "nf-bc": NFBCConfig(
        flow=RealNVPConfig(blocks=2, channels=16),
        encoder=(32,),
        condition_dim=8,
        chunks=SHAPE,
        optimizer=QUICK,
    ),
    "gaussian-bc": GaussianBCConfig(SHAPE, hidden=(32,), optimizer=QUICK),
    "fm-bc": FMBCConfig(SHAPE, hidden=(64, 64), optimizer=QUICK),
    "diffusion-bc": DiffusionBCConfig(
        SHAPE,
        network="mlp",
        hidden=(64, 64),
        time_dim=16,
        noise_steps=20,
        sampling_steps=10,
        average=0.5,
        optimizer=QUICK,
    ),
}
# Actions are hundreds of units, as PushT's pixels are.
UNIT, OFFSET = 100.0, 300.0
NORMALIZERS = Normalizers(
    Normalizer(jnp.full(OBSERVATION, 5.0), jnp.full(OBSERVATION, 2.0)),
    Normalizer(jnp.full(ACTION, OFFSET), jnp.full(ACTION, UNIT)),
)
NOWHERE = jnp.empty(0)
"""The goal of agents that seek none."""
MULTIMODAL = ["nf-bc", "fm-bc", "diffusion-bc"]


@pytest.fixture(params=list(TINY))
def name(request):
    return request.param


@pytest.fixture(scope="module", autouse=True)
def agents():
    return {
        name: config.build_algorithm(jr.key(0), OBSERVATION, ACTION, STEPS, NORMALIZERS)
        for name, config in TINY.items()
    }


def draw(seed: int) -> ChunkBatch:
    """Draw a problem with one right chunk, a smooth function of the latest observation."""
    latent = np.random.default_rng(seed).normal(size=(BATCH, 2, OBSERVATION))
    chunk = 0.8 * np.tanh(latent[:, 1, :ACTION])[:, None] * np.ones((1, 4, 1))
    return ChunkBatch(
        jnp.asarray(5 + 2 * latent, jnp.float32), jnp.asarray(OFFSET + UNIT * chunk, jnp.float32)
    )


def left_or_right(seed: int) -> ChunkBatch:
    """Draw chunks that go left or right, always in the same situation."""
    sign = np.random.default_rng(seed).choice([-1.0, 1.0], (BATCH, 1, 1))
    chunk = 0.5 * sign * np.ones((1, 4, ACTION))
    same = jnp.full((BATCH, 2, OBSERVATION), 5.0)
    return ChunkBatch(same, jnp.asarray(OFFSET + UNIT * chunk, jnp.float32))


update = eqx.filter_jit(lambda agent, batch, key: agent.update(batch, key))
validate = eqx.filter_jit(lambda agent, batch, key: agent.validate(batch, key))


@eqx.filter_jit
def act(agent, history, keys):
    return jax.vmap(lambda key: agent.act(history, NOWHERE, key))(keys)


def train(agent, problem, steps=STEPS):
    losses = []
    for seed, key in enumerate(jr.split(jr.key(1), steps)):
        agent, metrics = update(agent, problem(seed), key)
        losses.append(metrics["loss"])
    return agent, np.asarray(losses)


@pytest.fixture(scope="module")
def trained(agents):
    """Return every agent after training on the problem with one right chunk, and its losses."""
    return {name: train(agent, draw) for name, agent in agents.items()}


@pytest.fixture(scope="module")
def two_ways(agents):
    """Return every agent after training on chunks that go left or right."""
    return {name: train(agent, left_or_right)[0] for name, agent in agents.items()}


def arrays_of(tree):
    return jax.tree.leaves(eqx.filter(tree, eqx.is_array))


# Units


def test_normalisation_maps_the_range_and_back():
    data = np.random.default_rng(0).normal(size=(100, 3)) * [1, 100, 0] + [0, 7, 4]
    found = Normalizer.fit(data)
    encoded = found.encode(data)
    np.testing.assert_allclose(encoded[:, :2].min(0), -1, atol=1e-5)
    np.testing.assert_allclose(encoded[:, :2].max(0), 1, atol=1e-5)
    np.testing.assert_array_equal(encoded[:, 2], 0)  # constant: centred, finite
    np.testing.assert_allclose(found.decode(encoded), data, rtol=1e-5, atol=1e-5)
    jacobian = jax.jacfwd(found.encode)(jnp.asarray(data[0]))
    np.testing.assert_allclose(found.log_det, np.linalg.slogdet(jacobian)[1], rtol=1e-5)


def test_training_leaves_the_normalisers_alone(name, trained):
    agent, _ = trained[name]
    for before, after in zip(
        arrays_of(NORMALIZERS), arrays_of(agent.policy.normalizers), strict=True
    ):
        np.testing.assert_array_equal(before, after)
    assert len(arrays_of(NORMALIZERS)) == 4
    assert count_parameters(NORMALIZERS) == 0


def test_the_normalisers_are_fitted_to_the_data(name):
    """To all observations, and to the actions that lead somewhere."""
    rng = np.random.default_rng(0)
    observations, actions = rng.uniform(-3, 9, (40, OBSERVATION)), rng.uniform(-1, 1, (40, ACTION))
    ends = np.arange(40) % 20 == 19
    actions[~ends] *= 0.5
    observations[ends] += 10.0
    data = Dataset.from_arrays(observations, actions, ends)
    agent = TINY[name].build(jr.key(0), Spec.vectors(OBSERVATION, ACTION), STEPS, data)
    found = agent.policy.normalizers
    for one, values in ((found.observation, observations), (found.action, actions[~ends])):
        np.testing.assert_allclose(one.centre, (values.max(0) + values.min(0)) / 2, rtol=1e-5)
        np.testing.assert_allclose(one.scale, (values.max(0) - values.min(0)) / 2, rtol=1e-5)


def test_a_checkpoint_holds_the_normalisers(name, trained, tmp_path):
    agent, _ = trained[name]
    checkpoints.save(tmp_path / "a.safetensors", agent, step=1)
    like = TINY[name].build(jr.key(1), Spec.vectors(OBSERVATION, ACTION), STEPS)
    assert float(like.policy.normalizers.action.centre[0]) == 0
    back = checkpoints.load(tmp_path / "a.safetensors", like)
    for one, other in zip(arrays_of(agent), arrays_of(back), strict=True):
        np.testing.assert_array_equal(one, other)
    assert float(back.policy.normalizers.action.centre[0]) == OFFSET


def test_log_densities_integrate_to_one_in_the_datas_units():
    """Of a chunk of one action of one number, in units of hundreds."""
    shape = ChunkShape(history=1, predicted=1, executed=1)
    normalizers = Normalizers(Normalizer.identity(1), Normalizer(jnp.ones(1) * 50, jnp.ones(1) * 9))
    grid = jnp.linspace(-50, 150, 4001)[:, None, None]
    for name in ("nf-bc", "gaussian-bc"):
        config = dataclasses.replace(TINY[name], chunks=shape)
        agent = config.build_algorithm(jr.key(3), 1, 1, STEPS, normalizers)
        density = jnp.exp(
            jax.jit(jax.vmap(partial(agent.log_prob, jnp.ones((1, 1)), NOWHERE)))(grid)
        )
        np.testing.assert_allclose(np.trapezoid(density, grid[:, 0, 0]), 1, rtol=1e-3)


# Updates


def test_training_lowers_the_loss(name, agents, trained):
    agent, losses = trained[name]
    assert np.isfinite(losses).all()
    assert losses[-20:].mean() < losses[:20].mean() - 0.2
    before, after = (validate(a, draw(10_000), jr.key(3)) for a in (agents[name], agent))
    if "log_prob" in before:
        assert after["log_prob"] > before["log_prob"] + 1
    else:
        assert after["loss"] < before["loss"] - 0.2


def test_update_is_pure_and_keeps_the_structure(name, agents):
    agent, batch, key = agents[name], draw(0), jr.key(2)
    before = jax.tree.map(np.array, arrays_of(agent))
    (first, metrics), (second, again) = update(agent, batch, key), update(agent, batch, key)
    for one, other in zip(arrays_of((first, metrics)), arrays_of((second, again)), strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(arrays_of(agent), before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert jax.tree.structure(first) == jax.tree.structure(agent)
    for old, new in zip(arrays_of(agent), arrays_of(first), strict=True):
        assert (old.shape, old.dtype, old.weak_type) == (new.shape, new.dtype, new.weak_type)
    assert {"loss", "grad_norm"} <= metrics.keys()


def test_validation_is_the_training_objective(name, agents):
    batch, key = draw(0), jr.key(2)
    _, metrics = update(agents[name], batch, key)
    for metric, value in validate(agents[name], batch, key).items():
        np.testing.assert_allclose(value, metrics[metric], rtol=1e-4)


def test_the_likelihoods_are_the_formulas(agents):
    batch, key = draw(0), jr.key(2)
    encoded = (batch.actions - OFFSET) / UNIT
    gaussian = agents["gaussian-bc"]
    inputs = ((batch.observations - 5) / 2).reshape(BATCH, -1)
    mean, log_std = jnp.split(jax.vmap(gaussian.policy.network)(inputs), 2, axis=-1)
    expected = norm.logpdf(encoded.reshape(BATCH, -1), mean, jnp.exp(log_std)).sum(-1).mean()
    np.testing.assert_allclose(validate(gaussian, batch, key)["log_prob"], expected, rtol=1e-5)
    # An untrained flow is N(0, I), whose average over a + sigma eps is known.
    nf = agents["nf-bc"]
    second_moment = np.square(encoded).sum((1, 2)).mean()
    expected = -8 / 2 * np.log(2 * np.pi) - (second_moment + 8 * nf.config.noise**2) / 2
    found = [float(validate(nf, batch, key)["log_prob"]) for key in jr.split(key, 100)]
    np.testing.assert_allclose(np.mean(found), expected, atol=5e-3)
    # Of one chunk, in the data's units: each of its numbers is UNIT times as large.
    raw = eqx.filter_jit(nf.log_prob)(batch.observations[0], NOWHERE, batch.actions[0])
    plain = norm.logpdf(encoded[0]).sum() - 8 * np.log(UNIT)
    np.testing.assert_allclose(raw, plain, rtol=1e-4)


def test_the_average_follows_the_weights_in_training(agents):
    """With the decay min(1 - (n + 1)^(-3/4), average) of Diffusion Policy's code."""
    agent = agents["diffusion-bc"]
    for step, decay in enumerate((0.0, 0.405396, 0.5, 0.5)):
        before, (agent, _) = agent, update(agent, draw(step), jr.key(step))
        for old, new, mean in zip(
            *(arrays_of(t) for t in (before.policy.predictor, agent.trained)),
            arrays_of(agent.policy.predictor),
            strict=True,
        ):
            np.testing.assert_allclose(mean, decay * old + (1 - decay) * new, atol=1e-6)
    assert any((a != b).any() for a, b in zip(arrays_of(before), arrays_of(agent), strict=True))


# Samplers, with networks whose right answer is known


class PointMass(eqx.Module):
    """The exact network where all data are one chunk: its noise, or its velocity."""

    chunk: jax.Array
    kind: str = eqx.field(static=True)

    def __call__(self, chunk, time, condition):
        if self.kind == "velocity":
            return (self.chunk - chunk) / (1 - time)
        share = jnp.asarray(kept_shares(20), jnp.float32)[jnp.round(time * 20).astype(int)]
        return (chunk - jnp.sqrt(share) * self.chunk) / jnp.sqrt(1 - share)


@pytest.mark.parametrize("count", [1, 3, 20])
def test_samplers_reach_the_only_chunk_there_is(agents, count):
    only = 0.7 * jnp.sin(jnp.arange(8.0)).reshape(4, 2)
    diffusion, flow_matching = agents["diffusion-bc"], agents["fm-bc"]
    exact = [
        (diffusion, "predictor", PointMass(only, "noise"), {"sampling_steps": count}),
        (flow_matching, "velocity", PointMass(only, "velocity"), {"euler_steps": count}),
    ]
    for agent, field, network, settings in exact:
        policy = dataclasses.replace(agent.policy, **{field: network})
        config = dataclasses.replace(agent.config, **settings)
        agent = dataclasses.replace(agent, policy=policy, config=config)
        chunk = agent.act(jnp.zeros((2, OBSERVATION)), NOWHERE, jr.key(0))
        np.testing.assert_allclose(chunk, OFFSET + UNIT * only, rtol=1e-4)


def test_the_schedule_is_the_cosines():
    """abar_t = f(t + 1) / f(0), f(t) = cos((t/T + 0.008) / 1.008 * pi/2)^2, but for the last."""
    found, time = kept_shares(100), np.arange(101) / 100
    f = np.cos((time + 0.008) / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(found[:99], f[1:100] / f[0], rtol=1e-6)
    assert (np.diff(found) < 0).all()
    assert 0 < found[-1] < 1e-5


def test_a_step_count_that_cannot_be_is_refused():
    with pytest.raises(UserError, match="sampling-steps"):
        DiffusionBCConfig(noise_steps=10, sampling_steps=11)
    with pytest.raises(UserError, match="executed"):
        ChunkShape(history=1, predicted=2, executed=3)


@pytest.mark.parametrize(("name", "count"), [("nf-bc", "best_of"), ("fm-bc", "euler_steps")])
def test_counts_below_one_are_refused(name, count):
    with pytest.raises(UserError, match=f"^{count.replace('_', '-')} must be at least 1; got 0$"):
        dataclasses.replace(TINY[name], **{count: 0})


# Acting


KEYS = jr.split(jr.key(4), 256)


def test_chunks_lie_in_the_datas_range_and_follow_the_key(name, agents):
    for history in (jnp.full((2, OBSERVATION), 1e3), jnp.full((2, OBSERVATION), 5.0)):
        chunks = act(agents[name], history, KEYS)
        assert chunks.shape == (256, 4, ACTION)
        assert np.isfinite(chunks).all()
        assert (np.abs(chunks - OFFSET) <= UNIT * 1.0001).all()
        np.testing.assert_array_equal(chunks, act(agents[name], history, KEYS))
    different = len(np.unique(np.round(chunks, 3).reshape(256, -1), axis=0))
    assert different > 100 if name in MULTIMODAL else different == 1


def test_chunks_depend_on_the_observation(name, trained):
    agent, _ = trained[name]
    up, down = (
        act(agent, jnp.full((2, OBSERVATION), 5.0 + 2 * x), KEYS).mean(0) for x in (0.8, -0.8)
    )
    assert (up > OFFSET + 0.3 * UNIT).all()
    assert (down < OFFSET - 0.3 * UNIT).all()


def test_the_older_observation_counts_too(name, trained):
    agent, base = trained[name][0], jnp.full((2, OBSERVATION), 5.0)
    assert (act(agent, base.at[0].add(2), KEYS) != act(agent, base, KEYS)).any()


def test_all_but_the_gaussian_go_left_or_right(name, two_ways):
    chunks = act(two_ways[name], jnp.full((2, OBSERVATION), 5.0), KEYS)
    near = [
        (np.abs(chunks - OFFSET - side * UNIT).mean((1, 2)) < 0.3 * UNIT).mean()
        for side in (-0.5, 0.5)
    ]
    if name in MULTIMODAL:
        assert min(near) > 0.2
        assert sum(near) > 0.5
    else:
        assert (np.abs(chunks - OFFSET) < 0.2 * UNIT).all()  # straight ahead, where nobody went


def test_the_best_of_several_samples_is_likelier(two_ways):
    agent, history = two_ways["nf-bc"], jnp.full((2, OBSERVATION), 5.0)

    def likelihoods(count):
        config = dataclasses.replace(agent.config, best_of=count)
        chunks = act(dataclasses.replace(agent, config=config), history, KEYS)
        return jax.jit(jax.vmap(partial(agent.log_prob, history, NOWHERE)))(chunks)

    one, eight = likelihoods(1), likelihoods(8)
    assert eight.mean() > one.mean() + 0.5
    assert eight.min() > jnp.quantile(one, 0.1)


def test_denoising_takes_the_noise_from_the_chunks(two_ways):
    agent, history = two_ways["nf-bc"], jnp.full((2, OBSERVATION), 5.0)
    config = dataclasses.replace(agent.config, denoising=False)

    def spread(agent):
        """About the nearer of the two chunks that there are, of those near either."""
        chunks = (act(agent, history, KEYS) - OFFSET) / UNIT
        off = chunks - 0.5 * jnp.sign(chunks.mean((1, 2)))[:, None, None]
        near = jnp.abs(off).max((1, 2)) < 0.35
        return float(jnp.sqrt(jnp.square(off[near]).mean()))

    assert spread(agent) < 0.7 * spread(dataclasses.replace(agent, config=config))


# The U-Net


@pytest.fixture(scope="module", params=["mlp", "unet"])
def network(request):
    return build_time_network(
        jr.key(0),
        request.param,
        predicted=4,
        action_dim=2,
        condition_dim=3,
        hidden=(8, 16),
        time_dim=8,
    )


def test_the_unet_has_diffusion_policys_size():
    """65.8M parameters for PushT (paper, table of sizes): 2 x 20 numbers seen, 16 x 2 predicted."""
    build = partial(
        DiffusionBCConfig().build_algorithm,
        observation_dim=20,
        action_dim=2,
        steps=10,
        normalizers=Normalizers.identity(20, 2),
    )
    shapes = eqx.filter_eval_shape(build, jr.key(0)).trained
    sizes = [np.prod(leaf.shape) for leaf in jax.tree.leaves(shapes) if hasattr(leaf, "shape")]
    assert 63e6 < sum(sizes) < 68e6


def test_every_weight_of_a_network_is_used(network):
    chunk, condition = jr.normal(jr.key(1), (4, 2)), jnp.ones(3)
    parameters, constants = split_trainable(network)

    def total(parameters):
        output = eqx.combine(parameters, constants)(chunk, jnp.float32(0.3), condition)
        assert output.shape == chunk.shape
        return jnp.square(output).sum()

    for gradient in jax.tree.leaves(jax.jit(jax.grad(total))(parameters)):
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).max() > 0


def test_a_network_sees_time_condition_and_the_whole_chunk(network):
    call = jax.jit(lambda *arguments: network(*arguments))
    chunk, time, condition = jr.normal(jr.key(1), (4, 2)), jnp.float32(0.3), jnp.ones(3)
    base = call(chunk, time, condition)
    assert np.abs(call(chunk, time + 0.1, condition) - base).min() > 0
    assert np.abs(call(chunk, time, condition + 1) - base).min() > 0
    assert np.abs(call(chunk.at[0].add(1), time, condition) - base)[-1].max() > 0


@pytest.mark.parametrize(
    ("predicted", "widths", "word"), [(6, (8, 8, 8), "multiple of 4"), (8, (8, 12), "multiples")]
)
def test_a_unet_that_cannot_be_built_is_refused(predicted, widths, word):
    with pytest.raises(UserError, match=word):
        UNet(jr.key(0), predicted=predicted, action_dim=2, condition_dim=3, widths=widths)


def test_a_network_without_a_width_is_refused():
    with pytest.raises(UserError, match="at least"):
        dataclasses.replace(TINY["fm-bc"], hidden=()).build(
            jr.key(0), Spec.vectors(OBSERVATION, ACTION), STEPS
        )


@pytest.mark.parametrize("name", ["diffusion-bc", "fm-bc"])
def test_agents_take_a_unet(name):
    """Tracing suffices: the network alone is tested above."""
    config = dataclasses.replace(TINY[name], network="unet", hidden=(8, 16))
    build = partial(config.build, jr.key(0), Spec.vectors(OBSERVATION, ACTION), STEPS)
    agent = eqx.filter_eval_shape(build)
    after, metrics = eqx.filter_eval_shape(lambda a: a.update(draw(0), jr.key(0)), agent)
    assert jax.tree.structure(after) == jax.tree.structure(agent)
    assert metrics["loss"].shape == ()
    history = jnp.zeros((2, OBSERVATION))
    chunk = eqx.filter_eval_shape(lambda a: a.act(history, NOWHERE, jr.key(0)), agent)
    assert chunk.shape == (4, ACTION)


def test_times_are_told_apart():
    embedded = jax.vmap(lambda time: embed_time(time, 16))(jnp.arange(100) / 100)
    distances = np.linalg.norm(embedded[:, None] - embedded[None], axis=-1)
    assert distances[~np.eye(100, dtype=bool)].min() > 0.1
