"""Train OGBench's humanoid and ant-with-ball experts in minutes, on one GPU and many CPU cores.

    python train_experts_gpu.py humanoid --out runs/humanoid --seconds 585 --workers 10
    python train_experts_gpu.py ant-ball --out runs/ant-ball --seconds 585 --workers 6

Needs jax (with CUDA), optax, mujoco, numpy, safetensors and, for its models, ogbench. The two
commands, side by side on an H100 with 16 cores, made the experts that nfrl ships.

The physics is OGBench's own (C MuJoCo, the same models, time steps and observations), stepped by
worker processes. Meanwhile the GPU updates a soft actor-critic with large batches, a replay on the
GPU, and distributional critics with LayerNorm (in the manner of FastTD3 and FastSAC, Seo et al.,
2025). Turning the world about the vertical changes nothing, so this agent sees it turned such that
the command points along +x. A plain ReLU network that sees the observation as OGBench gives it (the
"student") learns all the while to do the same, on observations turned at random, and acts in some
of the environments, so that it also learns where it leads to itself. It is what is written: in
nfrl's format, NAME.safetensors with N.weight (inputs, outputs) and N.bias (outputs,), actions tanh
of the first half of the output. How well it does, measure with `nfrl collect score`.

Environments come in four groups: most follow the agent (a sample of its policy), some the agent
with further noise, some the student with a noise of 0.2 (as when data are collected) and some the
student as it is; the log has each group's figures. A run is not reproducible to the bit: it makes
as many updates as the GPU has time for while the workers step.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import time
import xml.etree.ElementTree as ET

import mujoco
import numpy as np

if __name__ != "__mp_main__":  # The workers step physics and need no JAX.
    import jax
    import jax.numpy as jnp
    import jax.random as jr
    import optax
    from safetensors.numpy import save_file


# The bodies: what a worker process steps ----------------------------------------------------------


def unit(angle):
    """Return the unit vectors (..., 2) of angles."""
    return np.stack([np.cos(angle), np.sin(angle)], -1)


class Humanoid:
    """OGBench's `online-humanoid-v0` in `DMCHumanoidXYWrapper`, many at once, other rewards.

    Features: the observation (67) and the direction (2), as OGBench shows them, then what only
    the critics see: the torso's forward (2) and leftward (2) axes on the ground.
    """

    observation, features, actions = 69, 73, 21
    seconds, target_speed = 0.025, 3.0
    statistics = ("speed", "up", "falls", "lateral")

    def __init__(self, assets, count, rng):
        tree = ET.parse(os.path.join(assets, "humanoid.xml")).getroot()
        sensors = tree.find("sensor")
        for sensor in list(sensors):  # Nobody reads the others.
            if sensor.get("name") != "torso_subtreelinvel":
                sensors.remove(sensor)
        self.model = mujoco.MjModel.from_xml_string(ET.tostring(tree, encoding="unicode"))
        self.data = [mujoco.MjData(self.model) for _ in range(count)]
        self.rng, self.count = rng, count
        self.low, self.high = self.model.jnt_range[1:].T
        self.angle = rng.uniform(0, 2 * np.pi, count)
        self.down = np.zeros(count, int)  # Steps on the floor in a row.
        self.was_up = np.zeros(count, bool)
        self.force_lying = False

    def reset(self, i):
        data, model, rng = self.data[i], self.model, self.rng
        mujoco.mj_resetData(model, data)
        self.angle[i] = rng.uniform(0, 2 * np.pi)
        self.was_up[i] = False
        if self.force_lying or rng.random() < 0.35:  # As OGBench begins: any pose, in the air.
            self.down[i] = -150
            while True:
                quaternion = rng.uniform(size=4)
                data.qpos[3:7] = quaternion / np.linalg.norm(quaternion)
                data.qpos[7:] = rng.uniform(self.low, self.high)
                data.qvel[:] = 0.1 * rng.standard_normal(model.nv)
                mujoco.mj_forward(model, data)
                if data.ncon == 0:
                    break
        else:
            self.down[i] = 0
            yaw = rng.uniform(0, 2 * np.pi)
            data.qpos[2] = 1.3
            data.qpos[3:7] = np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)
            data.qpos[7:] = np.clip(0.1 * rng.standard_normal(21), self.low, self.high)
            data.qvel[:] = 0.1 * rng.standard_normal(model.nv)
            data.qvel[:2] += rng.uniform(0, 2) * unit(yaw)
            mujoco.mj_forward(model, data)

    def gather(self):
        """Return the features but for the direction, (n, 73)."""
        rows = np.empty((self.count, 73))
        position, frames = np.empty((self.count, 17, 3)), np.empty((self.count, 9))
        for i, data in enumerate(self.data):
            rows[i, :21] = data.qpos[7:]
            rows[i, 37:40] = data.sensordata
            rows[i, 40:67] = data.qvel
            position[i] = data.xpos
            frames[i] = data.xmat[1]
        frames = frames.reshape(-1, 3, 3)
        rows[:, 21] = position[:, 2, 2]
        limbs = position[:, [16, 10, 13, 7]] - position[:, 1:2]
        rows[:, 22:34] = np.einsum("nlj,njk->nlk", limbs, frames).reshape(-1, 12)
        rows[:, 34:37] = frames[:, 2]
        rows[:, 69:71] = frames[:, :2, 0]
        rows[:, 71:73] = frames[:, :2, 1]
        rows[:, 67:69] = unit(self.angle)
        return rows

    def step(self, actions):
        model, rng = self.model, self.rng
        before = np.stack([data.qpos[:2] for data in self.data])
        for data, action in zip(self.data, actions, strict=True):
            data.ctrl[:] = action
            mujoco.mj_step2(model, data)
            mujoco.mj_step(model, data, 4)
            mujoco.mj_step1(model, data)
        velocity = (np.stack([data.qpos[:2] for data in self.data]) - before) / self.seconds
        rows = self.gather()
        direction, head, upright = rows[:, 67:69], rows[:, 21], rows[:, 36]
        speed = (velocity * direction).sum(1)
        lateral = np.abs(velocity[:, 0] * direction[:, 1] - velocity[:, 1] * direction[:, 0])
        gap = np.maximum(1.4 - head, 0) / 0.35
        standing = 0.1 ** (gap**2)
        straight = np.clip(1 - (0.9 - upright) / 1.9, 0, 1)
        stand = standing * straight
        heading = np.maximum((rows[:, 69:71] * direction).sum(1), 0)
        move = np.clip(speed / self.target_speed, -0.5, 1) * (0.4 + 0.6 * heading)
        move -= 0.15 * np.minimum(lateral / self.target_speed, 1)
        cost = np.square(actions).mean(1)
        height = np.clip(head / 1.4, 0, 1)
        reward = 0.1 * height * (1 + straight) + stand * (0.2 + 0.6 * move) * (1 - 0.15 * cost)

        is_up = head > 1.2
        fell = self.was_up & (head < 0.8)
        self.was_up = (self.was_up & ~fell) | is_up
        self.down = np.where(head < 0.8, self.down + 1, np.where(is_up, 0, self.down))
        done = np.where((self.down > 120) | (rng.random(self.count) < 1 / 1500), 2, 0)
        done[~np.isfinite(rows).all(1)] = 2
        reward = np.nan_to_num(reward)
        self.angle += 0.015 * rng.standard_normal(self.count)
        turn = rng.random(self.count) < 1 / 120
        self.angle = np.where(turn, rng.uniform(0, 2 * np.pi, self.count), self.angle)
        for i in np.nonzero(done)[0]:
            self.reset(i)
        if done.any():
            rows = self.gather()
        rows[:, 67:69] = unit(self.angle)
        return rows, reward, done, np.stack([speed, is_up, fell, lateral], 1)


class AntBall:
    """OGBench's `online-antball-v0`, many at once, with new goals within an episode.

    Features: the observation (42) as OGBench shows it.
    """

    observation, features, actions = 42, 42, 8
    seconds = 0.1
    statistics = ("speed", "goals", "falls", "distance")

    def __init__(self, assets, count, rng):
        tree = ET.parse(os.path.join(assets, "ant.xml")).getroot()
        ball = ET.SubElement(tree.find("worldbody"), "body", name="ball", pos="0 0 3")
        ET.SubElement(ball, "freejoint", name="ball_root")
        looks = dict(name="ball", size=".25", material="ball")
        ET.SubElement(ball, "geom", **looks, priority="1", conaffinity="1", condim="6")
        self.model = mujoco.MjModel.from_xml_string(ET.tostring(tree, encoding="unicode"))
        self.data = [mujoco.MjData(self.model) for _ in range(count)]
        self.rng, self.count = rng, count
        self.goal = np.zeros((count, 2))
        # As Gymnasium begins: all joints at 0 (the model's own start is not read by OGBench).
        self.start = self.model.qpos0.copy()

    def reset(self, i):
        data, model, rng = self.data[i], self.model, self.rng
        mujoco.mj_resetData(model, data)
        data.qpos[:] = self.start + rng.uniform(-0.1, 0.1, model.nq)
        data.qvel[:] = 0.1 * rng.standard_normal(model.nv)
        yaw = rng.uniform(0, 2 * np.pi) if rng.random() < 0.8 else 0.0
        turned = np.empty(4)
        mujoco.mju_mulQuat(
            turned, np.array([np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]), data.qpos[3:7]
        )
        data.qpos[3:7] = turned
        if rng.random() < 0.5:  # Anywhere else than standing: bent legs.
            data.qpos[7:15] = rng.uniform(*self.model.jnt_range[1:9].T)
        data.qpos[15:17] = data.qpos[:2] + rng.uniform(0.5, 2.5) * unit(rng.uniform(0, 2 * np.pi))
        data.qpos[17] = rng.choice([0.26, 0.26, 0.5, 3.0])
        mujoco.mj_forward(model, data)
        self.aim(i)

    def aim(self, i):
        radius = self.rng.uniform(0.8, 10)
        self.goal[i] = self.data[i].qpos[15:17] + radius * unit(self.rng.uniform(0, 2 * np.pi))

    def gather(self):
        state = np.stack([np.concatenate((data.qpos, data.qvel)) for data in self.data])
        ant, ball = state[:, :2], state[:, 15:17]
        rows = np.concatenate(
            (state[:, 2:15], state[:, 17:22], state[:, 22:], ball - ant, self.goal - ball), 1
        )
        return rows

    def step(self, actions):
        model, rng = self.model, self.rng
        old = self.gather()
        for data, action in zip(self.data, actions, strict=True):
            data.ctrl[:] = action
            mujoco.mj_step(model, data, 5)
        rows = self.gather()
        near, far = np.linalg.norm(rows[:, 38:40], axis=1), np.linalg.norm(rows[:, 40:], axis=1)
        progress = np.linalg.norm(old[:, 40:], axis=1) - far
        approach = np.linalg.norm(old[:, 38:40], axis=1) - near
        arrived = far <= 0.5
        height, (x, y) = rows[:, 0], rows[:, 2:4].T
        broken = ~np.isfinite(rows).all(1)
        fell = (height < 0.2) | (height > 1.0) | (x**2 + y**2 > 0.5) | broken
        reward = 2.5 * progress + approach + 0.5 * arrived - 1.0 * fell
        reward = np.clip(np.nan_to_num(reward), -2, 3)
        done = np.where(fell, 1, np.where((near > 7) | (rng.random(self.count) < 1 / 300), 2, 0))
        for i in np.nonzero((arrived | (rng.random(self.count) < 1 / 80)) & (done == 0))[0]:
            self.aim(i)
        for i in np.nonzero(done)[0]:
            self.reset(i)
        statistics = np.stack([progress / self.seconds, arrived, fell, near], 1)
        return self.gather(), reward, done, np.nan_to_num(statistics)


BODIES = {"humanoid": Humanoid, "ant-ball": AntBall}


class Pool:
    """Worker processes that share arrays with this one."""

    def __init__(self, name, assets, environments, workers, seed):
        body = BODIES[name]
        sizes = {"actions": body.actions, "rows": body.features, "reward": 1, "done": 1, "stats": 4}
        context = multiprocessing.get_context("spawn")
        raw = {key: context.RawArray("f", environments * size) for key, size in sizes.items()}
        self.arrays = {key: _view(raw[key], environments) for key in raw}
        bounds = np.linspace(0, environments, workers + 1).astype(int)
        self.pipes, self.processes = [], []
        for index in range(workers):
            ours, theirs = context.Pipe()
            share = slice(int(bounds[index]), int(bounds[index + 1]))
            process = context.Process(
                target=_work, args=(name, assets, theirs, raw, environments, share, seed + index),
                daemon=True,
            )  # fmt: skip
            process.start()
            theirs.close()
            self.pipes.append(ours)
            self.processes.append(process)

    def wait(self):
        for pipe in self.pipes:
            pipe.recv_bytes()

    def start(self, actions):
        self.arrays["actions"][:] = actions
        for pipe in self.pipes:
            pipe.send_bytes(b"s")

    def close(self):
        for pipe in self.pipes:
            pipe.close()
        for process in self.processes:
            process.join(2)
            if process.is_alive():
                process.kill()


def _view(raw, rows):
    return np.frombuffer(raw, np.float32).reshape(rows, -1)


def _work(name, assets, pipe, raw, environments, share, seed):
    arrays = {key: _view(raw[key], environments)[share] for key in raw}
    body = BODIES[name](assets, share.stop - share.start, np.random.default_rng(seed))
    for i in range(body.count):
        body.reset(i)
    arrays["rows"][:] = body.gather()
    pipe.send_bytes(b"r")
    try:
        while True:
            pipe.recv_bytes()
            rows, reward, done, statistics = body.step(arrays["actions"].astype(np.float64))
            arrays["rows"][:], arrays["stats"][:] = rows, statistics
            arrays["reward"][:, 0], arrays["done"][:, 0] = reward, done
            pipe.send_bytes(b"r")
    except (EOFError, ConnectionError):
        pass


# How the agent sees them --------------------------------------------------------------------------


def turn(vectors, cosine, sine):
    """Turn (..., 2) about the vertical by an angle."""
    x, y = vectors[..., 0], vectors[..., 1]
    return jnp.stack([cosine * x - sine * y, sine * x + cosine * y], -1)


def turned_humanoid(rows, cosine, sine):
    """Turn a humanoid's features (..., 73) about the vertical."""
    parts = [rows[..., :37]]
    for start in (37, 40):
        parts += [
            turn(rows[..., start : start + 2], cosine, sine),
            rows[..., start + 2 : start + 3],
        ]
    parts += [rows[..., 43:67]]
    parts += [turn(rows[..., start : start + 2], cosine, sine) for start in (67, 69, 71)]
    return jnp.concatenate(parts, -1)


