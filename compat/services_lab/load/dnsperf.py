"""Closed-loop DNS load by dnsperf (DNS-OARC), in the terms of the lab's own generator.

python -m services_lab.load.dnsperf HOST PORT FILE --seconds S --clients N --outstanding N
"""

import argparse
import json
import re
import resource
import subprocess


def read(printed: str) -> dict[str, object]:
    """Return the counts in what dnsperf has printed.

    Raises:
        ValueError: They are not there.
    """
    found: dict[str, object] = {}
    for name, pattern in (
        ("completed", r"Queries completed:\s+(\d+)"),
        ("lost", r"Queries lost:\s+(\d+)"),
        ("seconds", r"Run time \(s\):\s+([\d.]+)"),
    ):
        match = re.search(pattern, printed)
        if not match:
            raise ValueError(f"dnsperf says nothing of {name}: {printed}")
        found[name] = float(match[1]) if name == "seconds" else int(match[1])
    codes = re.search(r"Response codes:\s+(.*)", printed)
    pairs = re.findall(r"(\w+) (\d+) \(", codes[1]) if codes else []
    found["rcodes"] = {name: int(count) for name, count in pairs}
    version = re.search(r"Version ([\d.]+)", printed)
    found["generator"] = f"dnsperf {version[1]}" if version else "dnsperf"
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("host", "port", "file"):
        parser.add_argument(name)
    for name in ("seconds", "clients", "outstanding"):
        parser.add_argument(f"--{name}", required=True)
    options = parser.parse_args()
    command = ["dnsperf", "-s", options.host, "-p", options.port, "-d", options.file]
    command += ["-l", options.seconds, "-c", options.clients, "-q", options.outstanding]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(json.dumps({**read(done.stdout), "cpu": used.ru_utime + used.ru_stime}))
