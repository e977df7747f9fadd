"""Runs that are killed, starved, damaged and misled: what they leave, and what a later run makes of it."""
