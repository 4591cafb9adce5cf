"""A static DNS server and a sort service, run as sibling tasks of one Trio nursery.

A map of the package, in the order in which it is best read:

- `app`: the nursery. Services as siblings, signals, drain-then-cancel shutdown.
- `settings`: addresses, limits and deadlines, each default with its reason.
- `dns_server`, `sort_server`, `five_sleepers`: the services.
- `connections`: admission, containment and drain of TCP connections.
- `workers`, `sort_worker`: where sorting runs; what runs in a worker process.
- `eager_io`: sockets that try the system call first and park only when the kernel says wait.
- `supervisor`: several copies of the whole on the same ports.
- `dns_client`, `sort_client`: one query, one list.
- `sans_io`: no Trio, no sockets, no clock: bytes in, values out.
- `cli`: the command line.

Importing the package itself imports nothing.
"""

__version__ = "0.1.0"
