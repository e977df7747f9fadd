"""Reading and writing: every output is atomic and carries its provenance."""
