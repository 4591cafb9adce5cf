"""Looking inside a running program: its task tree, a trace of its tasks, who kept the loop busy.

`task_tree`, `trace` and `watchdog` need nothing but Trio and work in any Trio program.
"""