def humanoid_views(rows):
    """Return what the agent (67) and its critics (71) see: the command points along +x."""
    rows = turned_humanoid(rows, rows[..., 67], -rows[..., 68])
    return rows[..., :67], jnp.concatenate((rows[..., :67], rows[..., 69:]), -1)


def humanoid_raw(rows, key):
    """Return the observation as the student sees it, the world turned at random."""
    angle = jr.uniform(key, rows.shape[:-1], maxval=2 * jnp.pi)
    return turned_humanoid(rows, jnp.cos(angle), jnp.sin(angle))[..., :69]


def matrix(q):
    """Return the rotation matrices (..., 3, 3) of unit quaternions."""
    w, x, y, z = (q[..., i] for i in range(4))
    return jnp.stack(
        [
            jnp.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], -1),
            jnp.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], -1),
            jnp.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1),
        ],
        -2,
    )


def ant_views(rows):
    """Return what the agent and its critics see: the ball is to go along +x.

    Features: 0 height, 1:5 rotation, 5:13 joints, 13:18 the ball's height and rotation, 18:38
    velocities (ant 3 + 3, joints 8, ball 3 + 3), 38:40 the ball from the ant, 40:42 the goal from
    the ball.
    """
    q = rows[..., 1:5] / jnp.linalg.norm(rows[..., 1:5], axis=-1, keepdims=True)
    torso = matrix(q)
    distance = jnp.linalg.norm(rows[..., 40:42], axis=-1, keepdims=True)
    cosine, sine = (rows[..., i] / (distance[..., 0] + 1e-6) for i in (40, 41))
    ball = rows[..., 38:40]
    up = rows[..., 13:14] - rows[..., :1]
    in_torso = jnp.einsum("...ji,...j->...i", torso, jnp.concatenate((ball, up), -1))
    columns = jnp.swapaxes(torso, -1, -2)  # (..., axis, xyz)
    axes = turn(columns[..., :2], cosine[..., None], -sine[..., None])
    seen = jnp.concatenate(
        [
            rows[..., :1],
            axes.reshape(*axes.shape[:-2], 6),
            columns[..., 2],
            rows[..., 5:14],
            turn(rows[..., 18:20], cosine, -sine),
            rows[..., 20:32],
            turn(rows[..., 32:34], cosine, -sine),
            rows[..., 34:35],
            turn(ball, cosine, -sine),
            jnp.linalg.norm(ball, axis=-1, keepdims=True),
            in_torso,
            jnp.minimum(distance, 10),
            jnp.exp(-distance),
        ],
        -1,
    )
    spin = jnp.einsum("...ij,...j->...i", matrix(rows[..., 14:18]), rows[..., 35:38])
    spin = jnp.concatenate((turn(spin[..., :2], cosine, -sine), spin[..., 2:]), -1)
    return seen, jnp.concatenate((seen, spin), -1)


