"""Unrolling a cell over time: the strategies, and the choice among them."""
