"""Rollouts in parallel environments, success rates, videos.

``rollout.evaluate`` plays a task's goals with a policy and returns a ``result.Evaluation``;
``video.record_video`` draws one episode a goal. A policy is a plain function of NumPy arrays, so
nothing here knows of JAX.
"""
