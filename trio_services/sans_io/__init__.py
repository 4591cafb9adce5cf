"""The cores of the services: bytes in, values out. No Trio, no sockets, no clock, no logging.

DNS, in the order in which it is best read: `dns_message` (parse a query, assemble a reply),
`dns_tree` (what is served, in wire form), `dns_answer` (the RFC 1034 algorithm), `dns_respond`
(packet in, reply out, and its fast path); at load time `dns_zone` (zone files, through dnspython),
`dns_hosts` (hosts files), `dns_compile` (checks them and makes the tree) and `dns_name`.
"""
