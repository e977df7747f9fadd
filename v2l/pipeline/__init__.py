"""What rules and stages share: the entry point of a stage, its provenance, selections, shards, timings."""
