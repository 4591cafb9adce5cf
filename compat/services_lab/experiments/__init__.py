"""The experiments: one file, one question. Start from `lost_exception` or `dns_throughput`."""
