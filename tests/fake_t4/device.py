"""A device whose tensors have shapes, types and places but no data: it counts memory and operations, and runs out of memory."""

import collections
import contextlib
import gc
import threading
import weakref
from unittest import mock

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

GIB = 2**30
TOTAL = 15642329088  # bytes that a T4 says it has
aten = torch.ops.aten
# what a kernel refuses where its inputs differ in type or place
_STRICT = {
    aten.convolution,
    aten.convolution_backward,
    aten.mm,
    aten.addmm,
    aten.bmm,
    aten.baddbmm,
    aten.native_group_norm,
    aten._scaled_dot_product_efficient_attention,
    aten._scaled_dot_product_flash_attention,
}


def _place(tensor):
    "Of a tensor with or without data; asking a tensor without for its device is an operation of its own, which costs as much as another."
    return tensor.fake_device if isinstance(tensor, FakeTensor) else tensor.device


def _on_gpu(value):
    return isinstance(value, torch.Tensor) and _place(value).type == "cuda"


class T4(TorchDispatchMode):
    "Counts what the program does on the device."

    def __init__(self, limit=14.4):  # GiB that can be allocated: what Colab's T4 has beside its context
        super().__init__()
        self.limit, self.live, self.lock = int(limit * GIB), {}, threading.RLock()
        self.held = self.peak = self.out_of_memory = 0
        self.flop, self.mixed, self.traffic = collections.Counter(), collections.Counter(), 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.prim.device.default:
            return _place(args[0])
        kwargs = kwargs or {}
        if func is aten._local_scalar_dense.default:
            return self._scalar(args[0].dtype)
        if func is aten.nonzero.default:  # one place, the first
            return torch.zeros((1, args[0].dim()), dtype=torch.int64, device=args[0].device)
        self._check(func.overloadpacket, args)
        out = func(*args, **kwargs)
        if func.is_view:
            return out
        made = [value for value in tree_leaves(out) if _on_gpu(value)]
        self._count(func, args, kwargs, out, made)
        for value in made:
            self._hold(value)
        return out

    def _scalar(self, dtype):
        "What a tensor without data is read as."
        return True if dtype == torch.bool else 0.1 if dtype.is_floating_point else 0

    def _check(self, packet, args):
        "Note types or places that no kernel takes together."
        if packet not in _STRICT:
            return
        tensors = [a for a in args if isinstance(a, torch.Tensor) and a.dim()]
        kinds = {str(a.dtype) for a in tensors if a.dtype.is_floating_point}
        places = {_place(a).type for a in tensors}
        if len(kinds) > 1 or len(places) > 1:
            self.mixed[f"{packet}: {', '.join(sorted(kinds | places))}"] += 1

    def _count(self, func, args, kwargs, out, made):
        tensors = [a for a in tree_leaves(args) if _on_gpu(a)] + made
        if tensors and func.overloadpacket in flop_registry:
            kind = str(tensors[0].dtype).removeprefix("torch.")
            self.flop[kind] += flop_registry[func.overloadpacket](*args, **kwargs, out_val=out)
        self.traffic += sum(a.numel() * a.element_size() for a in tensors)

    def _hold(self, value):
        "Allocate a new storage until nobody has it any more."
        storage = value.untyped_storage()
        key, size = id(storage), -(-storage.nbytes() // 512) * 512
        with self.lock:
            if key in self.live:
                return
            if self.held + size > self.limit:
                self.out_of_memory += 1
                raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size / GIB:.2f} GiB (simulated)")
            self.live[key] = size
            self.held += size
            self.peak = max(self.peak, self.held)
            weakref.finalize(storage, self._drop, key)

    def _drop(self, key):
        with self.lock:
            self.held -= self.live.pop(key, 0)

    def reset(self):
        "Count anew from here."
        gc.collect()
        self.peak, self.traffic, self.out_of_memory = self.held, 0, 0
        self.flop.clear()
        self.mixed.clear()

    def forget_work(self):
        "Count operations anew, and the peak on."
        self.flop.clear()

    def row(self, times=1):
        "What has been counted since, operations so many times."
        flop = {kind: round(times * count / 1e12, 3) for kind, count in sorted(self.flop.items()) if count > 1e9}
        found = dict(peak_gib=round(self.peak / GIB, 2), tflop=flop, traffic_gb=round(self.traffic / 1e9, 1))
        return found | dict(mixed=dict(self.mixed), out_of_memory=self.out_of_memory)


def _apply(self, fn, recurse=True):
    "torch.nn.Module._apply, whose own swaps the data of parameters in a way that tensors without data do not know."
    for child in self.children():
        child._apply(fn)
    for name, parameter in self._parameters.items():
        if parameter is not None:
            with torch.no_grad():
                moved = fn(parameter)
            if (moved.dtype, moved.device) != (parameter.dtype, parameter.device):
                self._parameters[name] = torch.nn.Parameter(moved, parameter.requires_grad)
    for name, buffer in self._buffers.items():
        self._buffers[name] = buffer if buffer is None else fn(buffer)
    return self


def _unchanged(tensor, *args, **kwargs):
    "What an initialization of a tensor without data comes to."
    return tensor


def _numpy(self, *args, **kwargs):
    "Zeros of the tensor's shape and type."
    return np.zeros(tuple(self.shape), str(self.dtype).removeprefix("torch."))


@contextlib.contextmanager
def simulated_t4(limit=14.4):
    "For the length of a with block torch.cuda is a T4 of so many GiB, and tensors have no data; gives the T4."
    t4 = T4(limit)
    cuda = dict(
        memory_allocated=lambda device=None: t4.held,
        memory_reserved=lambda device=None: t4.held,
        max_memory_allocated=lambda device=None: t4.peak,
        reset_peak_memory_stats=lambda device=None: setattr(t4, "peak", t4.held),
        mem_get_info=lambda device=None: (int(limit * GIB) - t4.held, TOTAL),
        empty_cache=lambda: None,
        synchronize=lambda device=None: None,
        set_per_process_memory_fraction=lambda share, device=None: setattr(t4, "limit", int(min(share * TOTAL, limit * GIB))),
    )
    with contextlib.ExitStack() as stack:
        for name, function in cuda.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, function))
        for name in ("uniform_", "normal_", "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_", "zeros_", "ones_", "constant_"):
            stack.enter_context(mock.patch.object(torch.nn.init, name, _unchanged))
        stack.enter_context(mock.patch.object(torch.nn.Module, "_apply", _apply))
        stack.enter_context(mock.patch.object(FakeTensor, "numpy", _numpy, create=True))
        stack.enter_context(mock.patch.object(FakeTensorMode, "avoid_device_init", property(lambda mode: True)))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(t4)
        yield t4
