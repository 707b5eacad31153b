"""Who works beside the worker in `benchmarks/work.py`, and what all are given and held against."""
