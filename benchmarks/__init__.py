"""Benchmarks: each prints figures that were measured in this very run."""
