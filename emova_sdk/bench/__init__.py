"""Benchmarks: candidates for the same work, side by side in one process: speed, memory, size, share of the machine's limit."""
