"""The flow as mathematics: inverses, log-determinants, densities, gradients, and its constants."""

import re
from functools import partial, reduce

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from flowjax.bijections import (
    AbstractBijection,
    AdditiveCondition,
    Affine,
    Chain,
    Flip,
    RationalQuadraticSpline,
    Scan,
)
from flowjax.distributions import MultivariateNormal, Normal, StandardNormal, Transformed
from flowjax.flows import masked_autoregressive_flow
from jax.scipy.stats import norm
from paramax import non_trainable

from nfrl.agents.nf_gcbc import NFGCBC, FlowPolicy, NFGCBCConfig
from nfrl.agents.parts.optimization import AdamW, gradient_step, initial_state
from nfrl.data.samplers import GoalBatch
from nfrl.flows import Coupling, ExpAffine, PLULinear, RealNVP, denoise, sample_at
from nfrl.networks import MLP, split_trainable

SMALL = {"blocks": 2, "channels": 16}  # as few shapes as possible: each costs a compilation
DIM, COND = 5, 2


def random_flow(seed: int, kind=RealNVP, scale: float = 0.25, **arguments):
    """Return a flow with a random number for every parameter, the layers that start at zero too.

    Only the shapes are traced: the initial values cost a second of compilation per dimension.
    """
    rng = np.random.default_rng(seed)

    def fill(path, leaf):
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            return leaf
        name = getattr(path[-1], "name", "")
        if name == "permutation":
            return jnp.asarray(rng.permutation(leaf.shape[0]))
        if name == "sign":
            return jnp.asarray(rng.choice([-1, 1], leaf.shape))
        mean = 1.0 if name == "scale" else 0.0
        return jnp.asarray(mean + scale * rng.normal(size=leaf.shape), jnp.float32)

    arguments = {"dim": DIM, "cond_dim": COND, **(SMALL if kind is RealNVP else {}), **arguments}
    shapes = eqx.filter_eval_shape(kind, jr.key(0), **arguments)
    return jax.tree_util.tree_map_with_path(fill, shapes)


def jitted(function, *arguments):
    return eqx.filter_jit(function)(*arguments)


@pytest.fixture(scope="module")
def untrained():
    return RealNVP(jr.key(0), dim=DIM, cond_dim=COND, blocks=4, channels=16)


def trained(distribution, draw, steps, *, learning_rate=1e-3, weight_decay=0.0, loss=None):
    """Return the distribution after so many steps on batches ``draw(key)``, all in one scan."""
    optimizer = AdamW(learning_rate, weight_decay, warmup_steps=20, clip_norm=10.0).build(steps)

    def likelihood(model, batch, key):
        return -model.log_prob(*batch).mean()

    loss = likelihood if loss is None else loss

    @eqx.filter_jit
    def run(model, state):
        arrays, static = eqx.partition(model, eqx.is_array)

        def step(carry, key):
            arrays, state = carry
            draw_key, loss_key = jr.split(key)
            batch = draw(draw_key)
            model, state, metrics = gradient_step(
                lambda m: (loss(m, batch, loss_key), {}),
                eqx.combine(arrays, static),
                optimizer,
                state,
            )
            return (eqx.filter(model, eqx.is_array), state), metrics["loss"]

        (arrays, _), losses = jax.lax.scan(step, (arrays, state), jr.split(jr.key(99), steps))
        return eqx.combine(arrays, static), losses

    model, losses = run(distribution, initial_state(optimizer, distribution))
    return model, np.asarray(losses)


def layers_of(flow, kind):
    return [layer for layer in flow.bijection.bijections if isinstance(layer, kind)]


def matrix(layer: PLULinear):
    """The matrix W of x -> x W, row by row."""
    return np.asarray(jitted(eqx.filter_vmap(layer.inverse), jnp.eye(layer.shape[0])))


# Inverses and log-determinants


@eqx.filter_jit
def to_data(bijection, z, y):
    return jax.vmap(lambda z: bijection.transform_and_log_det(z, y))(z)