def ant_raw(rows, key):
    """Return the observation as the student sees it, the world turned at random."""
    angle_key, sign_key = jr.split(key)
    angle = jr.uniform(angle_key, rows.shape[:-1], maxval=2 * jnp.pi)
    sign = jr.rademacher(sign_key, rows.shape[:-1], rows.dtype)  # q and -q are one rotation.
    c, s = sign * jnp.cos(angle / 2), sign * jnp.sin(angle / 2)
    w, x, y, z = (rows[..., i] for i in range(1, 5))
    q = jnp.stack([c * w - s * z, c * x - s * y, c * y + s * x, c * z + s * w], -1)
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    return jnp.concatenate(
        [
            rows[..., :1], q, rows[..., 5:18],
            turn(rows[..., 18:20], cosine, sine), rows[..., 20:32],
            turn(rows[..., 32:34], cosine, sine), rows[..., 34:38],
            turn(rows[..., 38:40], cosine, sine), turn(rows[..., 40:42], cosine, sine),
        ],
        -1,
    )  # fmt: skip


VIEWS = {"humanoid": (humanoid_views, humanoid_raw), "ant-ball": (ant_views, ant_raw)}
# A sphere looks the same however it is turned: the student sees neither its rotation nor its spin.
UNSEEN = {"humanoid": [], "ant-ball": [*range(14, 18), *range(35, 38)]}


