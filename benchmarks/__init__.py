"""What the service can do, as ratios against yardsticks within one run: ``python -m benchmarks``.

Absolute figures differ from machine to machine and from minute to minute. So the service and its
yardstick take turns, several rounds, and the median of the rounds is told with the lowest and the
highest. Nothing here is a test: nothing fails because a machine is slow.
"""
