"""What keeps noise from people, in this order; the first stage that objects suppresses the alert, with its reason.

1. suppression: the rule's own limits, per fingerprint, in event time
2. silencing: silences and maintenance windows, by the clock
3. inhibition: a graver alert about the same thing is open
4. flapping: the same state begins and ends again and again
5. storm: too much at once; what is held back is told in a digest
"""

from thalweg.alerts.stages.base import Look, Stage
from thalweg.alerts.stages.flapping import FlapDetection, Flapping
from thalweg.alerts.stages.inhibition import Inhibiting, Inhibition
from thalweg.alerts.stages.silencing import Silencing
from thalweg.alerts.stages.storm import Storm, StormProtection
from thalweg.alerts.stages.suppressing import Suppressing

__all__ = [
    "FlapDetection",
    "Flapping",
    "Inhibiting",
    "Inhibition",
    "Look",
    "Silencing",
    "Stage",
    "Storm",
    "StormProtection",
    "Suppressing",
]
