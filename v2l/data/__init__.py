"""Pictures: how data sets lie on disk, their manifests, and how images and tokens are read."""
