"""Plots of results and drawings of predictions."""
