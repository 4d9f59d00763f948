"""Options that all tests share."""


def pytest_addoption(parser):
    group = parser.getgroup("simulation")
    group.addoption("--seed", type=int, default=None, help="run this one seed of the simulation")
    group.addoption("--seeds", type=int, default=2048, help="how many seeds the simulation runs")
    group.addoption("--first-seed", type=int, default=0, help="which seed it begins with")
    mounts = parser.getgroup("mounts")
    mounts.addoption(
        "--kills", type=int, default=20, help="how often a mount's process is killed under load"
    )
