"""What holds for the whole suite."""

from hypothesis import settings

# An example that takes long says more about the machine than about the code.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")

pytest_plugins = ["tests.browser"]