@eqx.filter_jit
def to_latent(bijection, x, y):
    """Return latents, log-determinants, and autodiff's Jacobians of the inverse pass."""

    def value_and_all(x):
        z, log_det = bijection.inverse_and_log_det(x, y)
        return z, (z, log_det)

    jacobian, (z, log_det) = jax.vmap(jax.jacfwd(value_and_all, has_aux=True))(x)
    return z, log_det, jacobian


def check_bijection(bijection, x, y, tolerance=1e-3):
    """Check both round trips, and both log-determinants against autodiff.

    Where the passes invert each other, the forward log-determinant is right if it is minus the
    inverse one, and that one is right.
    """
    close = partial(np.testing.assert_allclose, atol=tolerance, rtol=tolerance)
    z, log_det, jacobian = to_latent(bijection, x, y)
    again, forward_log_det = to_data(bijection, z, y)
    close(again, x)
    close(log_det, np.linalg.slogdet(np.asarray(jacobian, np.float64)).logabsdet)
    close(forward_log_det, -log_det)
    assert np.abs(log_det).max() > 0.05  # a rotation would prove nothing
    data, forward_log_det = to_data(bijection, x, y)
    again, log_det, _ = to_latent(bijection, data, y)
    close(again, x)
    close(forward_log_det, -log_det)


# Every dimension; what else there is to choose takes turns.
CASES = [
    # dim, mixing, transformer, conditional, layer_norm
    (1, "plu", "affine", True, True),
    (2, "plu", "affine", False, False),
    (3, "plu", "affine", True, False),
    (5, "plu", "affine", False, True),
    (8, "plu", "affine", True, True),
    (1, "none", "spline", True, False),
    (2, "plu", "spline", True, True),
    (3, "none", "spline", False, True),
    (5, "reverse", "affine", True, True),
    (8, "reverse", "spline", True, False),
]


@pytest.mark.parametrize(("dim", "mixing", "transformer", "conditional", "layer_norm"), CASES)
def test_inverses_and_log_determinants(dim, mixing, transformer, conditional, layer_norm):
    flow = random_flow(
        dim,
        dim=dim,
        cond_dim=COND if conditional else None,
        blocks=2 if transformer == "affine" else 1,
        transformer=transformer,
        mixing=mixing,
        layer_norm=layer_norm,
    )
    x = 2 * jr.normal(jr.key(1), (16, dim))
    if transformer == "spline":
        x = x.at[0].set(5.0)  # outside of the spline's interval; the others are inside
        x = jnp.concatenate((x[:1], jnp.clip(x[1:], -3, 3)))
    check_bijection(flow.bijection, x, jr.normal(jr.key(2), (COND,)) if conditional else None)


@pytest.mark.parametrize("dim", [1, DIM])
def test_the_linear_flow_starts_orthogonal(dim):
    layers = jitted(eqx.filter_vmap(lambda key: PLULinear(key, dim)), jr.split(jr.key(0), 20))
    matrices = jitted(eqx.filter_vmap(lambda layer: jax.vmap(layer.inverse)(jnp.eye(dim))), layers)
    transposed = np.swapaxes(matrices, 1, 2)
    np.testing.assert_allclose(matrices @ transposed, np.tile(np.eye(dim), (20, 1, 1)), atol=1e-5)
    assert len(np.unique(np.round(matrices, 3), axis=0)) == (2 if dim == 1 else 20)


