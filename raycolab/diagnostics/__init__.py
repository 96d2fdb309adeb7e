"""The doctor: looks at this machine for what would fail later, and says what to do. It starts and changes nothing.

doctor   which checks are made, in which order
check    what a check found, all of them together, and how they run side by side
machine  packages, ports, memory, open files, disks, Drive
network  the way for joiners to a head here (ngrok), and from here to a head (a join address)
"""

from __future__ import annotations

from raycolab.diagnostics.check import Check, Diagnosis, Verdict
from raycolab.diagnostics.doctor import doctor

__all__ = ["Check", "Diagnosis", "Verdict", "doctor"]
