"""Electrodes, differential entropy, noise and scaling: arrays in, arrays out."""