# The agent ----------------------------------------------------------------------------------------


def dense(key, sizes, last_scale=1.0):
    """Return the weights and biases of a network."""
    layers = []
    keys = jr.split(key, len(sizes) - 1)
    for i, (a, b) in enumerate(itertools.pairwise(sizes)):
        scale = last_scale if i == len(sizes) - 2 else 1.0
        layers.append((scale * jr.normal(keys[i], (a, b)) / np.sqrt(a), jnp.zeros(b)))
    return layers


def normed(layers, x, dtype="float32"):
    """A network with LayerNorm and SiLU."""
    for i, (weight, bias) in enumerate(layers):
        kind = dtype if i > 0 else jnp.float32
        x = jnp.dot(x.astype(kind), weight.astype(kind)).astype(jnp.float32) + bias
        if i < len(layers) - 1:
            x = x - x.mean(-1, keepdims=True)
            x = jax.nn.silu(x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-5))
            x = x.astype(dtype)
    return x.astype(jnp.float32)


def plain(layers, x):
    """A network with ReLU: the student."""
    for weight, bias in layers[:-1]:
        x = jax.nn.relu(x @ weight + bias)
    weight, bias = layers[-1]
    return x @ weight + bias


def scaled(norm, x):
    """Scale by running means and deviations."""
    mean, std = norm["mean"], norm["std"]
    return jnp.clip((x - mean) / std, -8, 8)


