"""Evaluation: trials, systems, metrics, probes, reports and benchmarks."""