@pytest.mark.parametrize("dim", [2, 5])
def test_the_affine_coupling_is_the_papers(dim):
    """x1' = x1, x2' = (x2 - t) exp(-s) towards the latent, with s, t of x1 (the longer) and y."""
    coupling = random_flow(0, Coupling, dim=dim, channels=4)
    x, y, kept = jr.normal(jr.key(2), (dim,)), jnp.ones(COND), -(-dim // 2)
    z, log_det = jitted(coupling.inverse_and_log_det, x, y)
    s, t = (jitted(network, x[:kept], y) for network in coupling.conditioners)
    np.testing.assert_array_equal(z[:kept], x[:kept])
    np.testing.assert_allclose(z[kept:], (x[kept:] - t) * np.exp(-s), rtol=1e-4)
    np.testing.assert_allclose(log_det, -s.sum(), rtol=1e-4)


SIGMA = 0.1


def noisy_function(key, size=64):
    """Draw x = f(y) + sigma eps: data whose entropy is known."""
    y_key, x_key = jr.split(key)
    y = jr.normal(y_key, (size, COND))
    return jnp.tanh(y @ jnp.ones((COND, DIM))) + SIGMA * jr.normal(x_key, (size, DIM)), y


@pytest.fixture(scope="module")
def deep():
    """Return 48 blocks after a short training."""

    def block(key):
        return RealNVP(key, dim=DIM, cond_dim=COND, blocks=1, channels=16).bijection

    # In a loop over stacked blocks, which compiles in a twentieth of the time of 48 in a row.
    blocks = Scan(jitted(eqx.filter_vmap(block), jr.split(jr.key(0), 48)))
    flow = Transformed(StandardNormal((DIM,)), blocks)
    return trained(flow, noisy_function, 300)[0]


@pytest.mark.slow
def test_48_trained_blocks_invert_in_float32(deep):
    inverse = eqx.filter_jit(eqx.filter_vmap(deep.bijection.inverse_and_log_det))
    forward = eqx.filter_jit(eqx.filter_vmap(deep.bijection.transform_and_log_det))
    x, y = noisy_function(jr.key(5))
    z, log_det = inverse(x, y)
    again, forward_log_det = forward(z, y)
    np.testing.assert_allclose(again, x, atol=1e-4)
    np.testing.assert_allclose(forward_log_det, -log_det, atol=1e-3)
    latent = jr.normal(jr.key(6), (64, DIM))
    np.testing.assert_allclose(inverse(forward(latent, y)[0], y)[0], latent, atol=1e-4)


@pytest.mark.parametrize("transformer", ["affine", "spline"])
def test_products_are_float32s_on_every_device(transformer):
    """No CPU shows what a GPU rounds, but the program says what it may not."""
    flow = RealNVP(jr.key(0), dim=3, cond_dim=2, blocks=2, channels=4, transformer=transformer)
    parameters, constants = split_trainable(flow)

    def log_prob(parameters, x, y):
        return eqx.combine(parameters, constants).log_prob(x, y).sum()

    def sample(parameters, y):
        return eqx.combine(parameters, constants).sample(jr.key(1), (), y).sum()

    x, y = jnp.ones((4, 3)), jnp.ones((4, 2))
    programs = [
        jax.jit(jax.value_and_grad(log_prob)).lower(parameters, x, y),
        jax.jit(jax.value_and_grad(sample)).lower(parameters, y),
    ]
    for program in programs:
        found = re.findall(r"dot_general.*?precision = \[(\w+), (\w+)\]", program.as_text())
        assert len(found) > 10
        assert set(found) == {("HIGHEST", "HIGHEST")}


# Densities


@pytest.mark.parametrize("transformer", ["affine", "spline"])
def test_sample_and_log_prob_agree(transformer):
    flow = random_flow(0, transformer=transformer, blocks=2 if transformer == "affine" else 1)
    y = jr.normal(jr.key(2), (4, COND))
    x, log_prob = jitted(flow.sample_and_log_prob, jr.key(3), (3,), y)
    assert x.shape == (3, 4, DIM)
    np.testing.assert_allclose(log_prob, jitted(flow.log_prob, x, y), atol=2e-3)
    if transformer == "affine":
        np.testing.assert_allclose(x, jitted(flow.sample, jr.key(3), (3,), y), atol=1e-4)


def test_a_temperature_multiplies_the_latents():
    flow = RealNVP(jr.key(0), dim=3, cond_dim=2, blocks=2, channels=4)
    y, keys = jnp.ones(2), jr.split(jr.key(1), 5000)
    for temperature in (0.0, 0.4, 1.0):
        x = jax.vmap(lambda key, t=temperature: sample_at(t, flow, key, y))(keys)
        latents = jax.vmap(flow.bijection.inverse, (0, None))(x, y)
        np.testing.assert_allclose(latents.std(0), temperature, atol=0.02)
    np.testing.assert_array_equal(x[0], flow.sample(keys[0], (), y))
    with pytest.raises(ValueError, match="StandardNormal has no latents"):
        sample_at(0.4, StandardNormal((3,)), jr.key(0))


def test_log_prob_broadcasts():
    flow = random_flow(1)
    x, y = jr.normal(jr.key(2), (4, DIM)), jr.normal(jr.key(3), (5, 1, COND))
    together = jitted(flow.log_prob, x, y)
    assert together.shape == (5, 4)
    one = eqx.filter_jit(flow.log_prob)
    alone = [[one(x_i, y_j) for x_i in x] for y_j in y[:, 0]]
    np.testing.assert_allclose(together, alone, rtol=1e-3)
    assert np.ptp(together, axis=0).min() > 1e-3  # the condition matters
    with pytest.raises(ValueError, match="trailing dimensions"):
        flow.log_prob(x, jnp.ones(COND + 1))


def grid(dim: int, limit: float, points: int):
    """Return the points of a regular grid, (points^dim, dim), and a cell's volume."""
    axis = (np.arange(points) + 0.5) / points * 2 * limit - limit
    mesh = np.meshgrid(*[axis] * dim, indexing="ij")
    return np.stack(mesh, -1).reshape(-1, dim), (2 * limit / points) ** dim


def grid_density(transformer, dim, points, limit=12.0):
    flow = random_flow(5, dim=dim, transformer=transformer, scale=0.12)
    y = jnp.array([1.0, -0.5])
    x, volume = grid(dim, limit, points)
    return flow, y, x, np.exp(jitted(flow.log_prob, x, y)) * volume


@pytest.mark.parametrize("transformer", ["affine", "spline"])
def test_1d_density_integrates_to_one_and_is_sampled(transformer):
    flow, y, x, mass = grid_density(transformer, 1, 4000)
    assert abs(mass.sum() - 1) < 1e-3
    count = 4000
    samples = np.sort(jitted(flow.sample, jr.key(7), (count,), y)[:, 0])
    cdf = np.interp(samples, x[:, 0], np.cumsum(mass) - mass / 2)
    rank = np.arange(count + 1) / count
    distance = max(np.abs(cdf - rank[1:]).max(), np.abs(cdf - rank[:-1]).max())
    assert distance < 1.95 / np.sqrt(count)  # Kolmogorov and Smirnov, at 0.001
    assert np.abs(norm.cdf(samples) - cdf).max() > 0.05  # it is not what it started as


@pytest.mark.parametrize("transformer", ["affine", "spline"])
def test_2d_density_integrates_to_one_and_is_sampled(transformer):
    points, bins, limit = 480, 48, 12.0
    flow, y, _, mass = grid_density(transformer, 2, points, limit)
    assert abs(mass.sum() - 1) < 1e-2  # a spline's density jumps at the ends of its interval
    count = 10_000
    samples = np.asarray(jitted(flow.sample, jr.key(7), (count,), y))
    edges = np.linspace(-limit, limit, bins + 1)
    found, *_ = np.histogram2d(*samples.T, bins=(edges, edges))
    expected = count * mass.reshape(bins, points // bins, bins, points // bins).sum((1, 3))
    often = expected > 8
    assert often.sum() > 40
    statistic = np.square(found - expected)[often] / expected[often]
    assert statistic.sum() < often.sum() + 4 * np.sqrt(2 * often.sum())  # chi-squared


class Misreported(AbstractBijection):
    """A bijection that reports its log-determinant times a factor."""

    bijection: AbstractBijection
    factor: float
    shape: tuple[int, ...] = eqx.field(static=True)
    cond_shape: tuple[int, ...] | None = eqx.field(static=True)

    def __init__(self, bijection, factor):
        self.bijection, self.factor = bijection, factor
        self.shape, self.cond_shape = bijection.shape, bijection.cond_shape

    def transform_and_log_det(self, x, condition=None):
        y, log_det = self.bijection.transform_and_log_det(x, condition)
        return y, self.factor * log_det

    def inverse_and_log_det(self, y, condition=None):
        x, log_det = self.bijection.inverse_and_log_det(y, condition)
        return x, self.factor * log_det


def test_log_density_cannot_exceed_the_noises_entropy(deep):
    """On data f(y) + sigma eps no density does better than -(d/2) ln(2 pi e sigma^2) on average.

    Every fault of the likelihood that training can exploit breaks this bound.
    """
    x, y = noisy_function(jr.key(2), 4096)
    bound = -DIM / 2 * np.log(2 * np.pi * np.e * SIGMA**2)

    def held_out(flow):
        values = np.asarray(jitted(flow.log_prob, x, y))
        return values.mean(), values.std() / np.sqrt(len(values))

    mean, error = held_out(deep)
    assert bound - 0.5 < mean < bound + 3 * error
    broken = eqx.tree_at(lambda f: f.bijection, deep, Misreported(deep.bijection, 1.2))
    mean, error = held_out(broken)
    assert mean > bound + 3 * error


# Gradients and constants


def gradients(flow, loss):
    """Return name -> gradient of every float of the flow."""
    gradient = eqx.filter_jit(eqx.filter_grad(loss))(flow)
    named = jax.tree_util.tree_leaves_with_path(eqx.filter(gradient, eqx.is_array))
    parameters = jax.tree.leaves(eqx.filter(flow, eqx.is_inexact_array))
    assert [value.shape for _, value in named] == [leaf.shape for leaf in parameters]
    return {jax.tree_util.keystr(path): np.asarray(value) for path, value in named}


@pytest.mark.parametrize("direction", ["density", "sample"])
@pytest.mark.parametrize("transformer", ["affine", "spline"])
def test_gradients_reach_every_parameter(transformer, direction):
    flow = random_flow(0, transformer=transformer, blocks=2 if transformer == "affine" else 1)
    y = jr.normal(jr.key(2), (1024, COND))

    def density(flow):
        return flow.log_prob(1.5 * jr.normal(jr.key(3), (1024, DIM)), y).mean()

    def sample(flow):
        return jnp.sin(1 + flow.sample(jr.key(3), (), y)).sum()

    for name, value in gradients(flow, {"density": density, "sample": sample}[direction]).items():
        assert np.isfinite(value).all(), name
        # A spline's outermost knots are out of the reach of most samples.
        assert (value != 0).mean() > (0.9 if transformer == "spline" else 0.999), name


def test_the_linear_flow_holds_no_float_but_its_parameters():
    layer = eqx.filter_eval_shape(PLULinear, jr.key(0), 5)
    leaves = {p[0].name: leaf for p, leaf in jax.tree_util.tree_leaves_with_path(layer)}
    floats = {name for name, leaf in leaves.items() if jnp.issubdtype(leaf.dtype, jnp.inexact)}
    sizes = {name: leaves[name].size for name in floats}
    assert sizes == {"log_scale": 5, "lower": 10, "upper": 10}
    assert leaves.keys() - sizes.keys() == {"permutation", "sign"}


def test_training_leaves_the_constants_alone():
    flow = RealNVP(jr.key(0), dim=DIM, cond_dim=COND, blocks=1, channels=16)

    def draw(key):
        return jr.normal(key, (16, DIM)) * jnp.arange(1, DIM + 1), jnp.ones((16, COND))

    def loss(flow, batch, key):  # both directions, as in the actor of NF-RLBC
        return jnp.square(flow.sample(key, (), batch[1]) - 1).mean() - flow.log_prob(*batch).mean()

    after, _ = trained(flow, draw, 100, learning_rate=1e-2, weight_decay=0.1, loss=loss)
    parameters, constants = eqx.partition(flow, eqx.is_inexact_array)
    parameters_after, constants_after = eqx.partition(after, eqx.is_inexact_array)
    assert all(
        (old != new).all()
        for old, new in zip(*map(jax.tree.leaves, (parameters, parameters_after)), strict=True)
    )
    constants = jax.tree.leaves(eqx.filter(constants, eqx.is_array))
    constants_after = jax.tree.leaves(eqx.filter(constants_after, eqx.is_array))
    assert len(constants) == 2
    for old, new in zip(constants, constants_after, strict=True):
        assert jnp.issubdtype(new.dtype, jnp.integer)
        np.testing.assert_array_equal(old, new)
    for layer in layers_of(after, PLULinear):
        check_plu(layer)


def check_plu(layer):
    """W = P L U, with P a permutation, L unit lower and U upper triangular, diag(U) = s."""
    (dim,) = layer.shape
    permutation = np.asarray(layer.permutation)
    assert sorted(permutation) == list(range(dim))
    p = np.zeros((dim, dim))
    p[permutation, np.arange(dim)] = 1
    # Elimination without pivoting finds the only L and U there can be.
    upper, lower = (p.T @ matrix(layer)).astype(np.float64), np.eye(dim)
    for i in range(dim):
        lower[i + 1 :, i] = upper[i + 1 :, i] / upper[i, i]
        upper[i + 1 :] -= np.outer(lower[i + 1 :, i], upper[i])
    np.testing.assert_allclose(np.diag(upper), layer.sign * np.exp(layer.log_scale), rtol=1e-3)
    assert set(np.abs(layer.sign)) == {1}
    np.testing.assert_allclose(lower[np.tril_indices(dim, -1)], layer.lower, atol=1e-3)


# Initial values


def test_blocks_start_differently(untrained):
    plus, couplings = layers_of(untrained, PLULinear), layers_of(untrained, Coupling)
    assert len(plus) == len(couplings) == 4
    assert len({tuple(layer.permutation.tolist()) for layer in plus}) > 1
    networks = [network for coupling in couplings for network in coupling.conditioners]
    assert len(networks) == 8
    for some in (plus, networks):
        values = [jax.tree.leaves(eqx.filter(layer, eqx.is_inexact_array)) for layer in some]
        for leaves in zip(*values, strict=True):
            if np.ptp(leaves[0]) > 0:  # drawn at random, not set to zero or one
                assert len({leaf.tobytes() for leaf in map(np.asarray, leaves)}) == len(some)


@pytest.mark.parametrize("transformer", ["affine", "spline", Affine])
def test_an_untrained_flow_is_its_linear_flows_alone(untrained, transformer):
    flow = untrained
    if transformer != "affine":
        flow = RealNVP(
            jr.key(1), dim=DIM, cond_dim=COND, blocks=1, channels=16, transformer=transformer
        )
    x, y = jr.normal(jr.key(1), (6, DIM)), jr.normal(jr.key(2), (6, COND))
    rotation = reduce(np.matmul, map(matrix, layers_of(flow, PLULinear)[::-1]))
    z = jitted(eqx.filter_vmap(flow.bijection.inverse), x, y)
    np.testing.assert_allclose(z, x @ rotation, atol=1e-4)
    # Orthogonal maps: the density is that of the latent.
    np.testing.assert_allclose(jitted(flow.log_prob, x, y), norm.logpdf(x).sum(-1), rtol=1e-4)


# Denoising


def test_denoising_is_the_posterior_mean():
    """c ~ N(mu, C), x = c + sigma eps: E[c | x] = mu + C (C + sigma^2 I)^-1 (x - mu)."""
    rng = np.random.default_rng(0)
    sigma, mean, root = 0.7, np.array([1.0, -2.0, 0.5]), rng.normal(size=(3, 3))
    covariance = root @ root.T + 0.1 * np.eye(3)
    noisy = covariance + sigma**2 * np.eye(3)
    x = rng.normal(size=(4, 3))
    density = MultivariateNormal(jnp.asarray(mean), jnp.asarray(noisy))
    found = jitted(denoise, density, jnp.asarray(x), None, sigma)
    expected = mean + (x - mean) @ np.linalg.inv(noisy) @ covariance
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_denoising_one_or_many_and_without_noise():
    flow = random_flow(2)
    x, y = jr.normal(jr.key(2), (4, DIM)), jr.normal(jr.key(3), (4, COND))
    some = eqx.filter_jit(lambda x, y: denoise(flow, x, y, 0.3))
    together = some(x, y)
    alone = [some(x_i, y_i) for x_i, y_i in zip(x, y, strict=True)]
    np.testing.assert_allclose(together, alone, atol=1e-4)
    np.testing.assert_allclose(some(x, y[0])[0], together[0], atol=1e-4)
    assert np.abs(together - x).min() > 0
    np.testing.assert_array_equal(denoise(flow, x, y, 0), x)
    assert denoise(Normal(jnp.zeros(3)), x, None, 0.0) is x


# What stands in for what

TRANSFORMERS = {
    "flowjax's affine": Affine,
    "another spline": partial(RationalQuadraticSpline, knots=3, interval=2),
    "a chain with a constant": lambda: Chain([non_trainable(Affine(0.1, 2.0)), Affine()]),
}


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_any_scalar_bijection_can_be_the_transformer(name):
    flow = random_flow(0, dim=3, transformer=TRANSFORMERS[name], blocks=1)
    x, y = jnp.clip(jr.normal(jr.key(1), (8, 3)), -1.5, 1.5), jnp.ones(COND)
    check_bijection(flow.bijection, x, y)


def test_any_flowjax_distribution_can_be_the_policy():
    config = NFGCBCConfig(condition_dim=4, optimizer=AdamW(3e-3, warmup_steps=5))
    encoder_key, flow_key = jr.split(jr.key(0))
    policy = FlowPolicy(
        MLP(encoder_key, 2 * 3, (16,), 4),
        masked_autoregressive_flow(
            flow_key, base_dist=StandardNormal((2,)), cond_dim=4, flow_layers=1, nn_width=8
        ),
    )
    agent = NFGCBC(policy, initial_state(config.optimizer.build(100), policy), config, 100)
    batch = GoalBatch(jnp.ones((32, 3)), jnp.full((32, 2), 0.3), jnp.zeros((32, 3)))
    update = eqx.filter_jit(lambda agent, key: agent.update(batch, key))
    losses = []
    for key in jr.split(jr.key(1), 60):
        agent, metrics = update(agent, key)
        losses.append(float(metrics["loss"]))
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.5
    action = eqx.filter_jit(lambda agent: agent.act(jnp.ones(3), jnp.zeros(3), jr.key(2)))(agent)
    assert action.shape == (2,)
    assert (np.abs(action) <= 1).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dim": 0}, "at least 1"),
        ({"blocks": 0}, "at least 1"),
        ({"channels": 0}, "at least 1"),
        ({"mixing": "shuffle"}, "shuffle"),
        ({"transformer": lambda: Flip((2,))}, "scalar"),
        ({"transformer": lambda: AdditiveCondition(jnp.sum, (), (1,))}, "scalar"),
    ],
)
def test_wrong_arguments_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        RealNVP(jr.key(0), **{"dim": 2, "mixing": "none", **SMALL, **wrong})


