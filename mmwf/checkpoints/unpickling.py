"""An unpickler for checkpoints that runs no function but those of this module.

A pickle is a program: it names functions, which the reader imports and calls with arguments that
are also in the file. Here each name stands for a function below that checks its arguments, and
every other name for a placeholder. So a file can neither run code nor forge memory, such as a NumPy
array of pointers.
"""

import math
import pickle
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor, nn

#: Types of storages in ``torch.save``'s files.
STORAGE_DTYPES = {
    'DoubleStorage': torch.float64,
    'FloatStorage': torch.float32,
    'HalfStorage': torch.float16,
    'BFloat16Storage': torch.bfloat16,
    'LongStorage': torch.int64,
    'IntStorage': torch.int32,
    'ShortStorage': torch.int16,
    'CharStorage': torch.int8,
    'ByteStorage': torch.uint8,
    'UntypedStorage': torch.uint8,
    'BoolStorage': torch.bool,
    'ComplexFloatStorage': torch.complex64,
    'ComplexDoubleStorage': torch.complex128,
}
#: NumPy's types of numbers as they are stored: ``'b1'``, ``'i8'``, ``'f4'``, ...
NUMBERS = {np.dtype(code).str[1:] for code in '?bhilqBHILQefdFD'}


class StorageType(NamedTuple):
    """Stands for one of torch's storage classes."""

    dtype: torch.dtype


class Storage(NamedTuple):
    """The memory of tensors: bytes, a one-dimensional uint8 tensor, and the type of an element."""

    memory: Tensor
    dtype: torch.dtype


class Inert(dict):
    """Placeholder for an object of another library; it has neither items nor state."""


class ForeignError(Exception):
    """What a file asks for is not part of a checkpoint of weights; the message names it."""


def _require(condition: bool, name: str) -> None:
    if not condition:
        raise ForeignError(name)


def _are_sizes(values) -> bool:
    return isinstance(values, tuple) and all(type(value) is int and value >= 0 for value in values)


def _view(storage, dtype: torch.dtype, offset, size, stride, requires_grad) -> Tensor:
    if not isinstance(storage, Storage) or not _are_sizes((offset, *size, *stride)):
        raise pickle.UnpicklingError('a tensor without a storage, or with a negative size')
    # The last element must be in the storage, and no other one twice: a stride of 0 would make a
    # huge tensor of a few bytes.
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    available = storage.memory.numel() // dtype.itemsize
    if math.prod(size) > available or math.prod(size) and last >= available:
        raise pickle.UnpicklingError(f'a tensor of {tuple(size)} in {available} elements')
    tensor = torch.empty(0, dtype=dtype, device=storage.memory.device)
    tensor.set_(storage.memory.untyped_storage(), offset, size, stride)
    differentiable = dtype.is_floating_point or dtype.is_complex
    return tensor.requires_grad_(requires_grad is True and differentiable)


def _tensor(storage, offset, size, stride, requires_grad=False, hooks=None, metadata=None):
    _require(not hooks and not metadata, 'a tensor with hooks or a conjugate view')
    dtype = storage.dtype if isinstance(storage, Storage) else torch.uint8
    return _view(storage, dtype, offset, size, stride, requires_grad)


def _tensor_of_dtype(
    storage, offset, size, stride, requires_grad, hooks, dtype: torch.dtype, metadata=None
):
    _require(not hooks and not metadata, 'a tensor with hooks or a conjugate view')
    _require(isinstance(dtype, torch.dtype), 'a tensor without a dtype')
    return _view(storage, dtype, offset, size, stride, requires_grad)


def _parameter(data, requires_grad, hooks, state=None):
    _require(isinstance(data, Tensor) and not hooks, 'torch.nn.Parameter')
    return nn.Parameter(data.detach(), requires_grad is True and data.is_floating_point())


def _tensor_subclass(function, kind, args, state):
    """A tensor with attributes of its own, which are dropped, as are types of other libraries."""
    _require(function in (_tensor, _tensor_of_dtype) and kind is Tensor, 'a subclass of Tensor')
    return function(*args)


def _encode(text, encoding):  # how protocol 2 stores bytes
    _require(isinstance(text, str) and encoding == 'latin1', '_codecs.encode')
    return text.encode('latin1')


def _dtype(name, align=False, copy=False):
    _require(isinstance(name, str) and name in NUMBERS, 'numpy.dtype that is not of numbers')
    return np.dtype(name, copy=True)  # NumPy's own must not change


def _build_dtype(dtype, state) -> None:
    order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
    _require(order in ('<', '|', '='), 'numpy.dtype of another byte order')


