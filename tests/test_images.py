"""Images: encoders that learn with an agent which knows nothing of them."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pages
import pytest

import nfrl
from nfrl.acting.policy import Policy
from nfrl.agents import NFBCConfig, agents_that, find_config
from nfrl.agents.parts.critics import td_loss
from nfrl.agents.parts.optimization import AdamW, constant_adam, without_optimizer
from nfrl.agents.wrappers.images import ImageOptions, Sight
from nfrl.analysis.confidence import measure
from nfrl.data.load import load
from nfrl.errors import UserError
from nfrl.exporting.exported_policy import ExportedPolicy
from nfrl.flows import RealNVPConfig
from nfrl.interfaces.agent import ChunkShape
from nfrl.networks import split_trainable
from nfrl.networks.image_encoders import (
    Conv,
    ImageEncoderConfig,
    ImpalaConfig,
    StridedConfig,
    max_pool,
)
from nfrl.registry import find
from nfrl.spec import ArraySpec

SIDE, ROWS = 24, 120
EYES = StridedConfig(channels=(4, 8), kernels=(4, 3), strides=(4, 2), features=8)
FAST = ImageOptions(EYES, optimizer=constant_adam(1e-2))


def spots(rows=ROWS, seed=0, held_out=False):
    """Pictures of a white square; the action is where it is, and the goal later ones."""
    rng = np.random.default_rng(seed)
    places = rng.integers(0, SIDE - 5, (rows, 2))
    pictures = np.zeros((rows, SIDE, SIDE, 3), np.uint8)
    for picture, (row, column) in zip(pictures, places, strict=True):
        picture[row : row + 5, column : column + 5] = 255
    return {
        "observations": pictures,
        "state": rng.normal(size=(rows, 2)).astype(np.float32),
        "actions": (places / (SIDE - 5) * 2 - 1).astype(np.float32),
        "rewards": rng.normal(size=rows).astype(np.float32),
        "masks": np.ones(rows, np.float32),
        "terminals": np.arange(rows) % 30 == 29,
    }


@pytest.fixture(scope="module")
def data():
    return load(spots(), observation_keys=("state", "observations"))


def small(name, images=FAST):
    """Return an agent's configuration with the least networks it can have."""
    sizes = {
        "flow": RealNVPConfig(2, 8),
        "encoder": (16,),
        "condition_dim": 8,
        "hidden": (16,),
        "critic": (16,),
        "width": 16,
        "latent_dim": 8,
        "chunks": ChunkShape(2, 4, 2),
        "images": images,
    }
    config = find_config(name)
    names = {field.name for field in dataclasses.fields(config)}
    return dataclasses.replace(config, **{n: v for n, v in sizes.items() if n in names})


def built(name, data, images=FAST):
    dataset = data.training.to_dataset()
    return small(name, images).build(jr.key(0), data.spec, 100, dataset), dataset


def one_update(agent, dataset, size=16):
    batch = agent.draw(dataset, jr.key(1), size)
    return batch, *eqx.filter_jit(type(agent).update)(agent, batch, jr.key(2))


SEEING = [
    name
    for name in agents_that(explores=False)
    if name not in ("nf-waypoints", "nf-waypoints-rl", "diffusion-bc")
]


@pytest.mark.parametrize("name", SEEING)
def test_every_agent_learns_and_acts_from_images(name, data):
    dataset = data.training.to_dataset()
    agent = eqx.filter_eval_shape(lambda: small(name).build(jr.key(0), data.spec, 100))
    batch = eqx.filter_eval_shape(type(agent).draw, agent, dataset, jr.key(0), 8)
    after, metrics = eqx.filter_eval_shape(type(agent).update, agent, batch, jr.key(0))
    assert eqx.tree_equal(after, agent)  # of shapes and types, so that updates can be scanned
    assert metrics["loss"].shape == ()
    can = agent.capabilities
    history = () if can.history is None else (can.history,)
    seen = jnp.zeros((*history, data.spec.width))
    goal = jnp.zeros(data.spec.width if can.goals else 0)
    action = eqx.filter_eval_shape(type(agent).act, agent, seen, goal, jr.key(0))
    assert action.shape == (*(() if can.predicted is None else (can.predicted,)), 2)


