"""Figures: how images and their captions are drawn on a page."""
