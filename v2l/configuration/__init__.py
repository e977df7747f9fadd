"""Configuration: every key that can be set, where an experiment reads it, and the part of it that a job gets."""
