"""Accelerators, as NVIDIA's management library sees them; none where there is no such library.

The library is loaded when somebody first asks, and called through ctypes: it comes with the driver, and no
package is needed for it. Whatever it does not say (an old driver, a container that may not see it) is left
at what is least wrong: memory in use tells that somebody uses an accelerator when processes cannot be
counted, and accelerators of which no links are known are islands of their own.

An accelerator that is cut into slices has its free slices listed, as they are: nobody is promised that a
driver could cut others.
"""

import ctypes
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cachefs.core.hints.nodes import Gpu

LIBRARY = "libnvidia-ml.so.1"

_SUCCESS, _INSUFFICIENT_SIZE = 0, 7
_NAME_BYTES = 96
_P2P_NVLINK = 2
"""What is asked of a pair of accelerators: whether they are joined by NVLink."""
_IDLE_BYTES = 64 * 1024 * 1024
"""Less than this in use is the driver's own."""
_STEP_BYTES = 256 * 1024 * 1024
_SLICE_MARK = " MIG "

_Handle = ctypes.c_void_p


class _Memory(ctypes.Structure):
    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


class _Memory2(ctypes.Structure):
    """The newer form, which does not count what the driver reserves as used."""

    _fields_ = (
        ("version", ctypes.c_uint),
        ("total", ctypes.c_ulonglong),
        ("reserved", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


class _Pci(ctypes.Structure):
    _fields_ = (
        ("bus_id_legacy", ctypes.c_char * 16),
        ("domain", ctypes.c_uint),
        ("bus", ctypes.c_uint),
        ("device", ctypes.c_uint),
        ("pci_device_id", ctypes.c_uint),
        ("pci_subsystem_id", ctypes.c_uint),
        ("bus_id", ctypes.c_char * 32),
    )


@dataclass(frozen=True, slots=True)
class _Device:
    """An accelerator, and what of it does not change."""

    handle: _Handle
    gpu: Gpu


class Accelerators:
    """NVIDIA's accelerators of this machine. Not safe for concurrent use."""

    def __init__(
        self,
        library: Any,  # Any: a CDLL, or what a test puts in its place
        *,
        devices: Path = Path("/sys/bus/pci/devices"),
    ) -> None:
        """Take over a library that was started; :func:`open_accelerators` starts it."""
        self._library = library
        self._sysfs = devices
        self._devices: tuple[_Device, ...] | None = None

    def look(self) -> tuple[Gpu, ...]:
        """Return the accelerators with what is in use right now."""
        if self._devices is None:
            self._devices = tuple(self._find())
        return tuple(self._now(device) for device in self._devices)

    def close(self) -> None:
        """Let go of the driver; idempotent."""
        library, self._library = self._library, None
        if library is not None:
            with suppress(AttributeError):
                library.nvmlShutdown()

    # ---- what does not change -------------------------------------------------------------------

    def _find(self) -> Iterator[_Device]:
        count = ctypes.c_uint()
        if not self._ask("nvmlDeviceGetCount_v2", ctypes.byref(count)):
            return
        handles = []
        for index in range(count.value):
            handle = _Handle()
            if self._ask("nvmlDeviceGetHandleByIndex_v2", index, ctypes.byref(handle)):
                handles.append((index, handle))
        islands = self._islands([handle for _, handle in handles])
        for (index, handle), island in zip(handles, islands, strict=True):
            memory = self._memory(handle)
            gpu = Gpu(
                index=index,
                model=self._name(handle),
                memory_bytes=memory.total if memory is not None else 0,
                numa=self._numa(handle),
                island=island,
                partitioned=self._is_partitioned(handle),
            )
            yield _Device(handle, gpu)

    def _name(self, handle: _Handle) -> str:
        buffer = ctypes.create_string_buffer(_NAME_BYTES)
        self._ask("nvmlDeviceGetName", handle, buffer, _NAME_BYTES)
        return buffer.value.decode("utf-8", "replace")

    def _numa(self, handle: _Handle) -> int:
        pci = _Pci()
        if not self._ask("nvmlDeviceGetPciInfo_v3", handle, ctypes.byref(pci)):
            return 0
        # The driver writes eight digits of the domain, the kernel four.
        address = pci.bus_id.decode("ascii", "replace").lower()[-12:]
        with suppress(OSError, ValueError):
            return max(0, int((self._sysfs / address / "numa_node").read_text()))
        return 0

    def _is_partitioned(self, handle: _Handle) -> bool:
        current, pending = ctypes.c_uint(), ctypes.c_uint()
        asked = self._ask(
            "nvmlDeviceGetMigMode", handle, ctypes.byref(current), ctypes.byref(pending)
        )
        return asked and current.value == 1

    def _islands(self, handles: list[_Handle]) -> list[int]:
        """Number the sets of accelerators that NVLink joins."""
        island = list(range(len(handles)))
        for one, first in enumerate(handles):
            for other in range(one + 1, len(handles)):
                if island[one] != island[other] and self._are_joined(first, handles[other]):
                    old, new = max(island[one], island[other]), min(island[one], island[other])
                    island = [new if each == old else each for each in island]
        numbers = {each: number for number, each in enumerate(sorted(set(island)))}
        return [numbers[each] for each in island]

    def _are_joined(self, one: _Handle, other: _Handle) -> bool:
        status = ctypes.c_int(-1)
        asked = self._ask("nvmlDeviceGetP2PStatus", one, other, _P2P_NVLINK, ctypes.byref(status))
        return asked and status.value == 0

    # ---- what does --------------------------------------------------------------------------------

    def _now(self, device: _Device) -> Gpu:
        memory = self._memory(device.handle)
        # In steps: what a program takes and gives back all the time is no news.
        free = None if memory is None else int(memory.free) // _STEP_BYTES * _STEP_BYTES
        if device.gpu.partitioned:
            slices = list(self._slices(device.handle))
            unused = tuple(profile for profile, is_used in slices if not is_used)
            in_use = tuple(profile for profile, is_used in slices if is_used)
            used = len(in_use) / len(slices) if slices else 0.0
            return replace(
                device.gpu, mig=unused, mig_used=in_use, used=used, memory_free_bytes=free
            )
        used = 0.0
        if self._is_used(device.handle, memory):
            share = memory.used / memory.total if memory is not None and memory.total else 1.0
            used = max(0.01, round(share, 2))
        return replace(device.gpu, used=used, memory_free_bytes=free)

    def _slices(self, handle: _Handle) -> Iterator[tuple[str, bool]]:
        """Yield the profile of each slice, and whether it is in use."""
        count = ctypes.c_uint()
        if not self._ask("nvmlDeviceGetMaxMigDeviceCount", handle, ctypes.byref(count)):
            return
        for index in range(count.value):
            piece = _Handle()
            asked = self._ask(
                "nvmlDeviceGetMigDeviceHandleByIndex", handle, index, ctypes.byref(piece)
            )
            if asked:
                profile = self._name(piece).rpartition(_SLICE_MARK)[2]
                yield profile, self._is_used(piece, self._memory(piece))

    def _is_used(self, handle: _Handle, memory: "_Memory | _Memory2 | None") -> bool:
        count = ctypes.c_uint(0)
        for name in (
            "nvmlDeviceGetComputeRunningProcesses_v3",
            "nvmlDeviceGetComputeRunningProcesses_v2",
        ):
            status = self._call(name, handle, ctypes.byref(count), None)
            if status == _INSUFFICIENT_SIZE:
                return True
            if status == _SUCCESS:
                # From within a container no process of another may be seen.
                return count.value > 0 or (memory is not None and memory.used > memory.total // 20)
        return memory is not None and memory.used > _IDLE_BYTES

    def _memory(self, handle: _Handle) -> "_Memory | _Memory2 | None":
        newer = _Memory2(version=ctypes.sizeof(_Memory2) | 2 << 24)
        if self._ask("nvmlDeviceGetMemoryInfo_v2", handle, ctypes.byref(newer)):
            return newer
        older = _Memory()
        if self._ask("nvmlDeviceGetMemoryInfo", handle, ctypes.byref(older)):
            return older
        return None

    # ---- the library ------------------------------------------------------------------------------

    def _ask(self, name: str, *arguments: Any) -> bool:  # Any: what ctypes takes
        return self._call(name, *arguments) == _SUCCESS

    def _call(self, name: str, *arguments: Any) -> int | None:  # Any: what ctypes takes
        """Return a call's status; ``None`` if this driver's library has no such function."""
        try:
            return int(getattr(self._library, name)(*arguments))
        except AttributeError:
            return None


def open_accelerators(library: str = LIBRARY) -> Accelerators | None:
    """Load and start the library; ``None`` if there is none, or it cannot reach a driver."""
    try:
        loaded = ctypes.CDLL(library)
        status = loaded.nvmlInit_v2()
    except (OSError, AttributeError):
        return None
    return Accelerators(loaded) if status == _SUCCESS else None
