"""Safehold: custody of AI training data that outside contractors make.

The package root promises a version and nothing else; each room is imported by its own name.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
