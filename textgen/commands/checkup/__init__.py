"""What ``textgen doctor`` checks: one function a subject, which returns what it found.

Read ``finding.py`` first; then ``software.py``, ``hardware.py``, ``connections.py`` and ``places.py``.
"""
