"""Numba kernels that read and write bytes. Imported on first use: `import thalweg` does not load Numba.

Two kinds of function live here. An `entry` is called from Python and kept in Numba's cache on disk; an `inner` is
called by other kernels only and is compiled into them. Addresses are int64 throughout: Numba turns a mixture of
int64 and uint64 into float64, and no address in user space needs the 64th bit.
"""
