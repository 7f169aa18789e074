"""Reversible steps: each one change to the machine that can be probed, made and taken back."""
