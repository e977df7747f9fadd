"""SLURM: jobs asked for, submitted, watched and found again, and nothing of this without a cluster."""
