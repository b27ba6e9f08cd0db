"""Devices, processes, the epoch loop, runs and their checkpoints."""
