"""Metrics: how good images, captions and answers are, and the rows that say so."""
