"""Training: one loop, and networks that are trained once and kept."""