def test_the_encoder_descends_the_agents_loss_and_the_agent_steps_as_ever(data):
    images = dataclasses.replace(FAST, crop=0)
    agent, dataset = built("nf-gcbc", data, images)
    batch, after, _ = one_update(agent, dataset)
    inner_key = jr.split(jr.key(2))[1]
    seen = agent.see_batch(batch)
    alone, _ = eqx.filter_jit(type(agent.agent).update)(agent.agent, seen, inner_key)
    for ours, theirs in zip(
        jax.tree.leaves(eqx.filter(after.agent, eqx.is_array)),
        jax.tree.leaves(eqx.filter(alone, eqx.is_array)),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)

    learned, constants = split_trainable(agent.sight)

    def loss(learned):
        sight = eqx.combine(learned, constants)
        policy = agent.agent.policy
        conditions = policy.conditions(sight(batch.observations), sight(batch.goals))
        noise = agent.agent.config.noise
        return -policy.noisy_log_prob(batch.actions, conditions, inner_key, noise)

    # At the start a flow is the identity, whatever its condition; so a few steps first.
    for step in range(3):
        batch = agent.draw(dataset, jr.key(step), 16)
        agent, _ = eqx.filter_jit(type(agent).update)(agent, batch, jr.key(step))
    learned, constants = split_trainable(agent.sight)
    inner_key = jr.split(jr.key(9))[1]
    after, _ = eqx.filter_jit(type(agent).update)(agent, batch, jr.key(9))
    gradient = eqx.filter_jit(jax.grad(loss))(learned)
    assert float(optax.tree.norm(gradient)) > 0
    updates, _ = images.optimizer.build(100).update(gradient, agent.sight_state, learned)
    expected = jax.tree.leaves(optax.apply_updates(learned, updates))
    for ours, theirs in zip(
        jax.tree.leaves(split_trainable(after.sight)[0]), expected, strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=2e-4)


def test_values_teach_the_encoder_and_an_actor_does_not(data):
    images = ImageOptions(EYES, crop=0, optimizer=AdamW(learning_rate=0.0))
    agent, dataset = built("nf-rlbc", data, images)
    inner = agent.agent
    batch = agent.draw(dataset, jr.key(1), 16)
    _, metrics = eqx.filter_jit(type(agent).update)(agent, batch, jr.key(2))
    target_key = jr.split(jr.split(jr.key(2))[1])[0]
    learned, constants = split_trainable(agent.sight)
    target = inner._target(agent.see_batch(batch), target_key)

    def loss(learned):
        seen = batch._replace(observations=eqx.combine(learned, constants)(batch.observations))
        return td_loss(inner.critic, seen, target)

    gradient = eqx.filter_jit(jax.grad(loss))(learned)
    _, alone = eqx.filter_jit(type(inner).update)(
        inner, agent.see_batch(batch), jr.split(jr.key(2))[1]
    )
    total = optax.tree.norm([alone["grad_norm"], gradient])
    np.testing.assert_allclose(metrics["grad_norm"], total, rtol=1e-4)


def test_a_policy_finds_the_square(data):
    arrays, held_out = spots(1200), spots(64, seed=1)
    seen = load(arrays, observation_keys=("observations",))
    config = dataclasses.replace(
        small("gaussian-bc", dataclasses.replace(FAST, crop=0)),
        chunks=ChunkShape(1, 1, 1),
        hidden=(32,),
        optimizer=constant_adam(1e-2),
    )
    dataset = seen.training.to_dataset()
    agent = config.build(jr.key(0), seen.spec, 300, dataset)
    dynamic, static = eqx.partition(agent, eqx.is_array)

    @jax.jit
    def train(dynamic, dataset):
        def step(dynamic, key):
            agent = eqx.combine(dynamic, static)
            agent, metrics = agent.update(agent.draw(dataset, key, 64), key)
            return eqx.filter(agent, eqx.is_array), metrics["loss"]

        return jax.lax.scan(step, dynamic, jr.split(jr.key(1), 300))

    agent = eqx.combine(train(dynamic, dataset)[0], static)
    pictures = held_out["observations"].reshape(64, 1, -1).astype(np.float32)
    act = jax.jit(jax.vmap(lambda seen: agent.act(seen, jnp.zeros(0), jr.key(0))))
    error = np.abs(np.asarray(act(pictures))[:, 0] - held_out["actions"]).mean()
    assert error < 0.2  # without looking, 0.5


def test_a_frozen_encoder_stays(data):
    agent, dataset = built("gaussian-bc", data, dataclasses.replace(FAST, frozen=True))
    _, after, _ = one_update(agent, dataset)
    jax.tree.map(
        np.testing.assert_array_equal,
        eqx.filter(after.sight, eqx.is_array),
        eqx.filter(agent.sight, eqx.is_array),
    )
    assert eqx.tree_equal(after.agent, agent.agent) is not True


