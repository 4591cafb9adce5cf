"""The experiments: one file, one question. Start from `lost_exception.py` or `dns_throughput.py`."""
