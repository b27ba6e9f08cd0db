"""Errors, paths, files, signals, random numbers, recipes and the command line."""
