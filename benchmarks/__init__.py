"""Measurements on the test cluster. Each prints what it compares, and ratios taken in the same run."""
