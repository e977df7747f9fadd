"""Families of language models at two layers with random weights: each equals plain `transformers`, or is refused."""