def test_shifts_keep_what_is_no_picture_and_move_at_most_so_far():
    layout = (ArraySpec((2,)), ArraySpec((SIDE, SIDE, 3), "uint8"))
    sight = Sight((None, EYES.build(jr.key(0), (SIDE, SIDE, 3))), layout)
    picture = np.zeros((SIDE, SIDE, 3), np.float32)
    picture[12, 12] = 255
    seen = jnp.concatenate([jnp.array([1.5, -2.5]), picture.reshape(-1)])
    moved = jax.vmap(sight.shifted, in_axes=(0, None, None))(jr.split(jr.key(0), 64), seen, 3)
    np.testing.assert_array_equal(moved[:, :2], np.tile([1.5, -2.5], (64, 1)))
    where = np.argwhere(np.asarray(moved[:, 2:]).reshape(64, SIDE, SIDE, 3)[..., 0])[:, 1:] - 12
    assert len(where) == 64
    assert {tuple(np.abs(where).max(0)), (where.min(), where.max())} == {(3, 3), (-3, 3)}


def test_several_cameras_have_encoders_of_their_own():
    arrays = spots() | {"wrist": spots(seed=5)["observations"][:, :16, :16]}
    data = load(arrays, observation_keys=("observations", "wrist"))
    agent, _ = built("gaussian-bc", data)
    assert [type(each) for each in agent.sight.encoders] == [type(agent.sight.encoders[0])] * 2
    assert agent.sight.widths == [8, 8]
    seen = np.zeros(data.spec.width, np.float32)
    other = seen.copy()
    other[-1000:] = 255
    changed = np.asarray(agent.sight(jnp.asarray(other)) - agent.sight(jnp.asarray(seen)))
    assert not changed[:8].any()
    assert changed[8:].any()


def test_the_residual_network_halves_a_picture_in_every_stack():
    encoder = ImpalaConfig(channels=(4, 4), features=8).build(jr.key(0), (20, 16, 3))
    assert encoder.head.weight.shape == (5 * 4 * 4, 8)
    out = encoder(jnp.ones((20, 16, 3)))
    np.testing.assert_allclose([out.mean(), out.std()], [0, 1], atol=1e-2)


def test_pictures_that_are_too_small_are_refused():
    with pytest.raises(UserError, match="too small for this encoder"):
        StridedConfig().build(jr.key(0), (6, 6, 3))
    with pytest.raises(UserError, match="must be as many"):
        StridedConfig(channels=(8,))
    with pytest.raises(UserError, match="crop"):
        ImageOptions(crop=-1)


@dataclasses.dataclass(frozen=True)
class MeanColour(ImageEncoderConfig):
    """A backbone of a user's own: nothing to learn."""

    def build(self, key, shape):
        return lambda image: image.mean((0, 1))


def test_an_encoder_of_ones_own_and_a_policy_on_disk(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    config = small("nf-bc", ImageOptions(MeanColour()))
    seen = load(spots(), observation_keys=("state", "observations"))
    policy = nfrl.fit(config, seen, steps=20, batch_size=16, progress=False)
    # The array "observations" of an .npz file is one observation's "observation".
    shown = {"state": np.zeros(2), "observation": np.zeros((SIDE, SIDE, 3), np.uint8)}
    first = policy(shown)
    assert first.shape == (2,)
    home = policy.save(tmp_path / "saved")
    again = nfrl.load_policy(home, allow=(__name__,))
    np.testing.assert_array_equal(again(shown), first)
    with pytest.raises(ValueError, match="observation has shape"):
        policy(shown | {"observation": np.zeros((8, 8, 3), np.uint8)})


def test_what_acts_holds_no_optimisers(data):
    agent, _ = built("nf-bc", data)
    bare = without_optimizer(agent)
    assert not jax.tree.leaves(bare.optimizer_state)
    assert jax.tree.leaves(bare.sight)


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "padding"),
    [(24, 8, 4, 0), (21, 4, 2, 0), (9, 3, 1, 1), (10, 3, 2, 1), (11, 5, 3, 2), (7, 7, 1, 0)],
)
def test_a_convolution_is_xlas(side, kernel, stride, padding):
    conv = Conv(jr.key(0), 3, 5, kernel, stride, padding=padding)
    x = jr.normal(jr.key(1), (side, side + 3, 3))
    weight = conv.linear.weight.reshape(kernel, kernel, 3, 5)
    expected = jax.lax.conv_general_dilated(
        x[None],
        weight,
        (stride, stride),
        [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )[0]
    np.testing.assert_allclose(conv(x), expected + conv.linear.bias, atol=1e-5)


def test_a_pool_is_xlas():
    x = jr.normal(jr.key(1), (11, 8, 3))
    size, stride, around = (3, 3, 1), (2, 2, 1), ((1, 1), (1, 1), (0, 0))
    expected = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, size, stride, around)
    np.testing.assert_array_equal(max_pool(x), expected)


