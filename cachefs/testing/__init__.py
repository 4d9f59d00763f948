"""The public test kit: fakes that pass the contract suites, servers with faults, the simulator."""