class Agent:
    """Soft actor-critic with distributional critics, and the student that imitates it."""

    def __init__(self, name, options):
        self.name, self.o = name, options
        self.body = BODIES[name]
        self.views, self.raw = VIEWS[name]
        self.dtype = jnp.bfloat16 if options.bfloat16 else jnp.float32
        self.atoms = jnp.linspace(options.value_min, options.value_max, options.atoms)
        self.adam = optax.chain(optax.clip_by_global_norm(10.0), optax.scale_by_adam())
        seen = np.ones(self.body.observation, np.float32)
        seen[UNSEEN[name]] = 0
        self.seen = jnp.asarray(seen)
        self.target_entropy = -options.entropy * self.body.actions

    def init(self, key):
        o, d, a = self.o, self.body.observation, self.body.actions
        seen, critic_seen = (
            each.shape[-1] for each in self.views(jnp.ones((1, self.body.features)))
        )
        actor_key, critic_key, student_key = jr.split(key, 3)
        critics = jax.vmap(lambda key: dense(key, [critic_seen + a, *o.critic, o.atoms], 0.1))(
            jr.split(critic_key, 2)
        )
        weight, bias = critics[-1]
        critics[-1] = weight, bias - 0.5 * jnp.square(self.atoms / 4)  # Values begin near 0.
        params = {
            "actor": dense(actor_key, [seen, *o.actor, 2 * a], 0.1),
            "critics": critics,
            "alpha": jnp.log(jnp.array(o.alpha)),
            "student": dense(student_key, [d, *o.student, a], 0.1),
        }

        def norm(n):
            return {"mean": jnp.zeros(n), "square": jnp.ones(n), "std": jnp.ones(n)}

        return {
            "params": params,
            "target": jax.tree.map(jnp.copy, critics),
            "adam": {key: self.adam.init(each) for key, each in params.items()},
            "norm": {"actor": norm(seen), "critic": norm(critic_seen), "student": norm(d)},
            "count": jnp.zeros(()),
        }

    def adapt(self, state, rows):
        """Take a batch into the running means and deviations."""
        seen, critic_seen = self.views(rows)
        views = {"actor": seen, "critic": critic_seen, "student": rows[:, : self.body.observation]}
        count = state["count"] + 1
        norms = {}
        for key, x in views.items():
            x = jnp.nan_to_num(x)
            old = state["norm"][key]
            mean = old["mean"] + (x.mean(0) - old["mean"]) / count
            square = old["square"] + (jnp.square(x).mean(0) - old["square"]) / count
            std = jnp.maximum(jnp.sqrt(jnp.maximum(square - mean**2, 0)), 0.03)
            norms[key] = {"mean": mean, "square": square, "std": std}
        return {**state, "norm": norms, "count": count}

    def policy(self, params, norm, seen):
        out = normed(params, scaled(norm, seen))
        mean, log_std = jnp.split(out, 2, -1)
        return mean, -2.0 + 2.5 * jnp.tanh(log_std * 0.5 + 0.3)

    def sample(self, params, norm, seen, key):
        mean, log_std = self.policy(params, norm, seen)
        noise = jr.normal(key, mean.shape)
        u = mean + jnp.exp(log_std) * noise
        log_p = -0.5 * noise**2 - log_std - 0.5 * np.log(2 * np.pi)
        log_p -= 2 * (np.log(2) - u - jax.nn.softplus(-2 * u))
        return jnp.tanh(u), log_p.sum(-1)

    def imitation(self, params, norm, raw):
        return plain(params, (raw - norm["mean"]) / norm["std"] * self.seen)

    def act(self, state, rows, key, groups):
        """Act in all environments; groups (n,): 0 agent, 1 agent with further noise, 2 student
        with noise of 0.2 (as data are collected), 3 student."""
        params, norm = state["params"], state["norm"]
        a_key, b_key = jr.split(key)
        action, _ = self.sample(params["actor"], norm["actor"], self.views(rows)[0], a_key)
        student = jnp.tanh(
            self.imitation(params["student"], norm["student"], rows[:, : self.body.observation])
        )
        noise = 0.2 * jr.normal(b_key, action.shape)
        groups = groups[:, None]
        base = jnp.where(groups < 2, action, student)
        return jnp.clip(base + jnp.where((groups == 1) | (groups == 2), noise, 0), -1, 1)

    def batch(self, replay, key, size):
        """Draw n-step transitions: features, action, reward, discount, features then, weight."""
        length, count = replay["reward"].shape
        n, gamma = self.o.n_step, self.o.discount
        t_key, e_key = jr.split(key)
        filled = jnp.minimum(replay["added"], length)
        back = jr.randint(t_key, (size,), n + 1, jnp.maximum(filled, n + 2))
        t = (replay["added"] - back) % length
        e = jr.randint(e_key, (size,), 0, count)
        reward, alive, discount, weight = 0.0, 1.0, 1.0, 1.0
        for k in range(n):
            at = (t + k) % length
            done = replay["done"][at, e]
            reward += alive * discount * replay["reward"][at, e]
            weight *= 1 - alive * (done == 2)
            alive *= done == 0
            discount *= gamma
        then = (t + n) % length
        return (
            replay["rows"][t, e], replay["action"][t, e], reward, alive * discount,
            replay["rows"][then, e], weight,
        )  # fmt: skip

    def logits(self, critics, seen, action):
        x = jnp.concatenate((seen, action), -1)
        return jax.vmap(lambda each: normed(each, x, self.dtype))(critics)

    def critic_step(self, state, batch, key, rate):
        rows, action, reward, discount, then, weight = batch
        params, norm = state["params"], state["norm"]
        seen_then, critic_then = self.views(then)
        critic_seen = scaled(norm["critic"], self.views(rows)[1])
        critic_then = scaled(norm["critic"], critic_then)
        next_action, log_p = self.sample(params["actor"], norm["actor"], seen_then, key)
        probability = jax.nn.softmax(self.logits(state["target"], critic_then, next_action))
        if self.o.aggregate == "min":
            values = probability @ self.atoms
            probability = jnp.where((values[0] < values[1])[:, None], *probability)
        else:
            probability = probability.mean(0)
        entropy = jnp.exp(params["alpha"]) * log_p
        places = reward[:, None] + discount[:, None] * (self.atoms - entropy[:, None])
        width = self.atoms[1] - self.atoms[0]
        places = jnp.clip(places, self.atoms[0], self.atoms[-1])
        b = (places - self.atoms[0]) / width  # (B, atoms)
        low = jnp.clip(jnp.floor(b), 0, self.o.atoms - 2)
        up = b - low
        index = low.astype(jnp.int32)
        row = jnp.arange(len(index))[:, None]
        target = jnp.zeros_like(probability)
        target = target.at[row, index].add(probability * (1 - up))
        target = target.at[row, index + 1].add(probability * up)

        def loss(critics):
            logits = jax.nn.log_softmax(self.logits(critics, critic_seen, action))
            return -(weight * (target * logits).sum(-1)).mean(-1).sum() / (weight.mean() + 1e-2)

        value, gradient = jax.value_and_grad(loss)(params["critics"])
        state = self.apply(state, "critics", gradient, rate, decay=1e-3)
        tau = self.o.tau
        target = jax.tree.map(
            lambda old, new: old + tau * (new - old), state["target"], state["params"]["critics"]
        )
        return {**state, "target": target}, {
            "critic_loss": value,
            "value": (probability @ self.atoms).mean(),
        }

    def actor_step(self, state, rows, key, rate):
        params, norm = state["params"], state["norm"]
        seen, critic_seen = self.views(rows)
        critic_seen = scaled(norm["critic"], critic_seen)

        def loss(actor):
            action, log_p = self.sample(actor, norm["actor"], seen, key)
            logits = self.logits(params["critics"], critic_seen, action)
            values = jax.nn.softmax(logits) @ self.atoms
            return (jnp.exp(params["alpha"]) * log_p - values.mean(0)).mean(), log_p.mean()

        (_, log_p), gradient = jax.value_and_grad(loss, has_aux=True)(params["actor"])
        state = self.apply(state, "actor", gradient, rate)
        error = log_p + self.target_entropy  # Positive: too little entropy.
        state = self.apply(state, "alpha", -error, 3.0 * rate)
        return state, {"entropy": -log_p, "alpha": jnp.exp(params["alpha"])}

    def student_step(self, state, rows, key, rate):
        params, norm = state["params"], state["norm"]
        mean, _ = self.policy(params["actor"], norm["actor"], self.views(rows)[0])
        raw = self.raw(rows, key)

        def loss(student):
            out = self.imitation(student, norm["student"], raw)
            miss = jnp.square(jnp.tanh(out) - jnp.tanh(mean)).mean()
            return miss + 0.02 * jnp.square(out - jnp.clip(mean, -2, 2)).mean(), miss

        (_, miss), gradient = jax.value_and_grad(loss, has_aux=True)(params["student"])
        return self.apply(state, "student", gradient, rate), {"student_miss": miss}

    def apply(self, state, part, gradient, rate, decay=0.0):
        update, adam = self.adam.update(gradient, state["adam"][part])
        old = state["params"][part]
        new = jax.tree.map(lambda p, u: p - rate * (u + decay * p), old, update)
        return {
            **state,
            "params": {**state["params"], part: new},
            "adam": {**state["adam"], part: adam},
        }

    def updates(self, state, replay, key, rate, student_rate, count):
        """Make twice as many updates of the critics as ``count``, and ``count`` of the rest."""

        def step(i, carry):
            state, _ = carry
            keys = jr.split(jr.fold_in(key, i), 6)
            state, _ = self.critic_step(
                state, self.batch(replay, keys[0], self.o.batch), keys[1], rate
            )
            batch = self.batch(replay, keys[2], self.o.batch)
            state, a = self.critic_step(state, batch, keys[3], rate)
            state, b = self.actor_step(state, batch[0], keys[4], rate)
            state, c = self.student_step(state, batch[0], keys[5], student_rate)
            return state, {**a, **b, **c}

        names = "critic_loss", "value", "entropy", "alpha", "student_miss"
        return jax.lax.fori_loop(0, count, step, (state, dict.fromkeys(names, jnp.zeros(()))))

    def distill(self, state, replay, key, student_rate, count):
        def step(i, carry):
            state, _ = carry
            a, b = jr.split(jr.fold_in(key, i))
            rows = self.batch(replay, a, 2 * self.o.batch)[0]
            return self.student_step(state, rows, b, student_rate)

        return jax.lax.fori_loop(0, count, step, (state, {"student_miss": jnp.zeros(())}))

    def export(self, state):
        """Return the student's weights, reading observations as they are."""
        layers = [
            (np.asarray(weight, np.float64), np.asarray(bias, np.float64))
            for weight, bias in state["params"]["student"]
        ]
        norm = jax.tree.map(np.asarray, state["norm"]["student"])
        weight, bias = layers[0]
        weight = weight * np.asarray(self.seen)[:, None] / norm["std"][:, None]
        layers[0] = weight, bias - norm["mean"] @ weight
        weight, bias = layers[-1]  # The other half would be a standard deviation.
        layers[-1] = np.concatenate((weight, 0 * weight), 1), np.concatenate((bias, 0 * bias))
        return {
            f"{i}.{key}": np.ascontiguousarray(each, np.float32)
            for i, layer in enumerate(layers)
            for key, each in zip(("weight", "bias"), layer, strict=True)
        }


