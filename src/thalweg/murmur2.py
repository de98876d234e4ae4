"""MurmurHash2 as Kafka's `Utils.murmur2` computes it: it places records on partitions and keys in key groups."""

from __future__ import annotations

import numpy as np


def murmur2(data: bytes) -> int:
    """The hash of one byte string, as an unsigned 32-bit number.

    >>> murmur2(b"21")
    3321034988
    """
    from thalweg import _murmur2_kernel

    return int(_murmur2_kernel.murmur2(np.frombuffer(data, dtype=np.uint8), 0, len(data)))
