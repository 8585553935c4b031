"""The embedded lab's controller side: what it needs, and what it can accelerate."""