def insert(replay, rows, action, reward, done):
    """Add a step of all environments: what was seen, done, got."""
    at = replay["added"] % replay["reward"].shape[0]
    new = {"rows": rows, "action": action, "reward": reward, "done": done}
    return {
        **{key: replay[key].at[at].set(new[key].astype(replay[key].dtype)) for key in new},
        "added": replay["added"] + 1,
    }


# The run ------------------------------------------------------------------------------------------

PRESETS = {
    "humanoid": {
        "discount": 0.985,
        "n_step": 3,
        "value_min": -5.0,
        "value_max": 70.0,
        "aggregate": "mean",
        "envs": 512,
        "batch": 4096,
        "updates": 3,
        "most": 6,
    },
    "ant-ball": {
        "discount": 0.98,
        "n_step": 1,
        "value_min": -10.0,
        "value_max": 40.0,
        "aggregate": "min",
        "envs": 256,
        "batch": 2048,
        "updates": 4,
        "most": 8,
    },
}
GROUPS = ((0, 0.60), (1, 0.15), (2, 0.125), (3, 0.125))
LAST_GROUPS = ((0, 0.20), (1, 0.20), (2, 0.45), (3, 0.15))


def divide(groups, environments):
    """Deal the environments out to who acts in them."""
    bounds = np.round(np.cumsum([0, *(share for _, share in groups)]) * environments).astype(int)
    out = np.zeros(environments, np.int32)
    for (group, _), first, last in zip(groups, bounds[:-1], bounds[1:], strict=True):
        out[first:last] = group
    return np.random.default_rng(0).permutation(out)


