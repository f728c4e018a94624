"""Metrics with named protocols, baselines and bootstrap intervals."""
