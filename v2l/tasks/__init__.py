"""Tasks of the evaluation: their samples, prompts and answers, and the baselines without a language model."""