def _empty_array(kind, shape, typecode):
    _require(kind is _array, 'a subclass of numpy.ndarray')
    return np.empty(0, np.uint8)


def _array(*args):  # stands for the class, whose instances only _empty_array makes
    raise ForeignError('numpy.ndarray')


def _check_bytes(dtype, data, number: int) -> None:
    _require(isinstance(dtype, np.dtype) and isinstance(data, bytes), 'numpy.ndarray')
    _require(len(data) == number * dtype.itemsize, 'numpy.ndarray of another size')


def _build_array(array, state) -> None:
    _require(isinstance(state, tuple) and len(state) == 5 and not array.size, 'numpy.ndarray')
    _, shape, dtype, is_fortran, data = state
    _require(_are_sizes(shape), 'numpy.ndarray of a negative size')
    _check_bytes(dtype, data, math.prod(shape))
    array.__setstate__((1, shape, dtype, is_fortran is True, data))


def _scalar(dtype, data):
    _check_bytes(dtype, data, 1)
    return np.frombuffer(data, dtype)[0]


def _new_buffer(*args):
    _require(not args, 'HistoryBuffer')
    return HistoryBuffer()


def _build_buffer(buffer, state) -> None:
    """Fills the log of a scalar. The methods in its state are those that it has anyway."""
    _require(isinstance(state, dict), 'HistoryBuffer')
    arrays = [state.get(key) for key in ('_log_history', '_count_history')]
    are_arrays = all(isinstance(array, np.ndarray) and array.ndim == 1 for array in arrays)
    length = state.get('max_length')
    _require(are_arrays and len(arrays[0]) == len(arrays[1]), 'HistoryBuffer')
    _require(type(length) is int and length > 0, 'HistoryBuffer')
    buffer._log_history, buffer._count_history = arrays
    buffer.max_length = length


def _build_ordered_dict(mapping, state) -> None:
    metadata = state.get('_metadata') if isinstance(state, dict) else None
    if isinstance(metadata, dict):  # of a state dict: the versions of its modules
        mapping._metadata = metadata


def _mapping(kind: type) -> Callable:
    def build(items=()):
        items = items.items() if isinstance(items, dict) else items
        return kind({check_key(key): value for key, value in items})

    return build


def _set(items=()):
    return {check_key(item) for item in items}


def check_key(key):
    """Returns a key of a dict, if it is a plain value; hashes of others may take for ever."""
    values = key if type(key) is tuple else (key,)
    if not all(value is None or type(value) in (str, bytes, int, float, bool) for value in values):
        raise pickle.UnpicklingError(f'a {type(key).__name__} as a key')
    return key


def _getattr(*args):  # the unpickler calls it itself
    raise ForeignError('builtins.getattr')


#: What each name of a file stands for.
FUNCTIONS = {
    'collections.OrderedDict': _mapping(OrderedDict),
    'collections.Counter': _mapping(Counter),
    'builtins.set': _set,
    'builtins.bytes': lambda: b'',  # others are made by _codecs.encode
    'builtins.complex': lambda real, imag: complex(float(real), float(imag)),
    'builtins.getattr': _getattr,
    '_codecs.encode': _encode,
    'torch.Size': lambda sizes=(): torch.Size(map(int, sizes)),
    'torch.device': lambda kind, index=None: torch.device(kind, index),
    'torch._utils._rebuild_tensor': _tensor,
    'torch._utils._rebuild_tensor_v2': _tensor,
    'torch._utils._rebuild_tensor_v3': _tensor_of_dtype,
    'torch._utils._rebuild_parameter': _parameter,
    'torch._utils._rebuild_parameter_with_state': _parameter,
    'torch._tensor._rebuild_from_type_v2': _tensor_subclass,
    'numpy.ndarray': _array,
    'numpy.dtype': _dtype,
    # Where they are in files that were written with NumPy 1, and with NumPy 2.
    'numpy.core.multiarray._reconstruct': _empty_array,
    'numpy._core.multiarray._reconstruct': _empty_array,
    'numpy.core.multiarray.scalar': _scalar,
    'numpy._core.multiarray.scalar': _scalar,
    'mmengine.logging.history_buffer.HistoryBuffer': _new_buffer,
}
CLASSES = {'torch.Tensor': Tensor}  # are named, but not called
BUILDERS = {
    OrderedDict: _build_ordered_dict,
    HistoryBuffer: _build_buffer,
    np.ndarray: _build_array,
    **{type(np.dtype(code)): _build_dtype for code in '?bhilqBHILQefdFD'},
}
#: Instructions that move plain values; the others are refused, or are methods of the unpickler.
PLAIN = (
    'PROTO FRAME STOP MARK POP POP_MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 LONG4 '
    'BINFLOAT BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINSTRING SHORT_BINSTRING BINBYTES '
    'SHORT_BINBYTES BINBYTES8 EMPTY_TUPLE EMPTY_LIST EMPTY_DICT EMPTY_SET TUPLE TUPLE1 TUPLE2 '
    'TUPLE3 BINGET LONG_BINGET BINPUT LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL BINPERSID'
)


