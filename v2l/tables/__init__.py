"""Tables: one specification each, their rows out of scores, published numbers, and views as Markdown and LaTeX."""
