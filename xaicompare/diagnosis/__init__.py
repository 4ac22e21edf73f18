"""What in a model would make a method silently wrong, and a repaired copy."""

from xaicompare.diagnosis.doctor import doctor, steps_of, suited
from xaicompare.diagnosis.findings import Diagnosis, Finding

__all__ = ["Diagnosis", "Finding", "doctor", "steps_of", "suited"]
