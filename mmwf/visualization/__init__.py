"""Figures of results and predictions."""
