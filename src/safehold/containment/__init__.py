"""Stopping and letting go: what a response would stop, decisions, holds, plans with their proofs, and lifting."""

from safehold.containment.concern import Concern, HostConcern, load_concern
from safehold.containment.holds import Containment, Effect, Lifted, Suspended, preview
from safehold.containment.profiles import PROFILES, Profile, Proposal, propose
from safehold.containment.respond import (
    Planned,
    Responses,
    Ruling,
    StepState,
    list_responses,
    response_steps,
    sealing_hosts,
)
from safehold.containment.whatif import COURSE_WORDS, COURSES, Option, compare

__all__ = [
    "COURSES",
    "COURSE_WORDS",
    "PROFILES",
    "Concern",
    "Containment",
    "Effect",
    "HostConcern",
    "Lifted",
    "Option",
    "Planned",
    "Profile",
    "Proposal",
    "Responses",
    "Ruling",
    "StepState",
    "Suspended",
    "compare",
    "list_responses",
    "load_concern",
    "preview",
    "propose",
    "response_steps",
    "sealing_hosts",
]
