"""Accelerators, from a library that behaves as NVIDIA's does."""
# ruff: noqa: N802 - the library's names

import ctypes
from dataclasses import dataclass, field

from cachefs.workers.reporting.accelerators import Accelerators, open_accelerators

GIB = 1 << 30
OK, NOT_SUPPORTED, TOO_SMALL = 0, 3, 7


@dataclass(eq=False)
class Device:
    """One accelerator, or a slice of one."""

    name: str = "NVIDIA H100 80GB HBM3"
    total: int = 80 * GIB
    used: int = 0
    processes: int = 0
    bus_id: bytes = b"00000000:3B:00.0"
    joined: tuple = ()
    """Indexes of those that NVLink joins it to."""
    slices: list = field(default_factory=list)
    """Not empty: it is cut."""


class Library:
    """As much of libnvidia-ml as is called, on the given accelerators."""

    def __init__(self, *devices):
        self.devices = list(devices)
        self.handles = []
        self.stopped = 0

    # ctypes passes pointers made by byref, whose object is at `_obj`.

    def _handle(self, device, into):
        self.handles.append(device)
        into._obj.value = len(self.handles)
        return OK

    def _device(self, handle):
        return self.handles[handle.value - 1]

    def nvmlShutdown(self):
        self.stopped += 1

    def nvmlDeviceGetCount_v2(self, count):
        count._obj.value = len(self.devices)
        return OK

    def nvmlDeviceGetHandleByIndex_v2(self, index, into):
        return self._handle(self.devices[index], into)

    def nvmlDeviceGetName(self, handle, buffer, _size):
        buffer.value = self._device(handle).name.encode()
        return OK

    def nvmlDeviceGetPciInfo_v3(self, handle, pci):
        pci._obj.bus_id = self._device(handle).bus_id
        return OK

    def nvmlDeviceGetMigMode(self, handle, current, _pending):
        current._obj.value = bool(self._device(handle).slices)
        return OK

    def nvmlDeviceGetP2PStatus(self, one, other, _kind, status):
        joined = self.devices.index(self._device(other)) in self._device(one).joined
        status._obj.value = 0 if joined else 1
        return OK

    def nvmlDeviceGetMaxMigDeviceCount(self, _handle, count):
        count._obj.value = 7
        return OK

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle, index, into):
        slices = self._device(handle).slices
        return self._handle(slices[index], into) if index < len(slices) else NOT_SUPPORTED

    def nvmlDeviceGetMemoryInfo(self, handle, memory):
        device = self._device(handle)
        memory._obj.total, memory._obj.used = device.total, device.used
        memory._obj.free = device.total - device.used
        return OK

    def nvmlDeviceGetComputeRunningProcesses_v3(self, handle, _count, _into):
        return TOO_SMALL if self._device(handle).processes else OK


class Newer(Library):
    """A library that tells what the driver reserves from what is used."""

    def nvmlDeviceGetMemoryInfo_v2(self, handle, memory):
        assert memory._obj.version >> 24 == 2
        return self.nvmlDeviceGetMemoryInfo(handle, memory)


def looked(library, **options):
    return Accelerators(library, **options).look()


def test_accelerators_are_described_with_what_is_in_use():
    one, other = looked(Newer(Device(), Device(used=60 * GIB, processes=1)))
    assert (one.model, one.memory_bytes, one.used) == ("NVIDIA H100 80GB HBM3", 80 * GIB, 0.0)
    assert one.memory_free_bytes == 80 * GIB
    assert (other.used, other.memory_free_bytes) == (0.75, 20 * GIB)


def test_an_older_library_does_as_well():
    (gpu,) = looked(Library(Device(used=20 * GIB, processes=2)))
    assert gpu.used == 0.25


def test_memory_that_changes_by_little_is_no_news():
    device = Device(used=0)
    accelerators = Accelerators(Newer(device))
    before = accelerators.look()
    device.used = 10_000_000
    device.processes = 0
    device.total = 80 * GIB + 10_000_000
    assert accelerators.look()[0].memory_free_bytes == before[0].memory_free_bytes


def test_a_program_that_takes_no_memory_yet_uses_the_accelerator_all_the_same():
    assert looked(Newer(Device(processes=1)))[0].used > 0


def test_memory_in_use_tells_of_programs_that_cannot_be_seen():
    assert looked(Newer(Device(used=40 * GIB)))[0].used == 0.5


def test_nvlink_makes_islands():
    devices = [Device(joined=joined) for joined in ((1,), (), (3,), ())]
    assert [gpu.island for gpu in looked(Newer(*devices))] == [0, 0, 1, 1]


def test_who_is_joined_through_a_third_is_of_the_same_island():
    devices = [Device(joined=(2,)), Device(joined=(2,)), Device()]
    assert [gpu.island for gpu in looked(Newer(*devices))] == [0, 0, 0]


def test_the_numa_node_is_the_kernels(tmp_path):
    for name, numa in (("0000:3b:00.0", "1"), ("0000:3c:00.0", "-1")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "numa_node").write_text(f"{numa}\n")
    devices = [Device(bus_id=b"00000000:%s:00.0" % bus) for bus in (b"3B", b"3C", b"3D")]
    assert [gpu.numa for gpu in looked(Newer(*devices), devices=tmp_path)] == [1, 0, 0]


def test_slices_are_told_apart_by_whether_they_are_in_use():
    slices = [
        Device(name="NVIDIA H100 80GB HBM3 MIG 1g.10gb"),
        Device(name="NVIDIA H100 80GB HBM3 MIG 3g.40gb", processes=1),
    ]
    (gpu,) = looked(Newer(Device(slices=slices)))
    assert gpu.partitioned
    assert (gpu.mig, gpu.mig_used, gpu.used) == (("1g.10gb",), ("3g.40gb",), 0.5)


def test_a_library_that_knows_nothing_has_no_accelerators():
    assert looked(object()) == ()


def test_the_driver_is_let_go_once():
    library = Newer()
    accelerators = Accelerators(library)
    accelerators.close()
    accelerators.close()
    assert library.stopped == 1


def test_without_a_library_there_are_none():
    assert open_accelerators("libcachefs-no-such-library.so") is None


def test_a_library_of_something_else_is_none():
    assert ctypes.CDLL(None) is not None
    assert open_accelerators("libc.so.6") is None
