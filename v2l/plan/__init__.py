"""What an experiment costs, before it is spent: `python -m v2l.plan`, run by `snakemake plan`."""
