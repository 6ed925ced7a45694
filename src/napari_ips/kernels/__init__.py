"""Kernels for the CPU, by numba; those who call them know torch, they only NumPy."""
