"""The doctor: looks at this machine for what would fail later, and says what to do. It starts and changes nothing.

doctor      which checks are made, in which order
examine     runs them side by side, each within its time
check       what a check found, and all of them
software    Python, the system, packages
machine     loopback, ports, namespaces, memory, files, disks
directory   the data directory, and who runs with it
ngrok       token, agent, service
reach       a join address, and the clock there
colab_tab   Drive, and Colab's rules
"""

from __future__ import annotations

from raycolab.diagnostics.check import Check, Diagnosis, Verdict
from raycolab.diagnostics.doctor import doctor, prepare
from raycolab.diagnostics.examine import examine

__all__ = ["Check", "Diagnosis", "Verdict", "doctor", "examine", "prepare"]
