"""Inference: checkpoints, voices, streaming and conversion."""