class Unpickler(pickle._Unpickler):
    """Reads a pickled checkpoint.

    Args:
        file: The file.
        load_storage: Gives the memory of tensors by the persistent id in the file.
        foreign: Gets the names of objects that were replaced by :class:`Inert`.

    Note:
        Based on the pickle module's implementation in Python, since that in C fixes what each
        instruction does.
    """

    dispatch = {
        getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]]
        for name in PLAIN.split()
    }

    def __init__(self, file: BinaryIO, load_storage: Callable, foreign: set[str]):
        super().__init__(file, encoding='utf-8')
        self.persistent_load = load_storage
        self.foreign = foreign

    def _replace(self, name: str) -> Inert:
        self.foreign.add(name[:100].encode('unicode_escape').decode())
        return Inert()

    def find_class(self, module, name):
        """Returns what a name stands for."""
        module = {'__builtin__': 'builtins'}.get(module, module)  # of Python 2
        full_name = f'{module}.{name}'
        if module in ('torch', 'torch.storage') and name in STORAGE_DTYPES:
            return StorageType(STORAGE_DTYPES[name])
        if module == 'torch' and isinstance(vars(torch).get(name), torch.dtype):
            return vars(torch)[name]
        found = FUNCTIONS.get(full_name) or CLASSES.get(full_name)
        return self._replace(full_name) if found is None else found

    def _call(self, function, args):
        if isinstance(function, Inert):
            return Inert()
        if function is _getattr and args and args[0] is _new_buffer:
            return Inert()  # a method of HistoryBuffer
        if not any(function is known for known in FUNCTIONS.values()):
            raise pickle.UnpicklingError(f'a {type(function).__name__} is called')
        try:
            return function(*args)
        except ForeignError as error:
            return self._replace(str(error))

    def load_call(self):
        """Calls a function (REDUCE), or makes an object of a class (NEWOBJ)."""
        args = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], args)

    def load_newobj_ex(self):
        """Makes an object of a class with keyword arguments, which no object of ours needs."""
        del self.stack[-2:]
        if not isinstance(self.stack[-1], Inert):
            raise pickle.UnpicklingError('an object with keyword arguments')
        self.stack[-1] = Inert()

    def load_build(self):
        """Sets the state of an object."""
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Inert):
            return
        if type(target) not in BUILDERS:
            raise pickle.UnpicklingError(f'a {type(target).__name__} with a state')
        try:
            BUILDERS[type(target)](target, state)
        except ForeignError as error:
            self._replace(str(error))

    def _extend(self, items: list) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif type(target) is set:
            target.update(map(check_key, items))
        elif not isinstance(target, Inert):
            raise pickle.UnpicklingError(f'a {type(target).__name__} with items')

    def _update(self, items: list) -> None:
        target = self.stack[-1]
        if isinstance(target, Inert):
            return
        if not isinstance(target, dict):
            raise pickle.UnpicklingError(f'a {type(target).__name__} with keys')
        keys = map(check_key, items[::2])
        target.update(zip(keys, items[1::2], strict=True))

    def load_append(self):
        """Appends one item to a list."""
        self._extend([self.stack.pop()])

    def load_appends(self):
        """Adds the items since the mark to a list or set."""
        self._extend(self.pop_mark())

    def load_setitem(self):
        """Adds one entry to a dict."""
        value, key = self.stack.pop(), self.stack.pop()
        self._update([key, value])

    def load_setitems(self):
        """Adds the entries since the mark to a dict."""
        self._update(self.pop_mark())

    dispatch.update(
        {
            pickle.REDUCE[0]: load_call,
            pickle.NEWOBJ[0]: load_call,
            pickle.NEWOBJ_EX[0]: load_newobj_ex,
            pickle.BUILD[0]: load_build,
            pickle.APPEND[0]: load_append,
            pickle.APPENDS[0]: load_appends,
            pickle.ADDITEMS[0]: load_appends,
            pickle.SETITEM[0]: load_setitem,
            pickle.SETITEMS[0]: load_setitems,
        }
    )
