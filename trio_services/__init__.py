"""A static DNS server and a sort service, run as sibling tasks of one Trio nursery.

A map of the package, in the order in which it is best read:

- `app`: the nursery. Services as siblings, signals, drain-then-cancel shutdown.
- `settings`, `listeners`, `startup`, `logs`: what comes before the nursery; plain Python.
- `dns_server`, `sort_server`, `five_sleepers`: the services.
- `connections`: admission, containment and drain of TCP connections.
- `workers`, `worker_process`: where sorting runs; `sort_worker`: what runs in a worker process.
- `eager_io`: sockets that try the system call first and park only when the kernel says wait.
- `supervisor`: several copies of the whole on the same ports.
- `dns_client`, `sort_client`: one query, one list.
- `sans_io`: no Trio, no sockets, no clock: bytes in, values out.
- `cli`: the command line.

Importing the package itself imports nothing.
"""

__version__ = "0.1.0"
