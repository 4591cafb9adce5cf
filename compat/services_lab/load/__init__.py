"""Load generators: each is a process of its own and prints one line of JSON.

`seconds` and `cpu` are in it. `cpu` is what the generator itself used in those seconds: when that is
all there was, the generator was the bottleneck, not the server. They are bare `poll` loops, so that
they cost less than any server that they load, and know nothing of Trio. `services_lab.loads` runs
them.
"""
