"""A policy as files that other programs run: ONNX, StableHLO, or NumPy alone."""