def test_the_page_of_pixels(tmp_path, monkeypatch):
    """Its blocks of Python run, and do what the page says."""
    monkeypatch.chdir(tmp_path)
    page = pages.page("pixels.md")
    pages.write_files(page, tmp_path)
    files = [path.read_text() for path in tmp_path.rglob("*.py")]
    first, head = (block for block in pages.blocks(page, "python") if block not in files)
    names = {"small_eyes": ImageOptions(StridedConfig(features=16)), "jnp": jnp}
    exec(first, names)
    assert names["action"].shape == (2,)
    with pages.importable(tmp_path):
        eyes = find("encoders", "my_lab.eyes:MeanColours")().build(jr.key(0), (8, 8, 3))
        np.testing.assert_allclose(eyes(jnp.ones((8, 8, 3))), np.ones(12))
    exec(head, names)
    learned, chunks = names["head"], names["chunks"]
    drawn = jax.vmap(learned, in_axes=(None, 0))(names["features"][0], jr.split(jr.key(0), 200))
    assert drawn.shape == (200, 4, 2)
    sides = np.asarray(drawn.mean((1, 2)))
    assert (np.abs(np.abs(sides) - 0.6) < 0.2).mean() > 0.8  # both ways, and few between
    assert 0.2 < (sides > 0).mean() < 0.8
    known = jax.vmap(learned.log_prob)(names["features"][:64], chunks[:64])
    assert known.mean() > jax.vmap(learned.log_prob)(names["features"][:64], 0 * chunks[:64]).mean()
    from_file = ExportedPolicy(tmp_path / "head")
    assert from_file(np.asarray(names["features"][0])).shape == (2,)


def test_a_head_teaches_what_comes_before_it():
    chunks = jr.uniform(jr.key(0), (32, 3, 2), minval=-1, maxval=1)
    config = NFBCConfig(flow=RealNVPConfig(2, 8), encoder=(8,), condition_dim=4)
    head = nfrl.ActionHead.build(
        jr.key(1), features=5, actions=chunks.reshape(-1, 2), chunk=3, config=config
    )
    moved = jax.tree.map(lambda x: x + 0.1 if eqx.is_inexact_array(x) else x, head.agent.policy)
    head = eqx.tree_at(lambda h: h.agent.policy.encoder, head, moved.encoder)
    head = eqx.tree_at(lambda h: h.agent.policy.flow, head, moved.flow)
    by_features = jax.grad(lambda f: head.loss(f, chunks, jr.key(2)))(jnp.ones((32, 5)))
    assert np.abs(by_features).max() > 0
    gradient = eqx.filter_grad(lambda h: h.loss(jnp.ones((32, 5)), chunks, jr.key(2)))(head)
    _, constants = split_trainable(gradient)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(constants))
    with pytest.raises(UserError, match="features must be at least 1"):
        nfrl.ActionHead.build(jr.key(0), features=0, actions=np.zeros((20, 2)), chunk=1)


def test_a_head_of_a_gripper_has_its_values_and_is_a_policy(tmp_path):
    rng = np.random.default_rng(0)
    actions = np.stack([rng.uniform(-3, 3, 200), rng.integers(0, 2, 200)], axis=1)
    config = NFBCConfig(flow=RealNVPConfig(2, 8), encoder=(8,), condition_dim=4)
    head = nfrl.ActionHead.build(
        jr.key(1), features=5, actions=actions, chunk=3, executed=2, config=config
    )
    chunk = np.asarray(head(jnp.ones(5), jr.key(0)))
    assert set(chunk[:, 1]) <= {0.0, 1.0}
    assert np.isfinite(head.log_prob(jnp.ones(5), jnp.asarray(chunk)))
    policy = head.policy()
    assert policy.agent.capabilities.executed == 2
    again = nfrl.load_policy(policy.save(tmp_path / "head"))
    np.testing.assert_array_equal(again(np.ones(5)), head.policy()(np.ones(5)))


def test_a_policy_of_images_is_exported(data, tmp_path):
    agent, _ = built("nf-bc", data)
    policy = Policy(without_optimizer(agent), small("nf-bc"), "nf-bc", data.spec, steps=100)
    differences = policy.export(tmp_path / "p", to="numpy")
    assert max(differences.values()) < 1e-4


def test_what_images_cannot_do_is_said(data, tmp_path):
    agent, dataset = built("nf-bc", data)
    with pytest.raises(UserError, match="without images"):
        measure(agent, dataset, jr.key(0))
