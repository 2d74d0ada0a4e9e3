"""Training: data, losses, stages and the loop."""