def main():
    """Train, by the clock."""
    began = time.time()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=BODIES)
    parser.add_argument("--out", required=True)
    parser.add_argument("--assets", help="folder of OGBench's ant.xml and humanoid.xml")
    parser.add_argument("--seconds", type=float, default=585, help="of all, start included")
    parser.add_argument(
        "--distill", type=float, default=50, help="the last of them: the student alone"
    )
    parser.add_argument("--workers", type=int, default=10)
    parser.add_argument("--envs", type=int)
    parser.add_argument("--updates", type=int, help="pairs of critic updates a step, at first")
    parser.add_argument("--most", type=int, help="as many pairs at most")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--capacity", type=int, default=4_000_000)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--tau", type=float, default=0.02)
    parser.add_argument("--alpha", type=float, default=0.01)
    parser.add_argument("--entropy", type=float, default=0.5)
    parser.add_argument("--atoms", type=int, default=101)
    parser.add_argument("--critic", type=int, nargs="+", default=[512, 512, 512])
    parser.add_argument("--actor", type=int, nargs="+", default=[512, 512, 256])
    parser.add_argument("--student", type=int, nargs="+", default=[512, 384, 256])
    parser.add_argument("--bfloat16", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=float, default=12, help="seconds between lines")
    parser.add_argument("--state", help="file of the agent's whole state: read if there, written")
    o = parser.parse_args()
    for key, value in PRESETS[o.name].items():
        if getattr(o, key, None) is None:
            setattr(o, key, value)
    if o.assets is None:
        import ogbench.online_locomotion

        o.assets = os.path.join(os.path.dirname(ogbench.online_locomotion.__file__), "assets")
    os.makedirs(o.out, exist_ok=True)

    pool = Pool(o.name, o.assets, o.envs, o.workers, 1000 * o.seed)
    jax.config.update("jax_compilation_cache_dir", "/tmp/jax-cache")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    agent, body = Agent(o.name, o), BODIES[o.name]
    key, init_key = jr.split(jr.key(o.seed))
    state = agent.init(init_key)
    if o.state and os.path.exists(o.state):
        with np.load(o.state) as file:
            leaves = [jnp.asarray(file[name]) for name in file.files]
        state = jax.tree.unflatten(jax.tree.structure(state), leaves)
        print("read", o.state, flush=True)
    length = o.capacity // o.envs
    replay = {
        "rows": jnp.zeros((length, o.envs, body.features)),
        "action": jnp.zeros((length, o.envs, body.actions)),
        "reward": jnp.zeros((length, o.envs)),
        "done": jnp.zeros((length, o.envs), jnp.int8),
        "added": jnp.zeros((), jnp.int32),
    }
    act, adapt = jax.jit(agent.act), jax.jit(agent.adapt)
    add = jax.jit(insert, donate_argnums=0)
    updates = jax.jit(agent.updates, donate_argnums=0)
    distill = jax.jit(agent.distill, donate_argnums=0)

    pool.wait()
    rows = jnp.asarray(pool.arrays["rows"])
    # Compile everything before the clock matters.
    sample_key = jr.key(1)
    groups = divide(GROUPS, o.envs)
    state = adapt(state, rows)
    for _ in range(o.n_step + 3):
        replay = add(
            replay, rows, act(state, rows, sample_key, groups), jnp.zeros(o.envs),
            jnp.full(o.envs, 2),
        )  # fmt: skip

    def copy():
        return jax.tree.map(jnp.copy, state)

    _, metrics = updates(copy(), replay, sample_key, 0.0, 0.0, o.updates)
    jax.block_until_ready(distill(copy(), replay, sample_key, 0.0, 3 * o.updates))
    before, trial = time.time(), copy()
    jax.block_until_ready(updates(trial, replay, sample_key, 0.0, 0.0, 10))
    pair = (time.time() - before) / 10
    before = time.time()
    for _ in range(10):
        pool.start(np.asarray(act(state, rows, sample_key, groups)))
        pool.wait()
    step = (time.time() - before) / 10
    device = f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores"
    print(
        f"{o.name}: ready after {time.time() - began:.1f} s on {device}; "
        f"{1e3 * pair:.2f} ms a pair of updates, {1e3 * step:.1f} ms a step",
        flush=True,
    )

    log, sums, samples, iteration = [], np.zeros((4, 5)), np.zeros(4), 0
    last_log, last_iteration, waited = time.time(), 0, 0.0
    while (elapsed := time.time() - began) < o.seconds:
        last_part = elapsed > o.seconds - o.distill
        if last_part:
            groups = divide(LAST_GROUPS, o.envs)
        key, act_key, update_key = jr.split(key, 3)
        action = act(state, rows, act_key, groups)
        before = time.time()
        pool.start(np.asarray(action))
        sent = time.time()
        # While the workers step, the GPU learns.
        share = elapsed / (o.seconds - o.distill)
        rate = o.rate * float(np.clip(1.0 - 0.8 * (share - 0.5) / 0.5, 0.2, 1.0))
        if iteration > 60:
            if last_part:
                left = np.clip((o.seconds - elapsed) / max(o.distill, 1e-3), 0, 1)
                state, more = distill(
                    state, replay, update_key, 1e-3 * float(left) + 1e-5, 3 * o.updates
                )
                metrics = {**metrics, **more}
            else:
                state, metrics = updates(
                    state, replay, update_key, rate, float(max(rate, 1e-4)), o.updates
                )
        pool.wait()
        waited += sent - before
        arrays = pool.arrays
        reward, done = arrays["reward"][:, 0].copy(), arrays["done"][:, 0].copy()
        replay = add(replay, rows, action, reward, done)
        rows = jnp.asarray(arrays["rows"].copy())
        if iteration < 4000:
            state = adapt(state, rows)
        for group in range(4):
            mine = groups == group
            samples[group] += mine.sum()
            sums[group, :4] += arrays["stats"][mine].sum(0)
            sums[group, 4] += reward[mine].sum()
        iteration += 1

        if time.time() - last_log >= o.log:
            now = time.time()
            means = sums / np.maximum(samples, 1)[:, None]
            entry = {
                "seconds": round(now - began, 1),
                "steps": iteration * o.envs,
                "steps_per_second": round((iteration - last_iteration) * o.envs / (now - last_log)),
                "waiting_for_gpu": round(waited / (now - last_log), 2),
                **{key: round(float(value), 4) for key, value in metrics.items()},
            }
            for group, label in enumerate(("agent", "noisy", "student_noisy", "student")):
                entry[label] = {
                    key: round(float(value), 4)
                    for key, value in zip((*body.statistics, "reward"), means[group], strict=True)
                }
            log.append(entry)
            _write(o, agent.export(state))
            with open(f"{o.out}/{o.name}.log.json", "w") as file:
                json.dump({"options": vars(o), "device": device, "log": log}, file)
            if o.state and len(log) % 6 == 0:
                _keep(o.state, state)
            groups_line = "; ".join(
                f"{label} " + " ".join(f"{key} {value:.3g}" for key, value in entry[label].items())
                for label in ("agent", "student_noisy", "student")
            )
            entry["pairs_a_step"] = o.updates
            busy = entry["waiting_for_gpu"]  # Make as many updates as the GPU has time for.
            o.updates += int(busy < 0.15 and o.updates < o.most) - int(
                busy > 0.4 and o.updates > 1 and not last_part
            )
            print(
                f"{o.name} {entry['seconds']:.0f} s, {entry['steps'] / 1e6:.2f} M steps, "
                f"{entry['pairs_a_step']} pairs a step; {groups_line}",
                flush=True,
            )
            sums[:], samples[:], waited = 0, 0, 0.0
            last_log, last_iteration = now, iteration
    _write(o, agent.export(state))
    if o.state:
        _keep(o.state, state)
    pool.close()
    print(f"{o.name}: done after {time.time() - began:.1f} s, {iteration} iterations", flush=True)


def _write(o, weights):
    path = f"{o.out}/{o.name}.safetensors"
    save_file(weights, path + ".part")
    os.replace(path + ".part", path)


def _keep(path, tree):
    with open(path + ".part", "wb") as file:
        np.savez(file, *map(np.asarray, jax.tree.leaves(tree)))
    os.replace(path + ".part", path)


if __name__ == "__main__":
    main()
