"""Correlation: events of several streams that share a key within a time."""

from thalweg.cep.correlate.correlator import Count, EventCorrelator

__all__ = ["Count", "EventCorrelator"]
