"""An exported policy does what the policy does, without nfrl and without JAX."""

import json
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from nfrl.acting.policy import Policy
from nfrl.agents import (
    DiffusionBCConfig,
    FMBCConfig,
    FMGCBCConfig,
    FQLConfig,
    GaussianBCConfig,
    GCIQLConfig,
    HIQLConfig,
    IDQLConfig,
    IFQLConfig,
    NFBCConfig,
    NFGCBCConfig,
    NFRLBCConfig,
    NFWaypointsConfig,
    NFWaypointsRLConfig,
    ReBRACConfig,
)
from nfrl.data.dataset import Dataset
from nfrl.errors import UserError
from nfrl.exporting import exported_policy
from nfrl.exporting.draws import Draw, with_draws
from nfrl.exporting.exported_policy import ExportedPolicy
from nfrl.exporting.fusion import fuse
from nfrl.exporting.program import Port, lower
from nfrl.flows import (
    AutoregressiveConfig,
    MaskedAutoregressiveConfig,
    NeuralSplineConfig,
    RealNVPConfig,
    TransformerCouplingConfig,
)
from nfrl.interfaces.agent import ChunkShape
from nfrl.spec import ActionSpec, ArraySpec, Spec

OBSERVATION, ACTION, STEPS = 5, 3, 10
SPEC = Spec(
    {"joints": ArraySpec((3,)), "places": ArraySpec((2,))},
    # A continuum, a locked joint and a gripper that is open or shut.
    ActionSpec((-2.0, 0.5, 0.0), (3.0, 0.5, 1.0), (None, (0.5,), (0.0, 1.0))),
    goal_columns=(0, 3),
)
CHUNKS = ChunkShape(2, 4, 3)
WIDTHS = {"flow": RealNVPConfig(2, 4), "encoder": (8,), "condition_dim": 4}
PLAN = {
    **WIDTHS,
    "prior": RealNVPConfig(1, 4),
    "prior_encoder": (8,),
    "steps_ahead": 5,
    "landmarks": 5,
    "candidates": 8,
}
AGENTS = {
    "nf-gcbc": NFGCBCConfig(**WIDTHS, standardize=True, goal_columns=(0, 3)),
    "nf-gcbc in chunks": NFGCBCConfig(**WIDTHS, chunk=3, executed=2, temperature=0.5),
    "nf-rlbc": NFRLBCConfig(**WIDTHS, critic=(8,), candidates=6, likely=0.5),
    "nf-bc": NFBCConfig(**WIDTHS, chunks=CHUNKS),
    "nf-bc, guided": NFBCConfig(
        flow=AutoregressiveConfig(2, 8, 1, 2),
        encoder=(8,),
        condition_dim=4,
        chunks=CHUNKS,
        condition_dropout=0.1,
        guidance=1.0,
        best_of=3,
        refine_steps=2,
    ),
    "nf-bc, transformers": NFBCConfig(
        flow=TransformerCouplingConfig(2, 8, 1, 2), encoder=(8,), condition_dim=4, chunks=CHUNKS
    ),
    "nf-bc, masked": NFBCConfig(
        flow=MaskedAutoregressiveConfig(2, 8, 1),
        encoder=(8,),
        condition_dim=4,
        chunks=CHUNKS,
        refine_steps=2,
    ),
    "nf-bc, splines": NFBCConfig(
        flow=NeuralSplineConfig(2, 8, 1), encoder=(8,), condition_dim=4, chunks=CHUNKS, best_of=2
    ),
    "nf-waypoints": NFWaypointsConfig(**PLAN),
    "nf-waypoints-rl": NFWaypointsRLConfig(**PLAN),
    "fm-gcbc": FMGCBCConfig(hidden=(8,), euler_steps=3),
    "gciql": GCIQLConfig(hidden=(8,), critic=(8,)),
    "hiql": HIQLConfig(hidden=(8,), critic=(8,), representation_dim=4, standardize=True),
    "gaussian-bc": GaussianBCConfig(hidden=(8,), chunks=CHUNKS),
    "diffusion-bc": DiffusionBCConfig(
        network="mlp", hidden=(8,), time_dim=8, noise_steps=5, sampling_steps=3, chunks=CHUNKS
    ),
    "diffusion-bc, a U-Net": DiffusionBCConfig(
        network="unet", hidden=(8, 16), time_dim=8, noise_steps=5, sampling_steps=2, chunks=CHUNKS
    ),
    "fm-bc": FMBCConfig(hidden=(8,), chunks=CHUNKS),
    "fql": FQLConfig(hidden=(8,), critic=(8,)),
    "ifql": IFQLConfig(hidden=(8,), critic=(8,), samples=4, euler_steps=3),
    "idql": IDQLConfig(width=8, critic=(8,), samples=4),
    "rebrac": ReBRACConfig(hidden=(8,), critic=(8,)),
}
WITHOUT_JAX = ("numpy", "onnx")


