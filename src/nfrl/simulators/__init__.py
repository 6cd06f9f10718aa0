"""Imitation tasks as Gymnasium environments that keep OGBench's conventions; no JAX.

``reset(options={"task_id": i})`` chooses the goal; ``info["goal"]`` is the goal as an observation,
of width 0 where there is only one; ``info["success"]`` ends an episode; ``info["score"]``, in
[0, 1], says how far it has come. Importing this registers the environments and no simulator.
"""

import gymnasium

ENTRY_POINTS = {
    "nfrl/PushT-v0": "nfrl.simulators.pusht:PushT",
}
"""Where each environment's class is, by its Gymnasium id."""

for name, entry_point in ENTRY_POINTS.items():
    if name not in gymnasium.registry:
        gymnasium.register(name, entry_point=entry_point)
