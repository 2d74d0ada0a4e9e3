"""Neural networks and signal processing on tensors; no files and no devices."""
