"""Training of a tokenizer: the optimisation step, the order of the data, the running averages."""
