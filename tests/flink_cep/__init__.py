"""Differential tests against Flink's CEP library."""
