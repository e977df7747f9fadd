"""The tokenizers for programs of one's own: folders that hold one, images in and out, prompts for language models."""