@pytest.fixture(scope="module")
def data():
    generator = np.random.default_rng(0)
    rows = 60
    actions = np.stack(
        [generator.uniform(-2, 3, rows), np.full(rows, 0.5), generator.integers(0, 2, rows)], 1
    )
    return Dataset.from_arrays(
        generator.normal(size=(rows, OBSERVATION)).astype(np.float32),
        actions.astype(np.float32),
        np.arange(rows) % 20 == 19,
        rewards=-np.ones(rows),
        masks=np.arange(rows) % 20 != 10,
    )


def policy_of(name: str, data) -> Policy:
    config = AGENTS[name]
    return Policy(config.build(jr.key(0), SPEC, STEPS, data), config, name, SPEC, steps=STEPS)


@pytest.fixture(scope="module")
def exports(data, tmp_path_factory):
    """Return a policy and its export, made once."""
    made = {}

    def of(name: str, to: str) -> tuple[Policy, ExportedPolicy, dict[str, float]]:
        if (name, to) not in made:
            policy = policy_of(name, data)
            folder = tmp_path_factory.mktemp("export") / "policy"
            differences = policy.export(folder, to=to)
            made[name, to] = policy, ExportedPolicy(folder), differences
        return made[name, to]

    return of


# What the two have in common is most of the way; each operation is checked for both below.
@pytest.mark.parametrize(
    ("name", "to"),
    [
        *((name, "numpy") for name in AGENTS),
        *(
            (name, "onnx")
            for name in (
                *("nf-gcbc", "nf-waypoints", "diffusion-bc, a U-Net", "ifql"),
                *("nf-bc, guided", "nf-bc, splines"),
            )
        ),
        ("nf-rlbc", "stablehlo"),
    ],
)
def test_functions_are_the_agents(exports, name, to):
    # Compared here with the agent's own methods, and not with what the exporter compares with.
    policy, exported, differences = exports(name, to)
    can = policy.agent.capabilities
    expected = {"act"} | ({"log_prob"} if can.likelihood else set())
    assert (
        set(differences) == set(exported.functions) == expected | ({"q"} if can.values else set())
    )
    generator = np.random.default_rng(1)
    steps = () if can.predicted is None else (can.predicted,)
    for _ in range(3):
        observation, goal = generator.normal(size=(2, OBSERVATION)).astype(np.float32)
        action = generator.uniform(SPEC.action.low, SPEC.action.high, (*steps, ACTION))
        action[..., 2] = action[..., 2].round()
        given = (observation, action, goal if can.goals else None)
        if can.likelihood:
            np.testing.assert_allclose(
                exported.log_prob(*given), policy.log_prob(*given), rtol=1e-4, atol=1e-4
            )
        if can.values:
            np.testing.assert_allclose(exported.q(*given), policy.q(*given), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "name", ["nf-gcbc", "nf-gcbc in chunks", "nf-bc", "fm-bc", "diffusion-bc", "fql", "ifql"]
)
def test_the_same_draws_give_the_same_actions(exports, name, monkeypatch):
    policy, exported, _ = exports(name, "numpy")
    can, normal, drawn = policy.agent.capabilities, jr.normal, []

    def recorded(*arguments, **named):
        drawn.append(np.asarray(normal(*arguments, **named)))
        return drawn[-1]

    monkeypatch.setattr(jr, "normal", recorded)
    shape = (OBSERVATION,) if can.history is None else (can.history, OBSERVATION)
    observation = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    goal = np.ones(OBSERVATION if can.goals else 0, np.float32)
    with jax.disable_jit():
        action = policy.agent.act(jnp.asarray(observation), jnp.asarray(goal), jr.key(3))
    draws = exported.description["draws"]
    latents = {}
    for key, draw in draws.items():
        shape = tuple(draw["shape"])
        latents[key] = drawn.pop(0) if drawn[0].shape == shape else np.stack(drawn)
    given = {"observation": observation, "goal": goal, **latents}
    np.testing.assert_allclose(exported.functions["act"](given), action, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("to", [*WITHOUT_JAX, "stablehlo"])
def test_a_deterministic_policy_acts_step_by_step_as_it_does_here(exports, to):
    # The history at the beginning, the chunk in hand, and the next episode.
    policy, exported, _ = exports("gaussian-bc", to)
    generator = np.random.default_rng(4)
    for _ in range(2):
        policy.reset()
        exported.reset()
        for _ in range(8):
            joints, places = generator.normal(size=3), generator.normal(size=2)
            seen = {"joints": joints.astype(np.float32), "places": places.astype(np.float32)}
            np.testing.assert_allclose(exported(seen), policy(seen), atol=1e-5)


@pytest.mark.parametrize("to", WITHOUT_JAX)
def test_it_acts_where_neither_nfrl_nor_jax_can_be_imported(exports, to, tmp_path):
    _, exported, _ = exports("nf-gcbc", to)
    program = f"""
        import sys
        for name in ("jax", "jaxlib", "equinox", "nfrl", "onnx", "flowjax"):
            sys.modules[name] = None
        sys.path.insert(0, {str(exported.folder)!r})
        from exported_policy import ExportedPolicy
        policy = ExportedPolicy({str(exported.folder)!r}, seed=1)
        one = [policy([0.1] * {OBSERVATION}, [1.0, 2.0]) for _ in range(20)]
        assert len({{tuple(each) for each in one}}) > 1, "it samples"
        print(policy.log_prob([0.1] * {OBSERVATION}, one[0], [1.0, 2.0]), *one[0])
    """
    done = subprocess.run(
        [sys.executable, "-I", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    log_prob, first, locked, gripper = map(float, done.stdout.split())
    assert np.isfinite(log_prob)
    assert -2 <= first <= 3
    assert locked == 0.5
    assert gripper in (0.0, 1.0)


def test_an_export_says_what_goes_in_and_what_comes_out(exports):
    _, exported, _ = exports("nf-gcbc in chunks", "onnx")
    text = (exported.folder / "README.md").read_text()
    for word in ("`observation`", "joints (3,)", "`latent`", "(6,)", "N(0, 1)", "log-density"):
        assert word in text
    assert sorted(each.name for each in exported.folder.iterdir()) == [
        "README.md",
        "act.onnx",
        "export.json",
        "exported_policy.py",
        "log_prob.onnx",
    ]


def test_wrong_calls_say_what_is_wrong(exports):
    _, exported, _ = exports("nf-gcbc", "numpy")
    seen = np.zeros(OBSERVATION)
    with pytest.raises(ValueError, match="this policy seeks goals"):
        exported(seen)
    with pytest.raises(ValueError, match=r"has shape \(4,\); this policy's have \(5,\)"):
        exported(seen[1:], seen)
    with pytest.raises(ValueError, match="not finite"):
        exported(np.full(OBSERVATION, np.nan), seen)
    with pytest.raises(ValueError, match="has no 'places'"):
        exported({"joints": seen[:3]}, seen)
    with pytest.raises(ValueError, match="this policy has no q"):
        exported.q(seen, np.zeros(ACTION), seen)


def test_a_folder_that_holds_something_else_is_left_alone(data, tmp_path):
    policy = policy_of("rebrac", data)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something else"):
        policy.export(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(UserError, match="unknown exporter 'onx'; did you mean onnx"):
        policy.export(tmp_path / "new", to="onx")
    # An earlier export is replaced, whatever its format was.
    policy.export(tmp_path / "new", to="numpy")
    policy.export(tmp_path / "new", to="onnx")
    assert not (tmp_path / "new" / "programs.json").exists()


class Shapes:
    """A format of another package's."""

    describes = "The shapes of what goes in."

    def write(self, functions, folder):
        for name, function in functions.items():
            (folder / f"{name}.txt").write_text(str([port.shape for port in function.inputs]))


SHAPES = Shapes()


def test_a_format_of_ones_own(data, tmp_path):
    made = tmp_path / "policy"
    assert policy_of("rebrac", data).export(made, to=f"{__name__}:SHAPES") == {}
    assert (made / "act.txt").read_text() == "[(5,)]"
    assert "The shapes of what goes in." in (made / "README.md").read_text()


def test_an_export_that_acts_otherwise_is_not_kept(data, tmp_path, monkeypatch):
    monkeypatch.setitem(exported_policy._NUMPY, "Sigmoid", lambda attributes: lambda x: 0 * x)
    with pytest.raises(UserError, match="differs from the agent's"):
        policy_of("gaussian-bc", data).export(tmp_path / "policy", to="numpy")
    assert not list(tmp_path.iterdir())


# --- what programs are made of -----------------------------------------------------------------

X = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4)
KERNEL = np.random.default_rng(0).normal(size=(2, 3, 3)).astype(np.float32)
PARTS = {
    "elementwise": lambda x: jnp.exp(-jnp.abs(x)) + jnp.sin(x) * jnp.cos(x) - jnp.tanh(x) / 3,
    "functions": lambda x: jax.nn.gelu(x, approximate=False) + jax.nn.softplus(x) + jnp.sign(x),
    "powers": lambda x: x**2 + x**3 + jnp.power(jnp.abs(x) + 1, 1.5) + jax.lax.rsqrt(x**2 + 1),
    "rounding": lambda x: jnp.floor(x) + jnp.ceil(x) + jnp.clip(x, -1, 0.5),
    "comparisons": lambda x: jnp.where((x > 0) & ~(x >= 1) | (x != x[0, 0]), x, 2 * x),
    "shapes": lambda x: jnp.concatenate((x.T.reshape(2, 6), jnp.ones((2, 1))), 1)[:, ::-1][:, 1::2],
    "padding": lambda x: jnp.pad(x, ((1, 0), (0, 2)), constant_values=3.0),
    "reductions": lambda x: x.sum(0) + x.max(0) - x.min(0) + x.mean() + jnp.prod(x, 0),
    "arguments": lambda x: jnp.argmax(x, 1) + jnp.argmin(x, 1) + 0.0,
    "all and any": lambda x: jnp.all(x > -1, 1) + 2.0 * jnp.any(x > 1.9, 1),
    "finite": lambda x: jnp.isfinite(jnp.log(x)) + 0.0,
    "order": lambda x: jnp.sort(x, 1) + jnp.argsort(-x, 1) + jax.lax.top_k(x, 4)[0],
    "cumulative": lambda x: jnp.cumsum(x, 1),
    "chosen by numbers": lambda x: x[:, jnp.array([3, 0])] + x[jnp.argmax(x, 0)[:2].sum() % 3, :2],
    "taken along": lambda x: jnp.take_along_axis(x, jnp.argsort(-x, 1), 1),
    "set": lambda x: jnp.zeros((3, 5)).at[:, jnp.array([4, 1])].set(x[:, :2]),
    "set a stretch": lambda x: x.at[:, 1:3].set(x[:, :2] + 1),
    "set once": lambda x: x[0].at[2].set(7.0),
    "products": lambda x: (
        x @ x.T @ X + jnp.einsum("ij,kj->ik", x, X) @ X + X[:1] * (X @ x[0])[:, None]
    ),
    "batched product": lambda x: jnp.einsum("bi,bi->b", x, x),
    "convolution": lambda x: jax.lax.conv_general_dilated(
        x[None], KERNEL, (2,), [(1, 1)], lhs_dilation=(2,)
    )[0],
    "a loop": lambda x: jax.lax.scan(lambda c, row: (c * 0.5 + row, c + row), x[0], x)[1],
    "a gradient": jax.grad(lambda x: jnp.square(jax.nn.leaky_relu(x) @ X.T).sum()),
    "log of sums": lambda x: jax.nn.logsumexp(x, axis=1),
}


@pytest.mark.parametrize("to", WITHOUT_JAX)
@pytest.mark.parametrize("name", PARTS)
def test_every_operation_means_the_same(name, to, tmp_path):
    port, function = Port("x", X.shape), PARTS[name]
    program = fuse(lower(function, [port], ["y"]))
    expected = np.asarray(function(jnp.asarray(X)))
    np.testing.assert_allclose(carried_out(program, to, X), expected, rtol=1e-4, atol=1e-5)


def carried_out(program, to, x):
    if to == "onnx":
        import onnxruntime

        from nfrl.exporting.onnx_file import model

        content = model("part", program).SerializeToString()
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        return session.run(None, {"x": x})[0]
    from nfrl.exporting.exported_policy import _compiled
    from nfrl.exporting.numpy_program import _to_json

    # Through JSON, as a file is.
    written = json.loads(json.dumps(_to_json(program, {})))
    return np.asarray(_compiled(written, program.constants)([x])[0])


def test_what_a_program_has_not_is_named(data, tmp_path):
    port = Port("x", (3,))
    with pytest.raises(UserError, match="has no while here; --to stablehlo"):
        lower(lambda x: jax.lax.while_loop(lambda y: y.sum() < 9, lambda y: y + 1, x), [port], "y")


def test_layers_are_one_operation_each():
    weights = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)

    def layer(x):
        h = jax.nn.leaky_relu(x @ weights, 0.01)
        centred = h - h.mean()
        normal = centred * jax.lax.rsqrt(jnp.square(centred).mean() + 1e-5)
        return normal * weights[0] + weights[1]

    program = lower(layer, [Port("x", (8,))], ["y"])
    fused = fuse(program)
    kinds = [each.kind for each in fused.operations]
    assert kinds == ["MatMul", "LeakyRelu", "LayerNormalization", "Identity"]
    x = np.linspace(-3, 2, 8, dtype=np.float32)
    for each in (program, fused):
        np.testing.assert_allclose(carried_out(each, "numpy", x), layer(x), atol=1e-5)


def test_what_is_used_elsewhere_too_is_not_put_together():
    def layer(x):
        centred = x - x.mean()
        normal = centred * jax.lax.rsqrt(jnp.square(centred).mean() + 1e-5)
        return normal * (1 + jnp.arange(8.0)) + jnp.arange(8.0) + centred

    fused = fuse(lower(layer, [Port("x", (8,))], ["y"]))
    assert "LayerNormalization" not in {each.kind for each in fused.operations}
    x = np.linspace(-3, 2, 8, dtype=np.float32)
    np.testing.assert_allclose(carried_out(fused, "numpy", x), layer(jnp.asarray(x)), atol=1e-5)


# --- random draws as inputs --------------------------------------------------------------------


def test_draws_become_inputs_in_loops_and_batches_too():
    def function(x):
        first, *rest = jr.split(jr.key(0), 4)
        total = jax.vmap(lambda key: jr.normal(key, (2,)))(jnp.stack(rest)).sum(0)
        steps = jax.lax.scan(
            lambda c, key: (c + jr.uniform(key, (), minval=2, maxval=4), None),
            x.sum(),
            jr.split(first, 5),
        )[0]
        return total * steps

    drawn, draws = with_draws(function, jax.ShapeDtypeStruct((3,), jnp.float32))
    assert draws == (Draw("normal", (3, 2)), Draw("uniform", (5,)))
    normals, uniforms = np.arange(6.0).reshape(3, 2), np.linspace(0, 1, 5)
    found = drawn(jnp.ones(3), jnp.asarray(normals), jnp.asarray(uniforms))
    np.testing.assert_allclose(found, normals.sum(0) * (3 + (2 + 2 * uniforms).sum()), rtol=1e-6)


def test_draws_that_are_no_numbers_are_refused():
    with pytest.raises(UserError, match="cannot be made an input"):
        with_draws(lambda x: x + jr.randint(jr.key(0), (), 0, 5), jax.ShapeDtypeStruct((), float))


def test_a_critic_values_what_it_was_trained_on(data):
    policy = policy_of("fql", data)
    seen, action = np.ones(OBSERVATION, np.float32), np.array([0.5, 0.5, 1.0], np.float32)
    within = jnp.array([0.0, 0.5])  # the middle of [-2, 3], and of the second of two parts
    values = policy.agent.agent.critic(jnp.asarray(seen), within)
    np.testing.assert_allclose(policy.q(seen, action), values.min(), rtol=1e-5)
    with pytest.raises(UserError, match="has no critics of actions"):
        policy_of("gaussian-bc", data).q(seen, np.zeros((4, 3)))
