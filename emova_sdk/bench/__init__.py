"""Contenders for the same work, side by side in one process: how fast, how large, and how near to what the machine can do."""
