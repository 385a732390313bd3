"""
Real processes to break, for tests, benchmarks and demonstrations.
"""