def test_flows_stack():
    """Flows of several seeds, built and used under vmap, equal each of them alone."""

    def use(flow, x, y):
        x = flow.sample(jr.key(3), (4,), y) + x
        return x, flow.log_prob(x, y)

    flows = [random_flow(seed) for seed in range(3)]
    static = eqx.partition(flows[0], eqx.is_array)[1]
    arrays = [eqx.filter(flow, eqx.is_array) for flow in flows]
    stacked = eqx.combine(jax.tree.map(lambda *leaves: jnp.stack(leaves), *arrays), static)
    x, y = jr.normal(jr.key(1), (3, 4, DIM)), jr.normal(jr.key(2), (3, COND))
    together = jitted(eqx.filter_vmap(use), stacked, x, y)
    for i, flow in enumerate(flows):
        for found, expected in zip(together, jitted(use, flow, x[i], y[i]), strict=True):
            np.testing.assert_allclose(found[i], expected, rtol=1e-3, atol=1e-3)
    assert np.ptp(together[0], axis=0).min() > 0


def test_exp_affine_starts_as_the_identity():
    y, log_det = ExpAffine().transform_and_log_det(jnp.array(1.7))
    assert (float(y), float(log_det)) == (pytest.approx(1.7), 0.0)


def test_denoise_broadcasts_one_sample_over_many_conditions():
    flow = RealNVP(jr.key(0), dim=2, cond_dim=1, blocks=1, channels=4)
    conditions = jnp.linspace(-1, 1, 4)[:, None]
    one_by_one = [denoise(flow, jnp.ones(2), condition, 0.5) for condition in conditions]
    np.testing.assert_allclose(
        denoise(flow, jnp.ones(2), conditions, 0.5), jnp.stack(one_by_one), atol=1e-6
    )


def test_an_unknown_transformer_is_refused_by_name():
    with pytest.raises(ValueError, match="splien"):
        RealNVP(jr.key(0), dim=2, transformer="splien")  # type: ignore[arg-type]
