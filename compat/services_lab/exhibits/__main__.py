"""`python -m services_lab.exhibits NAME --dns HOST:PORT [--ready-file PATH]`, until a signal.

Only what is to be measured: UDP, no limits, no draining. The port of TCP is bound as by every
variant, and then closed, so it refuses.
"""

import argparse
import sys
import time
from contextlib import suppress

from trio_services.logs import ErrorLog, run_reporting
from trio_services.sans_io.dns_respond import Responder
from trio_services.settings import Address, DnsSettings, LogLevel, ServeSettings
from trio_services.startup import announced, prepared


def main() -> int:
    """Serve; return the exit status."""
    parser = argparse.ArgumentParser(prog="services_lab.exhibits", description=__doc__)
    parser.add_argument("name", choices=["plain-trio", "drained-asyncio"])
    parser.add_argument("--dns", type=Address.parse, required=True, metavar="HOST:PORT")
    parser.add_argument("--ready-file", metavar="PATH")
    options = parser.parse_args()
    settings = ServeSettings(
        dns=DnsSettings(addresses=(options.dns,)), sort=None, log_level=LogLevel.WARNING
    )
    return run_reporting(serve, options.name, settings, options.ready_file)


def serve(name: str, settings: ServeSettings, ready_file: str | None) -> None:
    """Serve until a signal ends the process; raises SettingsError if it cannot listen."""
    with prepared(settings) as ([sockets], zones):
        assert zones
        respond = Responder(zones, on_error=ErrorLog("respond", time.monotonic).report).respond_udp
        with announced(ready_file, sockets):
            for tcp in sockets.dns:
                tcp.close()
            [udp] = sockets.udp
            with suppress(KeyboardInterrupt):
                if name == "plain-trio":
                    import trio

                    from services_lab.exhibits import plain_trio

                    trio.run(plain_trio.serve_dns_udp, udp, respond)
                else:
                    import asyncio

                    from services_lab.exhibits import drained_asyncio

                    asyncio.run(drained_asyncio.serve_dns_udp(udp, respond))


if __name__ == "__main__":
    sys.exit(main())
