"""What in a model would make a method silently wrong, and a repaired copy."""

from xaicompare.diagnosis.doctor import doctor, suited
from xaicompare.diagnosis.findings import Diagnosis, Finding

__all__ = ["Diagnosis", "Finding", "doctor", "suited"]
