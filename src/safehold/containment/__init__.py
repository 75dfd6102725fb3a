"""Stopping and letting go: decisions, holds, and what a hold would stop."""

from safehold.containment.holds import Containment, Effect, Lifted, Suspended, preview

__all__ = ["Containment", "Effect", "Lifted", "Suspended", "preview"]
