"""Measurements: what a warm daemon saves, what it adds, and what it costs. `python -m tests.bench [names...]`.

Whatever is compared is measured in turns within one run, on the same machine, against the same fake model without
delay, so that a ratio means something where an absolute time does not. A slow machine never fails a build: the exit code
is 0 unless an answer was wrong.
"""
