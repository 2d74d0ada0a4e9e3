"""Trained networks in use: checkpoints, voices, streaming and conversion."""
