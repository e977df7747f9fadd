"""The V2L Tokenizer paper (CVPR 2024) as one pipeline, a module for each stage and a package for each concept."""
