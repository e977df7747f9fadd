"""Language models: loading one, its vocabulary, prompts, and generation in batches."""
