"""The report in the forms that other tools read: STIX 2.1, OpenVEX, CSAF 2.0, OCSF. One pure function each, over one case."""

from safehold.exposure.formats.csaf import csaf_document
from safehold.exposure.formats.ocsf import ocsf_events
from safehold.exposure.formats.openvex import openvex_document
from safehold.exposure.formats.stix import stix_bundle

__all__ = ["csaf_document", "ocsf_events", "openvex_document", "stix_bundle"]
