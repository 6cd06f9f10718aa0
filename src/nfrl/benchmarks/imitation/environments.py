"""Imitation tasks as Gymnasium environments that keep OGBench's conventions; no JAX.

``reset(options={"task_id": i})`` chooses the goal; ``info["goal"]`` is the goal as an observation,
of width 0 where there is only one; ``info["success"]`` ends an episode; ``info["score"]``, in
[0, 1], says how far it has come, and ``info["mode"]``, where there is one, which of several ways
it goes, counted from 0, and -1 as long as that is open. Importing this registers the environments
and no simulator.
"""

import gymnasium

ENTRY_POINTS = {
    "nfrl/PushT-v0": "nfrl.benchmarks.imitation.pusht:PushT",
    "nfrl/PushTPixels-v0": "nfrl.benchmarks.imitation.pusht_pixels:PushTPixels",
    "nfrl/TwoBlocks-v0": "nfrl.benchmarks.imitation.two_blocks:TwoBlocks",
    "nfrl/Kitchen-v0": "nfrl.benchmarks.imitation.kitchen:Kitchen",
    "nfrl/MultimodalAnt-v0": "nfrl.benchmarks.imitation.multimodal_ant:MultimodalAnt",
}
"""Where each environment's class is, by its Gymnasium id."""

for name, entry_point in ENTRY_POINTS.items():
    if name not in gymnasium.registry:
        gymnasium.register(name, entry_point=entry_point)
