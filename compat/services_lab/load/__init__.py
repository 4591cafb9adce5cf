"""Load generators: each is a process of its own and prints one line of JSON.

`seconds` and `cpu` are in it: when the generator itself used all the time there was, it was the
bottleneck, not the server. They are bare `poll` loops, so that they cost less than any server that
they load, and know nothing of Trio. `services_lab.loads` runs them.
"""
