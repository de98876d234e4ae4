"""Correlation: events of several streams that share a key within a time."""

from thalweg.cep.correlate.correlator import Count, EventCorrelator
from thalweg.cep.correlate.sigma import Sigma, load_sigma

__all__ = ["Count", "EventCorrelator", "Sigma", "load_sigma"]
