"""Metrics, statistics, baselines, quality of generated EEG, leakage."""
